"""C-arms as machines: presets, reach, fields, and positions that cannot be."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.carm_limits import CArmLimits
from DeepDRRLogic.carm_presets import carm_presets, carm_views, view_angles_deg

# The first example of a test may meet a busy machine; time is not what these tests are about.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

RIGHT, LEFT, HEAD = np.array([1.0, 0, 0]), np.array([-1.0, 0, 0]), np.array([0, 0, 1.0])
ANGLES = st.floats(-400, 400)


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"Unknown view 'lateral'.*lateral_left"):
        CArm().view("lateral")
    with pytest.raises(ValueError, match=r"Unknown C-arm preset 'cios'.*mobile_flat_panel"):
        CArm.preset("cios")
    with pytest.raises(ValueError, match=r"no alpha.*primary_angle_deg"):
        CArm().at(alpha=3)


def test_magnification_and_field_follow_from_the_distances():
    arm = CArm(source_to_detector_mm=1000, source_to_isocenter_mm=500, width=400, height=200, pixel_pitch_mm=0.5)
    assert arm.magnification == pytest.approx(2)
    assert arm.field_of_view_at_isocenter_mm == pytest.approx((100, 50))
    edges = arm.camera().project([[50, 0, 0], [-50, 0, 0], [0, 0, 25], [0, 0, -25]])
    assert edges == pytest.approx(np.array([[-0.5, 99.5], [399.5, 99.5], [199.5, -0.5], [199.5, 199.5]]))


def test_an_image_intensifier_has_a_round_field():
    arm = CArm.preset("mobile_image_intensifier")
    assert arm.field_of_view_at_isocenter_mm == pytest.approx((126.5, 126.5))
    mask = arm.field_collimator().field_mask(arm.camera())
    assert mask.mean() == pytest.approx(np.pi / 4, abs=2e-3)
    assert mask[512, 512] and mask[0, 512] and not mask[0, 0]
    assert CArm().field_collimator() is None


@pytest.mark.parametrize(
    ("angles", "dicom"),
    [
        ((0, 0), (0, 0)),
        ((30, -20), (30, -20)),
        ((180, 0), (180, 0)),
        ((-180, 0), (180, 0)),
        ((270, 10), (-90, 10)),
        ((0, 180), (180, 0)),
        ((10, 100), (-170, 80)),
        ((90, 180), (-90, 0)),
        ((0, -90), (0, -90)),
    ],
)
def test_dicom_angles_lie_in_the_ranges_of_the_standard(angles, dicom):
    assert CArm().with_angles(*angles).dicom_angles_deg == pytest.approx(dicom)


@given(ANGLES, ANGLES)
def test_dicom_angles_describe_the_same_beam(primary, secondary):
    arm = CArm().with_angles(primary, secondary)
    alpha, beta = arm.dicom_angles_deg
    assert -180 <= alpha <= 180
    assert -90 <= beta <= 90
    assert CArm().with_angles(alpha, beta).beam_direction_ras == pytest.approx(arm.beam_direction_ras, abs=1e-9)


@given(ANGLES, ANGLES, ANGLES, st.sampled_from(["detector", "source"]))
def test_over_the_head_the_picture_of_the_dicom_angles_is_turned_by_180_degrees(primary, secondary, roll, read_from):
    arm = CArm(primary_angle_deg=primary, secondary_angle_deg=secondary, roll_deg=roll, read_from=read_from)
    turned = np.cos(np.radians(secondary)) < 0
    same = arm.with_angles(*arm.dicom_angles_deg, roll + (180 if turned else 0))
    points = np.array([[40.0, 30, 20], [-10, 50, -60]])
    assert same.camera().source_ras == pytest.approx(arm.camera().source_ras, abs=1e-6)
    assert same.camera().project(points) == pytest.approx(arm.camera().project(points), abs=1e-5)


def test_a_preset_may_be_given_another_name():
    assert CArm.preset("mobile_flat_panel", name="theatre 3").name == "theatre 3"


def test_what_is_no_limit_or_no_diameter_is_refused_with_the_value():
    with pytest.raises(TypeError, match=r"limits = None: give one like CArmLimits\(\)"):
        CArm(limits=None)
    with pytest.raises(ValueError, match=r"field_diameter_mm is not .*'wide'"):
        CArm(field_shape="circular", field_diameter_mm="wide")
    assert CArm(field_shape="circular", field_diameter_mm="230").field_diameter_mm == 230.0


@pytest.mark.parametrize("name", sorted(carm_presets()))
def test_every_preset_takes_a_picture_of_its_isocentre(name):
    arm = CArm.preset(name, isocenter_ras_mm=(10, 20, 30))
    camera = arm.camera()
    assert arm.name == name
    assert camera.project([10, 20, 30]) == pytest.approx([(camera.width - 1) / 2, (camera.height - 1) / 2])
    assert all(80 < size < 400 for size in arm.field_of_view_at_isocenter_mm)


def test_presets_have_the_numbers_of_their_sources():
    mobile = CArm.preset("mobile_flat_panel")
    assert (mobile.width, mobile.pixel_pitch_mm) == (1536, 0.194)
    assert (mobile.source_to_detector_mm, mobile.source_to_isocenter_mm) == (1020, 530)
    paper = CArm.preset("deepdrr_paper")
    assert (paper.width, paper.height, paper.pixel_pitch_mm) == (620, 480, 0.616)


def test_the_planes_of_a_biplane_unit_cross_at_right_angles_in_one_isocentre():
    frontal, lateral = CArm.preset("biplane_frontal"), CArm.preset("biplane_lateral")
    assert frontal.beam_direction_ras @ lateral.beam_direction_ras == pytest.approx(0, abs=1e-12)
    for camera in (frontal.camera(), lateral.camera()):
        assert np.cross(camera.source_ras, camera.principal_axis_ras) == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_machine_refuses_an_angle_out_of_its_reach_instead_of_clipping_it():
    frontal = CArm.preset("biplane_frontal")
    with pytest.raises(ValueError, match=r"biplane_frontal cannot reach.*46.*-45 to 45"):
        frontal.with_angles(0, 46)
    with pytest.raises(ValueError, match=r"source_to_detector_mm 1300 \(allowed: 900 to 1200\)"):
        frontal.at(source_to_detector_mm=1300)
    assert frontal.with_angles(-120, 45).primary_angle_deg == -120


def test_a_machine_told_to_warn_goes_there_and_says_so(caplog):
    arm = CArm.preset("biplane_frontal", on_limit="warn").with_angles(0, 60)
    assert arm.secondary_angle_deg == 60
    assert arm.beam_direction_ras @ HEAD == pytest.approx(np.sin(np.radians(60)))
    assert "secondary angle 60°" in caplog.text


def test_limits_know_that_two_pairs_of_angles_are_one_position():
    limits = CArmLimits(primary_angle_deg=(-40, 110), secondary_angle_deg=(-200, 200))
    arm = CArm(limits=limits)
    assert arm.with_angles(-90, 0).beam_direction_ras == pytest.approx(RIGHT)  # as (90, 180)
    assert arm.with_angles(450, 360).beam_direction_ras == pytest.approx(LEFT)
    with pytest.raises(ValueError, match="primary angle -60"):
        arm.with_angles(-60, 0)
    with pytest.raises(ValueError, match="lowest, highest"):
        CArmLimits(roll_deg=(10, -10))


def test_a_limit_is_reached_though_rounding_leads_beyond_it():
    limits = CArmLimits(primary_angle_deg=(-90, 90), secondary_angle_deg=(-33.3, 33.3))
    assert 180.0 - (180.0 - 33.3) > 33.3
    assert limits.violations(CArm(primary_angle_deg=180.0, secondary_angle_deg=180.0 - 33.3)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_to_isocenter_mm": 1020}, "isocentre lies between"),
        ({"source_to_isocenter_mm": 1200}, "exchanged"),
        ({"source_to_detector_mm": -5}, "source_to_detector_mm is -5"),
        ({"source_to_isocenter_mm": 0}, "source_to_isocenter_mm is 0"),
        ({"pixel_pitch_mm": 0}, "pixel_pitch_mm is 0"),
        ({"width": 0}, "width is 0"),
        ({"height": 1.5}, "height is 1.5"),
        ({"primary_angle_deg": float("nan")}, "primary_angle_deg holds NaN"),
        ({"isocenter_ras_mm": (1, 2)}, r"isocenter_ras_mm has shape \(2,\)"),
        ({"isocenter_ras_mm": None}, "isocenter_ras_mm"),
        ({"read_from": "back"}, "read_from is 'back'.*front, detector, source"),
        ({"on_limit": "clip"}, "on_limit is 'clip'"),
        ({"field_shape": "circular"}, "positive field_diameter_mm"),
        ({"field_diameter_mm": 200}, "belongs to"),
    ],
)
def test_a_position_that_cannot_be_is_refused_with_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        CArm().at(**change)


def test_the_geometry_page_names_every_view_with_its_angles_and_every_preset():
    page = (Path(__file__).parents[2] / "Resources/Documentation/geometry.md").read_text(encoding="utf-8")
    for view in carm_views():
        primary, secondary = (f"{a:+g}".replace("-", "−") if a % 180 else f"{a:g}" for a in view_angles_deg(view))
        assert f"| `{view}` | {primary} | {secondary} |" in page
    for preset in carm_presets():
        arm = CArm.preset(preset)
        assert f"| `{preset}` | {arm.width}" in page
        assert f"| {arm.source_to_detector_mm:g} / {arm.source_to_isocenter_mm:g} |" in page


def test_c_arms_are_values():
    arm = CArm(isocenter_ras_mm=np.array([1, 2, 3]), primary_angle_deg=10)
    assert arm == CArm(isocenter_ras_mm=(1.0, 2.0, 3.0), primary_angle_deg=10.0)
    assert len({arm, arm.at()}) == 1
    assert pickle.loads(pickle.dumps(arm)) == arm
    with pytest.raises(dataclasses.FrozenInstanceError):
        arm.roll_deg = 3


def test_names_of_machines_and_views_are_known_however_they_are_written():
    assert CArm.preset("Mobile Flat-Panel") == CArm.preset("mobile_flat_panel")
    assert view_angles_deg("Lateral left") == view_angles_deg("lateral_left")
    with pytest.raises(ValueError, match=r"Unknown C-arm preset 'mobile'; known are .*mobile_flat_panel"):
        CArm.preset("mobile")
