"""A detector inside the patient: what lies behind it casts no shadow on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shapes import view
from test_projector import distance, random_volume

from DeepDRRLogic.affine import rigid
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import material
from DeepDRRLogic.projector import make_projector
from DeepDRRLogic.projector.reference import project_exactly
from DeepDRRLogic.volume import MaterialVolume

SIZE = 20
SPACING_MM = 2.0


def water_cube(size: int = SIZE, spacing_mm: float = SPACING_MM) -> MaterialVolume:
    """A cube, by default of 40 mm, around the origin; voxel borders on whole multiples of its spacing."""
    density = np.ones((size, size, size), np.float32)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = -spacing_mm * (size - 1) / 2
    return MaterialVolume(density, np.zeros(density.shape, np.uint8), (material("water"),), affine)


def detector_at(place_mm: float, angles_deg: tuple[float, float], **settings: Any) -> Camera:
    """A view whose detector stands this far beyond the origin."""
    camera = view(*angles_deg, **settings)
    return camera.moved(rigid(translation_mm=(place_mm - (1020 - 530)) * camera.principal_axis_ras))


def middle_g_cm2(primary_deg: float, secondary_deg: float, detector_at_mm: float) -> float:
    arm = CArm(
        primary_angle_deg=primary_deg,
        secondary_angle_deg=secondary_deg,
        source_to_isocenter_mm=530,
        source_to_detector_mm=530 + detector_at_mm,
        width=9,
        height=9,
        pixel_pitch_mm=0.2,
    )
    return float(make_projector(water_cube(), "cpu").project(arm.camera())[0, 4, 4])


@pytest.mark.parametrize("angles_deg", [(0, 0), (180, 0), (90, 0), (-90, 0), (0, 90), (0, -90)])
@pytest.mark.parametrize("detector_at_mm", [4.0, 10.0, 30.0])
def test_water_counts_up_to_the_detector(angles_deg: tuple[float, float], detector_at_mm: float) -> None:
    path_mm = 20 + min(detector_at_mm, 20)
    assert middle_g_cm2(*angles_deg, detector_at_mm) == pytest.approx(0.1 * path_mm, rel=1e-3)


@pytest.mark.parametrize("detector_at_mm", [0.0, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("angles_deg", [(0, 0), (3, 0), (20, 15), (90, 0), (160, -10)])
def test_a_detector_cuts_within_voxels(angles_deg: tuple[float, float], detector_at_mm: float) -> None:
    volume, camera = water_cube(40, 4.0), detector_at(detector_at_mm, angles_deg, size=(40, 30), pitch=1.5)
    measured, exact = make_projector(volume, "cpu").project(camera)[0], project_exactly(volume, camera)[0]
    assert np.linalg.norm(measured - exact) < 0.005 * np.linalg.norm(exact)
    assert measured.mean() == pytest.approx(exact.mean(), rel=5e-4)
    assert measured[15, 20] == pytest.approx(exact[15, 20], rel=2e-3)


@pytest.mark.parametrize("angles_deg", [(0, 0), (30, 10), (90, 20), (10, 75)])
def test_a_detector_cuts_each_material_where_it_lies(angles_deg: tuple[float, float]) -> None:
    volume, camera = random_volume(shape=(40, 44, 42)), detector_at(3.0, angles_deg, size=(20, 15), pitch=2.0)
    measured, exact = make_projector(volume, "cpu").project(camera), project_exactly(volume, camera)
    behind = project_exactly(volume, detector_at(100.0, angles_deg, size=(20, 15), pitch=2.0))
    assert distance(exact.sum(axis=0), behind.sum(axis=0)) > 0.2
    assert distance(measured.sum(axis=0), exact.sum(axis=0)) < 0.005
    for one, other in zip(measured, exact, strict=True):
        assert distance(one, other) < 0.03


def test_the_number_of_threads_changes_no_digit_of_a_cut_picture() -> None:
    camera = detector_at(3.0, (20, 0), size=(60, 50), pitch=1.0)
    alone, together = (make_projector(random_volume(), "cpu", threads).project(camera) for threads in (1, 3))
    assert np.array_equal(alone, together)
