"""A C-arm in the scene: a chain of transforms, one per joint, which are its state.

Parent to child: root (the whole arm, any rigid motion), lift (up and down), wigwag (swivels about the vertical),
primary (LAO/RAO), secondary (CRAN/CAUD), roll. Their product is `ras_from_gantry`, see kinematics.py. Angles are read
from the transforms, whoever set them: a handle, a typed number, Python, undo, or a scene file. What is no motion
(distances, detector) is kept in attributes of the root. While root and wigwag stay unturned, primary and secondary
hold DICOM's angles as they are; otherwise the angles come from the whole product, and typing one solves for the joints.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
from slicer.util import NodeModify, getNodesByClass

from DeepDRRLogic.affine import FloatArray, check_rigid, inverse_rigid, rigid
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.carm_limits import CArmLimits
from DeepDRRLogic.carm_presets import preset_settings, view_angles_deg
from DeepDRRLogic.geometry import Camera

from . import kinematics
from .mrml import (
    ModifyTogether,
    in_scene,
    parent_from_node,
    set_attribute,
    set_parent_from_node,
    world_from_node,
    world_from_parent,
)

JOINTS = ("root", "lift", "wigwag", "primary", "secondary", "roll")
TITLES = {
    "root": "",
    "lift": " lift",
    "wigwag": " wig-wag",
    "primary": " LAO/RAO",
    "secondary": " CRAN/CAUD",
    "roll": " roll",
}

SETTINGS = "DeepDRR.CArm"
PRESET = "DeepDRR.CArm.Preset"
STAND = "DeepDRR.CArm.Stand"
NEAR = "DeepDRR.CArm.Angles"
JOINT = "DeepDRR.CArm.Joint"
STATE = (SETTINGS, PRESET, STAND)
STANDS = ("auto", "right", "left", "head", "feet", "none")

_POSITION = ("isocenter_ras_mm", "primary_angle_deg", "secondary_angle_deg", "roll_deg")
_STORED = (
    "source_to_detector_mm",
    "source_to_isocenter_mm",
    "width",
    "height",
    "pixel_pitch_mm",
    "detector_shift_mm",
    "field_shape",
    "field_diameter_mm",
    "read_from",
)


class CArmNodes:
    """One C-arm of a scene, found by the root of its transforms; holds no state of its own."""

    def __init__(self, root: Any) -> None:
        if not CArmNodes.is_root(root):
            raise ValueError(f"{root.GetName() if root else 'Nothing'} is not a C-arm: choose one, or add one.")
        self.root = root

    @classmethod
    def of(cls, root: Any) -> CArmNodes:
        """The C-arm that a root transform stands for; ValueError for any other node."""
        return cls(root)

    @staticmethod
    def is_root(node: Any | None) -> bool:
        """Whether a node is the root of a C-arm."""
        return node is not None and node.GetAttribute(SETTINGS) is not None

    @classmethod
    def all(cls, scene: Any) -> list[CArmNodes]:
        """Every C-arm of a scene, in the order of the scene."""
        return [cls(node) for node in getNodesByClass("vtkMRMLLinearTransformNode", scene) if cls.is_root(node)]

    @classmethod
    def create(
        cls, scene: Any, name: str = "C-arm", arm: CArm | None = None, preset: str = "mobile_flat_panel"
    ) -> CArmNodes:
        """Add a C-arm: at rest as the preset has it, or in the position of `arm`."""
        nodes: dict[str, Any] = {}
        for joint in JOINTS:
            node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name + TITLES[joint])
            node.SetUndoEnabled(True)
            node.SetHideFromEditors(joint != "root")
            node.SetAttribute(JOINT, joint)
            nodes[joint] = node
        root = nodes["root"]
        with NodeModify(root):
            for child in JOINTS[1:]:
                root.SetNodeReferenceID(f"DeepDRR.{child}", nodes[child].GetID())
            for attribute, text in ((PRESET, preset), (STAND, "auto"), (SETTINGS, "{}")):
                root.SetAttribute(attribute, text)
        found = cls(root)
        found.chain()
        found.set_arm(arm or CArm.preset(preset))
        return found

    def chain(self) -> None:
        """Hang every joint on the one before; the scene's Redo brings nodes back, but not what hung on what."""
        for parent, child in itertools.pairwise(JOINTS):
            self.node(child).SetAndObserveTransformNodeID(self.node(parent).GetID())

    @property
    def scene(self) -> Any:
        return self.root.GetScene()

    @property
    def name(self) -> str:
        return str(self.root.GetName())

    @property
    def preset(self) -> str:
        """The machine it was last set to."""
        return str(self.root.GetAttribute(PRESET) or "")

    @property
    def stand(self) -> str:
        """Where the machine stands: one of STANDS."""
        return str(self.root.GetAttribute(STAND) or "auto")

    @stand.setter
    def stand(self, value: str) -> None:
        if value not in STANDS:
            raise ValueError(f"The stand is {value!r}: choose one of {', '.join(STANDS)}.")
        set_attribute(self.root, STAND, value)

    def is_valid(self) -> bool:
        """Whether all of its transforms are still in the scene."""
        return in_scene(self.root) and all(in_scene(self._node(joint)) for joint in JOINTS[1:])

    def node(self, joint: str) -> Any:
        """The transform of a joint; ValueError where it was deleted."""
        found = self._node(joint)
        if found is None:
            raise ValueError(f"{self.name} has lost its transform {joint!r}: remove the C-arm and add a new one.")
        return found

    def _node(self, joint: str) -> Any | None:
        return self.root if joint == "root" else self.root.GetNodeReference(f"DeepDRR.{joint}")

    def ras_from_gantry(self) -> FloatArray:
        """Where the gantry is, (4, 4) in RAS mm; ValueError where a parent transform scales or bends it."""
        pose = world_from_node([self.node(joint) for joint in JOINTS][-1])
        return check_rigid(kinematics.orthonormal(pose), f"the transform of {self.name}")

    def joint_value(self, joint: str) -> float:
        """Where a joint stands: the lift in mm, the others in degrees. (The root has no single value.)"""
        matrix = parent_from_node(self.node(joint))
        return float(matrix[1, 3]) if joint == "lift" else kinematics.angle_about(joint, matrix[:3, :3])

    def set_joint(self, joint: str, value: float) -> None:
        """Move one joint, mm or degrees; nothing else moves with it but what hangs on it."""
        if not np.isfinite(value):
            raise ValueError(f"{joint} is {value}: give a finite number.")
        set_parent_from_node(self.node(joint), kinematics.joint_matrix(joint, value))

    def arm(self) -> CArm:
        """The C-arm as the simulator knows it, without limits (see `violations`)."""
        pose = self.ras_from_gantry()
        settings = self._settings()
        near = self._near()
        primary, secondary, spin = kinematics.gantry_angles_deg(pose[:3, :3], near)
        arm = CArm(
            name=self.name,
            isocenter_ras_mm=tuple(pose[:3, 3].tolist()),
            primary_angle_deg=_tidy(primary),
            secondary_angle_deg=_tidy(secondary),
            **settings,
        )
        return arm.at(roll_deg=_tidy(spin if arm.is_read_from_detector else -spin))

    def set_arm(self, arm: CArm) -> None:
        """Take over a position and everything else of a C-arm, its limits left aside."""
        settings = {name: getattr(arm, name) for name in _STORED}
        angles = kinematics.angles_of(arm)
        pose = rigid(kinematics.gantry_rotation(angles), arm.isocenter_in_patient_ras_mm)
        matrices = self._joints_for(pose, angles)
        with ModifyTogether([self.node(joint) for joint in JOINTS]):
            set_attribute(self.root, NEAR, json.dumps(angles))
            set_attribute(self.root, SETTINGS, json.dumps(settings))
            for joint, matrix in matrices.items():
                set_parent_from_node(self.node(joint), matrix)

    def set(self, **fields: Any) -> None:
        """Change any fields of `DeepDRRLogic.CArm` by name; ValueError leaves everything as it was."""
        self.set_arm(self.arm().at(**fields))

    def set_preset(self, name: str) -> None:
        """Become another machine at the same isocentre and angles, but for an angle that the machine is parked at."""
        settings, _ = preset_settings(name)
        here = self.arm()
        kept = {key: getattr(here, key) for key in _POSITION}
        with NodeModify(self.root):
            set_attribute(self.root, PRESET, name)
            self.set_arm(CArm(**kept | settings))

    def set_view(self, name: str) -> None:
        """Turn to a named view, the picture upright."""
        primary, secondary = view_angles_deg(name)
        self.set(primary_angle_deg=primary, secondary_angle_deg=secondary, roll_deg=0.0)

    def violations(self) -> list[str]:
        """What the machine could not reach in this position, one phrase each; empty if all is well."""
        if not self.preset:
            return []
        return CArmLimits(**preset_settings(self.preset)[1]).violations(self.arm())

    def camera(self) -> Camera:
        """The exposure it would take now."""
        return self.arm().camera()

    def projection(self) -> FloatArray:
        """The matrix (3, 4) from RAS mm to pixels."""
        return self.camera().projection

    def field_of_view_mm(self) -> tuple[float, float]:
        """Width and height of what is seen at the isocentre."""
        return self.arm().field_of_view_at_isocenter_mm

    def dicom_angles_deg(self) -> tuple[float, float]:
        """Positioner Primary and Secondary Angle, in ±180° and ±90°."""
        return self.arm().dicom_angles_deg

    def image_node(self) -> Any | None:
        """The X-ray image that this C-arm takes, if it has taken one."""
        return self.root.GetNodeReference("DeepDRR.image")

    def set_image_node(self, node: Any | None) -> None:
        wanted = node.GetID() if node is not None else None
        if self.root.GetNodeReferenceID("DeepDRR.image") != wanted:
            self.root.SetNodeReferenceID("DeepDRR.image", wanted)

    def remember_angles(self) -> None:
        """Keep the angles as read now, so that the next reading goes on from here (350° to 370°, not to 10°)."""
        arm = self.arm()
        spin = arm.roll_deg if arm.is_read_from_detector else -arm.roll_deg
        set_attribute(self.root, NEAR, json.dumps((arm.primary_angle_deg, arm.secondary_angle_deg, spin)))

    def remove(self) -> None:
        """Take the C-arm and all that belongs to it out of the scene; its images stay."""
        scene = self.scene
        belongings = [
            self.root.GetNthNodeReference(role, n)
            for role in ("DeepDRR.part", "DeepDRR.group")
            for n in range(self.root.GetNumberOfNodeReferences(role))
        ]
        for node in (*belongings, *(self._node(joint) for joint in reversed(JOINTS))):
            if node is not None:
                if node.GetDisplayNode() is not None:
                    scene.RemoveNode(node.GetDisplayNode())
                scene.RemoveNode(node)

    def _joints_for(self, pose: FloatArray, angles: kinematics.Angles) -> dict[str, FloatArray]:
        """The matrices that bring the gantry to a pose; root's turn, lift and wigwag stay as they are."""
        outer = kinematics.orthonormal(world_from_parent(self.root))
        outer = check_rigid(outer, f"the parent transform of {self.name}")
        root = parent_from_node(self.node("root"))
        lift, wigwag = (parent_from_node(self.node(joint)) for joint in ("lift", "wigwag"))
        before = outer[:3, :3] @ root[:3, :3] @ wigwag[:3, :3]
        if not np.array_equal(before, np.eye(3)):
            angles = kinematics.gantry_angles_deg(before.T @ pose[:3, :3], angles)
        root = root.copy()
        root[:3, 3] = (inverse_rigid(outer) @ pose)[:3, 3] - root[:3, :3] @ lift[:3, 3]
        turned = {joint: kinematics.joint_matrix(joint, angle) for joint, angle in zip(JOINTS[3:], angles, strict=True)}
        return {"root": root, **turned}

    def _settings(self) -> dict[str, Any]:
        try:
            values = json.loads(self.root.GetAttribute(SETTINGS) or "{}")
        except json.JSONDecodeError as error:
            raise ValueError(f"The settings of {self.name} are damaged: choose its machine again.") from error
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    def _near(self) -> kinematics.Angles:
        primary, secondary, spin = json.loads(self.root.GetAttribute(NEAR) or "[0, 0, 0]")
        return primary, secondary, spin


def _tidy(angle_deg: float) -> float:
    """An angle without the dust that going through a matrix leaves on it."""
    return round(angle_deg, 10) + 0.0
