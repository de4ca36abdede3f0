"""What scenarios do over and over: by mouse and keyboard where a user would, else by MRML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
from PySide6 import QtWidgets
from slicerhost import mouse

from DeepDRRSlicerLib import carm_display
from DeepDRRSlicerLib.carm_nodes import JOINTS, CArmNodes


class Bench:
    """The panel's widgets, the views and the scene of one scenario."""

    def __init__(self, module: Any, window: QtWidgets.QMainWindow) -> None:
        self.module, self.window = module, window
        self.widget = module.widgetRepresentation().self()
        self.ui, self.panel, self.logic = self.widget.ui, self.widget.panel, self.widget.logic

    def clear(self) -> None:
        slicer.mrmlScene.Clear(0)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        mouse.settle()

    @property
    def parameters(self) -> Any:
        return self.panel.parameters

    @property
    def carm(self) -> CArmNodes:
        return self.panel.carm

    @property
    def three_d(self) -> Any:
        return slicer.app.layoutManager().threeDWidget(0).threeDView()

    @property
    def xray_view(self) -> Any:
        return slicer.app.layoutManager().sliceWidget("XRay").sliceView()

    @property
    def message(self) -> str:
        return self.ui.messageLabel.text

    def popups(self) -> list[str]:
        shown = [w for w in QtWidgets.QApplication.topLevelWidgets() if w.isVisible() and w is not self.window]
        return [type(w).__name__ for w in shown if isinstance(w, (QtWidgets.QDialog, QtWidgets.QMessageBox))]

    def open(self, section: str) -> None:
        """Opens a collapsed section by a click on its header."""
        button = getattr(self.ui, section)
        if button.collapsed:
            self.show(button)
            mouse.click(button, 40, 8)
        assert not button.collapsed

    def open_geometry(self) -> None:
        """Opens the group of distances, detector and joints, unless a scenario before has."""
        group = self.ui.geometryGroup
        if group.collapsed:
            self.show(group)
            mouse.click(group, 8, 8)
        assert not group.collapsed
        self.show(self.ui.wigwagSpin)

    def show(self, widget: Any) -> None:
        """Scrolls the panel to a widget."""
        self.window._scroll.ensureWidgetVisible(widget)
        mouse.settle()

    def press(self, name: str) -> None:
        widget = getattr(self.ui, name)
        self.show(widget)
        mouse.click(widget)

    def load(self, path: Path) -> Any:
        """Load…, and the file chosen in Slicer's own dialog."""
        slicer.app.ioManager()._chosen_in_dialog = str(path)
        self.press("loadButton")
        return self.parameters.ctVolume

    def segment(self) -> Any:
        self.press("segmentButton")
        mouse.wait_for(lambda: self.ui.segmentButton.visible, 60)
        assert self.message == "" or "Undo" in self.message, self.message
        return self.parameters.segmentation

    def set_live(self, live: bool) -> None:
        if self.ui.liveButton.checked != live:
            self.press("liveButton")
        assert self.parameters.live == live

    def add_carm(self, machine: str = "DeepDRR paper") -> CArmNodes:
        self.press("addCarmButton")
        mouse.choose(self.ui.machineSelector, machine)
        mouse.settle()
        return self.carm

    def image(self) -> np.ndarray:
        """What the C-arm's X-ray shows now, a copy (H, W)."""
        return slicer.util.arrayFromVolume(self.carm.image_node())[0].copy()

    def wait_for_full_quality(self, seconds: float = 30.0) -> np.ndarray:
        mouse.wait_for(lambda: "full quality" in self.ui.statusLabel.text, seconds)
        return self.image()

    def shoot(self) -> np.ndarray:
        self.press("shootButton")
        assert self.message == "", self.message
        assert self.ui.statusLabel.text.startswith("Shot"), self.ui.statusLabel.text
        return self.image()

    def handle(self, joint: str) -> list[tuple[int, int]]:
        """Where the mouse finds a joint's handle in the 3D view."""
        self.three_d.forceRender()
        display = carm_display.handle_displays(self.carm)[JOINTS.index(joint)]
        found = mouse.handles(self.three_d, [display], step=6)
        return [position for positions in found.values() for position in positions]

    def angles(self) -> tuple[float, float, float]:
        arm = self.carm.arm()
        return arm.primary_angle_deg, arm.secondary_angle_deg, arm.roll_deg


def paint(segmentation: Any, segment_id: str, ct: Any, mask: np.ndarray) -> None:
    """What an effect of the Segment Editor leaves behind: voxels of a segment, changed in place."""
    before = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, ct)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        ((before > 0) | mask).astype(np.uint8), segmentation, segment_id, ct
    )
