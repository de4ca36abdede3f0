"""The X-ray that follows everything: ties the live session and the X-ray's view to the panel. Uses Qt."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from . import carm_display, layout, xray_nodes
from .live import LiveSession
from .parameters import technique_of
from .preparing import Preparation
from .side_letters import SideLetters
from .sweeps import Playback
from .technique import SLOW_SCATTER
from .widget_panel import Panel
from .xray_view import XRayView

_WAITING = "X-rays wait for Python packages: press Shoot to install them."
_PREPARING = "Preparing the projector: once on this computer, some 15 seconds."


class LiveSection(VTKObservationMixin):  # type: ignore[misc]
    """Not a section that is seen: the last to be updated, it renders what the others chose."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel
        self._showing = False
        self._layout: Any = None
        self._made: tuple[Any, str] = (None, "")
        self._said = ""
        self._letters = SideLetters(layout.XRAY), SideLetters(layout.SECOND_XRAY)
        self._view = XRayView(slicer.mrmlScene, on_picture=self._letters[0].show)
        self._second_view: XRayView | None = None
        self._preparation = Preparation(_call_later, self._prepared)
        self._session = LiveSession(
            panel.logic,
            _call_later,
            is_visible=self._is_visible,
            on_frame=self._framed,
            on_carm=self._moved,
            on_error=self._failed,
            on_drag=self._dragged,
        )
        self._playback = Playback(self._view, slicer.mrmlScene, lambda: self._session.enabled)
        panel.xray_view = self._view
        panel.pause_live = self._pause
        panel.shoot = self.shoot
        panel.finished = self._session.finished
        panel.ui.showImageCheck.connect("toggled(bool)", self._show_on_detector)

    def update(self) -> None:
        parameters = self._panel.parameters
        arms = self._panel.logic.carms()
        self._watch_layout()
        self._show_images(arms)
        self._clear_detectors(arms)
        self._session.enabled = False
        self._session.set_scene(parameters.ctVolume, parameters.segmentation, arms, technique_of(parameters))
        wanted = parameters.live and parameters.ctVolume is not None
        if wanted and self._panel.has_simulator:
            self._preparation.start(technique_of(parameters))
            self._session.enabled = True
        self._showing = True
        self._panel.ui.showImageCheck.checked = self._view.on_detector
        self._showing = False
        self._show_status()
        if wanted and not self._panel.has_simulator:
            self._panel.ui.statusLabel.text = _WAITING
        if self._session.enabled and self._session.trouble and not self._panel.ui.messageLabel.text:
            self._failed(self._session.trouble)

    def scene_closed(self) -> None:
        self._session.scene_closed()
        self._made = (None, "")
        self._close_views()

    def close(self) -> None:
        self.removeObservers()
        self._preparation.close()
        self._playback.close()
        self._session.close()
        self._close_views()
        for letters in self._letters:
            letters.close()

    def shoot(
        self, progress: Callable[[float], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> bool:
        """Full quality now, of the C-arm at work; without one a C-arm is added around the CT. False where cancelled."""
        panel = self._panel
        panel.need_simulator()
        panel.need_scatter()
        if panel.parameters.ctVolume is None:
            raise ValueError("There is no CT: choose one under CT.")
        if panel.carm is None:
            panel.parameters.carm = panel.logic.carm(volumeNode=panel.parameters.ctVolume).root
        parameters, carm = panel.parameters, panel.arm
        started, state = time.perf_counter(), self._session.shooting(carm)
        image = panel.logic.render(
            parameters.ctVolume, panel.segments, carm, technique_of(parameters), progress=progress, cancelled=cancelled
        )
        if image is None or not panel.is_at(parameters.parameterNode):
            return False
        self._session.shot(carm, state)
        parameters.xrayImage = image
        self._show_images(panel.logic.carms())
        if not self._view.is_mapped:
            layout.show_layout(layout.layout_node_of(slicer.mrmlScene))
            self._view.fit()
        columns, rows, _ = image.GetImageData().GetDimensions()
        self._made = image, f"Shot {columns} × {rows} pixels in {time.perf_counter() - started:.1f} s"
        self._show_status()
        self._show_device("full")
        return True

    def _pause(self) -> None:
        """Nothing is rendered live until the panel is updated, so that other work is done sooner."""
        self._session.enabled = False

    def _close_views(self) -> None:
        self._view.close()
        if self._second_view is not None:
            self._second_view.close()

    def _show_images(self, arms: list[Any]) -> None:
        """The C-arm at work in the X-ray view, the next one of the scene in the second."""
        at_work = self._panel.carm
        image = at_work.image_node() if at_work is not None else None
        if image is not self._view.image_node:
            self._view.show(image)
            self._panel.scan.hide_xrays()
        others = [arm for arm in arms if at_work is not None and arm.root is not at_work.root]
        second = others[0].image_node() if others else None
        if second is not None and self._second_view is None:
            self._second_view = XRayView(slicer.mrmlScene, layout.SECOND_XRAY, self._letters[1].show)
        if self._second_view is not None and second is not self._second_view.image_node:
            self._second_view.show(second)
            self._panel.scan.hide_xrays()

    def _clear_detectors(self, arms: list[Any]) -> None:
        """The picture of the C-arm at work lies on its detector, whose back must not hide it."""
        at_work = self._panel.carm
        for arm in arms:
            shown = at_work is not None and arm.root is at_work.root and self._view.on_detector
            carm_display.set_detector_clear(arm, shown)

    def _framed(self, carm: Any, quality: str, seconds: float) -> None:
        at_work = self._panel.carm
        if at_work is None or self._panel.parameters is None:
            return
        self._show_images(self._panel.logic.carms())
        image = carm.image_node()
        if carm.root is not at_work.root or image is None:
            return
        columns, rows, _depth = image.GetImageData().GetDimensions()
        rate = self._session.pace.frames_per_second
        speed = "full quality" if quality == "full" else f"{rate:.0f} pictures/s" if rate else "preview"
        if quality == "full" and technique_of(self._panel.parameters).scatter in SLOW_SCATTER:
            speed += " without scatter: press Shoot for it"
        self._made = image, f"Live: {columns} × {rows} pixels, {speed}"
        self._show_status()
        self._show_device(quality)
        self._panel.acquire.image_changed()
        if self._said and not self._session.trouble:
            self._take_back()

    def _show_status(self) -> None:
        """What the X-ray that is shown is, and whether another would be taken now."""
        label, carm = self._panel.ui.statusLabel, self._panel.carm
        image = carm.image_node() if carm is not None else None
        node, text = self._made
        text = text if node is image else ""
        since = "" if image is None or self._session.is_following else self._difference(image, carm)
        caution = self._caution(carm) if text and not since else ""
        if since:
            text = f"{text or 'X-ray'}, from before {since}"
        if self._session.enabled and self._preparation.takes_long and not text:
            text = _PREPARING
        label.text = f"{text}. {caution}" if caution else text
        label.setStyleSheet("color: #b26a00" if since or caution else "")

    def _caution(self, carm: Any) -> str:
        try:
            return str(self._panel.logic.caution(carm, self._panel.parameters.ctVolume))
        except ValueError:  # said elsewhere
            return ""

    def _difference(self, image: Any, carm: Any) -> str:
        try:
            return xray_nodes.difference(image, carm.arm(), technique_of(self._panel.parameters))
        except ValueError:  # of a scaled C-arm, or a volume that holds no X-ray yet
            return ""

    def _show_device(self, quality: Any) -> None:
        choice = self._panel.logic.projectsOn(quality, self._panel.parameters.technique.device)
        if choice is not None:
            self._panel.technique.show_device(choice)

    def _take_back(self) -> None:
        """The cause of what Live has said is gone."""
        if self._panel.ui.messageLabel.text == self._said:
            self._panel.say("")
        self._said = ""

    def _moved(self, carm: Any) -> None:
        at_work = self._panel.carm
        if at_work is not None and carm.root is at_work.root:
            self._panel.aim.show()
            self._show_status()

    def _dragged(self, joint: str, before: dict[Any, Any]) -> None:
        self._panel.edits.began(self._panel.logic.scene, f"handle {joint}", before)

    def _failed(self, error: str) -> None:
        """The X-ray that is shown is an old one."""
        self._made, self._said = (None, ""), error
        self._show_status()
        self._panel.say(error, is_error=True, unasked=True)
        self._panel.scan.judge()

    def _watch_layout(self) -> None:
        """Slicer has menus of its own for layouts, which bring the X-ray back into view or take it away."""
        node = layout.layout_node_of(slicer.mrmlScene)
        if node is not self._layout:
            self.removeObservers()
            self._layout = node
            if node is not None:
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._layout_changed)

    def _layout_changed(self, *_: object) -> None:
        _call_later(0, self._laid_out)  # when the views are there

    def _laid_out(self) -> None:
        if self._panel.parameters is not None:
            self._panel.acquire.show_layout()
            for view in filter(None, (self._view, self._second_view)):
                view.update()  # where it is shown for the first time, its sides are named now
            self._session.request()
            self._show_status()

    def _prepared(self) -> None:
        if self._panel.parameters is not None:
            self._show_status()
            self._session.request()

    def _is_visible(self) -> bool:
        return self._preparation.is_done and (self._view.is_mapped or self._view.on_detector)

    def _show_on_detector(self, shown: bool) -> None:
        if not self._showing:
            self._view.on_detector = shown
            self._clear_detectors(self._panel.logic.carms())


def _call_later(milliseconds: int, function: Any) -> None:
    qt.QTimer.singleShot(milliseconds, function)
