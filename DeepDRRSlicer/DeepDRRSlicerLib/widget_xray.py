"""The panel's fourth section: how the X-ray is made and shown. Uses Qt."""

from __future__ import annotations

from functools import partial

from DeepDRRLogic.projector import choose_device
from DeepDRRLogic.projector.devices import Choice

from . import xray_nodes
from .parameters import MAS, NO_SCATTER
from .technique import device_report
from .widget_panel import Panel


class XRaySection:
    """Its values are the parameter node's; what is left here is which of them matter, and the device's name."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._attempt = partial(panel.attempt, section="xraySection")
        self._device = ""
        self._collimator = ""
        panel.ui.resetWindowButton.connect("clicked(bool)", self._reset_window)
        panel.ui.scatterSelector.connect("activated(int)", self._scatter_chosen)
        panel.ui.collimatorEdit.connect("editingFinished()", self._collimate)

    def update(self) -> None:
        ui, technique = self._panel.ui, self._panel.parameters.technique
        by_load = technique.dose == MAS
        ui.masSpin.visible = by_load
        ui.photonsSpin.visible = not by_load
        ui.aluminiumSpin.enabled = not technique.filtrationAuto
        ui.seedSpin.enabled = technique.noise
        ui.gridCheck.enabled = technique.scatter != NO_SCATTER
        if technique.collimator != self._collimator:
            self._collimator = ui.collimatorEdit.text = technique.collimator
        carm = self._panel.carm
        ui.resetWindowButton.enabled = carm is not None and carm.image_node() is not None
        if technique.device != self._device:
            self._device = technique.device
            self.show_device(choose_device(technique.device))

    def show_device(self, choice: Choice) -> None:
        """What projects, as far as is known."""
        label = self._panel.ui.deviceLabel
        label.text, label.toolTip = device_report(choice)

    def collimate(self) -> None:
        """Take over the collimator's words as they stand; a button that takes no focus leaves them in the making."""
        text = self._panel.ui.collimatorEdit.text
        if text != self._collimator:
            self._collimator = self._panel.parameters.technique.collimator = text

    def scene_closed(self) -> None:
        """Nothing of the scene is kept here."""

    def close(self) -> None:
        """Nothing is observed here."""

    def _scatter_chosen(self, _index: int) -> None:
        with self._attempt():
            try:
                self._panel.need_scatter()
            except ValueError:
                self._panel.parameters.technique.scatter = NO_SCATTER
                raise

    def _collimate(self) -> None:
        if self._panel.parameters is not None and self._panel.ui.collimatorEdit.text != self._collimator:
            with self._attempt():
                self.collimate()

    def _reset_window(self, _checked: bool = False) -> None:
        with self._attempt():
            image = self._panel.arm.image_node()
            xray_nodes.camera_of(image)
            xray_nodes.reset_window(image, self._panel.parameters.technique.window)
