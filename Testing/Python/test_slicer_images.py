"""The X-ray in the scene lies where the detector is, whatever the CT lies on."""

from __future__ import annotations

import json

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume, arrayFromVolumeModified, vtkMatrixFromArray
from slicer_scene import QUIET, add_bend, add_ct, add_transform, shot

from DeepDRRLogic.affine import apply, rigid, rotation
from DeepDRRLogic.image import XRayImage
from DeepDRRSlicerLib import xray_nodes
from DeepDRRSlicerLib.mrml import ras_from_ijk, world_from_parent
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.technique import Technique

BALL_MM = np.array([12.0, -9.0, 7.0])
MOTION = rigid(rotation([1.0, -2.0, 0.5], 25.0), [30.0, -12.0, 9.0])
OBLIQUE = rotation([0.3, 1.0, -0.2], 33.0)
LEFT_HANDED = np.diag([-1.0, 1.0, 1.0])


def ball_ct(scene, axes: np.ndarray) -> object:
    """Air with a small dense ball at BALL_MM, whatever the axes of its 2 mm voxels."""
    affine = np.eye(4)
    affine[:3, :3] = axes * 2.0
    affine[:3, 3] = -affine[:3, :3] @ [24.5, 24.5, 24.5]
    k, j, i = np.mgrid[:50, :50, :50]
    ras = apply(affine, np.stack((i, j, k), axis=-1))
    far = np.linalg.norm(ras - BALL_MM, axis=-1)
    return add_ct(scene, np.where(far < 5.0, 3000, -1000).astype(np.int16), affine)


def small_arm(logic, **fields):
    return logic.carm(width=160, height=128, pixel_pitch_mm=2.0, **fields)


def shadow_centre(values: np.ndarray) -> np.ndarray:
    """The centre (u, v) of what is seen, weighted by attenuation."""
    v, u = np.mgrid[: values.shape[0], : values.shape[1]]
    weights = np.clip(values, 0.0, None)
    return np.array([(u * weights).sum(), (v * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE, OBLIQUE @ LEFT_HANDED], ids=["straight", "oblique", "left"])
@pytest.mark.parametrize("how", ["plain", "parented", "hardened", "scaled"])
@pytest.mark.parametrize("angles", [(0, 0), (40, -25), (170, 10)])
def test_a_ball_is_seen_where_its_centre_is_projected(scene, logic, axes, how, angles):
    ct = ball_ct(scene, axes)
    motion = {"plain": np.eye(4), "scaled": np.diag([1.1, 1.1, 1.1, 1.0]) @ MOTION}.get(how, MOTION)
    if how != "plain":
        ct.SetAndObserveTransformNodeID(add_transform(scene, motion).GetID())
    if how == "hardened":
        ct.HardenTransform()
    ball = apply(motion, BALL_MM)
    arm = small_arm(
        logic,
        primary_angle_deg=angles[0],
        secondary_angle_deg=angles[1],
        isocenter_ras_mm=tuple(ball + np.array([8, 5, -6])),
    )
    image = logic.render(ct, None, arm, QUIET)
    np.testing.assert_allclose(shadow_centre(arrayFromVolume(image)[0]), logic.projectPoints(ball, arm)[0], atol=0.25)


@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0), (-35, 20, 15), (180, -30, 0), (100, 80, -40)])
def test_every_pixel_of_the_node_lies_on_its_ray_in_the_detector_plane(scene, logic, angles):
    ct = ball_ct(scene, OBLIQUE)
    arm = small_arm(logic, volumeNode=ct)
    arm.set(primary_angle_deg=angles[0], secondary_angle_deg=angles[1], roll_deg=angles[2])
    image = logic.render(ct, None, arm, QUIET)
    camera = arm.camera()
    pixels = np.array([[0, 0], [159, 0], [0, 127], [159, 127], [31, 77]])
    places = apply(world_from_parent(image) @ ras_from_ijk(image), np.column_stack((pixels, np.zeros(5))))
    depth = apply(camera.camera_from_ras, places)[:, 2]
    np.testing.assert_allclose(depth, camera.source_to_detector_mm, atol=0.01)
    np.testing.assert_allclose(camera.project(places), pixels, atol=0.01 / 2.0)


def test_the_node_is_reused_and_stays_float(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, QUIET)
    memory = arrayFromVolume(image).__array_interface__["data"][0]
    arm.set(primary_angle_deg=5.0)
    assert logic.render(ct, None, arm, QUIET) is image
    assert arrayFromVolume(image).__array_interface__["data"][0] == memory
    assert arrayFromVolume(image).dtype == np.float32
    assert image.GetImageData().GetDimensions() == (160, 128, 1)


def test_the_patient_can_be_moved_without_being_read_again(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    transform = add_transform(scene, np.eye(4))
    ct.SetAndObserveTransformNodeID(transform.GetID())
    arm = small_arm(logic, volumeNode=ct)
    logic.render(ct, None, arm, QUIET)
    version = logic.known_patient(ct).version
    transform.SetMatrixTransformToParent(vtkMatrixFromArray(MOTION))
    image = logic.render(ct, None, arm, QUIET)
    assert logic.known_patient(ct).version == version
    wanted = logic.projectPoints(apply(MOTION, BALL_MM), arm)[0]
    np.testing.assert_allclose(shadow_centre(arrayFromVolume(image)[0]), wanted, atol=0.25)


def test_a_bent_parent_transform_is_refused_in_words(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    ct.SetAndObserveTransformNodeID(add_bend(scene).GetID())
    assert "harden that transform first" in logic.verdict(ct)
    with pytest.raises(ValueError, match="harden that transform first"):
        logic.render(ct)


def test_the_window_is_the_presets_until_the_user_changes_it(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, Technique(noise=False, window="chest"))
    display = image.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((1.0, 6.5))
    display.SetWindowLevelMinMax(0.5, 2.0)
    arm.set(primary_angle_deg=30.0)
    logic.render(ct, None, arm, Technique(noise=False, window="chest"))
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0.5, 2.0))
    logic.render(ct, None, arm, Technique(noise=False, window="pelvis"))
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((2.5, 8.5))


def test_six_digits_of_a_window_are_not_the_users_own(scene, logic):
    """Scene files keep no more of an automatic window's width and level."""
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    display = logic.render(ct, None, arm, QUIET).GetDisplayNode()
    display.SetWindowLevel(display.GetWindow() * (1 + 4e-6), display.GetLevel() * (1 - 4e-6))
    read = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    arm.set(source_to_detector_mm=1400.0, width=96)
    logic.render(ct, None, arm, Technique(noise=False, kvp=60.0))
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) != pytest.approx(read, rel=1e-3)


def test_a_shearing_parent_transform_is_named_before_anything_is_rendered(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    assert "shears" not in logic.verdict(ct)
    shear = np.eye(4)
    shear[0, 1] = 0.3
    ct.SetAndObserveTransformNodeID(add_transform(scene, shear, "Registration").GetID())
    words = "The transform Registration shears this CT: harden it and resample"
    assert logic.verdict(ct).startswith(words)
    with pytest.raises(ValueError, match=words):
        logic.render(ct, None, small_arm(logic), QUIET)


def test_a_c_arm_cannot_be_put_around_an_empty_volume(scene, logic):
    with pytest.raises(ValueError, match="Lost file is empty"):
        logic.carm(volumeNode=scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Lost file"))


@pytest.mark.parametrize(("log", "polarity", "color"), [
    (True, "bones_bright", "Grey"), (True, "bones_dark", "InvertedGrey"),
    (False, "bones_dark", "Grey"), (False, "bones_bright", "InvertedGrey"),
])  # fmt: skip
def test_bones_are_as_bright_as_asked_for_and_shutters_black(scene, logic, log, polarity, color):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    technique = Technique(noise=False, log=log, polarity=polarity, collimator="circle:60px")
    image = logic.render(ct, None, arm, technique)
    display, values = image.GetDisplayNode(), arrayFromVolume(image)[0]
    assert display.GetColorNodeID() == f"vtkMRMLColorTableNode{color}"
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    seen = np.clip((values - low) / (high - low), 0.0, 1.0)
    seen = 1.0 - seen if color == "InvertedGrey" else seen
    assert seen[0, 0] == 0.0
    in_field = np.s_[34:94, 50:110]
    ball = (values[in_field].argmax if log else values[in_field].argmin)()
    brighter = seen[in_field].flat[ball] - seen[64, 130]
    assert brighter > 0.1 if polarity == "bones_bright" else brighter < -0.1


def test_a_picture_is_exported_with_the_field_that_it_was_taken_with(logic, ct, tmp_path):
    arm = logic.carm(preset="mobile_image_intensifier", volumeNode=ct, width=96, height=96)
    image = logic.render(ct, None, arm, Technique(noise=False, polarity="bones_dark"))
    kept = logic.keepCopy(image)
    logic.export(kept, tmp_path / "then.png")
    arm.set_preset("mobile_flat_panel")
    logic.export(kept, tmp_path / "now.png")
    assert (tmp_path / "then.png").read_bytes() == (tmp_path / "now.png").read_bytes()
    assert xray_nodes.technique_of_image(kept).collimator.startswith("circle:")
    flat = logic.render(ct, None, arm, Technique(noise=False))
    assert xray_nodes.technique_of_image(flat).collimator == ""


def test_an_intensifiers_round_field_is_all_that_is_seen(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = logic.carm(preset="mobile_image_intensifier", volumeNode=ct)
    arm.set(width=128, height=128, pixel_pitch_mm=230 / 128)
    values = arrayFromVolume(logic.render(ct, None, arm, Technique(noise=False)))[0]
    assert values[0, 0] == 0.0
    assert values.max() > 0.5


def test_more_mas_means_less_noise(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    spread = [
        arrayFromVolume(logic.render(ct, None, arm, Technique(mas=mas)))[0, :20, :20].std() for mas in (0.01, 1.0)
    ]
    assert spread[0] == pytest.approx(10 * spread[1], rel=0.2)


def test_scatter_brightens_what_lies_behind_the_patient(logic, ct, arm):
    without = shot(logic, ct, None, arm)
    scattered = arrayFromVolume(logic.render(ct, None, arm, Technique(noise=False, scatter="kernel")))[0]
    assert scattered[32, 32] < without[32, 32] - 0.01
    with pytest.raises(ValueError, match="glitter"):
        logic.render(ct, None, arm, Technique(scatter="glitter"))


def test_scatter_is_that_of_the_patient_as_he_is_now(logic, ct):
    patient = logic.patient(ct)
    before = patient.scatter("kernel", "full")
    assert patient.scatter("kernel", "full") is before
    arrayFromVolume(ct)[15:25] = 900
    arrayFromVolumeModified(ct)
    after = logic.patient(ct).scatter("kernel", "full")
    assert after.volume.mass_g > 1.1 * before.volume.mass_g


def test_export_writes_what_is_shown_with_its_projection(scene, logic, tmp_path):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, QUIET)
    written = [
        p for suffix in ("png", "tif", "nrrd", "json", "npz") for p in logic.export(image, tmp_path / f"x.{suffix}")
    ]
    assert all(path.stat().st_size > 0 for path in written)
    sidecar = json.loads((tmp_path / "x.png.json").read_text())
    np.testing.assert_allclose(sidecar["projection_pixel_from_ras"], logic.projectionMatrix(arm))
    assert sidecar["metadata"]["technique"]["kvp"] == 90.0
    assert sidecar["metadata"]["carm"]["source_to_detector_mm"] == 1020.0
    np.testing.assert_array_equal(XRayImage.load(tmp_path / "x.npz").log(), arrayFromVolume(image)[0])
    with pytest.raises(ValueError, match=r"x\.bmp"):
        logic.export(image, tmp_path / "x.bmp")


def test_a_kept_copy_stays_when_the_next_shot_comes(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, QUIET)
    kept = logic.keepCopy(image)
    before = arrayFromVolume(kept).copy()
    np.testing.assert_array_equal(before, arrayFromVolume(image))
    arm.set(primary_angle_deg=40.0)
    logic.render(ct, None, arm, QUIET)
    np.testing.assert_array_equal(arrayFromVolume(kept), before)
    assert xray_nodes.camera_of(kept) != xray_nodes.camera_of(image)
    assert logic.xray(kept).camera == xray_nodes.camera_of(kept)


def test_the_exposure_of_a_kept_copy_can_be_made_again(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    kept = logic.keepCopy(logic.render(ct, None, small_arm(logic, volumeNode=ct), QUIET))
    np.testing.assert_array_equal(SceneLogic(scene).xray(kept).signal, logic.xray(kept).signal)


def test_an_exposure_made_again_says_nothing_of_an_arm_that_has_moved_on(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, QUIET)
    assert SceneLogic(scene).xray(image).metadata["carm"]["primary_angle_deg"] == 0.0
    arm.set(primary_angle_deg=40.0)
    assert "carm" not in SceneLogic(scene).xray(image).metadata


def test_points_are_marked_up_to_the_edge_of_the_detector(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, QUIET)
    corners = [(-0.4, -0.4), (159.4, 127.4), (-0.6, 64), (159.6, 64), (80, -0.6), (80, 127.6)]
    landmarks = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    for u, v in corners:
        place = apply(arm.camera().ras_from_pixel, [u, v, 0.0])
        landmarks.AddControlPoint(place.tolist(), f"{u} {v}")
    markers = logic.showPoints(landmarks, image)
    found = [markers.GetNthControlPointLabel(n) for n in range(markers.GetNumberOfControlPoints())]
    assert found == ["-0.4 -0.4", "159.4 127.4"]


def test_landmarks_are_marked_where_they_fall_and_only_those_that_do(scene, logic):
    ct = ball_ct(scene, np.eye(3))
    arm = small_arm(logic, volumeNode=ct)
    image = logic.render(ct, None, arm, QUIET)
    landmarks = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    landmarks.AddControlPoint([0, 0, 0], "local")
    landmarks.AddControlPoint([4000, 0, 0], "far away")
    landmarks.SetAndObserveTransformNodeID(add_transform(scene, rigid(None, BALL_MM)).GetID())
    markers = logic.showPoints(landmarks, image)
    assert markers.GetLocked()
    assert [markers.GetNthControlPointLabel(n) for n in range(markers.GetNumberOfControlPoints())] == ["local"]
    place = np.array(markers.GetNthControlPointPositionWorld(0))
    u, v, w = apply(np.linalg.inv(ras_from_ijk(image)), place)
    np.testing.assert_allclose((u, v), shadow_centre(arrayFromVolume(image)[0]), atol=0.25)
    assert w == pytest.approx(0.0, abs=0.01)
    arm.set(primary_angle_deg=20.0)
    assert logic.showPoints(landmarks, logic.render(ct, None, arm, QUIET), markers) is markers
    assert not np.allclose(np.array(markers.GetNthControlPointPositionWorld(0)), place, atol=1.0)


@pytest.mark.parametrize("make", ["labelmap", "empty", "mr"])
def test_what_is_no_ct_gets_a_verdict_in_words(scene, logic, make):
    if make == "labelmap":
        node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    else:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Something")
    if make == "mr":
        rng = np.random.default_rng(0)
        slicer.util.updateVolumeFromArray(node, rng.integers(0, 800, (20, 20, 20)).astype(np.int16))
    words = logic.verdict(node)
    assert "HU ok" not in words
    assert node.GetName() in words
    assert "\n" not in words
    with pytest.raises(ValueError, match=node.GetName()):
        logic.segment(node, "threshold")


def test_a_good_ct_is_told_in_one_line(scene, logic):
    assert logic.verdict(ball_ct(scene, np.eye(3))).startswith("50×50×50, 2.00×2.00×2.00 mm, ")
    assert "load one" in logic.verdict(None)
