"""Segments as matter: the patient's density and labels, and an edit that changes the X-ray only where it should."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume
from slicer_scene import BONE, SOFT, add_ball, add_ct, add_segment, add_transform, body_hu, edited, layer_of, shot

from DeepDRRLogic.affine import rigid, rotation
from DeepDRRLogic.materials import material
from DeepDRRLogic.segmentation import segment
from DeepDRRLogic.volume import CTVolume, MaterialVolume
from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL, set_material
from DeepDRRSlicerLib.mrml import ras_from_ijk
from DeepDRRSlicerLib.patient import Patient, keep_thresholds, preview_factors
from DeepDRRSlicerLib.scene_logic import THRESHOLDS, SceneLogic


def shadow(arm, ct, box) -> np.ndarray:
    """Pixels that the corners of a box of voxels, one wider than it to all sides, span."""
    corners = np.array([[(s.start - 1.5, s.stop + 0.5)[b >> n & 1] for n, s in enumerate(box[::-1])] for b in range(8)])
    ras = corners @ ras_from_ijk(ct)[:3, :3].T + ras_from_ijk(ct)[:3, 3]
    u, v = arm.camera().project(ras).T
    rows, columns = np.mgrid[: arm.camera().height, : arm.camera().width]
    return (columns > u.min() - 1) & (columns < u.max() + 1) & (rows > v.min() - 1) & (rows < v.max() + 1)


def test_a_segmentation_gives_the_volume_that_its_labels_would(logic, ct, segmentation):
    volume = logic.patient(ct, segmentation).volume
    hu = CTVolume(arrayFromVolume(ct), ras_from_ijk(ct))
    wanted = MaterialVolume.from_ct(hu, segment(hu, "threshold"))
    np.testing.assert_array_equal(volume.density_g_cm3, wanted.density_g_cm3)
    names = [m.name for m in volume.materials]
    expected = [m.name for m in wanted.materials]
    np.testing.assert_array_equal(np.array(names)[volume.labels], np.array(expected)[wanted.labels])


def test_an_edited_segment_changes_the_picture_in_its_shadow_and_nowhere_else(logic, ct, segmentation, arm):
    before = shot(logic, ct, segmentation, arm)
    layer = layer_of(segmentation, BONE)
    box = (slice(18, 22), slice(22, 27), slice(27, 33))
    layer[box] = segmentation.GetSegmentation().GetSegment(SOFT).GetLabelValue()
    edited(segmentation, BONE)
    changed = logic.known_patient(ct, segmentation).update()
    assert changed == box
    after = shot(logic, ct, segmentation, arm)
    inside = shadow(arm, ct, box)
    assert (before - after)[inside].max() > 0.05
    # The projector rounds to 1/4095 of a material's densest voxel, and that has just become bone's.
    assert np.abs(before - after)[~inside].max() < 1e-3


def test_an_edit_gives_what_starting_anew_would(logic, ct, segmentation):
    logic.patient(ct, segmentation)
    layer = layer_of(segmentation, BONE)
    layer[5:30, 6:20, 7:50] = 3
    edited(segmentation, BONE)
    brought_up_to_date = logic.patient(ct, segmentation)
    anew = Patient(ct, segmentation)
    anew.update()
    np.testing.assert_array_equal(brought_up_to_date.volume.density_g_cm3, anew.volume.density_g_cm3)
    np.testing.assert_array_equal(brought_up_to_date.volume.labels, anew.volume.labels)


def test_the_coarse_volume_follows_an_edit(scene, monkeypatch):
    monkeypatch.setattr("DeepDRRSlicerLib.patient._PREVIEW_VOXELS", 20_000)
    ct = add_ct(scene, body_hu((41, 50, 61)))
    logic = SceneLogic(scene)
    segmentation = logic.segment(ct, "threshold")
    patient = logic.patient(ct, segmentation)
    assert patient.preview.shape == (21, 25, 31)
    layer_of(segmentation, BONE)[3:9, 11:40, 5:61] = 3
    edited(segmentation, BONE)
    patient.update()
    anew = patient.volume.downsampled(preview_factors(patient.volume))
    np.testing.assert_array_equal(patient.preview.density_g_cm3, anew.density_g_cm3)
    np.testing.assert_array_equal(patient.preview.labels, anew.labels)


def test_the_coarse_volume_goes_where_the_ct_is_put(logic, ct, segmentation, monkeypatch):
    monkeypatch.setattr("DeepDRRSlicerLib.patient._PREVIEW_VOXELS", 20_000)
    patient = logic.patient(ct, segmentation)
    ct.SetOrigin(7.0, 8.0, 9.0)
    patient.update()
    np.testing.assert_allclose(patient.preview.center_ras, patient.volume.center_ras)


def test_nothing_is_done_where_nothing_has_changed(logic, ct, segmentation):
    patient = logic.patient(ct, segmentation)
    version = patient.version
    assert patient.update() is None
    segmentation.GetSegmentation().GetSegment(BONE).SetName("Knochen")
    patient.update()
    assert patient.version == version


def test_a_metal_segment_displaces_the_tissue_it_was_painted_over(logic, ct, segmentation, arm):
    before = shot(logic, ct, segmentation, arm)
    values = np.zeros((40, 50, 60), np.uint8)
    box = (slice(18, 22), slice(23, 26), slice(12, 16))
    values[box] = 1
    add_segment(segmentation, "Screw", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    volume = logic.patient(ct, segmentation).volume
    assert np.all(volume.density_g_cm3[box] == np.float32(material("titanium").density_g_cm3))
    assert {volume.materials[n].name for n in np.unique(volume.labels[box])} == {"titanium"}
    after = shot(logic, ct, segmentation, arm)
    assert (after - before)[shadow(arm, ct, box)].max() > 0.3
    assert np.abs(after - before)[~shadow(arm, ct, box)].max() < 1e-5


def test_a_metal_segment_displaces_tissue_that_was_painted_later_too(logic, ct, segmentation):
    values = np.ones((40, 50, 60), np.uint8)
    add_segment(segmentation, "Plate", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    add_segment(segmentation, "Muscle", values, ras_from_ijk(ct), {TAG_MATERIAL: "muscle"})
    assert _at_centre(logic.patient(ct, segmentation).volume) == "titanium"


def test_segments_that_are_moved_take_their_material_along(scene, logic, ct, segmentation):
    before = logic.patient(ct, segmentation).volume.labels.copy()
    transform = add_transform(scene, rigid(None, (4.0, 0.0, 0.0)))  # two voxels
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    after = logic.patient(ct, segmentation).volume
    inner = (slice(16, 24), slice(20, 30))
    np.testing.assert_array_equal(after.labels[*inner, 22:38], before[*inner, 20:36])
    assert (after.labels != before).any()


def test_the_higher_priority_wins_where_segments_overlap(logic, ct, segmentation):
    values = np.ones((40, 50, 60), np.uint8)
    add_segment(segmentation, "Over", values, ras_from_ijk(ct), {TAG_MATERIAL: "water"})
    assert _at_centre(logic.patient(ct, segmentation).volume) == "water"
    set_material(segmentation, "Over", priority=-1)
    assert _at_centre(logic.patient(ct, segmentation).volume) == "bone"
    assert "water" in {m.name for m in logic.patient(ct, segmentation).volume.materials}


def test_a_segment_switched_off_is_cut_out_of_the_patient(logic, ct, segmentation):
    set_material(segmentation, BONE, enabled=False)
    volume = logic.patient(ct, segmentation).volume
    bone = arrayFromVolume(ct) > 800
    assert np.all(volume.density_g_cm3[bone] == 0.0)
    assert np.all(volume.density_g_cm3[arrayFromVolume(ct) == 40] > 0.9)
    set_material(segmentation, BONE, enabled=True)
    assert np.all(logic.patient(ct, segmentation).volume.density_g_cm3[bone] > 1.0)


def test_a_density_can_be_overridden_and_given_back_to_the_ct(logic, ct, segmentation):
    bone = arrayFromVolume(ct) > 800
    from_ct = logic.patient(ct, segmentation).volume.density_g_cm3[bone].copy()
    set_material(segmentation, BONE, density_g_cm3=2.5)
    assert np.all(logic.patient(ct, segmentation).volume.density_g_cm3[bone] == 2.5)
    set_material(segmentation, BONE, density_g_cm3="ct")
    np.testing.assert_array_equal(logic.patient(ct, segmentation).volume.density_g_cm3[bone], from_ct)


def test_what_was_erased_from_every_segment_is_tissue_or_air_by_its_value(logic, ct, segmentation):
    layer_of(segmentation, BONE)[:] = 0
    edited(segmentation, BONE)
    volume = logic.patient(ct, segmentation).volume
    assert _at_centre(volume) == "soft_tissue"
    assert np.all(volume.density_g_cm3[arrayFromVolume(ct) == -1000] == 0.0)


def test_without_segments_the_ct_is_split_by_the_thresholds_kept_with_it(logic, ct, arm):
    usual = shot(logic, ct, THRESHOLDS, arm)
    keep_thresholds(ct, bone_min_hu=2000.0)
    boneless = logic.patient(ct, None).volume
    assert "bone" not in {boneless.materials[n].name for n in np.unique(boneless.labels)}
    assert (usual - shot(logic, ct, THRESHOLDS, arm)).max() > 0.05
    keep_thresholds(ct)
    np.testing.assert_array_equal(shot(logic, ct, THRESHOLDS, arm), usual)


def test_another_ct_without_segments_is_another_patient(logic, ct):
    patient = logic.patient(ct, None)
    before = patient.volume.density_g_cm3.copy()
    slicer.util.updateVolumeFromArray(ct, body_hu() - 20)
    patient.update()
    tissue = body_hu() == 40
    assert np.all(patient.volume.density_g_cm3[tissue] < before[tissue])


def test_a_segmentation_on_another_grid_and_under_a_transform_lands_on_the_ct(scene, logic, ct, segmentation):
    """A cube of metal on a turned 1.5 mm grid: where it is in the world is where the density is."""
    turned = rigid(rotation([1.0, 1.0, 0.0], 30.0), [4.0, -6.0, 8.0])
    values = np.zeros((20, 20, 20), np.uint8)
    values[5:15, 5:15, 5:15] = 1
    grid = np.diag([1.5, 1.5, 1.5, 1.0])
    grid[:3, 3] = -14.25
    implant = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Implant")
    add_segment(implant, "Cube", values, grid, {TAG_MATERIAL: "titanium"})
    implant.SetAndObserveTransformNodeID(add_transform(scene, turned).GetID())
    volume = logic.patient(ct, implant).volume
    k, j, i = np.nonzero(volume.density_g_cm3 > 4.0)
    world = np.stack((i, j, k), axis=1) @ ras_from_ijk(ct)[:3, :3].T + ras_from_ijk(ct)[:3, 3]
    local = (world - turned[:3, 3]) @ turned[:3, :3]
    assert np.abs(local).max() <= 7.5 + 1e-6
    assert len(k) * 8.0 == pytest.approx(15.0**3, rel=0.05)


def test_a_surface_becomes_matter_too(scene, logic, ct):
    volume = logic.patient(ct, add_ball(scene)).volume
    matter = (volume.density_g_cm3 > 8.0).sum() * 8.0
    assert matter == pytest.approx(4 / 3 * np.pi * 15.0**3, rel=0.03)


def _at_centre(volume: MaterialVolume) -> str:
    k, j, i = (n // 2 for n in volume.shape)
    return volume.materials[volume.labels[k, j, i]].name
