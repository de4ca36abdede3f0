"""Which CT the segments belong to: no CT is ever given another's, and none loses its own."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from bench import paint
from slicerhost import mouse

from DeepDRRSlicerLib import ct_nodes, material_nodes

BONE = "DeepDRR_bone"


@pytest.fixture
def other(aimed):
    """Another CT in the same scene."""
    return ct_nodes.phantom_node(slicer.mrmlScene, "pelvis", 5.0)


def choose_ct(bench, ct):
    bench.ui.ctSelector.setCurrentNode(ct)
    mouse.settle()
    assert bench.parameters.ctVolume is ct


def choose_segments(bench, segmentation):
    bench.ui.segmentationSelector.setCurrentNode(segmentation)
    mouse.settle()
    assert bench.parameters.segmentation is segmentation


def voxels(segmentation, ct):
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, BONE, ct).copy()


def implant():
    """Surfaces as they are read from STL files."""
    ball = vtk.vtkSphereSource()
    ball.SetRadius(15.0)
    ball.Update()
    segment = slicer.vtkSegment()
    segment.SetName("Implant")
    segment.AddRepresentation("Closed surface", ball.GetOutput())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Plan")
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.GetSegmentation().AddSegment(segment, "Implant")
    return node


def test_another_ct_brings_its_own_segments_or_none(aimed, other):
    first, its = aimed.parameters.ctVolume, aimed.parameters.segmentation
    choose_ct(aimed, other)
    assert aimed.parameters.segmentation is None and aimed.ui.materialTable.rowCount == 0
    choose_ct(aimed, first)
    assert aimed.parameters.segmentation is its and aimed.ui.materialTable.rowCount == 3
    slicer.mrmlScene.RemoveNode(first)
    mouse.settle()
    assert aimed.parameters.segmentation is None


def test_a_choice_of_no_segments_is_kept(aimed):
    choose_segments(aimed, None)
    aimed.panel.update()
    aimed.module.widgetRepresentation().exit()
    aimed.module.widgetRepresentation().enter()
    assert aimed.parameters.segmentation is None


def test_segmenting_a_ct_leaves_the_segments_of_another_alone(aimed, other):
    first, its = aimed.parameters.ctVolume, aimed.parameters.segmentation
    before = voxels(its, first)
    choose_ct(aimed, other)
    assert not aimed.ui.segmentsLabel.visible
    choose_segments(aimed, its)
    assert aimed.ui.segmentsLabel.visible
    assert aimed.ui.segmentsLabel.text.startswith(f"{its.GetName()} was made for Chest, not for Phantom pelvis")
    aimed.press("segmentButton")
    mouse.wait_for(lambda: aimed.ui.segmentButton.visible, 60)
    made = aimed.parameters.segmentation
    assert made is not its and material_nodes.reference_volume(made) is other
    assert f"{its.GetName()} stays as it is" in aimed.message
    assert not aimed.ui.segmentsLabel.visible
    assert material_nodes.reference_volume(its) is first
    assert np.array_equal(voxels(its, first), before)


def test_a_result_that_comes_when_another_ct_is_chosen_waits_with_its_own(aimed, other):
    first, its = aimed.parameters.ctVolume, aimed.parameters.segmentation
    before = voxels(its, first)
    its.GetSegmentation().GetSegment(BONE).SetTag("DeepDRR.Density", "1.5")
    aimed.press("segmentButton")
    choose_ct(aimed, other)
    mouse.wait_for(lambda: aimed.ui.segmentButton.visible, 60)
    assert aimed.parameters.ctVolume is other and aimed.parameters.segmentation is None
    assert aimed.message == "Chest is segmented: choose it under CT to see its segments."
    assert np.array_equal(voxels(its, first), before), "no Undo could bring it back"
    choose_ct(aimed, first)
    assert aimed.parameters.segmentation not in (None, its)
    assert material_nodes.segment_materials(its)[2].density_g_cm3 == 1.5


def test_what_live_shows_and_what_is_shot_and_recorded_are_the_same_materials(aimed):
    aimed.open("xraySection")
    aimed.press("noiseCheck")
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    aimed.parameters.segmentation.GetSegmentation().RemoveSegment(BONE)
    mouse.settle()
    boneless = aimed.wait_for_full_quality()
    choose_segments(aimed, None)
    live = aimed.wait_for_full_quality()
    assert (live - boneless).max() > 0.1
    assert np.array_equal(aimed.shoot(), live)
    aimed.parameters.sweepStartDeg, aimed.parameters.sweepStopDeg, aimed.parameters.sweepFrames = 0.0, 1.0, 2
    aimed.press("sweepButton")
    assert "Recorded 2 pictures" in aimed.message, aimed.message
    images = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode").GetMasterSequenceNode()
    frame = slicer.util.arrayFromVolume(images.GetNthDataNode(0))[0]
    assert abs(np.median(frame) - np.median(live)) < 0.2 * abs(np.median(boneless) - np.median(live))


def test_the_segments_of_a_ct_are_chosen_where_the_panel_shows_it_and_drawn_tumours_are_not(aimed, other):
    drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumour")
    drawn.SetReferenceImageGeometryParameterFromVolumeNode(other)
    drawn.GetSegmentation().AddEmptySegment("Tumour", "Tumour")
    choose_ct(aimed, other)
    assert aimed.ui.segmentationSelector.currentNode() is None
    materials = aimed.logic.segment(other, "threshold")
    aimed.parameters.ctVolume = None
    choose_ct(aimed, other)
    assert aimed.ui.segmentationSelector.currentNode() is materials


def test_surfaces_stay_surfaces_when_the_ct_is_segmented(aimed):
    plan = implant()
    choose_segments(aimed, plan)
    aimed.press("segmentButton")
    mouse.wait_for(lambda: aimed.ui.segmentButton.visible, 60)
    assert "Plan stays as it is" in aimed.message
    assert [segment.segment_id for segment in material_nodes.segment_materials(plan)] == ["Implant"]
    assert plan.GetSegmentation().GetSegment("Implant").GetRepresentation("Closed surface").GetNumberOfPoints() > 0
    assert aimed.parameters.segmentation is not plan and aimed.ui.materialTable.rowCount == 3


def test_undo_brings_back_the_segments_that_were_replaced_whatever_was_chosen_meanwhile(aimed):
    ct, its = aimed.parameters.ctVolume, aimed.parameters.segmentation
    middle = np.zeros(slicer.util.arrayFromVolume(ct).shape, bool)
    middle[tuple(slice(n // 2 - 3, n // 2 + 3) for n in middle.shape)] = True
    paint(its, BONE, ct, middle)
    aimed.press("segmentButton")
    choose_segments(aimed, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Another"))
    mouse.wait_for(lambda: aimed.ui.segmentButton.visible, 60)
    assert aimed.parameters.segmentation is its and not voxels(its, ct)[middle].any()
    aimed.ui.editGroup.findChild(slicer.qMRMLSegmentEditorWidget).undo()
    assert voxels(its, ct)[middle].all()
