"""The panel's fourth section: how the X-ray is made and shown. Uses Qt."""

from __future__ import annotations

from . import xray_nodes
from .parameters import MAS, NO_SCATTER
from .technique import device_report
from .widget_panel import Panel


class XRaySection:
    """Its values are the parameter node's; what is left here is which of them matter, and the device's name."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._device = ""
        panel.ui.resetWindowButton.connect("clicked(bool)", self._reset_window)
        panel.ui.scatterSelector.connect("activated(int)", self._scatter_chosen)

    def update(self) -> None:
        ui, technique = self._panel.ui, self._panel.parameters.technique
        by_load = technique.dose == MAS
        ui.masSpin.visible = by_load
        ui.photonsSpin.visible = not by_load
        ui.aluminiumSpin.enabled = not technique.filtrationAuto
        ui.seedSpin.enabled = technique.noise
        carm = self._panel.carm
        ui.resetWindowButton.enabled = carm is not None and carm.image_node() is not None
        if technique.device != self._device:
            self._device = technique.device
            try:
                ui.deviceLabel.text, ui.deviceLabel.toolTip = device_report(technique.device)
            except ValueError as error:
                ui.deviceLabel.text = str(error)

    def scene_closed(self) -> None:
        """Nothing of the scene is kept here."""

    def close(self) -> None:
        """Nothing is observed here."""

    def _scatter_chosen(self, _index: int) -> None:
        with self._panel.attempt():
            try:
                self._panel.need_scatter()
            except ValueError:
                self._panel.parameters.technique.scatter = NO_SCATTER
                raise

    def _reset_window(self, _checked: bool = False) -> None:
        with self._panel.attempt():
            xray_nodes.reset_window(self._panel.arm.image_node())
            self._panel.shoot()
