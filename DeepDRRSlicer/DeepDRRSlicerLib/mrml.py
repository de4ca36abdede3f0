"""Small steps between MRML nodes and NumPy that everything here takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix, vtkMatrixFromArray

from DeepDRRLogic.affine import FloatArray


def world_from_parent(node: Any) -> FloatArray:
    """The linear transform (4, 4) that a node hangs under; ValueError for one that bends."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        bending = parent
        while bending.IsLinear():
            bending = bending.GetParentTransformNode()
        raise ValueError(
            f"{node.GetName()} is under a transform that bends it ({bending.GetName()}): harden that transform first."
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return np.asarray(arrayFromVTKMatrix(matrix), np.float64)


def world_from_node(transform: Any) -> FloatArray:
    """What a linear transform node does to its children, down to the world, (4, 4)."""
    return world_from_parent(transform) @ parent_from_node(transform)


def parent_from_node(transform: Any) -> FloatArray:
    """A transform node's own matrix (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToParent(matrix)
    return np.asarray(arrayFromVTKMatrix(matrix), np.float64)


def set_parent_from_node(transform: Any, matrix: npt.ArrayLike) -> bool:
    """Set a transform node's own matrix unless it is that already; whether anything was set."""
    wanted = np.asarray(matrix, np.float64)
    if np.array_equal(parent_from_node(transform), wanted):
        return False
    transform.SetMatrixTransformToParent(vtkMatrixFromArray(wanted))
    return True


def ras_from_ijk(volume: Any) -> FloatArray:
    """A volume node's own affine (4, 4), its parent transforms left out."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.asarray(arrayFromVTKMatrix(matrix), np.float64)


def scene_or_default(scene: Any | None) -> Any:
    """The scene given, or Slicer's."""
    return slicer.mrmlScene if scene is None else scene


def set_attribute(node: Any, name: str, value: str) -> bool:
    """Set an attribute unless it has that value already, so that nobody is told of nothing."""
    if node.GetAttribute(name) == value:
        return False
    node.SetAttribute(name, value)
    return True


def in_scene(node: Any | None) -> bool:
    """Whether a node is still in a scene."""
    return node is not None and node.GetScene() is not None and node.GetScene().IsNodePresent(node) > 0


class ModifyTogether:
    """Holds back the events of several nodes until all of them are set."""

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._before: list[int] = []

    def __enter__(self) -> None:
        self._before = [node.StartModify() for node in self._nodes]

    def __exit__(self, *_: object) -> None:
        for node, before in zip(self._nodes, self._before, strict=True):
            node.EndModify(before)
