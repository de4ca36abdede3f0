"""Letters at the edges of an X-ray's view that say which side of the patient is which.

They are text actors of their own: the texts of the view's corner annotation belong to Slicer's Data Probe.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from . import sides, xray_nodes
from .mrml import in_scene, ras_from_ijk, world_from_parent

_PLACES = {"left": (0.015, 0.5), "right": (0.985, 0.5), "upper": (0.5, 0.98), "lower": (0.5, 0.02)}
_FONT_PX = 18


class SideLetters:
    """Draws into the slice view of one name, as soon as there is one; nothing where there are no views."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._view: Any = None
        self._overlay: Any = None
        self._actors = {edge: _actor(edge) for edge in sides.Edges._fields}

    @property
    def shown(self) -> sides.Edges | None:
        """What the view says now; None where it says nothing."""
        words = sides.Edges(**{edge: actor.GetInput() or "" for edge, actor in self._actors.items()})
        return words if self._view is not None and any(words) else None

    def show(self, image_node: Any | None) -> None:
        """Name the sides of a picture as it lies now; None, or a volume that is no X-ray, has no sides."""
        self._find_view()
        words = sides_of(image_node) or sides.Edges("", "", "", "")
        changed = False
        for edge, word in words._asdict().items():
            if self._actors[edge].GetInput() != word:
                self._actors[edge].SetInput(word)
                changed = True
        if changed and self._view is not None:
            self._view.scheduleRender()

    def close(self) -> None:
        """Take the letters out of the view."""
        view = self._present_view()
        if view is not None and view is self._view:
            for actor in self._actors.values():
                self._overlay.RemoveViewProp(actor)
            view.scheduleRender()
        self._view = self._overlay = None

    def _present_view(self) -> Any:
        manager = slicer.app.layoutManager()
        widget = manager.sliceWidget(self._tag) if manager is not None else None
        return widget.sliceView() if widget is not None else None

    def _find_view(self) -> None:
        """A view that is gone is let go of: no method of it may be called any more."""
        view = self._present_view()
        if view is self._view:
            return
        self._overlay = _overlay(view.renderWindow()) if view is not None else None
        self._view = view if self._overlay is not None else None
        if self._overlay is None:
            return
        for actor in self._actors.values():
            self._overlay.AddViewProp(actor)
        view.scheduleRender()


def sides_of(image_node: Any | None) -> sides.Edges | None:
    """Where the edges of an X-ray lead in its patient as it lay when it was taken; None where nobody knows."""
    if not in_scene(image_node) or not xray_nodes.is_xray(image_node):
        return None
    world_from_patient = xray_nodes.world_from_patient(image_node)
    if world_from_patient is None:
        return None
    try:
        world_from_pixel = world_from_parent(image_node) @ ras_from_ijk(image_node)
    except ValueError:  # somebody has put it under a transform that bends
        return None
    return sides.edges(np.linalg.solve(world_from_patient[:3, :3], world_from_pixel[:3, :3]))


def _overlay(window: Any) -> Any:
    """ctkVTKSliceView's overlay, which Python cannot ask it for: the renderer of layer 1 that fills the view, or None.

    Slicer's image lies in layer 0; layer 2 is that of the orientation marker and shrinks into a corner with it.
    """
    renderers = window.GetRenderers()
    found = [renderers.GetItemAsObject(n) for n in range(renderers.GetNumberOfItems())]
    return next((one for one in found if one.GetLayer() == 1 and one.GetViewport() == (0.0, 0.0, 1.0, 1.0)), None)


def _actor(edge: str) -> Any:
    actor = vtk.vtkTextActor()
    actor.SetInput("")
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(*_PLACES[edge])
    words = actor.GetTextProperty()
    words.SetFontFamilyToArial()
    words.SetFontSize(_FONT_PX)
    words.SetBold(True)
    words.SetColor(1.0, 1.0, 1.0)
    words.SetBackgroundColor(0.0, 0.0, 0.0)  # on white as on black they can be read
    words.SetBackgroundOpacity(0.5)
    {"left": words.SetJustificationToLeft, "right": words.SetJustificationToRight}.get(
        edge, words.SetJustificationToCentered
    )()
    {"upper": words.SetVerticalJustificationToTop, "lower": words.SetVerticalJustificationToBottom}.get(
        edge, words.SetVerticalJustificationToCentered
    )()
    return actor
