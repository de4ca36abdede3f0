"""The C-arm in the scene: one state, whoever sets it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromTransformMatrix, updateTransformMatrixFromArray
from slicer_scene import add_transform, make_scene

from DeepDRRLogic.affine import rigid, rotation
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.carm_presets import view_angles_deg
from DeepDRRSlicerLib import carm_display
from DeepDRRSlicerLib.carm_nodes import JOINTS, CArmNodes
from DeepDRRSlicerLib.carm_observer import CArmObserver
from DeepDRRSlicerLib.kinematics import joint_matrix
from DeepDRRSlicerLib.mrml import parent_from_node
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.undoing import Edits

POSES = [(a, b, r) for a in (-150, -90, -37, 0, 20, 90, 180) for b in (-130, -40, 0, 33, 90, 200) for r in (-75, 0, 10)]
FIELDS = ("isocenter_ras_mm", "primary_angle_deg", "secondary_angle_deg", "roll_deg")


@pytest.fixture
def scene():
    return make_scene()


@pytest.fixture
def carm(scene):
    return CArmNodes.create(scene, arm=CArm(isocenter_ras_mm=(10.0, -20.0, 300.0)))


def placed(**fields) -> CArm:
    return CArm(isocenter_ras_mm=(-30.0, 44.0, 900.0), **fields)


@pytest.mark.parametrize(("primary", "secondary", "roll"), POSES)
def test_the_scene_takes_the_picture_that_the_angles_ask_for(carm, primary, secondary, roll):
    wanted = placed(primary_angle_deg=primary, secondary_angle_deg=secondary, roll_deg=roll)
    carm.set_arm(wanted)
    np.testing.assert_allclose(carm.camera().projection, wanted.camera().projection, atol=1e-6)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(carm.arm(), field), getattr(wanted, field), atol=1e-8)


def test_typed_angles_hold_whatever_the_arm_stands_on(carm, scene):
    turned = rigid(rotation([1.0, 2.0, -1.0], 37.0), [5.0, 60.0, -7.0])
    carm.root.SetAndObserveTransformNodeID(add_transform(scene, turned).GetID())
    updateTransformMatrixFromArray(carm.root, rigid(rotation([0.0, 1.0, 0.3], 110.0), [1.0, 2.0, 3.0]))
    carm.set_joint("lift", 45.0)
    carm.set_joint("wigwag", -12.0)
    wanted = placed(primary_angle_deg=25.0, secondary_angle_deg=-15.0, roll_deg=5.0)
    carm.set_arm(wanted)
    np.testing.assert_allclose(carm.camera().projection, wanted.camera().projection, atol=1e-6)
    assert carm.joint_value("lift") == pytest.approx(45.0)
    assert carm.joint_value("wigwag") == pytest.approx(-12.0)


def test_the_primary_joint_alone_is_the_primary_angle(carm):
    carm.set_joint("primary", 30.0)
    assert carm.arm().primary_angle_deg == pytest.approx(30.0)
    carm.set_joint("secondary", 20.0)
    assert carm.dicom_angles_deg() == pytest.approx((30.0, 20.0))
    assert carm.arm().roll_deg == pytest.approx(0.0)


def test_the_lift_moves_the_isocentre_to_the_front(carm):
    before = np.array(carm.arm().isocenter_ras_mm)
    carm.set_joint("lift", 80.0)
    np.testing.assert_allclose(np.array(carm.arm().isocenter_ras_mm) - before, [0.0, 80.0, 0.0], atol=1e-9)


def test_the_wigwag_turns_the_picture_of_a_vertical_beam(carm):
    carm.set_joint("wigwag", 15.0)
    assert carm.dicom_angles_deg() == pytest.approx((0.0, 0.0))
    assert abs(carm.arm().roll_deg) == pytest.approx(15.0)


@pytest.mark.parametrize("joint", JOINTS[1:])
def test_a_drag_off_the_joints_freedom_is_brought_back_to_it(carm, joint):
    told = []
    observer = CArmObserver(carm, lambda: told.append(carm.joint_value(joint)))
    astray = rigid(rotation([0.3, 1.0, 0.2], 25.0), [12.0, 34.0, -9.0])
    updateTransformMatrixFromArray(carm.node(joint), astray)
    matrix = arrayFromTransformMatrix(carm.node(joint))
    value = carm.joint_value(joint)
    np.testing.assert_allclose(matrix, joint_matrix(joint, value), atol=1e-12)
    assert told == [pytest.approx(value)]
    assert abs(value) > 1.0
    observer.close()


def test_every_change_is_told_once_and_none_at_all_when_nothing_changes(carm):
    told = []
    observer = CArmObserver(carm, lambda: told.append(carm.arm().primary_angle_deg))
    carm.set_arm(placed(primary_angle_deg=30.0, secondary_angle_deg=10.0, roll_deg=5.0))
    assert told == [pytest.approx(30.0)]
    carm.set(primary_angle_deg=30.0)
    assert len(told) == 1
    updateTransformMatrixFromArray(carm.node("primary"), rigid(rotation([0, 0, 1], 31.0)))
    assert told[1:] == [pytest.approx(31.0)]
    carm.set(source_to_detector_mm=1100.0)
    assert len(told) == 3
    observer.close()
    carm.set(primary_angle_deg=0.0)
    assert len(told) == 3


def test_a_drag_told_of_late_goes_on_from_where_it_is_and_is_undone_to_where_it_began(scene, carm):
    node = carm.node("primary")
    before = {node: parent_from_node(node)}
    scene.SetUndoOn()
    carm.set_joint("primary", 20.0)
    Edits().began(scene, "handle primary", before)
    assert carm.joint_value("primary") == pytest.approx(20.0)
    scene.Undo()
    assert carm.joint_value("primary") == 0.0


def test_a_handle_that_scaled_the_whole_arm_leaves_it_rigid(carm):
    observer = CArmObserver(carm, lambda: None)
    updateTransformMatrixFromArray(carm.root, np.diag([1.3, 1.3, 1.3, 1.0]) @ rigid(rotation([0, 1, 0], 20.0)))
    assert np.linalg.det(carm.ras_from_gantry()[:3, :3]) == pytest.approx(1.0)
    observer.close()


def test_angles_go_on_counting_beyond_half_a_turn(carm):
    observer = CArmObserver(carm, lambda: None)
    for angle in range(0, 361, 30):
        updateTransformMatrixFromArray(carm.node("primary"), rigid(rotation([0, 0, 1], angle)))
        assert carm.arm().primary_angle_deg == pytest.approx(angle)
    observer.close()


def test_settings_that_cannot_be_change_nothing(carm):
    before = carm.arm()
    with pytest.raises(ValueError, match="source_to_isocenter_mm"):
        carm.set(primary_angle_deg=40.0, source_to_isocenter_mm=5000.0)
    assert carm.arm() == before


def test_another_machine_keeps_isocentre_and_angles(carm):
    carm.set(primary_angle_deg=33.0)
    carm.set_preset("mobile_image_intensifier")
    arm = carm.arm()
    assert (arm.field_shape, arm.field_diameter_mm, arm.width) == ("circular", 230, 1024)
    assert arm.primary_angle_deg == pytest.approx(33.0)
    assert arm.isocenter_ras_mm == pytest.approx((10.0, -20.0, 300.0))
    carm.set_preset("mobile_flat_panel")
    assert carm.arm().field_shape == "rectangular"


def test_a_c_arm_asked_for_again_is_the_same_one_and_becomes_the_machine_that_is_asked_for():
    logic = SceneLogic(make_scene())
    arm = logic.carm(isocenter_ras_mm=(1.0, 2.0, 3.0), primary_angle_deg=20.0)
    assert arm.preset == "mobile_flat_panel"
    again = logic.carm("C-arm", "DeepDRR paper", secondary_angle_deg=5.0)
    assert again.root is arm.root and len(logic.carms()) == 1
    assert (again.preset, again.arm().width) == ("deepdrr_paper", 620)
    assert again.arm().isocenter_ras_mm == pytest.approx((1.0, 2.0, 3.0))
    assert again.dicom_angles_deg() == pytest.approx((20.0, 5.0))
    assert logic.carm().preset == "deepdrr_paper"


def test_a_named_view_is_upright(carm):
    carm.set(primary_angle_deg=20.0, roll_deg=30.0)
    carm.set_view("lateral_left")
    arm = carm.arm()
    assert (arm.primary_angle_deg, arm.secondary_angle_deg, arm.roll_deg) == (*view_angles_deg("lateral_left"), 0.0)


def test_what_the_machine_cannot_reach_is_said_not_clipped(carm):
    carm.set_preset("biplane_frontal")
    assert carm.violations() == []
    carm.set(secondary_angle_deg=60.0)
    assert carm.arm().secondary_angle_deg == pytest.approx(60.0)
    assert "secondary angle 60" in carm.violations()[0]


def test_two_c_arms_of_one_scene_do_not_disturb_each_other(scene, carm):
    lateral = CArmNodes.create(scene, "Lateral", preset="biplane_lateral")
    assert [arm.name for arm in CArmNodes.all(scene)] == ["C-arm", "Lateral"]
    carm.set(primary_angle_deg=12.0)
    assert lateral.arm().primary_angle_deg == pytest.approx(90.0)
    lateral.remove()
    assert [arm.name for arm in CArmNodes.all(scene)] == ["C-arm"]


def test_the_model_stands_where_the_beam_is(scene, carm):
    carm_display.update_model(carm)
    carm.set(primary_angle_deg=25.0, secondary_angle_deg=-10.0)
    carm_display.update_model(carm)
    bounds = np.zeros(6)
    beam = next(n for n in _models(scene) if n.GetAttribute(carm_display.PART) == "central_ray")
    beam.GetRASBounds(bounds)
    camera = carm.camera()
    ends = np.stack((camera.source_ras, camera.detector_center_ras))
    np.testing.assert_allclose(bounds[::2], ends.min(axis=0), atol=4.0)
    np.testing.assert_allclose(bounds[1::2], ends.max(axis=0), atol=4.0)


def test_beam_machine_and_handles_are_shown_and_hidden_apart(carm):
    carm_display.update_model(carm)
    carm_display.set_parts_shown(carm, False, beam=True)
    assert not carm_display.are_parts_shown(carm, beam=True)
    assert carm_display.are_parts_shown(carm, beam=False)
    assert not carm_display.are_handles_shown(carm)
    carm_display.set_handles_shown(carm, True)
    assert carm_display.are_handles_shown(carm)
    rings = carm.node("primary").GetDisplayNode().GetRotationHandleComponentVisibility3D()
    assert tuple(bool(r) for r in rings) == (False, False, True, False)


def test_a_removed_c_arm_leaves_nothing_behind(scene):
    before = scene.GetNumberOfNodes()
    carm = CArmNodes.create(scene)
    carm_display.update_model(carm)
    carm_display.set_handles_shown(carm, True)
    carm.remove()
    assert scene.GetNumberOfNodes() == before


def test_a_c_arm_whose_root_was_deleted_leaves_nothing_but_its_neighbour(scene, carm):
    carm_display.update_model(carm)
    carm_display.set_handles_shown(carm, True)
    before = scene.GetNumberOfNodes()
    deleted = CArmNodes.create(scene, "Deleted")
    carm_display.update_model(deleted)
    carm_display.set_handles_shown(deleted, True)
    display = deleted.root.GetDisplayNode()
    scene.RemoveNode(deleted.root)
    scene.RemoveNode(display)
    carm_display.remove_orphans(scene)
    assert scene.GetNumberOfNodes() == before
    assert carm.is_valid() and carm_display.are_handles_shown(carm)


def test_a_c_arm_that_lost_a_joint_says_so(scene, carm):
    scene.RemoveNode(carm.node("secondary"))
    assert not carm.is_valid()
    with pytest.raises(ValueError, match="remove the C-arm and add a new one"):
        carm.arm()


def _models(scene):
    nodes = scene.GetNodesByClass("vtkMRMLModelNode")
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
