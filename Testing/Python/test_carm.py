"""The C-arm against anatomy: where the beam goes, and where right, left, front, head and feet appear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from DeepDRRLogic import affine
from DeepDRRLogic.affine import check_rigid, rigid, rotation
from DeepDRRLogic.carm import CArm, beam_frame_ras
from DeepDRRLogic.carm_presets import carm_views
from DeepDRRLogic.geometry import Camera

# The first example of a test may meet a busy machine; time is not what these tests are about.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

RIGHT, LEFT = np.array([1.0, 0, 0]), np.array([-1.0, 0, 0])
FRONT, BACK = np.array([0, 1.0, 0]), np.array([0, -1.0, 0])
HEAD, FEET = np.array([0, 0, 1.0]), np.array([0, 0, -1.0])

ANGLES = st.floats(-400, 400)
READINGS = st.sampled_from(["front", "detector", "source"])


@st.composite
def arms(draw):
    return CArm(
        isocenter_ras_mm=tuple(draw(st.floats(-300, 300)) for _ in range(3)),
        primary_angle_deg=draw(ANGLES),
        secondary_angle_deg=draw(ANGLES),
        roll_deg=draw(ANGLES),
        source_to_isocenter_mm=draw(st.floats(300, 900)),
        width=draw(st.integers(1, 2000)),
        height=draw(st.integers(1, 2000)),
        pixel_pitch_mm=draw(st.floats(0.1, 2)),
        detector_shift_mm=(draw(st.floats(-100, 100)), draw(st.floats(-100, 100))),
        table_shift_ras_mm=tuple(draw(st.floats(-300, 300)) for _ in range(3)),
        read_from=draw(READINGS),
    )


def seen_at(arm: CArm, direction: np.ndarray) -> np.ndarray:
    """Where the viewer sees a point 50 mm from the isocentre: to his right and up, in pixels."""
    camera = arm.camera()
    isocenter = arm.isocenter_in_patient_ras_mm
    u, v = camera.project(isocenter + 50 * direction) - camera.project(isocenter)
    return np.array([u, -v])


def is_on_the_right(offset) -> bool:
    return offset[0] > 100 and abs(offset[1]) < 1e-6


def is_on_the_left(offset) -> bool:
    return offset[0] < -100 and abs(offset[1]) < 1e-6


def is_up(offset) -> bool:
    return offset[1] > 100 and abs(offset[0]) < 1e-6


def is_in_the_middle(offset) -> bool:
    return np.abs(offset).max() < 1e-6


@pytest.mark.parametrize("view", ["ap", "pa"])
def test_ap_and_pa_show_the_patients_right_on_the_viewers_left_and_the_head_up(view):
    arm = CArm().view(view)
    assert is_on_the_left(seen_at(arm, RIGHT))
    assert is_on_the_right(seen_at(arm, LEFT))
    assert is_up(seen_at(arm, HEAD))
    assert is_up(-seen_at(arm, FEET))
    assert is_in_the_middle(seen_at(arm, FRONT))
    assert is_in_the_middle(seen_at(arm, BACK))


def test_at_rest_the_tube_is_behind_the_patient_and_the_picture_is_read_from_the_detector():
    camera = CArm().camera()
    assert camera.source_ras == pytest.approx([0, -530, 0])
    assert camera.detector_center_ras == pytest.approx([0, 1020 - 530, 0])
    assert camera.is_mirrored


def test_with_the_tube_over_the_table_the_picture_is_read_from_the_source():
    camera = CArm().view("ap").camera()
    assert camera.source_ras == pytest.approx([0, 530, 0], abs=1e-9)
    assert not camera.is_mirrored


def test_a_point_nearer_to_the_tube_is_magnified_more():
    offset = np.array([30.0, 0, 0])
    for view, near, far in (("pa", BACK, FRONT), ("ap", FRONT, BACK)):
        camera = CArm().view(view).camera()
        middle = camera.project([0, 0, 0])
        assert np.linalg.norm(camera.project(offset + 50 * near) - middle) > np.linalg.norm(
            camera.project(offset + 50 * far) - middle
        )


def test_the_left_lateral_has_the_front_on_the_viewers_left():
    arm = CArm().view("lateral_left")
    assert is_on_the_left(seen_at(arm, FRONT))
    assert is_on_the_right(seen_at(arm, BACK))
    assert is_up(seen_at(arm, HEAD))
    assert is_in_the_middle(seen_at(arm, LEFT))
    assert is_in_the_middle(seen_at(arm, RIGHT))
    assert arm.camera().detector_center_ras[0] < -400


def test_the_right_lateral_has_the_front_on_the_viewers_right():
    arm = CArm().view("lateral_right")
    assert is_on_the_right(seen_at(arm, FRONT))
    assert is_up(seen_at(arm, HEAD))
    assert arm.camera().detector_center_ras[0] > 400


@pytest.mark.parametrize("primary", [90, -90, 270, -270, 450])
def test_laterals_are_read_from_the_detector_however_the_cosine_rounds(primary):
    assert CArm(primary_angle_deg=primary).camera().is_mirrored


@pytest.mark.parametrize(("primary", "side"), [(30, LEFT), (-30, RIGHT)])
def test_lao_takes_the_detector_to_the_patients_left_and_rao_to_his_right(primary, side):
    arm = CArm().with_angles(primary, 0)
    assert arm.beam_direction_ras @ side == pytest.approx(0.5)
    assert arm.beam_direction_ras @ FRONT == pytest.approx(np.sqrt(0.75))
    assert arm.camera().detector_center_ras @ side == pytest.approx((1020 - 530) / 2)
    # Seen from the left front, the sternum is to the left of the spine on the screen, and vice versa.
    sternum, spine = seen_at(arm, FRONT), seen_at(arm, BACK)
    assert np.sign(sternum[0] - spine[0]) == (-1 if primary > 0 else 1)
    assert is_up(seen_at(arm, HEAD))


@pytest.mark.parametrize(("secondary", "end"), [(25, HEAD), (-25, FEET)])
def test_cran_takes_the_detector_to_the_head_and_caud_to_the_feet(secondary, end):
    arm = CArm().with_angles(0, secondary)
    assert arm.camera().detector_center_ras @ end == pytest.approx((1020 - 530) * np.sin(np.radians(25)))
    # A detector towards the head looks down on the front of the chest: the sternum sinks below the spine.
    assert np.sign(seen_at(arm, FRONT)[1] - seen_at(arm, BACK)[1]) == -np.sign(secondary)
    assert is_on_the_left(seen_at(arm, RIGHT))


def test_lao_and_cran_add_like_longitude_and_latitude():
    direction = CArm().with_angles(40, 20).beam_direction_ras
    a, b = np.radians([40, 20])
    assert direction == pytest.approx([-np.sin(a) * np.cos(b), np.cos(a) * np.cos(b), np.sin(b)])


BEAMS = {
    "ap": BACK,
    "pa": FRONT,
    "lateral_left": LEFT,
    "lateral_right": RIGHT,
    "inlet": np.cos(np.radians(40)) * FRONT + np.sin(np.radians(40)) * HEAD,
    "outlet": np.cos(np.radians(40)) * FRONT + np.sin(np.radians(40)) * FEET,
    "obturator_oblique_right": (FRONT + RIGHT) / np.sqrt(2),
    "obturator_oblique_left": (FRONT + LEFT) / np.sqrt(2),
    "iliac_oblique_right": (FRONT + LEFT) / np.sqrt(2),
    "iliac_oblique_left": (FRONT + RIGHT) / np.sqrt(2),
    "axial_hip_right": (RIGHT + HEAD) / np.sqrt(2),
    "axial_hip_left": (LEFT + HEAD) / np.sqrt(2),
}


@pytest.mark.parametrize("view", sorted(BEAMS))
def test_the_beam_of_a_named_view_goes_where_anatomy_says(view):
    assert CArm.preset("mobile_flat_panel").view(view).beam_direction_ras == pytest.approx(BEAMS[view], abs=1e-12)


def test_every_named_view_is_tested_and_described_in_one_line():
    assert set(carm_views()) == set(BEAMS)
    assert all(0 < len(text) < 100 and "\n" not in text for text in carm_views().values())


def test_the_inlet_beam_crosses_the_pelvis_from_in_front_of_the_head_to_behind_the_feet():
    direction = CArm().view("inlet").beam_direction_ras
    # Radiographers name it from the front: the central ray runs caudally on its way to the back.
    from_front_to_back = -direction
    assert from_front_to_back @ BACK > 0
    assert from_front_to_back @ FEET > 0


def test_the_axial_hip_beam_comes_from_the_other_groin():
    for side, other in (("right", LEFT), ("left", RIGHT)):
        source = CArm().view(f"axial_hip_{side}").camera().source_ras
        assert source @ other > 300
        assert source @ FEET > 300
        assert source @ FRONT == pytest.approx(0, abs=1e-9)


@given(ANGLES, ANGLES, ANGLES, READINGS)
def test_the_frame_is_a_proper_rotation_at_any_angle(primary, secondary, roll, read_from):
    arm = CArm(primary_angle_deg=primary, secondary_angle_deg=secondary, roll_deg=roll, read_from=read_from)
    turn = check_rigid(arm.camera().camera_from_ras)[:3, :3]
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-12)
    assert turn[2] == pytest.approx(arm.beam_direction_ras, abs=1e-12)


@given(arms())
def test_the_isocentre_appears_in_the_middle_less_the_shift_of_the_detector(arm):
    camera = arm.camera()
    shift_u, shift_v = arm.detector_shift_mm
    middle = np.array([(arm.width - 1) / 2, (arm.height - 1) / 2])
    expected = middle - np.array([shift_u, shift_v]) / arm.pixel_pitch_mm
    isocenter = np.subtract(arm.isocenter_ras_mm, arm.table_shift_ras_mm)
    assert camera.project(isocenter) == pytest.approx(expected, abs=1e-6)
    assert camera.pixel_pitch_mm == pytest.approx((arm.pixel_pitch_mm, arm.pixel_pitch_mm))
    assert np.linalg.norm(camera.source_ras - isocenter) == pytest.approx(arm.source_to_isocenter_mm)


@given(arms())
def test_the_camera_of_a_c_arm_survives_its_projection_matrix(arm):
    camera = arm.camera()
    P = 0.37 * camera.projection
    again = Camera.from_projection(P, arm.width, arm.height, arm.source_to_detector_mm)
    assert again.camera_from_ras == pytest.approx(camera.camera_from_ras, abs=1e-6)
    assert again.intrinsics == pytest.approx(camera.intrinsics, rel=1e-9, abs=1e-6)
    assert again.is_mirrored == arm.is_read_from_detector


@given(arms(), st.floats(-180, 180))
def test_moving_patient_and_isocentre_together_changes_no_pixel(arm, angle):
    motion = rigid(rotation([1, 2, -1], angle), [10, -200, 33])
    point = arm.isocenter_in_patient_ras_mm + np.array([20, 30, -40])
    moved = arm.camera().moved(motion)
    assert moved.project(affine.apply(motion, point)) == pytest.approx(arm.camera().project(point), abs=1e-6)


@given(ANGLES, ANGLES, ANGLES, st.sampled_from(["detector", "source"]))
def test_a_small_turn_changes_the_frame_a_little_at_every_angle(primary, secondary, roll, read_from):
    arm = CArm(primary_angle_deg=primary, secondary_angle_deg=secondary, roll_deg=roll, read_from=read_from)
    _assert_continuous(arm)


@pytest.mark.parametrize("secondary", [90, -90, 180, 270])
@pytest.mark.parametrize("primary", [0, 37, 90, 180])
def test_there_is_no_pole_over_the_head_or_the_feet(primary, secondary):
    _assert_continuous(CArm(primary_angle_deg=primary, secondary_angle_deg=secondary, read_from="detector"))


def _assert_continuous(arm: CArm) -> None:
    step_deg = 1e-3
    here = arm.camera().camera_from_ras
    for change in ("primary_angle_deg", "secondary_angle_deg", "roll_deg"):
        there = arm.at(**{change: getattr(arm, change) + step_deg}).camera().camera_from_ras
        turned = there[:3, :3] @ here[:3, :3].T
        # The angle of the rotation between the two, from its antisymmetric part.
        sine = np.linalg.norm(turned - turned.T) / np.sqrt(8)
        assert sine <= np.sin(np.radians(step_deg)) * (1 + 1e-6)
        assert np.trace(turned) > 2.9


def test_over_the_head_up_in_the_picture_is_the_patients_back():
    direction, up = beam_frame_ras(0, 90)
    assert direction == pytest.approx(HEAD)
    assert up == pytest.approx(BACK)


def test_up_is_where_the_detector_goes_when_the_secondary_angle_grows():
    angles = np.array([-200.0, -90, -30, 0, 45, 90, 170])
    primary, secondary = np.meshgrid(angles, angles)
    step = 1e-4
    ahead, _ = beam_frame_ras(primary, secondary + step)
    behind, _ = beam_frame_ras(primary, secondary - step)
    _, up = beam_frame_ras(primary, secondary)
    assert (ahead - behind) / np.radians(2 * step) == pytest.approx(up, abs=1e-8)


@pytest.mark.parametrize("read_from", ["detector", "source"])
def test_roll_turns_what_the_viewer_sees_clockwise(read_from):
    upright = CArm(read_from=read_from)
    rolled = upright.at(roll_deg=90)
    assert is_up(seen_at(upright, HEAD))
    assert is_on_the_right(seen_at(rolled, HEAD))
    oblique = upright.at(roll_deg=30)
    right, up = seen_at(oblique, HEAD)
    assert np.degrees(np.arctan2(right, up)) == pytest.approx(30)


@given(arms())
def test_reading_from_the_other_side_mirrors_the_unrolled_picture(arm):
    arm = arm.at(roll_deg=0.0, detector_shift_mm=(0.0, 0.0))
    point = arm.isocenter_in_patient_ras_mm + np.array([31, -17, 53])
    u, v = arm.at(read_from="source").camera().project(point)
    assert arm.at(read_from="detector").camera().project(point) == pytest.approx([arm.width - 1 - u, v], abs=1e-6)


def test_a_table_moved_to_the_head_shows_what_lies_nearer_the_feet():
    moved = CArm(table_shift_ras_mm=(0, 0, 100)).camera()
    assert moved.project([0, 0, -100]) == pytest.approx([767.5, 767.5])
    assert moved.source_ras == pytest.approx([0, -530, -100])


def test_a_detector_shifted_to_the_right_sees_more_on_the_right():
    arm = CArm(detector_shift_mm=(19.4, 0))
    camera = arm.camera()
    assert camera.project([0, 0, 0]) == pytest.approx([767.5 - 100, 767.5])
    # On the right of the picture is the patient's left.
    assert camera.detector_center_ras == pytest.approx([-19.4, 490, 0])
