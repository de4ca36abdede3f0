"""The C-arm to look at and to take hold of: model nodes under its joints, and one interaction handle per joint."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from typing import Any

import slicer
from slicer.util import NodeModify

from DeepDRRLogic.collimator import parse_collimator

from . import carm_model
from .carm_dimensions import Dimensions
from .carm_nodes import JOINT, JOINTS, CArmNodes
from .mrml import in_scene, set_attribute, set_parent_from_node

PART = "DeepDRR.Part"
GROUP = "DeepDRR.Group"
SHAPE = "DeepDRR.Shape"
COLLIMATOR = "DeepDRR.Collimator"
_CLEAR = {"detector": 0.15, "detector_face": 0.0, "detector_line": 0.0}
BEAM_PARTS = ("beam", "beam_edges", "central_ray")
_GANTRY_GROUP = "orbital"

_TURNS = {
    "wigwag": (False, True, False),
    "primary": (False, False, True),
    "secondary": (True, False, False),
    "roll": (False, True, False),
}


def update_model(carm: CArmNodes) -> None:
    """Make the C-arm's model nodes, or bring those there are up to date with its dimensions and position."""
    dimensions = _dimensions(carm)
    shape = repr(dimensions)
    nodes = {node.GetAttribute(PART): node for node in _parts(carm)}
    if not nodes or carm.root.GetAttribute(SHAPE) != shape:
        parts = carm_model.build_parts(dimensions)
        for name in nodes.keys() - parts.keys():
            carm.scene.RemoveNode(nodes[name])
        for name, part in parts.items():
            _update_part(carm, nodes.get(name), name, part)
        set_attribute(carm.root, SHAPE, shape)
    update_pose(carm)


def show_collimator(carm: CArmNodes, words: str) -> None:
    """Draw the beam as wide as a collimator leaves it, see `parse_collimator`; "" for the whole detector.

    ValueError, and nothing changes, where the words make no sense or nothing is left open.
    """
    if (carm.root.GetAttribute(COLLIMATOR) or "") == words:
        return
    if words:
        parse_collimator(words).field_mask(carm.camera())
    carm.root.SetAttribute(COLLIMATOR, words)
    update_model(carm)


def update_pose(carm: CArmNodes) -> None:
    """Bring the stand to where the gantry needs it; the gantry itself hangs on the joints."""
    dimensions = _dimensions(carm)
    # Where their handles are: at the isocentre the arrow would be hidden by one of the whole arm's.
    carm.node("roll").SetCenterOfTransformation(0.0, dimensions.detector_y, 0.0)
    carm.node("lift").SetCenterOfTransformation(0.0, dimensions.source_y, 0.0)
    matrices = carm_model.group_matrices(dimensions, carm.ras_from_gantry())
    for group, node in _groups(carm).items():
        if group in matrices:
            set_parent_from_node(node, matrices[group])


def bring_back(scene: Any) -> None:
    """After the scene's Undo, which knows the joints alone: models for C-arms that came back, none for those gone."""
    carms = [carm for carm in CArmNodes.all(scene) if carm.is_valid()]
    _keep_only({node.GetID() for carm in carms for node in _model(carm)}, (PART, GROUP), scene)
    for carm in carms:
        carm.chain()
        carm.root.RemoveAttribute(SHAPE)  # it came back too, and would claim parts that did not
        with suppress(ValueError):  # that it cannot be where it is now is said by the X-ray
            update_model(carm)


def remove_orphans(scene: Any) -> None:
    """Remove what a C-arm leaves whose root was deleted elsewhere: hidden from every list, nobody else could."""
    belongings = (node for carm in CArmNodes.all(scene) for node in (carm.root, *_model(carm), *_joints(carm)))
    _keep_only({node.GetID() for node in belongings}, (PART, GROUP, JOINT), scene)


def setup_handles(carm: CArmNodes, view_node_ids: Sequence[str] = ()) -> None:
    """One handle per joint: arrows on the whole arm and its lift, a ring on each turning joint.

    They lie around the isocentre, but for two: the beam passes through the roll's where it meets the detector, and the
    lift's is below the table, where the tube is at rest.
    """
    for joint in JOINTS:
        node = carm.node(joint)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        turns = _TURNS.get(joint, (False, False, False))
        moves = {"root": (True, True, True), "lift": (False, True, False)}.get(joint, (False, False, False))
        with NodeModify(display):
            display.SetEditorScalingEnabled(False)
            display.SetEditorRotationEnabled(any(turns))
            display.SetEditorTranslationEnabled(any(moves))
            display.SetRotationHandleComponentVisibility3D(*turns, False)
            display.SetTranslationHandleComponentVisibility3D(*moves, False)
            display.SetScaleHandleComponentVisibility3D(False, False, False, False)
            display.SetEditorSliceIntersectionVisibility(False)
            display.SetVisibility2D(False)
            display.SetVisibility3D(False)
            display.RemoveAllViewNodeIDs()
            for view in view_node_ids:
                display.AddViewNodeID(view)


def handle_displays(carm: CArmNodes) -> list[Any]:
    """The display nodes of the joints' handles."""
    found = (carm.node(joint).GetDisplayNode() for joint in JOINTS)
    return [display for display in found if display is not None]


def set_handles_shown(carm: CArmNodes, shown: bool) -> None:
    """Show or hide all handles."""
    if shown and not handle_displays(carm):
        setup_handles(carm)
    for display in handle_displays(carm):
        with NodeModify(display):
            display.SetEditorVisibility(shown)
            display.SetEditorVisibility3D(shown)


def are_handles_shown(carm: CArmNodes) -> bool:
    """Whether any handle can be taken hold of."""
    return any(display.GetEditorVisibility() and display.GetEditorVisibility3D() for display in handle_displays(carm))


def is_handle_held(node: Any) -> bool:
    """Whether the mouse is on the handle of a joint."""
    display = node.GetDisplayNode()
    return display is not None and display.GetActiveInteractionType() > 0


def set_parts_shown(carm: CArmNodes, shown: bool, *, beam: bool) -> None:
    """Show or hide the beam with its central ray, or everything else."""
    for node in _parts(carm):
        if (node.GetAttribute(PART) in BEAM_PARTS) == beam and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(shown)


def set_detector_clear(carm: CArmNodes, clear: bool) -> None:
    """Make the detector as glass, so that the X-ray on it is seen from behind too; else as it was."""
    for node in _parts(carm):
        display = node.GetDisplayNode()
        part = node.GetAttribute(PART)
        if display is not None and part in _CLEAR:
            display.SetOpacity(_CLEAR[part] if clear else 1.0)


def are_parts_shown(carm: CArmNodes, *, beam: bool) -> bool:
    """Whether any of those parts is shown."""
    displays = [node.GetDisplayNode() for node in _parts(carm) if (node.GetAttribute(PART) in BEAM_PARTS) == beam]
    return any(display is not None and display.GetVisibility() for display in displays)


def _dimensions(carm: CArmNodes) -> Dimensions:
    arm = carm.arm().at(name=carm.preset or carm.name)
    words = carm.root.GetAttribute(COLLIMATOR)
    return Dimensions.of(arm, None if carm.stand == "auto" else carm.stand, parse_collimator(words) if words else None)


def _keep_only(in_use: Set[str], attributes: Sequence[str], scene: Any) -> None:
    """Remove the models and transforms marked with one of these attributes that are not in use."""
    for class_name in ("vtkMRMLModelNode", "vtkMRMLLinearTransformNode"):
        for node in slicer.util.getNodesByClass(class_name, scene):
            if node.GetID() not in in_use and any(node.GetAttribute(name) is not None for name in attributes):
                if node.GetDisplayNode() is not None:
                    scene.RemoveNode(node.GetDisplayNode())
                scene.RemoveNode(node)


def _model(carm: CArmNodes) -> list[Any]:
    return [*_parts(carm), *_groups(carm).values()]


def _parts(carm: CArmNodes) -> list[Any]:
    return _references(carm, "DeepDRR.part")


def _groups(carm: CArmNodes) -> dict[str, Any]:
    return {node.GetAttribute(GROUP): node for node in _references(carm, "DeepDRR.group")}


def _joints(carm: CArmNodes) -> list[Any]:
    return [node for joint in JOINTS[1:] for node in _references(carm, f"DeepDRR.{joint}")]


def _references(carm: CArmNodes, role: str) -> list[Any]:
    root = carm.root
    nodes = [root.GetNthNodeReference(role, n) for n in range(root.GetNumberOfNodeReferences(role))]
    return [node for node in nodes if in_scene(node)]


def _update_part(carm: CArmNodes, node: Any | None, name: str, part: Any) -> None:
    if node is None:
        node = carm.scene.AddNewNodeByClass("vtkMRMLModelNode", f"{carm.name} {name.replace('_', ' ')}")
        node.SetHideFromEditors(True)
        node.SetSelectable(False)
        node.SetAttribute(PART, name)
        carm.root.AddNodeReferenceID("DeepDRR.part", node.GetID())
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        with NodeModify(display):
            display.SetColor(*part.finish.color)
            display.SetOpacity(part.finish.opacity)
            display.SetSpecular(part.finish.specular)
            display.SetPower(part.finish.power)
            display.SetAmbient(part.finish.ambient)
            display.SetVisibility2D(False)
    node.SetAndObserveMesh(part.poly_data)
    node.SetAndObserveTransformNodeID(_transform_of(carm, part.group).GetID())


def _transform_of(carm: CArmNodes, group: str) -> Any:
    """The transform that a group of parts hangs under: the last joint, or one that follows the stand."""
    if group == _GANTRY_GROUP:
        return carm.node("roll")
    known = _groups(carm)
    if group not in known:
        node: Any = slicer.vtkMRMLLinearTransformNode()
        node.SetName(f"{carm.name} {group}")
        node.SetHideFromEditors(True)
        node.SetAttribute(GROUP, group)
        node = carm.scene.AddNode(node)
        carm.root.AddNodeReferenceID("DeepDRR.group", node.GetID())
        return node
    return known[group]
