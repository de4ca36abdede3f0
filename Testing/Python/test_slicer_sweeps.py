"""Recorded sweeps: what they hold and leave alone, and that they are seen while they are played, and only then."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume
from slicer_scene import SHOT

from DeepDRRSlicerLib.sweeps import Playback
from DeepDRRSlicerLib.xray_view import XRayView, slice_to_ras


def sweep(logic, ct, arm, **watch):
    """Three pictures from -30 to 30 degrees."""
    return logic.sweep(ct, None, arm, SHOT, startDeg=-30, stopDeg=30, frames=3, width=None, **watch)


@pytest.fixture
def view(scene, logic, ct, arm):
    view = XRayView(scene)
    view.show(logic.render(ct, None, arm, SHOT))
    yield view
    view.close()


def shown(view) -> str:
    return view.slice_node.GetScene().GetNodeByID(view.composite_node.GetBackgroundVolumeID()).GetName()


def test_a_sweep_can_be_played_and_the_arm_follows_where_playback_of_its_joint_is_switched_on(scene, logic, ct, arm):
    arm.set(primary_angle_deg=15.0)
    done = []
    browser = sweep(logic, ct, arm, progress=lambda *p: done.append(p))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert browser.GetNumberOfItems() == 3
    assert arm.arm().primary_angle_deg == pytest.approx(15.0)
    images = browser.GetMasterSequenceNode()
    shown = browser.GetProxyNode(images)
    assert np.array_equal(arrayFromVolume(shown), arrayFromVolume(images.GetNthDataNode(0)))
    for index, angle in enumerate((-30.0, 0.0, 30.0)):
        frame = arrayFromVolume(images.GetNthDataNode(index))
        arm.set(primary_angle_deg=angle)
        np.testing.assert_array_equal(arrayFromVolume(logic.render(ct, None, arm, SHOT)), frame)
    arm.set(primary_angle_deg=15.0)
    browser.SetSelectedItemNumber(2)
    np.testing.assert_array_equal(arrayFromVolume(shown), arrayFromVolume(images.GetNthDataNode(2)))
    assert arm.arm().primary_angle_deg == pytest.approx(15.0)
    browser.SetPlayback(slicer.util.getNode("C-arm sweep primary"), True)
    assert arm.arm().primary_angle_deg == pytest.approx(30.0, abs=1e-4)


def test_a_sweep_makes_no_node_that_nobody_asked_for(scene, logic, ct, arm):
    logic.render(ct, None, arm, SHOT)
    before = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    logic.sweep(ct, None, arm, SHOT, frames=2, width=None)
    made = [node for n in range(scene.GetNumberOfNodes()) if (node := scene.GetNthNode(n)) not in before]
    assert sorted(node.GetClassName() for node in made) == [
        "vtkMRMLScalarVolumeDisplayNode",
        "vtkMRMLScalarVolumeNode",
        "vtkMRMLSequenceBrowserNode",
        "vtkMRMLSequenceNode",
        "vtkMRMLSequenceNode",
    ]


def test_where_the_user_aims_outlives_a_sweep_its_browsers_changes_and_a_saved_scene(scene, logic, ct, arm, tmp_path):
    arm.set(primary_angle_deg=33.0)
    browser = sweep(logic, ct, arm)
    browser.SetName("Orbit")
    browser.SetSelectedItemNumber(1)
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)
    path = str(tmp_path / "swept.mrb")
    assert scene.WriteToMRB(path)
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)
    scene.Clear(0)
    assert scene.ReadFromMRB(path)
    (arm,) = logic.carms()
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)
    browser = slicer.util.getNode("Orbit")
    browser.SetSelectedItemNumber(2)
    images = browser.GetMasterSequenceNode()
    shown = arrayFromVolume(browser.GetProxyNode(images))
    np.testing.assert_array_equal(shown, arrayFromVolume(images.GetNthDataNode(2)))
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)


def test_a_scene_closed_while_a_sweep_is_recorded_ends_it(scene, logic, ct, arm):
    closed = []

    def close(*_):
        closed.append(scene.Clear(0))

    assert logic.sweep(ct, None, arm, SHOT, frames=2, progress=close, cancelled=lambda: bool(closed)) is None
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0


def test_a_cancelled_sweep_leaves_nothing_behind(scene, logic, ct, arm):
    logic.render(ct, None, arm, SHOT)
    before = scene.GetNumberOfNodes()
    assert logic.sweep(ct, None, arm, SHOT, frames=5, cancelled=lambda: True) is None
    assert scene.GetNumberOfNodes() == before
    with pytest.raises(ValueError, match="does not turn"):
        logic.sweep(ct, None, arm, SHOT, joint="lift")


def test_each_sweep_has_a_name_of_its_own(logic, ct, arm):
    first, second = (sweep(logic, ct, arm) for _ in range(2))
    assert first.GetName() == first.GetMasterSequenceNode().GetName() == "C-arm sweep"
    assert second.GetName() == second.GetMasterSequenceNode().GetName() != "C-arm sweep"
    assert second.GetProxyNode(second.GetMasterSequenceNode()).GetName() == second.GetName()


@pytest.mark.parametrize("made", ["before", "after"])
def test_what_is_played_is_shown_until_another_picture_is(scene, logic, ct, arm, view, made):
    playback = Playback(view, scene) if made == "after" else None
    browser = sweep(logic, ct, arm)
    playback = playback or Playback(view, scene)
    assert shown(view) == "C-arm X-ray", "recorded is not played"
    browser.SetSelectedItemNumber(2)
    assert shown(view) == "C-arm sweep"
    picture = browser.GetProxyNode(browser.GetMasterSequenceNode())
    assert slicer.util.arrayFromVTKMatrix(view.slice_node.GetSliceToRAS()) == pytest.approx(slice_to_ras(picture))
    view.show(arm.image_node())
    browser.SetPlaybackRateFps(5.0)
    assert shown(view) == "C-arm X-ray", "no other frame was asked for"
    browser.SetSelectedItemNumber(1)
    assert shown(view) == "C-arm sweep"
    playback.close()
    view.show(arm.image_node())
    browser.SetSelectedItemNumber(0)
    assert shown(view) == "C-arm X-ray"


def test_where_the_c_arm_is_turned_too_and_live_its_picture_is_the_one_to_see(scene, logic, ct, arm, view):
    live = [True]
    playback = Playback(view, scene, lambda: live[0])
    browser = sweep(logic, ct, arm)
    browser.SetPlayback(slicer.util.getNode("C-arm sweep primary"), True)
    browser.SetSelectedItemNumber(1)
    assert shown(view) == "C-arm X-ray"
    live[0] = False
    browser.SetSelectedItemNumber(2)
    assert shown(view) == "C-arm sweep"
    playback.close()


def test_sequences_of_other_things_are_not_shown(scene, ct, view):
    playback = Playback(view, scene)
    browser, sequence = (scene.AddNewNodeByClass(f"vtkMRMLSequence{kind}Node") for kind in ("Browser", ""))
    for n in range(3):
        sequence.SetDataNodeAtValue(ct, str(n))
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetSelectedItemNumber(1)
    browser.SetSelectedItemNumber(2)
    assert shown(view) == "C-arm X-ray"
    playback.close()
