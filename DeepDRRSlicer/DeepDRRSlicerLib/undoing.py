"""States for the scene's Undo: one for each thing that the user does. Costs nothing where Slicer keeps undo off."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from DeepDRRLogic.affine import FloatArray

from .mrml import ModifyTogether, parent_from_node, set_parent_from_node

ONE_EDIT_S = 1.0
"""What follows sooner under the same name belongs to one edit: a slider on its way, a number digit by digit."""


class Edits:
    """Knows which edit is under way. Slicer keeps undo off until an application or the user asks for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._name, self._at = "", 0.0

    def begin(self, scene: Any, name: str = "") -> None:
        """Something is about to be changed; without a name it is an edit of its own."""
        if self._is_new(scene, name):
            scene.SaveStateForUndo()

    def began(self, scene: Any, name: str, before: Mapping[Any, FloatArray]) -> None:
        """The same where it has begun already, as when a handle is dragged: the matrices of transforms before it."""
        if not self._is_new(scene, name):
            return
        now = {node: parent_from_node(node) for node in before}
        with ModifyTogether(list(before)):
            _set_all(before)
            scene.SaveStateForUndo()
            _set_all(now)

    def done(self) -> None:
        """What was begun has been carried out and shown, which may have taken its time."""
        self._at = self._clock()

    def end(self) -> None:
        """What is changed next is another edit."""
        self._name = ""

    def _is_new(self, scene: Any, name: str) -> bool:
        now = self._clock()
        same = bool(name) and name == self._name and now - self._at < ONE_EDIT_S
        self._name, self._at = name, now
        # To save a state forgets those to redo, of which the scene is just taking one.
        return not same and bool(scene.GetUndoFlag()) and not scene.IsUndoing() and not scene.IsRedoing()


def _set_all(matrices: Mapping[Any, FloatArray]) -> None:
    for node, matrix in matrices.items():
        set_parent_from_node(node, matrix)
