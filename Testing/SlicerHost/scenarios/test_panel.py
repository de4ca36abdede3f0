"""What the panel's controls do, and what it says when something can not be done."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtTest import QTest
from slicerhost import mouse

from DeepDRRSlicerLib import carm_display, ct_nodes


def test_without_a_ct_the_panel_says_what_to_do_and_offers_nothing_else(bench):
    assert bench.ui.verdictLabel.text == "Load a CT, or add the phantom."
    for name in ("segmentButton", "shootButton", "sweepButton", "keepButton", "exportButton", "primarySlider"):
        assert not getattr(bench.ui, name).enabled, name
    assert bench.ui.readoutLabel.text == "Add a C-arm to aim with."


def test_a_volume_that_is_no_ct_is_named_in_one_line(bench):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "MR")
    slicer.util.updateVolumeFromArray(node, np.random.default_rng(1).uniform(0, 60000, (20, 20, 20)))
    bench.parameters.ctVolume = node
    text = bench.ui.verdictLabel.text
    assert "HU ok" not in text and "Traceback" not in text and len(text) > 20


def test_a_ct_is_taken_from_the_scene_and_nothing_that_is_none(bench, chest_file):
    noise = np.random.default_rng(1)
    bench.parameters.ctVolume = None
    mr = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "MR")
    slicer.util.updateVolumeFromArray(mr, noise.uniform(0, 60000, (20, 20, 20)))
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(labels, noise.integers(-1000, 1000, (20, 20, 20)).astype(np.int16))
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    xray = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "X-ray")
    slicer.util.updateVolumeFromArray(xray, noise.uniform(-1000, 1000, (1, 20, 20)))
    bench.widget.initializeParameterNode()
    assert bench.parameters.ctVolume is None
    ct = slicer.util.loadVolume(str(chest_file))
    bench.parameters.ctVolume = None
    bench.widget.initializeParameterNode()
    assert bench.parameters.ctVolume is ct


def test_the_list_of_cts_leaves_out_xrays_copies_and_sweeps(aimed):
    def listed():
        box = aimed.ui.ctSelector.findChild(QtWidgets.QComboBox)
        return {box.itemText(n) for n in range(box.count)} & set(volumes)

    ct, volumes = aimed.parameters.ctVolume, {}
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    volumes = slicer.util.getNodes("vtkMRMLScalarVolumeNode*")
    assert len(volumes) == 2 and listed() == {ct.GetName()}, "the live picture is left out at once"
    aimed.set_live(False)
    aimed.press("keepButton")
    aimed.parameters.sweepFrames = 2
    aimed.press("sweepButton")
    volumes = slicer.util.getNodes("vtkMRMLScalarVolumeNode*")
    assert len(volumes) == 4 and listed() == {ct.GetName()}
    slicer.mrmlScene.Clear(0)
    assert not aimed.ui.ctSelector.sortFilterProxyModel().hiddenNodeIDs


def test_named_views_turn_the_arm_about_its_isocentre(aimed):
    before = aimed.carm.arm().isocenter_ras_mm
    mouse.choose(aimed.ui.viewSelector, "Lateral left")
    assert np.allclose(aimed.angles(), (90, 0, 0), atol=1e-9)
    assert np.allclose(aimed.carm.arm().isocenter_ras_mm, before, atol=1e-9)
    assert aimed.ui.readoutLabel.text.startswith("LAO 90.0°")


def test_a_machine_out_of_its_reach_says_so_and_goes_there_all_the_same(aimed):
    mouse.choose(aimed.ui.machineSelector, "Biplane frontal")
    mouse.type_number(aimed.ui.secondarySlider, 60)
    assert aimed.angles()[1] == pytest.approx(60)
    assert aimed.ui.limitsLabel.visible and "reach" in aimed.ui.limitsLabel.text


def test_an_impossible_distance_is_refused_in_words_and_taken_back(aimed):
    aimed.open_geometry()
    before = aimed.carm.arm().source_to_detector_mm
    mouse.type_number(aimed.ui.sourceDetectorSpin, 100)
    assert aimed.message and "Traceback" not in aimed.message
    assert aimed.ui.sourceDetectorSpin.value == before == aimed.carm.arm().source_to_detector_mm


def test_the_isocentre_goes_to_the_crosshair_the_first_point_and_the_ct(aimed):
    slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode").SetCrosshairRAS(10.0, 20.0, 30.0)
    aimed.press("isocenterCrosshairButton")
    assert np.allclose(aimed.carm.arm().isocenter_ras_mm, (10, 20, 30))
    aimed.press("isocenterPointButton")
    assert "no point" in aimed.message
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    points.AddControlPoint(1.0, 2.0, 3.0)
    points.AddControlPoint(4.0, 5.0, 6.0)
    aimed.parameters.landmarks = points
    aimed.press("isocenterPointButton")
    assert np.allclose(aimed.carm.arm().isocenter_ras_mm, (1, 2, 3))
    aimed.press("isocenterCtButton")
    assert np.allclose(aimed.carm.arm().isocenter_ras_mm, ct_nodes.center_ras(aimed.parameters.ctVolume))


def test_points_are_tabled_in_pixels_and_marked_where_the_table_says(aimed):
    aimed.shoot()
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    center = ct_nodes.center_ras(aimed.parameters.ctVolume)
    points.AddControlPoint(center, "middle")
    mouse.choose(aimed.ui.landmarksSelector, "Landmarks")
    aimed.press("showPointsCheck")
    table = aimed.ui.pointsTable
    assert [table.item(0, n).text() for n in range(3)] == ["middle", "309.5", "239.5"]
    markers = aimed.carm.image_node().GetNodeReference("DeepDRR.Markers")
    image = aimed.carm.image_node()
    inverse = slicer.util.vtkMatrixFromArray(np.eye(4))
    image.GetRASToIJKMatrix(inverse)
    ijk = slicer.util.arrayFromVTKMatrix(inverse) @ [*markers.GetNthControlPointPosition(0), 1.0]
    assert np.allclose(ijk[:2], (309.5, 239.5), atol=0.01)
    points.SetNthControlPointPosition(0, center[0] + 20.0, center[1], center[2])
    assert table.item(0, 1).text() != "309.5"
    aimed.press("showPointsCheck")
    assert aimed.carm.image_node().GetNodeReference("DeepDRR.Markers") is None


def test_points_that_a_transform_moves_or_that_are_deleted_are_followed(aimed):
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    center = ct_nodes.center_ras(aimed.parameters.ctVolume)
    points.AddControlPoint(center, "middle")
    points.AddControlPoint(center, "another")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Motion")
    points.SetAndObserveTransformNodeID(transform.GetID())
    mouse.choose(aimed.ui.landmarksSelector, "Landmarks")
    table = aimed.ui.pointsTable
    assert table.item(1, 1).text() == "309.5"
    moved = np.eye(4)
    moved[0, 3] = 20.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    assert table.item(1, 1).text() != "309.5"
    points.RemoveNthControlPoint(0)
    assert [table.item(n, 0).text() for n in range(table.rowCount)] == ["another"]


def test_more_voltage_means_less_contrast_and_the_dose_is_given_either_way(aimed):
    aimed.open("xraySection")
    aimed.press("noiseCheck")
    mouse.type_number(aimed.ui.kvpSlider, 60)
    soft = aimed.shoot()
    mouse.type_number(aimed.ui.kvpSlider, 120)
    hard = aimed.shoot()
    assert np.ptp(hard) < 0.95 * np.ptp(soft)
    assert aimed.ui.photonsSpin.visible and not aimed.ui.masSpin.visible
    mouse.choose(aimed.ui.doseSelector, "mAs")
    assert aimed.ui.masSpin.visible and not aimed.ui.photonsSpin.visible
    mouse.type_number(aimed.ui.masSpin, 4)
    assert aimed.parameters.technique.mas == 4


def test_a_collimator_that_makes_no_sense_is_refused_in_words(aimed):
    aimed.open("xraySection")
    aimed.ui.collimatorEdit.setFocus()
    QTest.keyClicks(aimed.ui.collimatorEdit, "hexagon")
    aimed.press("shootButton")
    assert "hexagon" in aimed.message and "Traceback" not in aimed.message


def test_nothing_is_rendered_while_live_is_off_or_the_xray_is_hidden(aimed):
    aimed.shoot()
    still = aimed.image()
    mouse.type_number(aimed.ui.primarySlider, 33)
    mouse.settle(300)
    assert np.array_equal(aimed.image(), still)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    aimed.set_live(True)
    mouse.settle(300)
    assert np.array_equal(aimed.image(), still)
    mouse.choose(aimed.ui.layoutSelector, "X-ray workplace")
    mouse.wait_for(lambda: not np.array_equal(aimed.image(), still))


def test_two_arms_are_shown_in_two_views(aimed):
    first = aimed.carm
    aimed.shoot()
    aimed.add_carm()
    assert aimed.carm.root is not first.root and len(aimed.logic.carms()) == 2
    mouse.choose(aimed.ui.viewSelector, "Lateral left")
    aimed.shoot()
    mouse.choose(aimed.ui.layoutSelector, "Biplane X-ray")
    shown = [
        slicer.app.layoutManager().sliceWidget(name).sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID()
        for name in ("XRay", "XRay2")
    ]
    assert shown == [aimed.carm.image_node().GetID(), first.image_node().GetID()]
    assert np.allclose(first.dicom_angles_deg(), (0, 0)), "the first arm stayed where it was"
    aimed.press("removeCarmButton")
    assert aimed.carm.root is first.root


def test_a_sweep_is_recorded_can_be_played_and_can_be_cancelled(aimed):
    mouse.type_number(aimed.ui.sweepStartSpin, -20)
    mouse.type_number(aimed.ui.sweepStopSpin, 20)
    mouse.type_number(aimed.ui.sweepFramesSpin, 3)
    aimed.press("sweepButton")
    assert "Recorded 3 pictures" in aimed.message, aimed.message
    browser = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    assert browser.GetNumberOfItems() == 3
    browser.SetSelectedItemNumber(2)
    played = browser.GetProxyNode(browser.GetMasterSequenceNode())
    shown = aimed.panel.xray_view.composite_node
    assert shown.GetBackgroundVolumeID() == played.GetID()
    aimed.shoot()
    assert shown.GetBackgroundVolumeID() == aimed.carm.image_node().GetID(), "the view is the C-arm's again"
    browsers = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")
    mouse.type_number(aimed.ui.sweepFramesSpin, 300)
    QtCore.QTimer.singleShot(10, lambda: mouse.click(aimed.ui.cancelSweepButton))
    aimed.press("sweepButton")
    assert "cancelled" in aimed.message
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") == browsers
    assert aimed.ui.sweepButton.visible and aimed.ui.carmSection.enabled


@pytest.mark.parametrize(("title", "joint"), [("CRAN/CAUD", "secondary"), ("Roll", "roll")])
def test_a_sweep_turns_the_angle_that_is_chosen(aimed, title, joint):
    mouse.choose(aimed.ui.sweepJointSelector, title)
    mouse.type_number(aimed.ui.sweepStartSpin, -10)
    mouse.type_number(aimed.ui.sweepStopSpin, 10)
    mouse.type_number(aimed.ui.sweepFramesSpin, 2)
    aimed.press("sweepButton")
    assert "Recorded 2 pictures" in aimed.message, aimed.message
    browser = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetPlayback(slicer.util.getNode(f"{aimed.carm.name} sweep {joint}"), True)
    seen = []
    for frame in range(2):
        browser.SetSelectedItemNumber(frame)
        seen.append(dict(zip(("primary", "secondary", "roll"), np.round(aimed.angles(), 6), strict=True)))
    still = {"primary": 0.0, "secondary": 0.0, "roll": 0.0}
    sign = np.sign(seen[1][joint])
    assert seen == [still | {joint: -10.0 * sign}, still | {joint: 10.0 * sign}]


def test_the_xray_on_the_detector_is_seen_from_behind_too(aimed):
    aimed.shoot()
    aimed.press("showImageCheck")
    place = aimed.carm.camera()
    behind = place.detector_center_ras + 2000.0 * place.principal_axis_ras + [0.0, 0.0, 1500.0]  # past the arc
    camera = aimed.three_d.cameraNode()
    camera.SetFocalPoint(*place.detector_center_ras)
    camera.SetPosition(*behind)
    aimed.three_d.renderer().ResetCameraClippingRange()

    def seen():
        aimed.three_d.forceRender()
        return np.frombuffer(aimed.three_d._picture.constBits(), np.uint8).astype(int)

    display = aimed.carm.image_node().GetDisplayNode()
    display.SetWindowLevelMinMax(-2.0, -1.0)
    white = seen()
    display.SetWindowLevelMinMax(90.0, 91.0)
    assert np.count_nonzero(np.abs(white - seen()) > 100) > 3 * 2000, "the detector's back hides its picture"
    aimed.press("showImageCheck")
    opacity = {node.GetDisplayNode().GetOpacity() for node in carm_display._parts(aimed.carm)}
    assert 0.15 not in opacity and 0.0 not in opacity, "without a picture the detector is solid again"


def test_exporting_writes_the_picture_and_its_projection_matrix(aimed, tmp_path):
    aimed.shoot()
    aimed.press("exportButton")
    assert "file name" in aimed.message
    aimed.ui.exportPath.currentPath = str(tmp_path / "chest.png")
    aimed.press("exportButton")
    assert (tmp_path / "chest.png").stat().st_size > 10_000, aimed.message
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert "camera" in json.dumps(sidecar)
    aimed.ui.exportPath.currentPath = str(tmp_path / "chest.docx")
    aimed.press("exportButton")
    assert ".docx" in aimed.message


def test_a_kept_copy_stays_as_it_is(aimed):
    first = aimed.shoot()
    aimed.press("keepButton")
    copied = next(
        n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if aimed.message == f"Kept as {n.GetName()}."
    )
    mouse.type_number(aimed.ui.primarySlider, 60)
    aimed.shoot()
    assert np.array_equal(slicer.util.arrayFromVolume(copied)[0], first)


@pytest.mark.parametrize("what", ["ctVolume", "segmentation", "carm", "image", "joint"])
def test_a_node_deleted_elsewhere_leaves_a_working_panel(aimed, what):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    nodes = {"image": aimed.carm.image_node(), "joint": aimed.carm.node("secondary")}
    slicer.mrmlScene.RemoveNode(nodes.get(what) or getattr(aimed.parameters, what))
    mouse.settle(200)
    if what == "ctVolume":
        assert not aimed.ui.shootButton.enabled
    if what in ("carm", "joint"):
        assert aimed.carm is None and not aimed.ui.primarySlider.enabled
    if what in ("image", "segmentation", "carm"):
        aimed.set_live(False)
        aimed.press("shootButton")
        assert aimed.ui.statusLabel.text.startswith("Shot"), aimed.message


def test_leaving_and_coming_back_keeps_the_choices(aimed):
    aimed.module.widgetRepresentation().exit()
    aimed.carm.set(primary_angle_deg=12.0)
    aimed.module.widgetRepresentation().enter()
    assert aimed.ui.primarySlider.value == 12.0
    assert aimed.ui.ctSelector.currentNode() is aimed.parameters.ctVolume


def test_a_closed_scene_is_let_go_of_even_while_another_module_is_open(aimed):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    aimed.module.widgetRepresentation().exit()
    held = [aimed.logic.patient(aimed.parameters.ctVolume, aimed.parameters.segmentation)]
    held += [aimed.parameters.ctVolume, aimed.carm.image_node(), aimed.carm.root]
    held = [weakref.ref(one) for one in held]
    slicer.mrmlScene.Clear(0)
    mouse.settle(100)
    gc.collect()
    assert [one() for one in held] == [None] * 4
    aimed.module.widgetRepresentation().enter()


def test_a_scene_closed_under_another_module_is_taken_up_on_return(aimed):
    aimed.module.widgetRepresentation().exit()
    slicer.mrmlScene.Clear(0)
    mouse.settle()
    aimed.module.widgetRepresentation().enter()
    assert aimed.parameters.ctVolume is None and aimed.carm is None
