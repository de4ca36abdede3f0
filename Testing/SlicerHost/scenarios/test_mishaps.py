"""What is deleted, bent, read in or changed behind the panel's back: said in words, and put in order."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import slicer
import vtk
from PySide6 import QtCore
from slicerhost import mouse

from DeepDRRSlicerLib import carm_display, ct_nodes, layout, patient, xray_nodes
from DeepDRRSlicerLib.carm_nodes import JOINT


def transform(matrix, name):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def warp():
    spline, places, moved = vtk.vtkThinPlateSplineTransform(), vtk.vtkPoints(), vtk.vtkPoints()
    for n in range(8):
        corner = np.array([(n >> axis & 1) - 0.5 for axis in range(3)]) * 200.0
        places.InsertNextPoint(corner)
        moved.InsertNextPoint(corner * (1.3 if n == 7 else 1.0))
    spline.SetSourceLandmarks(places)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    node.SetAndObserveTransformToParent(spline)
    return node


@pytest.fixture
def live(aimed):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    return aimed


@pytest.fixture
def monte_carlo(monkeypatch):
    """A stand-in for Monte Carlo: the kernel's scatter, which takes seconds instead of minutes."""
    real = patient.make_scatter
    monkeypatch.setattr(patient, "make_scatter", lambda name, volumes: real("kernel", volumes))


def test_a_ct_that_is_bent_is_said_for_as_long_as_it_is(live):
    live.parameters.ctVolume.SetAndObserveTransformNodeID(warp().GetID())
    mouse.settle()
    assert "(Warp): harden that transform first" in live.message
    assert live.ui.statusLabel.text == "", "the picture is of before"
    assert "Warp" in live.ui.verdictLabel.text
    mouse.type_number(live.ui.primarySlider, 20)
    assert "Warp" in live.message and live.ui.statusLabel.text == ""
    live.parameters.ctVolume.SetAndObserveTransformNodeID(None)
    live.wait_for_full_quality()
    live.panel.update()
    assert live.ui.verdictLabel.text.endswith("HU ok")


def test_a_ct_that_is_sheared_is_no_longer_said_to_be_all_right(live):
    shear = np.eye(4)
    shear[0, 1] = 0.3
    live.parameters.ctVolume.SetAndObserveTransformNodeID(transform(shear, "Registration").GetID())
    mouse.settle()
    assert live.ui.verdictLabel.text.startswith("The transform Registration shears this CT")
    assert live.ui.statusLabel.text == ""


def test_a_scaled_c_arm_is_said_and_the_module_opens_all_the_same(live):
    live.carm.root.SetAndObserveTransformNodeID(transform(np.diag([1.1, 1.1, 1.1, 1.0]), "Scale").GetID())
    mouse.settle()
    assert "Remove scale" in live.message and live.ui.statusLabel.text == ""
    live.module.widgetRepresentation().exit()
    live.module.widgetRepresentation().enter()
    assert "Remove scale" in live.message
    live.panel.undone()
    live.carm.root.SetAndObserveTransformNodeID(None)
    live.wait_for_full_quality()


def test_a_ct_without_voxels_is_said(live):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Lost file")
    live.ui.ctSelector.setCurrentNode(empty)
    mouse.settle()
    assert live.message == live.ui.verdictLabel.text == "Lost file is empty: load a CT into it, or choose another."
    assert live.ui.statusLabel.text == ""
    live.press("addCarmButton")
    assert "Lost file is empty" in live.message


def test_a_section_that_cannot_show_what_there_is_says_so(aimed, monkeypatch):
    def fails():
        raise MemoryError("Unable to allocate 99 GiB")

    monkeypatch.setattr(aimed.panel.scan, "judge", fails)
    aimed.panel.update()
    assert aimed.message.startswith("There is not enough memory (Unable to allocate 99 GiB)")
    monkeypatch.undo()
    monkeypatch.setattr(aimed.logic, "render", lambda *_, **__: fails())
    aimed.press("shootButton")
    assert "enough memory" in aimed.message


@pytest.mark.parametrize("clear", [True, False], ids=["opened", "imported"])
def test_a_scene_is_read_while_live_is_on_and_shown_when_it_is_whole(live, tmp_path, clear):
    path, its = str(tmp_path / "scene.mrb"), live.parameters.ctVolume.GetName()
    live.carm.set(primary_angle_deg=30.0)
    live.wait_for_full_quality()
    assert slicer.util.saveScene(path)
    live.carm.set(primary_angle_deg=10.0)
    updated = []
    real = live.panel.scan.update
    live.panel.scan.update = lambda: (updated.append(slicer.mrmlScene.IsBatchProcessing()), real())
    try:
        slicer.util.loadScene(path, {"clear": clear})
        mouse.settle(200)
    finally:
        del live.panel.scan.update
    assert updated and not any(updated)
    assert live.parameters.ctVolume.GetName() == its and live.parameters.segmentation is not None
    assert len(live.logic.carms()) == (1 if clear else 2)
    live.wait_for_full_quality()
    assert xray_nodes.camera_of(live.carm.image_node()) == live.carm.camera()
    assert live.ui.primarySlider.value == pytest.approx(live.carm.dicom_angles_deg()[0])


def test_an_import_behind_another_module_is_caught_up_with(live, tmp_path):
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    live.module.widgetRepresentation().exit()
    slicer.util.loadScene(path, {"clear": False})
    mouse.settle()
    carm = live.logic.carms()[-1]
    carm.set(primary_angle_deg=35.0)
    mouse.wait_for(lambda: xray_nodes.camera_of(carm.image_node()) == carm.camera(), 30)
    live.module.widgetRepresentation().enter()


def test_deleting_the_one_node_of_a_c_arm_that_lists_show_deletes_the_c_arm(live):
    slicer.mrmlScene.RemoveNode(live.carm.root)
    mouse.settle()
    assert live.carm is None and not live.ui.removeCarmButton.enabled
    for kind, attribute in (
        ("vtkMRMLModelNode", carm_display.PART),
        ("vtkMRMLLinearTransformNode", carm_display.GROUP),
        ("vtkMRMLLinearTransformNode", JOINT),
    ):
        assert [n for n in slicer.util.getNodesByClass(kind) if n.GetAttribute(attribute)] == []
    live.press("addCarmButton")
    assert live.carm.is_valid()


def test_a_layout_from_slicers_own_menu_shows_the_present_pose(live):
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    mouse.settle()
    assert live.ui.layoutSelector.currentText == "Slicer's own"
    live.carm.set(primary_angle_deg=60.0)
    mouse.settle(200)
    assert xray_nodes.camera_of(live.carm.image_node()) != live.carm.camera()
    manager.setLayout(layout.layout_named("side_by_side").layout_id)
    mouse.wait_for(lambda: xray_nodes.camera_of(live.carm.image_node()) == live.carm.camera(), 30)
    assert live.ui.layoutSelector.currentText == "3D and X-ray"


def test_a_second_c_arm_leaves_the_layout_that_shows_xrays(aimed):
    node = layout.layout_node_of(slicer.mrmlScene)
    biplane = layout.layout_named("biplane").layout_id
    layout.show_layout(node, "biplane")
    mouse.settle()
    aimed.press("addCarmButton")
    assert node.GetViewArrangement() == biplane
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    mouse.settle()
    aimed.press("addCarmButton")
    assert node.GetViewArrangement() == layout.layout_named("workplace").layout_id


def test_an_xray_deleted_while_live_is_on_comes_back(live):
    slicer.mrmlScene.RemoveNode(live.carm.image_node())
    mouse.wait_for(lambda: live.carm.image_node() is not None and "full quality" in live.ui.statusLabel.text, 30)
    assert live.image().max() > 1.0


@pytest.mark.parametrize("first", [True, False], ids=["first shot", "Live is at work"])
def test_a_shot_with_monte_carlo_scatter_is_not_replaced(bench, chest_file, monte_carlo, first):
    bench.load(chest_file)
    bench.set_live(True)
    if not first:
        bench.add_carm()
        bench.wait_for_full_quality()
    bench.parameters.technique.scatter = "montecarlo"
    if not first:
        mouse.wait_for(lambda: bench.panel.sections[-1]._session._job is not None, 30)
    shot = bench.shoot()
    mouse.settle(1500)
    assert bench.ui.statusLabel.text.startswith("Shot")
    assert np.array_equal(bench.image(), shot)
    assert xray_nodes.technique_of_image(bench.carm.image_node()).scatter == "montecarlo"
    bench.carm.set(primary_angle_deg=5.0)
    bench.wait_for_full_quality()
    assert xray_nodes.technique_of_image(bench.carm.image_node()).scatter == ""


def take_long(monkeypatch, photons):
    real = patient.make_scatter

    def make(name, volumes):
        made = real("montecarlo", volumes, device="cpu")
        made.photons, made.tally = photons, 4
        return made

    monkeypatch.setattr(patient, "make_scatter", make)


def test_a_shot_that_takes_long_is_called_off_and_the_xray_before_it_stays(aimed, monkeypatch):
    take_long(monkeypatch, 400_000_000)
    before, ui, seen = aimed.shoot(), aimed.ui, {}
    aimed.parameters.technique.scatter = "montecarlo"

    def look():
        seen["progress"] = ui.shootProgress.visible, ui.shootButton.visible, ui.carmSection.enabled
        seen["others"] = [getattr(ui, f"{name}Button").enabled for name in ("sweep", "export")]
        mouse.click(ui.cancelShootButton)

    QtCore.QTimer.singleShot(500, look)
    aimed.press("shootButton")
    assert seen == {"progress": (True, False, False), "others": [False, False]}
    assert "cancelled" in aimed.message
    assert np.array_equal(aimed.image(), before)
    assert ui.shootButton.visible and ui.liveButton.visible and not ui.shootProgress.visible and ui.carmSection.enabled


def test_after_a_shot_that_took_long_live_shows_where_the_c_arm_was_turned_to_meanwhile(live, monkeypatch):
    take_long(monkeypatch, 20_000)
    live.parameters.technique.scatter = "montecarlo"
    live.wait_for_full_quality()
    QtCore.QTimer.singleShot(50, lambda: live.carm.set(primary_angle_deg=25.0))
    live.press("shootButton")
    live.wait_for_full_quality()
    assert xray_nodes.camera_of(live.carm.image_node()) == live.carm.camera()


def test_a_scene_that_is_closed_while_a_shot_takes_long_stays_empty(aimed, monkeypatch):
    take_long(monkeypatch, 400_000_000)
    aimed.parameters.technique.scatter = "montecarlo"
    QtCore.QTimer.singleShot(500, slicer.mrmlScene.Clear)
    aimed.press("shootButton")
    mouse.settle()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert aimed.message == "" and aimed.ui.shootButton.visible


def test_a_ct_that_is_deleted_is_out_of_memory(live):
    held = weakref.ref(live.logic.patient(live.parameters.ctVolume, live.parameters.segmentation))
    slicer.mrmlScene.RemoveNode(live.parameters.ctVolume)
    mouse.settle(100)
    gc.collect()
    assert held() is None


def test_while_a_sweep_is_recorded_nothing_else_is_taken_kept_or_written(live):
    ui, seen = live.ui, []
    real = live.panel.acquire._sweep_progress

    def progress(done, total):
        real(done, total)
        seen.extend(getattr(ui, f"{name}Button").enabled for name in ("shoot", "sweep", "keep", "export"))

    live.panel.acquire._sweep_progress = progress
    live.parameters.sweepFrames = 3
    try:
        ui.sweepButton.click()
    finally:
        del live.panel.acquire._sweep_progress
    assert seen and not any(seen)
    assert all(getattr(ui, f"{name}Button").enabled for name in ("shoot", "sweep", "keep", "export"))


def test_the_isocentre_of_an_empty_ct_is_refused(aimed):
    aimed.parameters.ctVolume.SetAndObserveImageData(None)
    aimed.press("isocenterCtButton")
    assert "Chest is empty" in aimed.message
    with pytest.raises(ValueError, match="Chest is empty"):
        ct_nodes.content_key(aimed.parameters.ctVolume)
