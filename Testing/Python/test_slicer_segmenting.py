"""Segmenting into segments that are there already: what a person added, said or moved stays."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_scene import BONE, SOFT, add_ball, add_ct, add_segment, add_transform, body_hu, layer_of

from DeepDRRLogic.affine import rigid, rotation
from DeepDRRSlicerLib import material_nodes
from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL, segment_materials, set_material
from DeepDRRSlicerLib.mrml import ras_from_ijk, world_from_parent


def test_running_again_keeps_the_segments_that_a_person_added(logic, ct, segmentation):
    values = np.ones((40, 50, 60), np.uint8)
    add_segment(segmentation, "Plate", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    logic.segment(ct, segmentationNode=segmentation, bone_min_hu=1000.0)
    names = {s.segment_id for s in segment_materials(segmentation)}
    assert {"Plate", BONE, SOFT, "DeepDRR_air"} == names
    assert not (layer_of(segmentation, BONE) == 3).any()


def test_running_again_keeps_what_was_said_of_the_segments(logic, ct, segmentation):
    set_material(segmentation, BONE, material="cortical_bone", density_g_cm3=1.5, priority=3)
    set_material(segmentation, "DeepDRR_air", enabled=False)
    segmentation.GetSegmentation().GetSegment(BONE).SetName("Skeleton")
    segmentation.GetSegmentation().GetSegment(BONE).SetColor(0.25, 0.5, 0.75)
    before = segment_materials(segmentation)
    assert before[2].name == "Skeleton"
    logic.segment(ct, "threshold", segmentation)
    assert segment_materials(segmentation) == before


@pytest.mark.parametrize("whose", ["ct", "segmentation", "both"])
def test_running_again_moves_nothing_that_a_person_added(scene, logic, ct, segmentation, whose):
    values = np.zeros((40, 50, 60), np.uint8)
    values[10:20, 20:30, 30:40] = 1
    add_segment(segmentation, "Plate", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    motion = rigid(rotation([0.0, 0.0, 1.0], 90.0), [30.0, -12.0, 9.0])
    for node in {"ct": (ct,), "segmentation": (segmentation,), "both": (ct, segmentation)}[whose]:
        node.SetAndObserveTransformNodeID(add_transform(scene, motion).GetID())

    before, volume = world_from_parent(segmentation), logic.patient(ct, None).volume
    logic.segment(ct, "threshold", segmentation)
    np.testing.assert_array_equal(world_from_parent(segmentation), before)
    set_material(segmentation, "Plate", material="soft_tissue", priority=-1)
    assert logic.patient(ct, segmentation).volume.labels.tolist() == volume.labels.tolist(), "ours lie on the CT"


def test_a_surface_that_is_segmented_into_is_still_there_as_voxels(scene, logic, ct):
    node = add_ball(scene)
    logic.segment(ct, "threshold", node)
    assert {BONE, "Ball"} < {s.segment_id for s in segment_materials(node)}
    volume = logic.patient(ct, node).volume
    assert (volume.density_g_cm3 > 8.0).sum() * 8.0 == pytest.approx(4 / 3 * np.pi * 15.0**3, rel=0.03)
    assert any(m.name == "bone" for m in volume.materials)


def test_what_cannot_become_voxels_is_left_alone(scene, logic, ct):
    node = add_ball(scene, "Planar contour")  # of which Slicer makes voxels only with SlicerRT
    with pytest.raises(ValueError, match="Ball cannot be turned into voxels"):
        logic.segment(ct, "threshold", node)
    assert [s.segment_id for s in segment_materials(node)] == ["Ball"]
    assert node.GetSegmentation().GetSegment("Ball").GetRepresentation("Planar contour").GetNumberOfPoints() > 100


def test_materials_go_only_where_nothing_is_lost(scene, logic, ct, segmentation):
    other = add_ct(scene, body_hu((30, 30, 30)), name="Other")
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
    assert material_nodes.may_be_filled(segmentation, ct)
    assert not material_nodes.may_be_filled(segmentation, other)
    assert material_nodes.may_be_filled(empty, other)
    assert not material_nodes.may_be_filled(add_ball(scene), ct)
    assert not material_nodes.may_be_filled(None, ct)
    scene.RemoveNode(ct)
    assert material_nodes.reference_volume(segmentation) is None
    assert not material_nodes.may_be_filled(segmentation, other), "its corrections are of a CT that is gone"
