"""What the panel says of the X-ray that is shown, and what of it is saved."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
from PIL import Image
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtTest import QTest
from slicerhost import mouse
from test_mishaps import take_long, warp

from DeepDRRSlicerLib import ct_nodes, patient, xray_nodes


@pytest.fixture
def live(aimed):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    return aimed


@pytest.fixture
def landmarks(aimed):
    x, y, z = ct_nodes.center_ras(aimed.parameters.ctVolume)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    node.AddControlPoint(x + 40.0, y + 40.0, z + 10.0)
    aimed.parameters.landmarks = node
    return node


def in_table(bench):
    return [float(bench.ui.pointsTable.item(0, column).text()) for column in (1, 2)]


def is_in_view(bench, widget):
    port = bench.window._scroll.viewport()
    corners = (QtCore.QPoint(0, 0), QtCore.QPoint(widget.width, widget.height))
    return widget.visible and all(0 <= widget.mapTo(port, corner).y() <= port.height for corner in corners)


def test_export_right_after_a_move_writes_the_whole_exposure_with_its_scatter(live, tmp_path):
    live.parameters.technique.scatter = "kernel"
    live.wait_for_full_quality()
    live.show(live.ui.exportButton)
    live.ui.exportPath.currentPath = str(tmp_path / "moved.png")
    live.ui.primarySlider.value = 25.0
    assert xray_nodes.is_preview(live.carm.image_node())
    live.ui.exportButton.click()
    assert "moved.png" in live.message, live.message
    assert Image.open(tmp_path / "moved.png").size == (620, 480)
    sidecar = json.loads((tmp_path / "moved.png.json").read_text())
    assert sidecar["metadata"]["technique"]["scatter"] == "kernel"
    assert sidecar["metadata"]["carm"]["primary_angle_deg"] == 25.0
    assert "full quality" in live.ui.statusLabel.text
    exported = live.image()
    assert exported.shape == (480, 620), "what was written is shown"
    mouse.settle(600)
    assert np.array_equal(live.image(), exported), "and needs not be made again"


def test_a_copy_kept_right_after_a_move_is_whole(live):
    live.show(live.ui.keepButton)
    live.ui.primarySlider.value = 25.0
    assert xray_nodes.is_preview(live.carm.image_node())
    live.ui.keepButton.click()
    kept = slicer.util.getNode("* copy")
    assert kept.GetImageData().GetDimensions() == (620, 480, 1)
    assert not xray_nodes.is_preview(kept)
    assert np.array_equal(slicer.util.arrayFromVolume(kept)[0], live.image())


def test_an_export_that_exposes_anew_for_long_is_called_off(aimed, monkeypatch, tmp_path):
    take_long(monkeypatch, 20_000)
    aimed.parameters.technique.scatter = "montecarlo"
    aimed.press("shootButton")
    monkeypatch.undo()
    aimed.logic.sceneClosed()  # as after loading: no exposure is at hand
    take_long(monkeypatch, 400_000_000)
    aimed.ui.exportPath.currentPath = str(tmp_path / "long.png")
    QtCore.QTimer.singleShot(500, lambda: mouse.click(aimed.ui.cancelShootButton))
    aimed.press("exportButton")
    assert "cancelled" in aimed.message
    assert not (tmp_path / "long.png").exists() and aimed.ui.shootButton.visible


def test_an_xray_of_another_position_is_said_to_be_and_its_points_are_its_own(aimed, landmarks, tmp_path):
    aimed.parameters.showPoints = True
    aimed.shoot()
    before = in_table(aimed)
    mouse.type_number(aimed.ui.primarySlider, 30)
    assert aimed.ui.statusLabel.text.startswith("Shot 620 × 480")
    assert "from before the C-arm moved" in aimed.ui.statusLabel.text
    assert in_table(aimed) == before, "of the picture that is shown"
    aimed.ui.exportPath.currentPath = str(tmp_path / "old.png")
    aimed.press("exportButton")
    matrix = np.array(json.loads((tmp_path / "old.png.json").read_text())["projection_pixel_from_ras"])
    u, v, depth = matrix @ [*landmarks.GetNthControlPointPosition(0), 1.0]
    assert in_table(aimed) == pytest.approx([u / depth, v / depth], abs=0.06)
    mouse.type_number(aimed.ui.primarySlider, 0)
    assert "before" not in aimed.ui.statusLabel.text, "back where it was taken"
    mouse.type_number(aimed.ui.primarySlider, 30)
    aimed.shoot()
    assert "before" not in aimed.ui.statusLabel.text and in_table(aimed) != before


def test_an_xray_of_other_settings_is_said_to_be(aimed):
    aimed.shoot()
    aimed.parameters.technique.kvp = 70.0
    assert "from before the settings changed" in aimed.ui.statusLabel.text
    aimed.parameters.technique.kvp = 90.0
    assert "before" not in aimed.ui.statusLabel.text
    aimed.parameters.technique.collimator = "circle:40mm"
    aimed.shoot()
    assert "before" not in aimed.ui.statusLabel.text
    aimed.parameters.technique.collimator = ""
    assert "from before the settings changed" in aimed.ui.statusLabel.text


def test_an_xray_that_is_out_of_view_and_of_another_position_is_said_to_be(live):
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    mouse.settle()
    live.carm.set(primary_angle_deg=-45.0)
    assert "from before the C-arm moved" in live.ui.statusLabel.text
    mouse.choose(live.ui.layoutSelector, "X-ray workplace")
    live.wait_for_full_quality()
    assert "before" not in live.ui.statusLabel.text


def test_the_points_of_a_preview_are_in_pixels_of_the_detector(live, landmarks):
    live.ui.primarySlider.value = 10.0
    assert xray_nodes.is_preview(live.carm.image_node())
    moving = in_table(live)
    live.wait_for_full_quality()
    assert in_table(live) == moving


@pytest.mark.parametrize(
    ("name", "section", "said"),
    [
        ("exportButton", "acquireSection", "Where to?"),
        ("keepButton", "acquireSection", "Kept as"),
        ("isocenterPointButton", "carmSection", "There is no point"),
    ],
)
def test_what_a_button_says_is_seen_by_who_presses_it(aimed, name, section, said):
    aimed.shoot()
    aimed.ui.exportPath.currentPath = ""
    aimed.open(section)
    button = getattr(aimed.ui, name)
    aimed.show(button)
    mouse.click(button)
    mouse.settle(30)
    label = aimed.ui.messageLabel
    assert label.text.startswith(said)
    assert is_in_view(aimed, label) and is_in_view(aimed, button)
    layout = label.parentWidget().layout()
    assert layout.indexOf(label) == layout.indexOf(getattr(aimed.ui, section)) + 1


def test_what_nobody_asked_for_leaves_the_panel_where_it_is(live):
    live.show(live.ui.exportButton)
    before = live.window._scroll.verticalScrollBar().value
    live.parameters.ctVolume.SetAndObserveTransformNodeID(warp().GetID())
    mouse.settle(50)
    assert "Warp" in live.message
    assert live.window._scroll.verticalScrollBar().value == before


def test_the_grid_takes_scatter_out_and_is_part_of_the_exposure(aimed):
    aimed.open("xraySection")
    assert not aimed.ui.gridCheck.enabled, "there is no scatter"
    mouse.choose(aimed.ui.scatterSelector, "kernel")
    open_ = aimed.shoot()
    aimed.press("gridCheck")
    behind = aimed.shoot()
    assert (behind - open_).mean() > 0.05, "less scatter: more attenuation"
    image = aimed.carm.image_node()
    assert xray_nodes.technique_of_image(image).grid
    assert aimed.logic.xray(image).metadata["technique"]["grid"] is True
    shot = aimed.logic.xray(image).signal.copy()
    aimed.logic.sceneClosed()  # as after loading
    assert np.array_equal(aimed.logic.xray(image).signal, shot)
    mouse.choose(aimed.ui.scatterSelector, "none")
    aimed.shoot()
    assert not xray_nodes.technique_of_image(image).grid, "without scatter there is nothing to take out"


def test_live_says_that_it_does_without_scatter_that_takes_long(live, monkeypatch):
    take_long(monkeypatch, 20_000)
    live.parameters.technique.scatter = "montecarlo"
    mouse.wait_for(lambda: "full quality without scatter: press Shoot" in live.ui.statusLabel.text)
    live.shoot()
    assert "without" not in live.ui.statusLabel.text and "before" not in live.ui.statusLabel.text


def test_reset_brings_the_pictures_own_window_back_and_exposes_nothing(aimed, monkeypatch):
    aimed.shoot()
    display = aimed.carm.image_node().GetDisplayNode()
    own = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    display.SetWindowLevelMinMax(0.5, 2.0)
    monkeypatch.setattr(aimed.logic, "render", lambda *_, **__: pytest.fail("exposed"))
    aimed.open("xraySection")
    aimed.press("resetWindowButton")
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx(own, rel=1e-3)
    monkeypatch.undo()
    aimed.parameters.technique.kvp = 60.0
    aimed.shoot()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) != pytest.approx(own, rel=1e-3)


def test_a_collimator_is_judged_when_it_is_typed_and_an_error_goes_with_its_cause(live):
    live.open("xraySection")
    edit, said = live.ui.collimatorEdit, []
    live.show(edit)
    edit.setFocus()
    for letter in "circle:60mm":
        QTest.keyClicks(edit, letter)
        mouse.settle(30)
        said.append(live.message)
    assert not any(said)
    QTest.keyClick(edit, QtCore.Qt.Key_Return)
    live.wait_for_full_quality()
    assert live.parameters.technique.collimator == "circle:60mm" and live.image()[0, 0] == 0.0
    edit.selectAll()
    QTest.keyClicks(edit, "hexagon")
    QTest.keyClick(edit, QtCore.Qt.Key_Return)
    mouse.wait_for(lambda: "hexagon" in live.message)
    edit.selectAll()
    QTest.keyClicks(edit, "circle:70mm")
    QTest.keyClick(edit, QtCore.Qt.Key_Return)
    live.wait_for_full_quality()
    assert live.message == ""


def test_an_error_of_live_is_taken_back_when_its_cause_is_gone(live):
    live.parameters.ctVolume.SetAndObserveTransformNodeID(warp().GetID())
    mouse.settle()
    assert "Warp" in live.message
    live.parameters.ctVolume.SetAndObserveTransformNodeID(None)
    live.wait_for_full_quality()
    assert live.message == ""


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: no kernel image"), ImportError("DLL load failed")])
def test_what_breaks_below_is_said_and_live_goes_on(live, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(patient, "make_scatter", broken)
    live.parameters.technique.scatter = "kernel"
    mouse.wait_for(lambda: str(error) in live.message)
    live.press("shootButton")
    assert str(error) in live.message
    monkeypatch.undo()
    live.parameters.technique.scatter = "none"
    live.wait_for_full_quality()


def test_a_beam_beside_the_ct_is_said_with_the_remedy(aimed):
    caution = aimed.ui.limitsLabel
    assert not caution.visible
    x, y, z = ct_nodes.center_ras(aimed.parameters.ctVolume)
    aimed.carm.set(isocenter_ras_mm=(x, y, z + 900.0))
    assert caution.visible and "No ray meets the CT: press CT centre" in caution.text
    aimed.shoot()
    assert "No ray meets the CT" in aimed.ui.statusLabel.text
    aimed.press("isocenterCtButton")
    assert not caution.visible
    aimed.carm.set(source_to_isocenter_mm=20.0)
    assert "The source is inside the patient" in caution.text


def point_at(view, x, y):
    """The mouse with Shift held, which takes the crosshair along."""
    for place in (QtCore.QPointF(x - 3, y), QtCore.QPointF(x, y)):
        there = view.mapToGlobal(place)
        buttons = QtCore.Qt.NoButton, QtCore.Qt.NoButton
        event = QtGui.QMouseEvent(QtCore.QEvent.MouseMove, place, there, *buttons, QtCore.Qt.ShiftModifier)
        QtWidgets.QApplication.sendEvent(view, event)
    mouse.settle(30)


def test_a_crosshair_on_the_xray_centres_what_it_points_at(aimed):
    slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode").SetCrosshairRAS(0.0, 0.0, 0.0)
    before = aimed.carm.arm()
    aimed.press("isocenterCrosshairButton")
    assert "hold Shift" in aimed.message and aimed.carm.arm() == before
    aimed.shoot()
    point_at(aimed.xray_view, 150, 150)
    place = slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode").GetCrosshairRAS()
    camera = xray_nodes.camera_of(aimed.carm.image_node())
    assert np.dot(place - camera.source_ras, camera.principal_axis_ras) == pytest.approx(camera.source_to_detector_mm)
    aimed.press("isocenterCrosshairButton")
    moved = np.array(aimed.carm.arm().isocenter_ras_mm)
    assert camera.project(moved) == pytest.approx(camera.project(place), abs=0.1)
    assert np.dot(moved - before.isocenter_ras_mm, camera.principal_axis_ras) == pytest.approx(0.0, abs=0.1)


def test_the_device_is_the_one_that_projects(aimed):
    aimed.open("xraySection")
    mouse.choose(aimed.ui.deviceSelector, "cuda")
    aimed.press("shootButton")
    made = aimed.logic.projectsOn("full", "cuda")
    assert aimed.ui.deviceLabel.toolTip == str(made)
    assert aimed.ui.deviceLabel.text.startswith("CPU" if made.device == "cpu" else "GPU")
    aimed.parameters.technique.device = "torch"
    assert aimed.ui.deviceLabel.text == "PyTorch"


def test_leaving_and_coming_back_during_a_long_shot_is_no_other_scene(aimed, monkeypatch):
    aimed.shoot()
    take_long(monkeypatch, 400_000)
    aimed.parameters.technique.scatter = "montecarlo"
    left = []

    def leave():
        left.append(aimed.ui.shootProgress.visible)
        aimed.module.widgetRepresentation().exit()
        aimed.module.widgetRepresentation().enter()

    QtCore.QTimer.singleShot(50, leave)
    aimed.press("shootButton")
    assert left == [True]
    assert xray_nodes.technique_of_image(aimed.carm.image_node()).scatter == "montecarlo"
    assert aimed.ui.statusLabel.text.startswith("Shot") and "before" not in aimed.ui.statusLabel.text


def test_a_c_arm_that_lost_a_joint_can_be_removed(aimed):
    root = aimed.carm.root
    slicer.mrmlScene.RemoveNode(aimed.carm.node("roll"))
    mouse.settle()
    aimed.press("removeCarmButton")
    assert root.GetScene() is None and aimed.parameters.carm is None
    aimed.add_carm()
    aimed.shoot()
