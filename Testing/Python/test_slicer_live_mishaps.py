"""The live picture when something is wrong or gone: said once, and no old picture passes for a new one."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import Future

import numpy as np
import pytest
from slicer_scene import QUIET, add_bend, add_transform

from DeepDRRSlicerLib.live import LiveSession
from DeepDRRSlicerLib.technique import Technique


def test_what_cannot_be_rendered_is_said_once(stage):
    stage.at_rest()
    stage.follow(technique=Technique(collimator="triangle:3"))
    stage.clock.run(2.0)
    assert len(stage.errors) == 1
    assert "not a collimator" in stage.errors[0]
    stage.follow()
    stage.clock.run(1.0)
    assert stage.frames[-1] == "full"


def test_what_keeps_two_c_arms_from_a_picture_is_said_once(stage):
    stage.follow(stage.carm, stage.lateral(), technique=Technique(collimator="triangle:3"))
    stage.session.enabled = True
    stage.clock.run(2.0)
    assert len(stage.errors) == 1
    assert "not a collimator" in stage.errors[0]


@pytest.mark.parametrize("mishap", ["bent CT", "bent C-arm", "scaled C-arm", "empty CT", "no memory"])
def test_what_makes_no_sense_is_said_once_and_no_old_picture_passes_for_a_new_one(stage, monkeypatch, mishap):
    stage.at_rest()
    scaled = add_transform(stage.scene, np.diag([1.1, 1.1, 1.1, 1.0]), "Scale")
    if mishap == "bent CT":
        stage.ct.SetAndObserveTransformNodeID(add_bend(stage.scene).GetID())
    elif mishap == "bent C-arm":
        stage.carm.root.SetAndObserveTransformNodeID(add_bend(stage.scene).GetID())
    elif mishap == "scaled C-arm":
        stage.carm.root.SetAndObserveTransformNodeID(scaled.GetID())
    elif mishap == "empty CT":
        stage.ct.SetAndObserveImageData(None)
    else:

        def too_much(*_):
            raise MemoryError("Unable to allocate 99 GiB")

        monkeypatch.setattr("DeepDRRSlicerLib.exposing.prepare", too_much)
        stage.carm.set(primary_angle_deg=10.0)
    again = LiveSession(stage.logic, stage.clock.call_later, clock=stage.clock)
    again.set_scene(stage.ct, stage.segmentation, [stage.carm], QUIET)  # as on opening the module
    again.close()
    stage.clock.run(1.0)
    stage.session.request()
    stage.clock.run(1.0)
    words = {"bent CT": "Warp", "bent C-arm": "Warp", "empty CT": "CT is empty", "no memory": "enough memory"}
    assert len(stage.errors) == 1 and words.get(mishap, "Remove scale") in stage.errors[0]
    assert stage.session.trouble == stage.errors[0]
    assert stage.frames == []
    if mishap in ("bent CT", "scaled C-arm"):
        node = stage.ct if mishap == "bent CT" else stage.carm.root
        node.SetAndObserveTransformNodeID(None)
        stage.clock.run(1.0)
        assert stage.frames[-1] == "full"
    else:
        stage.session.set_scene(None, None, [stage.carm], QUIET)
    assert stage.session.trouble == "", "of another CT nothing is known yet"


@pytest.mark.parametrize("victim", ["ct", "segmentation", "carm"])
def test_a_node_that_is_deleted_is_no_longer_followed(stage, victim):
    stage.at_rest()
    node = stage.carm.root if victim == "carm" else getattr(stage, victim)
    stage.scene.RemoveNode(node)
    stage.session.request()
    stage.clock.run(1.0)
    if victim != "carm":
        stage.carm.set(primary_angle_deg=20.0)
        stage.clock.run(1.0)
    assert stage.errors == []
    assert bool(stage.frames) == (victim == "segmentation")


def test_closing_the_scene_ends_it_quietly(stage):
    stage.at_rest()
    stage.scene.Clear(0)
    stage.session.request()
    stage.clock.run(1.0)
    assert stage.frames == []
    assert stage.errors == []


def test_a_session_lets_go_of_a_scene_that_is_closed_under_a_picture(stage):
    stage.at_rest()
    waiting = Future()
    stage.session._worker.submit = lambda *_: waiting
    stage.carm.set(primary_angle_deg=10.0)
    stage.clock.run(0.5)
    stage.frames.clear()
    patient = weakref.ref(stage.logic.known_patient(stage.ct, stage.segmentation))
    stage.session.scene_closed()
    stage.scene.Clear(0)
    waiting.set_result("an image of a scene that is gone")
    stage.clock.run(1.0)
    assert stage.frames == stage.errors == []
    stage.logic.sceneClosed()
    gc.collect()
    assert patient() is None


def test_a_c_arm_removed_during_its_full_picture_takes_the_picture_with_it(stage):
    lateral = stage.lateral()
    stage.at_rest()
    pending = stage.held_work()
    lateral.set(primary_angle_deg=80.0)
    stage.clock.run(0.5)
    lateral.remove()
    future, work, arguments = pending[-1]
    future.set_result(work(*arguments))
    volumes = stage.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    stage.clock.run(1.0)
    assert stage.frames == ["preview"]
    assert stage.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == volumes
    assert stage.errors == []
