"""The patient in the 3D view, to aim at before there are segments: a coarse model of a CT's bones."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import slicer
from slicer.util import NodeModify, arrayFromVolume

from . import ct_nodes, outline
from .mrml import in_scene, ras_from_ijk

_BONE = 0.945, 0.839, 0.569


class PatientModel:
    """The bones of one CT at a time, which move with it; they are not saved, being made anew at once."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._volume: Any = None
        self._key: Hashable = None
        self._observer = 0
        self.node: Any = None
        """The model, None before the first."""

    def show(self, volume: Any | None) -> None:
        """Show this CT's patient as it is now, and no other; None, or what is no CT, has none to show."""
        if volume is None or not in_scene(volume) or not ct_nodes.looks_like_ct(volume):
            self.close()
            return
        if volume is not self._volume:
            self.close()
            self._volume = volume
            moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
            self._observer = volume.AddObserver(moved, self._follow)
        key = ct_nodes.content_key(volume)
        if key != self._key or not in_scene(self.node):
            self._make()
            self._key = key
        self._set_visible(True)

    def hide(self) -> None:
        """Keep it for the next time."""
        self._set_visible(False)

    def close(self) -> None:
        """Take it out of the scene."""
        if self._volume is not None:
            self._volume.RemoveObserver(self._observer)
        if in_scene(self.node):
            self._scene.RemoveNode(self.node.GetDisplayNode())
            self._scene.RemoveNode(self.node)
        self._volume = self._key = self.node = None

    def _make(self) -> None:
        mesh = outline.bones(arrayFromVolume(self._volume), ras_from_ijk(self._volume))
        if not in_scene(self.node):
            self.node = self._add()
        self.node.SetAndObserveMesh(mesh)
        self._follow()

    def _add(self) -> Any:
        node: Any = slicer.vtkMRMLModelNode()
        node.SetName(f"{self._volume.GetName()} bones")
        node.SetHideFromEditors(True)
        node.SetSelectable(False)
        node.SetSaveWithScene(False)
        node = self._scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        with NodeModify(display):
            display.SetSaveWithScene(False)
            display.SetColor(*_BONE)
            display.SetVisibility2D(False)
        return node

    def _follow(self, *_: object) -> None:
        if in_scene(self.node) and self.node.GetTransformNodeID() != self._volume.GetTransformNodeID():
            self.node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())

    def _set_visible(self, visible: bool) -> None:
        if in_scene(self.node) and bool(self.node.GetDisplayNode().GetVisibility()) != visible:
            self.node.GetDisplayNode().SetVisibility(visible)
