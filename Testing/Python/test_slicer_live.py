"""The live picture shows what is there: whatever is edited, moved or exchanged is seen without asking."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume, arrayFromVolumeModified, vtkMatrixFromArray
from slicer_scene import BONE, QUIET, add_segment, add_transform, edited, layer_of

from DeepDRRLogic.affine import rigid
from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL
from DeepDRRSlicerLib.mrml import ras_from_ijk
from DeepDRRSlicerLib.observing import SceneWatch
from DeepDRRSlicerLib.technique import Technique
from DeepDRRSlicerLib.xray_nodes import camera_of, exposed_camera, is_preview


def test_nothing_is_rendered_before_it_is_switched_on(stage):
    stage.carm.set(primary_angle_deg=5.0)
    stage.clock.run(2.0)
    assert stage.frames == []
    assert stage.carm.image_node() is None


def test_the_full_picture_at_rest_is_that_of_a_shot(stage):
    stage.at_rest()
    live = stage.picture.copy()
    node = stage.logic.render(stage.ct, stage.segmentation, stage.carm, QUIET)
    np.testing.assert_array_equal(arrayFromVolume(node)[0], live)


def test_an_edited_segment_a_painted_ct_and_a_moved_patient_are_seen_without_asking(stage):
    stage.at_rest()
    layer_of(stage.segmentation, BONE)[15:25] = 1
    edited(stage.segmentation, BONE)
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
        edited(stage.segmentation, BONE)
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
    stage.follow(technique=Technique(noise=False, kvp=60.0))
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert stage.picture.max() > before.max()


def test_two_c_arms_are_both_followed(stage):
    lateral = stage.lateral()
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
        stage.follow(technique=replace(QUIET, collimator=words))

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


def test_an_image_that_is_deleted_is_made_again(stage):
    stage.at_rest()
    stage.scene.RemoveNode(stage.carm.image_node())
    stage.session.request()
    stage.clock.run(1.0)
    assert stage.frames == ["preview", "full"]
    assert stage.picture.max() > 1.0


def window_of(image):
    display = image.GetDisplayNode()
    return np.array([display.GetWindowLevelMin(), display.GetWindowLevelMax()])


def test_an_automatic_window_follows_the_motion_in_steps_and_the_users_own_stays(stage):
    stage.at_rest()
    image = stage.carm.image_node()
    before, seen = window_of(image), []
    stage.follow(technique=Technique(noise=False, kvp=45.0))  # a darker picture
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
    stage.follow(technique=technique)
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
