"""Observers on the nodes that an X-ray depends on; they can all be taken off again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer
import vtk

from .carm_nodes import CArmNodes
from .carm_observer import CArmObserver, OnDrag

_SEGMENT_EVENTS = (
    "SourceRepresentationModified",
    "SegmentAdded",
    "SegmentRemoved",
    "SegmentModified",
    "SegmentsOrderModified",
    "RepresentationModified",
)


class SceneWatch:
    """Watches one CT, one segmentation and some C-arms, and says when anything about them has changed."""

    def __init__(
        self, on_change: Callable[[], None], on_carm: Callable[[CArmNodes], None], on_drag: OnDrag | None = None
    ) -> None:
        self._on_change = on_change
        self._on_carm = on_carm
        self._on_drag = on_drag
        self._watched: tuple[Any, Any] = (None, None)
        self._tags: list[tuple[Any, int]] = []
        self._carms: dict[str, CArmObserver] = {}

    def observe(self, volume: Any | None, segmentation: Any | None, carms: Sequence[CArmNodes]) -> None:
        """Watch these from now on, and nothing else."""
        if self._watched != (volume, segmentation):
            self._release()
            self._watched = (volume, segmentation)
            if volume is not None:
                self._observe_volume(volume)
            if segmentation is not None:
                self._observe_segmentation(segmentation)
        wanted = {carm.root.GetID(): carm for carm in carms if carm.is_valid()}
        for gone in self._carms.keys() - wanted.keys():
            self._carms.pop(gone).close()
        for root_id in wanted.keys() - self._carms.keys():
            self._watch_carm(root_id, wanted[root_id])

    def close(self) -> None:
        """Watch nothing."""
        self.observe(None, None, [])

    def _watch_carm(self, root_id: str, carm: CArmNodes) -> None:
        def changed() -> None:
            self._on_carm(carm)

        self._carms[root_id] = CArmObserver(carm, changed, self._on_drag)

    def _observe_volume(self, volume: Any) -> None:
        for event in (
            vtk.vtkCommand.ModifiedEvent,
            slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
            slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
        ):
            self._tags.append((volume, volume.AddObserver(event, self._changed)))

    def _observe_segmentation(self, node: Any) -> None:
        segmentation = node.GetSegmentation()
        for name in _SEGMENT_EVENTS:
            event = getattr(slicer.vtkSegmentation, name)
            self._tags.append((segmentation, segmentation.AddObserver(event, self._changed)))
        for event in (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLTransformableNode.TransformModifiedEvent):
            self._tags.append((node, node.AddObserver(event, self._changed)))

    def _changed(self, *_: object) -> None:
        self._on_change()

    def _release(self) -> None:
        for watched, tag in self._tags:
            watched.RemoveObserver(tag)
        self._tags = []
