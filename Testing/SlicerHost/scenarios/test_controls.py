"""Every control of the panel that the other scenarios leave alone, by mouse and keyboard, and every handle."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import carm_display
from DeepDRRSlicerLib.carm_nodes import JOINTS
from DeepDRRSlicerLib.mrml import parent_from_node


def parts(bench, *, beam):
    nodes = [node for node in carm_display._parts(bench.carm) if node.GetAttribute(carm_display.PART)]
    chosen = [node for node in nodes if (node.GetAttribute(carm_display.PART) in carm_display.BEAM_PARTS) == beam]
    assert chosen
    return {bool(node.GetDisplayNode().GetVisibility()) for node in chosen}


def window_of(bench):
    display = bench.carm.image_node().GetDisplayNode()
    return display.GetWindowLevelMin(), display.GetWindowLevelMax()


def test_the_phantom_comes_at_the_press_of_a_button_and_is_a_good_ct(bench):
    bench.set_live(False)
    bench.press("phantomButton")
    assert bench.parameters.ctVolume is not None, bench.message
    assert bench.ui.verdictLabel.text.endswith("HU ok")


def test_arm_beam_and_handles_are_shown_and_hidden_by_their_boxes(aimed):
    assert parts(aimed, beam=False) == parts(aimed, beam=True) == {True}
    aimed.press("showArmCheck")
    assert (parts(aimed, beam=False), parts(aimed, beam=True)) == ({False}, {True})
    aimed.press("showArmCheck")
    aimed.press("showBeamCheck")
    assert (parts(aimed, beam=False), parts(aimed, beam=True)) == ({True}, {False})
    aimed.press("showHandlesCheck")
    assert not carm_display.are_handles_shown(aimed.carm)
    assert aimed.handle("secondary") == [], "a handle that is not shown must not be in the way"
    aimed.press("showHandlesCheck")
    assert aimed.handle("secondary")


@pytest.mark.parametrize("joint", JOINTS)
def test_every_joint_has_a_handle_that_moves_it_alone(aimed, joint):
    before = {other: parent_from_node(aimed.carm.node(other)) for other in JOINTS}
    found = aimed.handle(joint)
    assert found, f"the mouse finds no handle for {joint}"
    start = max(found)
    mouse.drag(aimed.three_d, start, (start[0] + 18, start[1] + 36))
    after = {other: parent_from_node(aimed.carm.node(other)) for other in JOINTS}
    moved = [other for other in JOINTS if not np.allclose(before[other], after[other], atol=1e-9)]
    assert moved == [joint]


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("sourceIsocenterSpin", 560.0, "source_to_isocenter_mm"),
        ("columnsSpin", 300, "width"),
        ("rowsSpin", 200, "height"),
        ("pitchSpin", 0.5, "pixel_pitch_mm"),
    ],
)
def test_distances_and_detector_are_typed(aimed, name, value, field):
    aimed.open_geometry()
    mouse.type_number(getattr(aimed.ui, name), value)
    assert getattr(aimed.carm.arm(), field) == pytest.approx(value), aimed.message
    if field in ("width", "height"):
        assert aimed.shoot().shape[field == "width"] == value


def test_the_detectors_shift_moves_the_picture_the_other_way(aimed):
    aimed.open_geometry()
    middle = np.array([aimed.carm.arm().isocenter_ras_mm])
    before = aimed.logic.projectPoints(middle, aimed.carm)[0]
    mouse.type_number(aimed.ui.shiftUSpin, 10)
    mouse.type_number(aimed.ui.shiftVSpin, -5)
    pitch = aimed.carm.arm().pixel_pitch_mm
    moved = aimed.logic.projectPoints(middle, aimed.carm)[0] - before
    assert moved == pytest.approx([-10 / pitch, 5 / pitch], abs=1e-6)


def test_typing_one_coordinate_leaves_the_others_as_fine_as_they_were(aimed):
    aimed.open_geometry()
    aimed.carm.set(isocenter_ras_mm=(1.234567, -7.654321, 3.141593), detector_shift_mm=(2.718282, 0.0))
    mouse.type_number(aimed.ui.isocenterRSpin, 12)
    mouse.type_number(aimed.ui.shiftVSpin, 5)
    assert aimed.carm.arm().isocenter_ras_mm == pytest.approx((12.0, -7.654321, 3.141593), abs=1e-9)
    assert aimed.carm.arm().detector_shift_mm == pytest.approx((2.718282, 5.0), abs=1e-9)


def test_lift_and_wigwag_move_their_own_joints(aimed):
    aimed.open_geometry()
    mouse.type_number(aimed.ui.liftSpin, 25)
    mouse.type_number(aimed.ui.wigwagSpin, 7)
    assert aimed.carm.joint_value("lift") == pytest.approx(25)
    assert aimed.carm.joint_value("wigwag") == pytest.approx(7)


def test_the_isocentre_is_typed_and_the_readout_says_what_is_seen_there(aimed):
    mouse.type_number(aimed.ui.isocenterRSpin, 12)
    mouse.type_number(aimed.ui.isocenterASpin, -8)
    assert np.allclose(aimed.carm.arm().isocenter_ras_mm[:2], (12, -8))
    arm = aimed.carm.arm()
    scale = arm.source_to_isocenter_mm / arm.source_to_detector_mm * arm.pixel_pitch_mm
    seen = f"{arm.width * scale:.0f} × {arm.height * scale:.0f} mm at the isocentre"
    assert aimed.ui.readoutLabel.text.endswith(seen)


def test_filters_harden_the_beam(aimed):
    aimed.open("xraySection")
    aimed.press("noiseCheck")
    usual = aimed.shoot()
    aimed.press("filtrationAutoCheck")
    assert aimed.ui.aluminiumSpin.enabled
    mouse.type_number(aimed.ui.aluminiumSpin, 20)
    aluminium = aimed.shoot()
    mouse.type_number(aimed.ui.copperSpin, 1)
    copper = aimed.shoot()
    assert np.ptp(usual) > 1.02 * np.ptp(aluminium) > 1.02**2 * np.ptp(copper)


def test_the_seed_draws_other_noise_and_the_same_seed_the_same(aimed):
    aimed.open("xraySection")
    first = aimed.shoot()
    mouse.type_number(aimed.ui.seedSpin, 5)
    other = aimed.shoot()
    assert 0 < np.abs(other - first).mean() < 0.1
    mouse.type_number(aimed.ui.seedSpin, 0)
    assert np.array_equal(aimed.shoot(), first)


def test_detector_and_scatter_change_what_is_measured(aimed):
    aimed.open("xraySection")
    aimed.press("noiseCheck")
    ideal = aimed.shoot()
    mouse.choose(aimed.ui.scatterSelector, "kernel")
    assert np.median(aimed.shoot() - ideal) < -0.05, "scatter adds light behind the patient"
    mouse.choose(aimed.ui.scatterSelector, "none")
    other = next(
        text
        for text in (aimed.ui.detectorSelector.itemText(n) for n in range(aimed.ui.detectorSelector.count))
        if text != "ideal"
    )
    mouse.choose(aimed.ui.detectorSelector, other)
    assert np.abs(aimed.shoot() - ideal).max() > 0.01


def test_log_and_linear_are_one_exposure_shown_twice(aimed):
    aimed.open("xraySection")
    log = aimed.shoot()
    aimed.press("logCheck")
    assert np.allclose(aimed.shoot(), np.exp(-log), rtol=1e-3, atol=1e-5)


def test_a_window_preset_changes_the_window_and_not_the_picture(aimed):
    aimed.open("xraySection")
    picture, window = aimed.shoot(), window_of(aimed)
    names = [aimed.ui.windowSelector.itemText(n) for n in range(aimed.ui.windowSelector.count)]
    mouse.choose(aimed.ui.windowSelector, next(name for name in names if name != "auto"))
    assert np.array_equal(aimed.shoot(), picture)
    assert not np.allclose(window_of(aimed), window)


def test_the_device_is_named_with_the_reason_in_its_tooltip(aimed):
    aimed.open("xraySection")
    mouse.choose(aimed.ui.deviceSelector, "cpu")
    assert aimed.ui.deviceLabel.text.startswith("CPU, ") and aimed.ui.deviceLabel.text.endswith("threads")
    assert len(aimed.ui.deviceLabel.toolTip) > 10
    assert aimed.parameters.technique.device == "cpu"
    aimed.shoot()


def test_another_segmentation_and_another_arm_are_chosen_from_their_lists(aimed):
    first_arm, first_segments = aimed.carm, aimed.parameters.segmentation
    soft = aimed.logic.segment(aimed.parameters.ctVolume, "threshold", bone_min_hu=1500.0)
    soft.SetName("Hardly any bone")
    with_bone = aimed.shoot()
    mouse.choose(aimed.ui.segmentationSelector, "Hardly any bone")
    assert aimed.parameters.segmentation is soft is not first_segments
    assert (with_bone - aimed.shoot()).max() > 0.1
    aimed.press("addCarmButton")
    assert aimed.carm.root is not first_arm.root
    mouse.choose(aimed.ui.carmSelector, first_arm.name)
    assert aimed.carm.root is first_arm.root
    assert slicer.mrmlScene.IsNodePresent(first_arm.root)
