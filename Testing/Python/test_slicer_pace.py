"""When a live picture is made: at once, never twice, full when at rest, and in which thread."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from live_stage import AtOnce

from DeepDRRLogic.projector.devices import Choice
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRSlicerLib.technique import Technique
from DeepDRRSlicerLib.xray_nodes import exposed_camera, technique_of_image


def test_the_first_picture_comes_at_once_and_the_full_one_within_a_second(stage):
    stage.session.enabled = True
    assert stage.frames == ["preview"]
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert stage.picture.shape == (512, 512)


def test_a_picture_at_rest_is_never_made_again(stage):
    stage.at_rest()
    for _ in range(5):
        stage.session.request()
        stage.carm.set(primary_angle_deg=stage.carm.arm().primary_angle_deg)
        stage.clock.run(0.5)
    assert stage.frames == []
    assert len(stage.clock.waiting) <= 1


def test_a_burst_of_events_is_one_frame_and_the_last_of_them_is_shown(stage):
    stage.at_rest()
    for angle in range(1, 40):
        stage.carm.set(primary_angle_deg=float(angle))
    assert stage.frames == ["preview"]
    stage.clock.run(0.05)
    assert stage.frames == ["preview", "preview"]
    moving = stage.picture.copy()
    stage.clock.run(1.0)
    assert stage.frames[2:] == ["full"]
    assert stage.carm.camera() == stage.logic.xray(stage.carm.image_node()).camera
    assert moving.mean() == pytest.approx(stage.picture.mean(), rel=0.02)


def test_motion_goes_on_while_the_hand_does(stage):
    stage.at_rest()
    for angle in range(1, 31):
        stage.carm.set(primary_angle_deg=float(angle))
        stage.clock.run(0.02)
    assert stage.frames == ["preview"] * 30
    assert stage.session.pace.frames_per_second == pytest.approx(50.0, rel=0.1)


def test_a_full_picture_that_nobody_waits_for_any_more_is_dropped(stage):
    stage.at_rest()
    waiting = Future()
    stage.session._worker.submit = lambda *a, **k: waiting
    stage.carm.set(primary_angle_deg=10.0)
    stage.clock.run(0.5)
    stage.carm.set(primary_angle_deg=50.0)
    stage.clock.run(0.1)
    stage.session._worker = AtOnce()
    waiting.set_result("an image of another pose")
    stage.clock.run(1.0)
    assert stage.logic.xray(stage.carm.image_node()).camera == stage.carm.camera()
    assert stage.frames == ["preview", "preview", "full"]


def test_a_hidden_view_costs_nothing_and_is_up_to_date_when_shown(stage):
    stage.at_rest()
    stage.seen = False
    stage.carm.set(primary_angle_deg=40.0)
    stage.clock.run(2.0)
    assert stage.frames == []
    stage.seen = True
    stage.session.request()
    assert stage.frames == ["preview"]
    assert exposed_camera(stage.carm.image_node()) == stage.carm.camera()


def test_nothing_is_rendered_while_a_scene_is_read_and_all_of_it_after(stage):
    stage.at_rest()
    stage.scene.StartState(stage.scene.BatchProcessState)
    stage.carm.set(primary_angle_deg=20.0)
    stage.clock.run(1.0)
    assert stage.frames == []
    stage.scene.EndState(stage.scene.BatchProcessState)
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]


def test_the_worker_gets_its_turn_though_nobody_lets_go_of_pythons_lock(stage, monkeypatch):
    """A worker that runs only while the poll waits for it, as threads do in an idle Slicer, gets done all the same."""
    monkeypatch.setattr("DeepDRRSlicerLib.live.TURN_S", 0.01)
    turns, pending = [], stage.held_work()

    def wait(futures, seconds):
        turns.append(seconds)
        future, work, arguments = pending[-1]
        if len(turns) == 3:
            future.set_result(work(*arguments))

    monkeypatch.setattr("DeepDRRSlicerLib.live.wait", wait)
    stage.session.enabled = True
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert turns == [0.01] * 3


def test_a_gpu_makes_the_full_picture_in_the_thread_that_has_it(stage, monkeypatch):
    monkeypatch.setattr(XRaySimulator, "projects_on", Choice("cuda", "as the test says"))
    stage.session._worker.submit = lambda *_: pytest.fail("handed to another thread")
    stage.session.enabled = True
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]


def test_scatter_that_takes_minutes_is_left_to_the_shot(stage):
    asked = []
    stage.logic.patient(stage.ct, stage.segmentation).scatter = lambda name, quality: asked.append(name)
    for name in ("montecarlo", "kernel"):
        stage.follow(technique=Technique(noise=False, scatter=name))
        stage.session.enabled = True
        stage.clock.run(1.0)
    assert set(asked) == {"", "kernel"}
    stage.logic.render(stage.ct, stage.segmentation, stage.carm, Technique(noise=False, scatter="montecarlo"))
    assert asked[-1] == "montecarlo"


def test_a_shot_with_slow_scatter_stays_until_something_changes(stage):
    slow, kernel = Technique(noise=False, scatter="montecarlo"), stage.logic.patient(stage.ct, stage.segmentation)
    made = kernel.scatter("kernel", "full")
    kernel.scatter = lambda name, quality: made if name else None
    stage.at_rest()
    pending = stage.held_work()
    stage.follow(technique=slow)
    stage.clock.run(0.5)
    assert len(pending) == 1, "without scatter, it is under way"
    image = stage.logic.render(stage.ct, stage.segmentation, stage.carm, slow)
    stage.session.shot(stage.carm, stage.session.shooting(stage.carm))
    shot = stage.picture.copy()
    future, work, arguments = pending[-1]
    future.set_result(work(*arguments))
    stage.follow(technique=slow)
    stage.clock.run(1.0)
    np.testing.assert_array_equal(stage.picture, shot)
    assert stage.frames == ["preview"]
    assert technique_of_image(image).scatter == "montecarlo"

    stage.session._worker = AtOnce()
    stage.carm.set(primary_angle_deg=1.0)
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "preview", "full"]
    assert technique_of_image(image).scatter == "", "the picture tells what made it"
