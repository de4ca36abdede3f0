"""What the sections of the panel share. Uses Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer

from . import carm_display, dependencies
from .carm_nodes import CArmNodes
from .scene_logic import THRESHOLDS
from .technique import NETWORK_SCATTER
from .trouble import CANNOT, words
from .undoing import Edits
from .xray_view import XRayView

_ERROR_STYLE = "background: #fdecea; color: #8a1f17; border-radius: 3px; padding: 5px"
_NOTE_STYLE = "background: #e8f1fb; color: #1d4f80; border-radius: 3px; padding: 5px"


class Panel:
    """The widgets, the logic, the parameter node of the scene, and one line for what the user should know.

    `parameters` is None while there is no scene to speak of. `update` is called by a section that changed what others
    show. The sections that others need say so here: `shoot` takes an X-ray, `pause_live` holds live X-rays until the
    next update, `finished` is told that a preview was made whole, `scan` lists CTs, `materials` edits segments while
    the module is open, `aim` shows the C-arm, `technique` the exposure's settings, `acquire` the points.
    """

    shoot: Callable[..., bool]
    pause_live: Callable[[], None]
    finished: Callable[[CArmNodes], None]
    xray_view: XRayView
    scan: Any
    materials: Any
    aim: Any
    technique: Any
    acquire: Any

    def __init__(self, ui: Any, logic: Any) -> None:
        self.ui = ui
        self.logic = logic
        self.parameters: Any = None
        self.sections: list[Any] = []
        self._updating = False
        self._has_simulator = False
        self.edits = Edits()
        self.say("")

    @property
    def carm(self) -> CArmNodes | None:
        """The C-arm at work, if it is whole."""
        root = self.parameters.carm if self.parameters is not None else None
        if not CArmNodes.is_root(root):
            return None
        carm = CArmNodes.of(root)
        return carm if carm.is_valid() else None

    @property
    def arm(self) -> CArmNodes:
        """The C-arm at work; ValueError where there is none."""
        if self.carm is None:
            raise ValueError("There is no C-arm: add one.")
        return self.carm

    @property
    def segments(self) -> Any:
        """What shots and recordings take for materials: the segments chosen, or thresholds, as Live does."""
        chosen = self.parameters.segmentation
        return THRESHOLDS if chosen is None else chosen

    def say(self, text: str, *, is_error: bool = False, unasked: bool = False) -> None:
        """Show a line under the section where something was attempted last, and scroll to it; "" takes it away.

        unasked: nobody waits for it, and the panel stays where it is.
        """
        label = self.ui.messageLabel
        label.text = text
        label.setStyleSheet(_ERROR_STYLE if is_error else _NOTE_STYLE)
        label.visible = bool(text)
        if text and not unasked:
            qt.QTimer.singleShot(0, self._scroll_to_message)  # when it has its place

    def _place_message(self, section: str) -> None:
        label = self.ui.messageLabel
        layout = label.parentWidget().layout()
        layout.removeWidget(label)
        layout.insertWidget(layout.indexOf(getattr(self.ui, section)) + 1 if section else 0, label)

    def _scroll_to_message(self) -> None:
        label = self.ui.messageLabel
        area = label.parentWidget()
        while area is not None and not area.inherits("QScrollArea"):
            area = area.parentWidget()
        if area is not None and label.visible:
            area.ensureWidgetVisible(label)

    @contextmanager
    def attempt(
        self, *, undoable: bool = False, edit: str = "", busy: bool = False, section: str = ""
    ) -> Iterator[None]:
        """Runs what the user asked for; what can not be done is said in the panel, in words and without a dialog.

        undoable: the scene's Undo comes back to before it. edit: the same for changes of the value of that name, but
        once for all that belong to one edit. section: the name of the one where it was asked for, "" for the top.
        """
        self.say("")
        self._place_message(section)
        if undoable or edit:
            self.edits.begin(self.logic.scene, edit)
        else:
            self.edits.end()
        if busy:
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            yield
        except CANNOT as error:
            self.say(words(error), is_error=True)
        finally:
            if busy:
                slicer.app.restoreOverrideCursor()
        self.update()
        self.edits.done()

    def undone(self) -> None:
        """The scene went back, or forth again: show the C-arms that there are now."""
        self.edits.end()
        if self.parameters is None:
            return
        carm_display.bring_back(self.logic.scene)
        arms = self.logic.carms()
        if self.carm is None and arms:
            self.parameters.carm = arms[-1].root
            carm_display.set_handles_shown(arms[-1], True)
        self.update()

    def is_at(self, node: Any) -> bool:
        """Whether the panel still shows the choices of this parameter node: every visit of the module wraps it anew."""
        return self.parameters is not None and self.parameters.parameterNode is node

    @property
    def has_simulator(self) -> bool:
        """Whether all packages that the simulator needs are there; nobody is asked."""
        self._has_simulator = self._has_simulator or not dependencies.missing()
        return self._has_simulator

    def need_simulator(self) -> None:
        """Offers to install what the simulator lacks; ValueError where that is refused."""
        if not self.has_simulator:
            dependencies.install(dependencies.missing(), ask=slicer.util.confirmOkCancelDisplay)

    def need_scatter(self) -> None:
        """The same for the scatter that is chosen."""
        if self.parameters.technique.scatter in NETWORK_SCATTER:
            self.need_network("Scatter by a network", "choose the scatter 'kernel'")

    def need_network(self, what: str, instead: str) -> None:
        """Offers to install PyTorch for what needs it; ValueError where that is refused, with what to do instead."""
        if dependencies.torch_is_missing():
            dependencies.install_torch(what, instead)
        dependencies.install(dependencies.missing_for_network(), ask=slicer.util.confirmOkCancelDisplay)

    def update(self) -> None:
        """Let every section show what there is now, once the scene is whole: files are read node by node."""
        if self._updating or self.parameters is None or self.logic.scene.IsBatchProcessing():
            return
        self._updating = True
        try:
            for section in self.sections:
                self._update(section)
        finally:
            self._updating = False

    def _update(self, section: Any) -> None:
        try:
            section.update()
        except CANNOT as error:
            self.say(words(error), is_error=True, unasked=True)

    def scene_closed(self) -> None:
        """Nothing of a scene outlives it: not what is under way, nor what was said."""
        self.edits.end()
        for section in self.sections:
            section.scene_closed()
        self.logic.sceneClosed()
        self.say("")

    def close(self) -> None:
        for section in self.sections:
            section.close()
