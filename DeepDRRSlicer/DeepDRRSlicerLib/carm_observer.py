"""Watches a C-arm: every way to move it ends in one and the same state, and is told once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import slicer
import vtk

from DeepDRRLogic.affine import FloatArray

from . import kinematics
from .carm_display import is_handle_held
from .carm_nodes import JOINTS, STATE, CArmNodes
from .mrml import parent_from_node, set_parent_from_node, world_from_node

OnDrag = Callable[[str, dict[Any, FloatArray]], None]


class CArmObserver:
    """Keeps what handles do on the joints' degrees of freedom, and calls `on_change` when the C-arm has changed.

    Where a handle has moved it, on_drag(joint, matrices of all joints before) is called first.

    All transforms are observed before any child is told, so `on_change` always sees a C-arm whose joints are straight.
    Straightening sets a transform, which is an event again: while it lasts events are left aside, and a joint that is
    straight is never set.
    """

    def __init__(self, carm: CArmNodes, on_change: Callable[[], None], on_drag: OnDrag | None = None) -> None:
        self.carm = carm
        self._on_change = on_change
        self._on_drag = on_drag
        self._busy = False
        self._before = self._matrices()
        self._state = self._now()
        self._observed: list[tuple[Any, int]] = []
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        for joint in JOINTS:
            node = carm.node(joint)
            self._observed.append((node, node.AddObserver(moved, self._changed, 1.0)))
        self._observed.append((carm.root, carm.root.AddObserver(vtk.vtkCommand.ModifiedEvent, self._changed)))

    def close(self) -> None:
        """Watch no longer."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []

    def _changed(self, *_: object) -> None:
        if self._busy or not self._observed or not self.carm.is_valid() or self._now() == self._state:
            return
        self._busy = True
        try:
            self._tell_of_drag()
            for joint in JOINTS:
                node = self.carm.node(joint)
                set_parent_from_node(node, kinematics.straightened(joint, parent_from_node(node)))
            with suppress(ValueError):  # scaled or bent by a parent it has no angles, as the X-ray will say
                self.carm.remember_angles()
        finally:
            self._busy = False
            self._before = self._matrices()
            self._state = self._now()
        self._on_change()

    def _tell_of_drag(self) -> None:
        if self._on_drag is None:
            return
        for joint in JOINTS:
            node = self.carm.node(joint)
            if is_handle_held(node) and not np.array_equal(parent_from_node(node), self._before[node]):
                self._on_drag(joint, self._before)
                return

    def _matrices(self) -> dict[Any, FloatArray]:
        return {node: parent_from_node(node) for node in map(self.carm.node, JOINTS)}

    def _now(self) -> tuple[Any, ...]:
        """All that makes up the C-arm: one change comes as several events, and only the first finds it new."""
        root = self.carm.root
        matrices = [parent_from_node(self.carm.node(joint)).tobytes() for joint in JOINTS]
        return (*matrices, _place(root), *(root.GetAttribute(name) for name in STATE))


def _place(root: Any) -> bytes | str:
    """Where the whole arm is; under a parent that bends it, the reason why that cannot be said."""
    try:
        return world_from_node(root).tobytes()
    except ValueError as error:
        return str(error)
