"""The panel's last section: shooting, recording, projecting points, exporting. Uses Qt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.util import VTKObservationMixin

from . import layout
from .parameters import SWEEPS, technique_of
from .technique import SLOW_SCATTER
from .widget_panel import Panel

_MARKERS = "DeepDRR.Markers"
_WORKS = {"shoot": ("liveButton", "shootButton", "keepButton"), "sweep": ("sweepButton", "sweepJointSelector")}
"""What takes long, and the widgets that its progress takes the place of."""
_NO_LAYOUT = "Slicer's own"


class AcquireSection(VTKObservationMixin):  # type: ignore[misc]
    """Everything that makes a picture stay: shots, copies, sweeps, files; and the points on it."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel
        self._watched: Any = None
        self._cancelled = False
        self._at_work = False
        ui = panel.ui
        ui.shootButton.connect("clicked(bool)", self._shoot)
        ui.keepButton.connect("clicked(bool)", self._keep)
        ui.sweepButton.connect("clicked(bool)", self._sweep)
        ui.cancelShootButton.connect("clicked(bool)", self._cancel)
        ui.cancelSweepButton.connect("clicked(bool)", self._cancel)
        ui.exportButton.connect("clicked(bool)", self._export)
        ui.layoutSelector.connect("activated(int)", self._choose_layout)
        ui.layoutSelector.addItem(_NO_LAYOUT)
        for entry in layout.LAYOUTS:
            ui.layoutSelector.addItem(entry.title)
        ui.pointsTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        for work in _WORKS:
            self._show_progress(work, False)

    def update(self) -> None:
        self._enable()
        self.show_layout()
        self._watch(self._panel.parameters.landmarks)
        self.show_points()

    def scene_closed(self) -> None:
        self._cancelled = True
        self._watch(None)

    def close(self) -> None:
        self.scene_closed()

    def image_changed(self) -> None:
        """The X-ray is another one: its points lie elsewhere, and it can be kept."""
        self._enable()
        self.show_points()

    def show_points(self) -> None:
        """Fill the table of pixels, and put the markers where the points appear now."""
        ui, parameters, carm = self._panel.ui, self._panel.parameters, self._panel.carm
        points = parameters.landmarks
        ui.pointsTable.visible = points is not None
        if points is not None and carm is not None:
            try:
                self._fill_table(points, self._panel.logic.projectPoints(points, carm))
            except ValueError as error:
                self._panel.say(str(error), is_error=True)
                return
        else:
            ui.pointsTable.setRowCount(0)
        self._update_markers(points)

    def _enable(self) -> None:
        """While something is made that takes long nothing else can be taken, kept or written."""
        ui = self._panel.ui
        has_ct = not self._at_work and self._panel.parameters.ctVolume is not None
        has_image = not self._at_work and self._image() is not None
        ui.shootButton.enabled = has_ct
        ui.sweepButton.enabled = has_ct
        ui.keepButton.enabled = has_image
        ui.exportButton.enabled = has_image

    def _image(self) -> Any:
        carm = self._panel.carm
        image = carm.image_node() if carm is not None else None
        return image if image is not None and image.GetImageData() is not None else None

    def _shoot(self, _checked: bool = False) -> None:
        parameters = self._panel.parameters
        takes_long = technique_of(parameters).scatter in SLOW_SCATTER
        self._cancelled, done = False, True
        with self._panel.attempt(busy=not takes_long):
            if takes_long:
                with self._working("shoot"):
                    done = self._panel.shoot(self._shoot_progress, self._is_cancelled)
            else:
                self._panel.shoot()
        if not done and self._panel.parameters is parameters:
            self._panel.say("Shot cancelled: the X-ray is as it was.")

    def _shoot_progress(self, fraction: float) -> None:
        self._panel.ui.shootProgress.value = round(100 * fraction)
        slicer.app.processEvents()

    def _keep(self, _checked: bool = False) -> None:
        with self._panel.attempt():
            copied = self._panel.logic.keepCopy(self._image())
            self._panel.say(f"Kept as {copied.GetName()}.")

    def _sweep(self, _checked: bool = False) -> None:
        parameters = self._panel.parameters
        self._cancelled = False
        recorded = None
        with self._panel.attempt():
            self._panel.need_simulator()
            self._panel.need_scatter()
            with self._working("sweep"):
                recorded = self._panel.logic.sweep(
                    parameters.ctVolume,
                    self._panel.segments,
                    self._panel.carm,
                    technique_of(parameters),
                    joint=SWEEPS[parameters.sweepJoint],
                    startDeg=parameters.sweepStartDeg,
                    stopDeg=parameters.sweepStopDeg,
                    frames=parameters.sweepFrames,
                    progress=self._sweep_progress,
                    cancelled=self._is_cancelled,
                )
        if recorded is not None:
            self._panel.say(f"Recorded {parameters.sweepFrames} pictures: play {recorded.GetName()} in Sequences.")
        elif self._cancelled:
            self._panel.say("Recording cancelled.")

    def _sweep_progress(self, done: int, total: int) -> None:
        self._panel.ui.sweepProgress.maximum = total
        self._panel.ui.sweepProgress.value = done
        slicer.app.processEvents()

    def _is_cancelled(self) -> bool:
        return self._cancelled

    def _cancel(self, _checked: bool = False) -> None:
        self._cancelled = True

    @contextmanager
    def _working(self, work: str) -> Iterator[None]:
        """Show the progress of what takes long, and hold everything else back until it is done."""
        self._show_progress(work, True)
        self._enable()
        try:
            yield
        finally:
            self._show_progress(work, False)

    def _show_progress(self, work: str, running: bool) -> None:
        ui, self._at_work = self._panel.ui, running
        getattr(ui, f"{work}Progress").value = 0
        getattr(ui, f"{work}Progress").visible = running
        getattr(ui, f"cancel{work.capitalize()}Button").visible = running
        for name in _WORKS[work]:
            getattr(ui, name).visible = not running
        for name in ("ctSection", "materialsSection", "carmSection", "xraySection"):
            getattr(ui, name).enabled = not running

    def _export(self, _checked: bool = False) -> None:
        with self._panel.attempt(busy=True):
            path = self._panel.ui.exportPath.currentPath.strip()
            if not path:
                raise ValueError("Where to? Give a file name that ends in .png, .tif, .nrrd, .npz or .json.")
            self._panel.need_simulator()
            written = self._panel.logic.export(self._image(), Path(path))
            self._panel.ui.exportPath.addCurrentPathToHistory()
            names = " and ".join(file.name for file in written)
            self._panel.say(f"Wrote {names} to {Path(path).absolute().parent}.")

    def _choose_layout(self, index: int) -> None:
        node = layout.layout_node_of(slicer.mrmlScene)
        with self._panel.attempt():
            if index > 0:
                layout.show_layout(node, layout.LAYOUTS[index - 1].name)
            elif node is not None:
                node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def show_layout(self) -> None:
        """Which of our layouts the views are in, whoever chose it."""
        selector, node = self._panel.ui.layoutSelector, layout.layout_node_of(slicer.mrmlScene)
        selector.enabled = node is not None
        arrangement = node.GetViewArrangement() if node is not None else None
        known = [entry.layout_id for entry in layout.LAYOUTS]
        selector.currentIndex = known.index(arrangement) + 1 if arrangement in known else 0

    def _watch(self, points: Any) -> None:
        if points is self._watched:
            return
        self.removeObservers()
        self._watched = points
        markups = slicer.vtkMRMLMarkupsNode
        events = (markups.PointModifiedEvent, markups.PointAddedEvent, markups.PointRemovedEvent)
        for event in (*events, slicer.vtkMRMLTransformableNode.TransformModifiedEvent) if points is not None else ():
            self.addObserver(points, event, self._points_changed)

    def _points_changed(self, *_: object) -> None:
        self.show_points()

    def _fill_table(self, points: Any, pixels: Any) -> None:
        table = self._panel.ui.pointsTable
        table.setRowCount(len(pixels))
        for row, (u, v) in enumerate(pixels):
            seen = u == u  # not NaN
            texts = (points.GetNthControlPointLabel(row), f"{u:.1f}" if seen else "—", f"{v:.1f}" if seen else "—")
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
                table.setItem(row, column, item)

    def _update_markers(self, points: Any) -> None:
        image = self._image()
        if image is None:
            return
        markers = image.GetNodeReference(_MARKERS)
        if not self._panel.parameters.showPoints or points is None:
            if markers is not None:
                slicer.mrmlScene.RemoveNode(markers)
            return
        views = (self._panel.xray_view.slice_node.GetID(),)
        markers = self._panel.logic.showPoints(points, image, markers, views)
        markers.SetHideFromEditors(True)
        if image.GetNodeReferenceID(_MARKERS) != markers.GetID():
            image.SetNodeReferenceID(_MARKERS, markers.GetID())
