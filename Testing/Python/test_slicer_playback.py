"""Recorded sweeps are seen in the X-ray view while they are played, and only then."""

from __future__ import annotations

import pytest
import slicer
from slicer_scene import add_ct, body_hu, make_scene

from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.sweeps import Playback
from DeepDRRSlicerLib.technique import Technique
from DeepDRRSlicerLib.xray_view import XRayView, slice_to_ras

SHOT = Technique(noise=False)


@pytest.fixture
def scene():
    return make_scene()


@pytest.fixture
def logic(scene):
    return SceneLogic(scene)


@pytest.fixture
def ct(scene):
    return add_ct(scene, body_hu())


@pytest.fixture
def arm(logic, ct):
    return logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)


@pytest.fixture
def view(scene, logic, ct, arm):
    view = XRayView(scene)
    view.show(logic.render(ct, None, arm, SHOT))
    yield view
    view.close()


def sweep(logic, ct, arm):
    return logic.sweep(ct, None, arm, SHOT, startDeg=-30, stopDeg=30, frames=3, width=None)


def shown(view) -> str:
    return view.slice_node.GetScene().GetNodeByID(view.composite_node.GetBackgroundVolumeID()).GetName()


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


def test_each_sweep_has_a_name_of_its_own(logic, ct, arm):
    first, second = (sweep(logic, ct, arm) for _ in range(2))
    assert first.GetName() == first.GetMasterSequenceNode().GetName() == "C-arm sweep"
    assert second.GetName() == second.GetMasterSequenceNode().GetName() != "C-arm sweep"
    assert second.GetProxyNode(second.GetMasterSequenceNode()).GetName() == second.GetName()
