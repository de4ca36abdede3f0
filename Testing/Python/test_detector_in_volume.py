"""A detector inside the patient: what lies behind it casts no shadow on it."""

from __future__ import annotations

import numpy as np
import pytest

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.materials import material
from DeepDRRLogic.projector import make_projector
from DeepDRRLogic.projector.behind import rows_before_detector
from DeepDRRLogic.volume import MaterialVolume

SIZE = 20
SPACING_MM = 2.0
VOXELS_PER_AXIS = (4, 5, 6)


def water_cube() -> MaterialVolume:
    """A cube of 40 mm around the origin, voxel borders on even millimetres."""
    density = np.ones((SIZE, SIZE, SIZE), np.float32)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -SPACING_MM * (SIZE - 1) / 2
    return MaterialVolume(density, np.zeros(density.shape, np.uint8), (material("water"),), affine)


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


@pytest.mark.parametrize("sign", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_voxels_kept_are_those_whose_centres_lie_before_the_detector(axis: int, sign: tuple[int, ...]) -> None:
    depth = np.array([*(np.array([1.1, 0.7, 1.3]) * sign), 0.4])
    p, q = ((1, 2), (0, 2), (0, 1))[axis]
    count, rows, slices = (VOXELS_PER_AXIS[n] for n in (p, q, axis))
    full = np.zeros((rows, slices), np.int32), np.full((rows, slices), count, np.int32)
    all_rows = tuple(full if n == axis else (np.zeros((1, 1), np.int32), np.ones((1, 1), np.int32)) for n in range(3))
    for limit in (-9.03, -2.15, 0.03, 1.03, 3.97, 20.03):
        start, stop = rows_before_detector(all_rows, depth, limit)[axis]
        for row, slice_ in np.ndindex(rows, slices):
            kept = set(range(start[row, slice_], stop[row, slice_]))
            offset = depth[3] + depth[q] * row + depth[axis] * slice_
            assert kept == {n for n in range(count) if offset + depth[p] * n <= limit}
