"""Segments that the panel did not make, or that were changed since: what it says of them, and what it does."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import material_nodes

FEMUR = (
    "Segmentation category and type - Total Segmentator~SCT^123037004^Anatomical Structure~SCT^71341001^Femur~"
    "SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^"
)


@pytest.fixture
def theirs(aimed):
    """One segment over all bone, made for the CT, of which nobody said what it is."""
    ct = aimed.parameters.ctVolume
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Theirs")
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    node.GetSegmentation().AddEmptySegment("leg", "Leg")
    mask = (slicer.util.arrayFromVolume(ct) > 300).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "leg", ct)
    return node


def segment_anew(bench) -> None:
    bench.press("segmentButton")
    mouse.wait_for(lambda: bench.ui.segmentButton.visible, 60)


def remark(bench) -> str:
    return bench.ui.segmentsLabel.text if bench.ui.segmentsLabel.visible else ""


def material_shown(bench, name: str) -> str:
    table = bench.ui.materialTable
    row = next(n for n in range(table.rowCount) if table.item(n, 0).text() == name)
    return table.cellWidget(row, 1).currentText


def test_bones_stay_bone_under_a_segment_of_which_nobody_said_what_it_is(aimed, theirs):
    before = aimed.shoot()
    aimed.parameters.segmentation = theirs
    assert remark(aimed).startswith("Nobody has said what Leg is made of: soft tissue")
    segment_anew(aimed)
    assert aimed.parameters.segmentation is theirs
    assert np.abs(aimed.shoot() - before).max() < 0.05
    material_nodes.set_material(theirs, "leg", material="bone")
    assert remark(aimed) == ""


def test_a_femur_by_its_code_is_bone(aimed, theirs):
    theirs.GetSegmentation().GetSegment("leg").SetTerminology(FEMUR)
    before = aimed.shoot()
    aimed.parameters.segmentation = theirs
    assert remark(aimed) == ""
    assert material_shown(aimed, "Leg") == dict(material_nodes.material_choices())["bone"]
    segment_anew(aimed)
    assert np.abs(aimed.shoot() - before).max() < 0.5


def test_segments_that_a_moved_ct_leaves_behind_are_noticed(aimed):
    ct, segmentation = aimed.parameters.ctVolume, aimed.parameters.segmentation
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    ct.SetAndObserveTransformNodeID(moved.GetID())
    assert remark(aimed) == "", "the transform does nothing yet"
    matrix = np.eye(4)
    matrix[0, 3] = 40.0
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    assert "Chest lie under different transforms" in remark(aimed)
    segmentation.SetAndObserveTransformNodeID(moved.GetID())
    assert remark(aimed) == ""
    ct.SetAndObserveTransformNodeID(None)
    assert "different transforms" in remark(aimed)


def test_segments_under_a_transform_that_bends_are_said_by_the_x_ray_alone(aimed):
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Bent")
    aimed.parameters.segmentation.SetAndObserveTransformNodeID(bent.GetID())
    mouse.settle()
    assert remark(aimed) == ""


def test_thresholds_hold_without_segments_too(aimed):
    aimed.parameters.segmentation = None
    usual = aimed.shoot()
    mouse.type_number(aimed.ui.boneMinSlider, 1500)
    assert (usual - aimed.shoot()).max() > 0.05
    mouse.type_number(aimed.ui.boneMinSlider, 350)
    assert np.array_equal(aimed.shoot(), usual)


def test_what_segment_replaces_is_said_and_a_name_given_by_hand_stays(aimed):
    segmentation = aimed.parameters.segmentation
    segmentation.GetSegmentation().GetSegment("DeepDRR_bone").SetName("Skeleton")
    segment_anew(aimed)
    assert "one Undo away" in aimed.message
    assert material_shown(aimed, "Skeleton") == dict(material_nodes.material_choices())["bone"]


def test_the_first_segments_replace_nothing(aimed):
    aimed.parameters.segmentation = None
    segment_anew(aimed)
    assert aimed.message == ""


def test_the_table_says_that_painted_bone_takes_the_cts_density(aimed):
    table = aimed.ui.materialTable
    for tip in (table.horizontalHeaderItem(2).toolTip(), table.item(2, 2).toolTip()):
        assert "no denser" in tip and "1.92" in tip
