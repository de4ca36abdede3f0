"""The live picture: at once, never twice, full when at rest. Time is the test's own."""

from __future__ import annotations

import gc
import itertools
import weakref
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import vtk
from slicer.util import arrayFromVolume, arrayFromVolumeModified, vtkMatrixFromArray
from slicer_scene import Clock, add_ct, add_segment, add_transform, body_hu, edited, layer_of, make_scene

from DeepDRRLogic.affine import rigid
from DeepDRRLogic.projector.devices import Choice
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRSlicerLib.live import LiveSession
from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL
from DeepDRRSlicerLib.mrml import ras_from_ijk
from DeepDRRSlicerLib.observing import SceneWatch
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.technique import Technique
from DeepDRRSlicerLib.xray_nodes import camera_of, exposed_camera, is_preview, technique_of_image

QUIET = Technique(noise=False)


class AtOnce:
    """A worker that does the work when it is asked to."""

    def submit(self, work, *arguments, **options):
        done = Future()
        try:
            done.set_result(work(*arguments, **options))
        except ValueError as error:
            done.set_exception(error)
        return done

    def shutdown(self, **_):
        pass


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setattr("DeepDRRSlicerLib.live.TURN_S", 0.0)
    scene = make_scene()
    logic = SceneLogic(scene)
    ct = add_ct(scene, body_hu())
    segmentation = logic.segment(ct, "threshold")
    carm = logic.carm(volumeNode=ct, width=512, height=512, pixel_pitch_mm=0.6)
    clock, frames, errors, seen = Clock(), [], [], [True]
    session = LiveSession(
        logic,
        clock.call_later,
        clock=clock,
        is_visible=lambda: seen[0],
        on_frame=lambda arm, quality, seconds: frames.append(quality),
        on_error=errors.append,
    )
    session._worker = AtOnce()
    session.set_scene(ct, segmentation, [carm], QUIET)
    stage = Stage(scene, logic, ct, segmentation, carm, clock, frames, errors, seen, session)
    yield stage
    session.close()


class Stage:
    def __init__(self, *parts):
        names = ("scene", "logic", "ct", "segmentation", "carm", "clock", "frames", "errors", "seen", "session")
        for name, part in zip(names, parts, strict=True):
            setattr(self, name, part)

    @property
    def picture(self):
        return arrayFromVolume(self.carm.image_node())[0]

    def at_rest(self):
        self.session.enabled = True
        self.clock.run(2.0)
        self.frames.clear()


def test_nothing_is_rendered_before_it_is_switched_on(stage):
    stage.carm.set(primary_angle_deg=5.0)
    stage.clock.run(2.0)
    assert stage.frames == []
    assert stage.carm.image_node() is None


def test_the_first_picture_comes_at_once_and_the_full_one_within_a_second(stage):
    stage.session.enabled = True
    assert stage.frames == ["preview"]
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert stage.picture.shape == (512, 512)


def test_the_full_picture_at_rest_is_that_of_a_shot(stage):
    stage.at_rest()
    live = stage.picture.copy()
    node = stage.logic.render(stage.ct, stage.segmentation, stage.carm, QUIET)
    np.testing.assert_array_equal(arrayFromVolume(node)[0], live)


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
    stage.seen[0] = False
    stage.carm.set(primary_angle_deg=40.0)
    stage.clock.run(2.0)
    assert stage.frames == []
    stage.seen[0] = True
    stage.session.request()
    assert stage.frames == ["preview"]


def test_an_edited_segment_a_painted_ct_and_a_moved_patient_are_seen_without_asking(stage):
    stage.at_rest()
    layer_of(stage.segmentation, "DeepDRR_bone")[15:25] = 1
    edited(stage.segmentation, "DeepDRR_bone")
    assert stage.frames == ["preview"]
    stage.clock.run(1.0)
    arrayFromVolume(stage.ct)[10:12] = 500
    arrayFromVolumeModified(stage.ct)
    assert stage.frames == ["preview", "full", "preview"]
    stage.clock.run(1.0)
    transform = add_transform(stage.scene, np.eye(4))
    stage.ct.SetAndObserveTransformNodeID(transform.GetID())
    stage.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    stage.clock.run(1.0)
    stage.frames.clear()
    moved = np.eye(4)
    moved[0, 3] = 9.0
    transform.SetMatrixTransformToParent(vtkMatrixFromArray(moved))
    assert stage.frames == ["preview"]


def test_a_patient_without_segments_is_seen_to_move_too(stage):
    transform = add_transform(stage.scene, np.eye(4))
    stage.ct.SetAndObserveTransformNodeID(transform.GetID())
    stage.session.set_scene(stage.ct, None, [stage.carm], QUIET)
    stage.at_rest()
    transform.SetMatrixTransformToParent(vtkMatrixFromArray(rigid(None, (9.0, 0.0, 0.0))))
    assert stage.frames == ["preview"]


def test_segments_in_another_order_are_seen_without_asking(stage):
    everywhere = np.ones(arrayFromVolume(stage.ct).shape, np.uint8)
    add_segment(stage.segmentation, "Over", everywhere, ras_from_ijk(stage.ct), {TAG_MATERIAL: "water"})
    stage.at_rest()
    before = stage.picture.max()
    stage.segmentation.GetSegmentation().SetSegmentIndex("Over", 0)  # now all others lie over it
    assert stage.frames == ["preview"]
    assert stage.picture.max() > before + 0.1


def test_what_is_no_longer_shown_is_no_longer_watched(stage):
    told = []
    watch = SceneWatch(lambda: told.append("patient"), lambda carm: told.append(carm.name))

    def change(angle):
        told.clear()
        edited(stage.segmentation, "DeepDRR_bone")
        arrayFromVolumeModified(stage.ct)
        stage.carm.set(primary_angle_deg=angle)
        return set(told)

    watch.observe(stage.ct, stage.segmentation, [stage.carm])
    assert change(10.0) == {"patient", stage.carm.name}
    watch.close()
    assert change(20.0) == set()


def test_another_technique_is_another_picture(stage):
    stage.at_rest()
    before = stage.picture.copy()
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], Technique(noise=False, kvp=60.0))
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert stage.picture.max() > before.max()


def test_two_c_arms_are_both_followed(stage):
    lateral = stage.logic.carm("Lateral", "biplane_lateral", stage.ct, width=128, height=128, pixel_pitch_mm=2.0)
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm, lateral], QUIET)
    stage.at_rest()
    assert lateral.image_node() is not stage.carm.image_node()
    assert arrayFromVolume(lateral.image_node()).shape == (1, 128, 128)
    lateral.set(primary_angle_deg=80.0)
    assert stage.frames == ["preview"]


def test_the_drawn_beam_follows_the_collimator_and_outlives_a_slip_of_the_pen(stage):
    def width():
        beam = next(n for n in stage.scene.GetNodesByName(f"{stage.carm.name} beam"))
        bounds = np.zeros(6)
        beam.GetPolyData().GetBounds(bounds)
        return bounds[1] - bounds[0]

    def show(words):
        stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], replace(QUIET, collimator=words))

    full = width()
    assert full == pytest.approx(512 * 0.6)
    show("circle:50mm")
    assert width() == pytest.approx(100.0, abs=0.2)
    for slip in ("circle", "rect:9000,0,9001,1"):
        show(slip)
        assert width() == pytest.approx(100.0, abs=0.2)
    show("")
    assert width() == pytest.approx(full)
    stage.logic.render(stage.ct, stage.segmentation, stage.carm, replace(QUIET, collimator="rect:-30,-20,30,20mm"))
    assert width() == pytest.approx(60.0)


def test_what_cannot_be_rendered_is_said_once(stage):
    stage.at_rest()
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], Technique(collimator="triangle:3"))
    stage.clock.run(2.0)
    assert len(stage.errors) == 1
    assert "not a collimator" in stage.errors[0]
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], QUIET)
    stage.clock.run(1.0)
    assert stage.frames[-1] == "full"


def test_what_keeps_two_c_arms_from_a_picture_is_said_once(stage):
    lateral = stage.logic.carm("Lateral", "biplane_lateral", stage.ct, width=128, height=128, pixel_pitch_mm=2.0)
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm, lateral], Technique(collimator="triangle:3"))
    stage.session.enabled = True
    stage.clock.run(2.0)
    assert len(stage.errors) == 1


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


def held_work(stage):
    """What the worker is given from now on, which it does not do by itself: (future, work, arguments)."""
    pending = []

    def submit(work, *arguments):
        pending.append((Future(), work, arguments))
        return pending[-1][0]

    stage.session._worker.submit = submit
    return pending


def test_a_c_arm_removed_during_its_full_picture_takes_the_picture_with_it(stage):
    lateral = stage.logic.carm("Lateral", "biplane_lateral", stage.ct, width=128, height=128, pixel_pitch_mm=2.0)
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm, lateral], QUIET)
    stage.at_rest()
    pending = held_work(stage)
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
        stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], Technique(noise=False, scatter=name))
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
    pending = held_work(stage)
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], slow)
    stage.clock.run(0.5)
    assert len(pending) == 1, "without scatter, it is under way"
    image = stage.logic.render(stage.ct, stage.segmentation, stage.carm, slow)
    stage.session.shot(stage.carm, stage.session.shooting(stage.carm))
    shot = stage.picture.copy()
    future, work, arguments = pending[-1]
    future.set_result(work(*arguments))
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], slow)
    stage.clock.run(1.0)
    np.testing.assert_array_equal(stage.picture, shot)
    assert stage.frames == ["preview"]
    assert technique_of_image(image).scatter == "montecarlo"

    stage.session._worker = AtOnce()
    stage.carm.set(primary_angle_deg=1.0)
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "preview", "full"]
    assert technique_of_image(image).scatter == "", "the picture tells what made it"


def test_an_image_that_is_deleted_is_made_again(stage):
    stage.at_rest()
    stage.scene.RemoveNode(stage.carm.image_node())
    stage.session.request()
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert stage.picture.max() > 1.0


def bent(scene):
    """A transform that bends whatever is under it."""
    spline = vtk.vtkThinPlateSplineTransform()
    places, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for n in range(8):
        corner = np.array([(n >> axis & 1) - 0.5 for axis in range(3)]) * 200.0
        places.InsertNextPoint(corner)
        moved.InsertNextPoint(corner * (1.3 if n == 7 else 1.0))
    spline.SetSourceLandmarks(places)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    node.SetAndObserveTransformToParent(spline)
    return node


@pytest.mark.parametrize("mishap", ["bent CT", "bent C-arm", "scaled C-arm", "empty CT", "no memory"])
def test_what_makes_no_sense_is_said_once_and_no_old_picture_passes_for_a_new_one(stage, monkeypatch, mishap):
    stage.at_rest()
    scaled = add_transform(stage.scene, np.diag([1.1, 1.1, 1.1, 1.0]), "Scale")
    if mishap == "bent CT":
        stage.ct.SetAndObserveTransformNodeID(bent(stage.scene).GetID())
    elif mishap == "bent C-arm":
        stage.carm.root.SetAndObserveTransformNodeID(bent(stage.scene).GetID())
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
    turns, pending = [], []

    def submit(work, *arguments):
        pending.append((Future(), work, arguments))
        return pending[-1][0]

    def wait(futures, seconds):
        turns.append(seconds)
        future, work, arguments = pending[-1]
        if len(turns) == 3:
            future.set_result(work(*arguments))

    stage.session._worker.submit = submit
    monkeypatch.setattr("DeepDRRSlicerLib.live.wait", wait)
    stage.session.enabled = True
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert turns == [0.01] * 3


def window_of(image):
    display = image.GetDisplayNode()
    return np.array([display.GetWindowLevelMin(), display.GetWindowLevelMax()])


def test_an_automatic_window_follows_the_motion_in_steps_and_the_users_own_stays(stage):
    stage.at_rest()
    image = stage.carm.image_node()
    before, seen = window_of(image), []
    technique = Technique(noise=False, kvp=45.0)  # a darker picture
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], technique)
    for angle in range(1, 16):
        stage.carm.set(primary_angle_deg=float(angle))
        stage.clock.run(0.02)
        seen.append(window_of(image))
    stage.clock.run(1.0)
    after = window_of(image)
    way = np.linalg.norm(after - before)
    assert way > 0.2
    assert np.linalg.norm(after - seen[-1]) < 0.15 * way, "it has followed"
    assert max(np.linalg.norm(b - a) for a, b in itertools.pairwise([before, *seen])) < 0.6 * way, "without a leap"
    image.GetDisplayNode().SetWindowLevelMinMax(0.5, 2.0)
    stage.carm.set(primary_angle_deg=30.0)
    stage.clock.run(1.0)
    np.testing.assert_allclose(window_of(image), (0.5, 2.0))


def test_a_preview_stands_for_the_whole_exposure_which_can_be_made_of_it(stage):
    technique = Technique(scatter="kernel", grid=True)
    stage.session.set_scene(stage.ct, stage.segmentation, [stage.carm], technique)
    stage.at_rest()
    stage.carm.set(primary_angle_deg=20.0)
    image = stage.carm.image_node()
    assert is_preview(image) and exposed_camera(image) == stage.carm.camera() != camera_of(image)
    assert not stage.logic.isAtHand(image)
    kept = stage.logic.keepCopy(image)
    assert not is_preview(image) and not is_preview(kept) and stage.picture.shape == (512, 512)
    stage.session.finished(stage.carm)
    assert stage.frames == ["preview", "full"]
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"], "nothing is made twice"
    shot = stage.logic.render(stage.ct, stage.segmentation, stage.carm, technique)
    np.testing.assert_array_equal(arrayFromVolume(kept), arrayFromVolume(shot))
    assert stage.logic.xray(kept).metadata["technique"] == stage.logic.xray(shot).metadata["technique"]
