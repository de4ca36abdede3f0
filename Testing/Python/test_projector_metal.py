"""Metal in the CPU projector: its edges, and the patient around it."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import centred_affine, view
from test_projector import OBLIQUE, distance, exact_box, random_volume

from DeepDRRLogic.affine import apply
from DeepDRRLogic.materials import material, material_names
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.packing import pack
from DeepDRRLogic.projector.reference import project_exactly
from DeepDRRLogic.volume import MaterialVolume

TITANIUM = (material("air"), material("titanium"))


def metal(share, spacing_mm, turn=None):
    density = (4.43 * share).astype(np.float32)
    affine = centred_affine(share.shape, spacing_mm, turn=turn)
    return MaterialVolume(density, (share > 0).astype(np.uint8), TITANIUM, affine)


def plate(voxels, border):
    """3 × 10 × 30 mm, cut out of its volume with a border of empty voxels."""
    return metal(np.pad(np.ones((voxels, 10, 30)), border), (1, 1, 3 / voxels))


@pytest.mark.parametrize(("thick", "turn", "tolerance"), [(2, None, 0.02), (3, None, 0.015), (3, OBLIQUE, 0.015)])
def test_a_rod_has_the_edges_of_a_rod(thick, turn, tolerance):
    share = np.zeros((40, 30, 30))
    share[:, 14 : 14 + thick, 14 : 14 + thick] = 1
    volume, camera = metal(share, (1, 1, 1), turn), view(size=(60, 40), pitch=0.4)
    assert distance(CpuProjector(volume).project(camera)[1], project_exactly(volume, camera)[1]) < tolerance


@pytest.mark.parametrize("angle", [0, 45, 90])
@pytest.mark.parametrize(("voxels", "tolerance"), [(1, 0.03), (3, 0.012)])
def test_a_plate_has_the_edges_of_a_plate(voxels, tolerance, angle):
    volume, camera = plate(voxels, border=2), view(angle, size=(80, 40), pitch=0.8)
    assert distance(CpuProjector(volume).project(camera)[1], project_exactly(volume, camera)[1]) < tolerance


@pytest.mark.parametrize("angle", [0, 45, 90])
@pytest.mark.parametrize(("voxels", "tolerance"), [(3, 0.09), (6, 0.04)])
def test_a_plate_cut_out_to_its_faces_ends_there(voxels, tolerance, angle):
    """Faces of a volume are steps, for which a pixel, that is no point, has the mean over its area."""
    volume, camera = plate(voxels, border=0), view(angle, size=(240, 60), pitch=0.3)
    lengths_mm = exact_box(camera.resampled(8 * 240, 8 * 60), volume.ras_from_ijk, volume.shape)
    exact = 0.443 * lengths_mm.reshape(60, 8, 240, 8).mean(axis=(1, 3))
    measured = CpuProjector(volume).project(camera)[1]
    assert distance(measured, exact) < tolerance
    assert measured.mean() == pytest.approx(exact.mean(), rel=0.01)


def a_patient_with_metal():
    """Rods of steel and of titanium that is called bone, as thresholds call it."""
    patient = random_volume(shape=(60, 64, 62))
    density, labels = patient.density_g_cm3.copy(), patient.labels.copy()
    density[20:50, 30:34, 28:32], labels[20:50, 30:34, 28:32] = 7.9, 3
    density[10:30, 40:44, 20:23], labels[10:30, 40:44, 20:23] = 7.0, 2
    materials = (*patient.materials, material("stainless_steel"))
    return MaterialVolume(density, labels, materials, patient.ras_from_ijk)


@pytest.mark.parametrize("angles", [(0, 0), (-35, 20), (5, 70)])
def test_a_patient_with_metal_agrees_with_exact_integration(angles):
    volume, camera = a_patient_with_metal(), view(*angles, size=(40, 30), pitch=3.0)
    measured, exact = CpuProjector(volume).project(camera), project_exactly(volume, camera)
    assert distance(measured.sum(axis=0), exact.sum(axis=0)) < 0.004
    for one, other in zip(measured, exact, strict=True):
        assert distance(one, other) < 0.015


def test_only_metal_is_sampled_finely_and_only_where_it_is():
    volume = a_patient_with_metal()
    usual, hard = pack(volume, 2)
    assert not usual.is_hard and usual.members.tolist() == [0, 1, 2]
    assert hard.is_hard and hard.members.tolist() == [2, 3]
    assert hard.codes.shape == (42, 16, 14)
    np.testing.assert_allclose(apply(hard.ras_from_ijk, (0, 0, 0)), apply(volume.ras_from_ijk, (19, 29, 9)))
    (patient,) = pack(random_volume(), 1)
    assert not patient.is_hard


def test_a_hot_voxel_does_not_coarsen_the_densities_of_the_others():
    shape = (40, 40, 40)
    density = np.full(shape, 1.234, np.float32)
    density[3, 3, 3] = 60.0
    volume = MaterialVolume(density, np.zeros(shape, int), (material("soft_tissue"),), centred_affine(shape, (3, 3, 3)))
    middle = CpuProjector(volume).project(view(size=(9, 9)))[0, 4, 4]
    assert middle == pytest.approx(12 * 1.234, rel=1e-4)


def test_materials_without_a_voxel_change_no_digit_and_are_not_followed():
    volume, camera = random_volume(), view(-35, 20, size=(80, 60), pitch=2.0)
    known = {one.name for one in volume.materials}
    more = tuple(material(name) for name in material_names() if name not in known)[:5]
    labels = np.where(volume.labels == 2, 7, volume.labels)
    spread = (*volume.materials[:2], *more, volume.materials[2])
    many = MaterialVolume(volume.density_g_cm3, labels, spread, volume.ras_from_ijk)
    (packed,) = pack(many, 1)
    assert packed.members.tolist() == [0, 1, 7]
    few, picture = CpuProjector(volume).project(camera), CpuProjector(many).project(camera)
    assert np.array_equal(picture[[0, 1, 7]], few) and not picture[2:7].any()


def test_an_empty_volume_is_a_blank_picture():
    shape = (5, 6, 7)
    nothing = MaterialVolume(np.zeros(shape), np.zeros(shape, int), TITANIUM, np.eye(4))
    picture = CpuProjector(nothing).project(view(size=(8, 6)))
    assert picture.shape == (2, 6, 8) and not picture.any()
