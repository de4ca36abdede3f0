"""The panel's last section: shooting, recording, projecting points, exporting. Uses Qt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.util import VTKObservationMixin

from . import layout, points, xray_nodes
from .mrml import in_scene
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
        self._attempt = partial(panel.attempt, section="acquireSection")
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
        """Fill the table of pixels, and put the markers where the points appear on the X-ray that is shown."""
        ui, carm, landmarks = self._panel.ui, self._panel.carm, self._panel.parameters.landmarks
        ui.pointsTable.visible = landmarks is not None
        if landmarks is not None and carm is not None:
            try:
                image = self._image()
                camera = carm.camera() if image is None else xray_nodes.exposed_camera(image)
                self._fill_table(landmarks, camera.project(points.points_ras(landmarks)))
            except ValueError as error:
                self._panel.say(str(error), is_error=True, unasked=True)
                return
        else:
            ui.pointsTable.setRowCount(0)
        self._update_markers(landmarks)

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
        self._panel.technique.collimate()
        with self._exposing(technique_of(self._panel.parameters).scatter) as watch:
            self._panel.shoot(**watch)

    @contextmanager
    def _exposing(self, scatter: str) -> Iterator[dict[str, Any]]:
        """An attempt that exposes with this scatter, and what it is to call: one that takes long can be cancelled."""
        ct = self._panel.parameters.ctVolume
        self._cancelled = False
        with self._attempt(busy=scatter not in SLOW_SCATTER):
            if scatter in SLOW_SCATTER:
                with self._working("shoot"):
                    yield {"progress": self._shoot_progress, "cancelled": self._is_cancelled}
            else:
                yield {}
        if self._cancelled and in_scene(ct):  # else the scene was closed
            self._panel.say("Shot cancelled: the X-ray is as it was.")

    @contextmanager
    def _whole(self, image: Any) -> Iterator[dict[str, Any]]:
        """The same for what needs the exposure behind an image: made anew where it is not at hand, as for previews."""
        carm, preview = self._panel.arm, xray_nodes.is_preview(image)
        scatter = "" if self._panel.logic.isAtHand(image) else xray_nodes.technique_of_image(image).scatter
        with self._exposing(scatter) as watch:
            yield watch
            if preview and not xray_nodes.is_preview(image):
                self._panel.finished(carm)

    def _shoot_progress(self, fraction: float) -> None:
        self._panel.ui.shootProgress.value = round(100 * fraction)
        slicer.app.processEvents()

    def _keep(self, _checked: bool = False) -> None:
        image = self._image()
        with self._whole(image) as watch:
            copied = self._panel.logic.keepCopy(image, **watch)
            if copied is not None:
                self._panel.say(f"Kept as {copied.GetName()}.")

    def _sweep(self, _checked: bool = False) -> None:
        parameters = self._panel.parameters
        self._cancelled = False
        recorded = None
        self._panel.technique.collimate()
        with self._attempt():
            self._panel.need_simulator()
            self._panel.need_scatter()
            with self._working("sweep"):
                self._panel.pause_live()
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
        self._panel.update()  # live again
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
        image, path = self._image(), self._panel.ui.exportPath.currentPath.strip()
        with self._whole(image) as watch:
            if not path:
                raise ValueError("Where to? Give a file name that ends in .png, .dcm, .tif, .nrrd, .npz or .json.")
            self._panel.need_simulator()
            written = self._panel.logic.export(image, Path(path), **watch)
            if written:
                self._panel.ui.exportPath.addCurrentPathToHistory()
                names = " and ".join(file.name for file in written)
                self._panel.say(f"Wrote {names} to {Path(path).absolute().parent}.")

    def _choose_layout(self, index: int) -> None:
        node = layout.layout_node_of(slicer.mrmlScene)
        with self._attempt():
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

    def _watch(self, landmarks: Any) -> None:
        if landmarks is self._watched:
            return
        self.removeObservers()
        self._watched = landmarks
        markups = slicer.vtkMRMLMarkupsNode
        events = (markups.PointModifiedEvent, markups.PointAddedEvent, markups.PointRemovedEvent)
        for event in (*events, slicer.vtkMRMLTransformableNode.TransformModifiedEvent) if landmarks is not None else ():
            self.addObserver(landmarks, event, self._points_changed)

    def _points_changed(self, *_: object) -> None:
        self.show_points()

    def _fill_table(self, landmarks: Any, pixels: Any) -> None:
        table = self._panel.ui.pointsTable
        table.setRowCount(len(pixels))
        for row, (u, v) in enumerate(pixels):
            seen = u == u  # not NaN
            texts = (landmarks.GetNthControlPointLabel(row), f"{u:.1f}" if seen else "—", f"{v:.1f}" if seen else "—")
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
                table.setItem(row, column, item)

    def _update_markers(self, landmarks: Any) -> None:
        image = self._image()
        if image is None:
            return
        markers = image.GetNodeReference(_MARKERS)
        if not self._panel.parameters.showPoints or landmarks is None:
            if markers is not None:
                slicer.mrmlScene.RemoveNode(markers)
            return
        views = (self._panel.xray_view.slice_node.GetID(),)
        markers = self._panel.logic.showPoints(landmarks, image, markers, views)
        markers.SetHideFromEditors(True)
        if image.GetNodeReferenceID(_MARKERS) != markers.GetID():
            image.SetNodeReferenceID(_MARKERS, markers.GetID())
