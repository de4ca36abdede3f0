"""The patient in the 3D view, to aim at before there are segments: a coarse model of a CT's bones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import NodeModify, arrayFromVolume, vtkMatrixFromArray

from . import ct_nodes, outline
from .mrml import in_scene, ras_from_ijk

_BONE = 0.945, 0.839, 0.569
_PAUSE_MS = 200


class PatientModel:
    """The bones of one CT at a time, which move with it; they are not saved, being made anew at once.

    Where the CT is moved they follow at once. Where its voxels change they are gone until it stays as it is for a
    moment, `call_later` (milliseconds, function), and are made anew.
    """

    def __init__(self, scene: Any, call_later: Callable[[int, Callable[[], None]], None]) -> None:
        self._scene = scene
        self._call_later = call_later
        self._volume: Any = None
        self._key: Any = None
        self._observers: list[int] = []
        self._is_wanted = self._is_due = False
        self.node: Any = None
        """The model, None before the first."""

    def show(self, volume: Any | None) -> None:
        """Show this CT's patient as it is now, and no other; None, or what is no CT, has none to show."""
        if volume is None or not in_scene(volume) or not ct_nodes.looks_like_ct(volume):
            self.close()
            return
        if volume is not self._volume:
            self.close()
            self._observe(volume)
        self._is_wanted = True
        if not in_scene(self.node) or not self._place(ct_nodes.content_key(volume)):
            self._make()
        self._set_visible(True)

    def hide(self) -> None:
        """Keep it for the next time."""
        self._is_wanted = False
        self._set_visible(False)

    def close(self) -> None:
        """Take it out of the scene."""
        for observer in self._observers:
            self._volume.RemoveObserver(observer)
        node = self.node
        self._volume = self._key = self.node = None
        self._observers, self._is_wanted = [], False
        if in_scene(node):
            display = node.GetDisplayNode()
            self._scene.RemoveNode(node)
            if in_scene(display):
                self._scene.RemoveNode(display)

    def _observe(self, volume: Any) -> None:
        self._volume = volume
        events = (
            slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
            slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
            vtk.vtkCommand.ModifiedEvent,
        )
        self._observers = [volume.AddObserver(event, self._follow) for event in events]

    def _make(self) -> None:
        mesh = outline.bones(arrayFromVolume(self._volume), ras_from_ijk(self._volume))
        if not in_scene(self.node):
            self.node = self._add()
        self.node.SetAndObserveMesh(mesh)
        self._key = ct_nodes.content_key(self._volume)
        self._hang()

    def _add(self) -> Any:
        node: Any = slicer.vtkMRMLModelNode()
        node.SetName(f"{self._volume.GetName()} bones")
        node.SetHideFromEditors(True)
        node.SetSelectable(False)
        node.SetSaveWithScene(False)
        return self._scene.AddNode(node)

    def _follow(self, *_: object) -> None:
        if not in_scene(self.node) or not in_scene(self._volume):
            return
        self._hang()
        key = self._key_now()
        if key is not None and self._place(key):
            return
        self._set_visible(False)
        if self._is_wanted and not self._is_due:
            self._is_due = True
            self._call_later(_PAUSE_MS, partial(self._renew, key))

    def _renew(self, key: Any) -> None:
        """Make it anew, unless the CT has changed again since it had this key."""
        self._is_due = False
        if not self._is_wanted or not in_scene(self._volume):
            return
        if self._key_now() == key:
            self.show(self._volume)
        else:
            self._follow()

    def _key_now(self) -> Any:
        """The content's key; None where it is empty, perhaps only for a moment."""
        try:
            return ct_nodes.content_key(self._volume)
        except ValueError:
            return None

    def _hang(self) -> None:
        """Under the CT's transform."""
        if self.node.GetTransformNodeID() != self._volume.GetTransformNodeID():
            self.node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())

    def _place(self, key: Any) -> bool:
        """Where the CT lies in its own coordinates, known by its content's key; False where its voxels have changed."""
        if key[:-1] != self._key[:-1]:
            return False
        if key != self._key:
            before, now = (np.reshape(place, (4, 4)) for place in (self._key[-1], key[-1]))
            self.node.ApplyTransformMatrix(vtkMatrixFromArray(now @ np.linalg.inv(before)))
            self._key = key
        return True

    def _set_visible(self, visible: bool) -> None:
        if in_scene(self.node) and bool(self._display().GetVisibility()) != visible:
            self._display().SetVisibility(visible)

    def _display(self) -> Any:
        """How the model is shown; made anew where it was removed."""
        display = self.node.GetDisplayNode()
        if display is None:
            self.node.CreateDefaultDisplayNodes()
            display = self.node.GetDisplayNode()
            with NodeModify(display):
                display.SetSaveWithScene(False)
                display.SetColor(*_BONE)
                display.SetVisibility2D(False)
        return display
