"""The panel's first section: the CT. Uses Qt."""

from __future__ import annotations

from typing import Any

import slicer

from . import ct_nodes, xray_nodes
from .widget_panel import Panel


class CTSection:
    """Chooses a CT and says in one line whether it will do."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._judged: Any = None
        panel.ui.loadButton.connect("clicked(bool)", self._load)
        panel.ui.phantomButton.connect("clicked(bool)", self._add_phantom)

    def hide_xrays(self) -> None:
        """Nobody looks through an X-ray: they are left out of the list of CTs."""
        chosen = self._panel.parameters.ctVolume
        xrays = [node.GetID() for node in _volumes() if node is not chosen and xray_nodes.is_xray(node)]
        self._panel.ui.ctSelector.sortFilterProxyModel().hiddenNodeIDs = xrays

    def update(self) -> None:
        self.hide_xrays()
        node = self._panel.parameters.ctVolume
        image = node.GetImageData() if node is not None else None
        key = (node.GetID(), image.GetMTime()) if image is not None else None
        if key == self._judged and key is not None:
            return
        self._judged = key
        label = self._panel.ui.verdictLabel
        label.text = "Load a CT, or add the phantom." if node is None else self._panel.logic.verdict(node)
        label.setStyleSheet("color: #2e7d32" if label.text.endswith("HU ok") else "")

    def scene_closed(self) -> None:
        self._judged = None
        # The next scene may have a CT under the ID of an X-ray of this one.
        self._panel.ui.ctSelector.sortFilterProxyModel().hiddenNodeIDs = []

    def close(self) -> None:
        """Nothing is observed here."""

    def _load(self, _checked: bool = False) -> None:
        before = _volumes()
        slicer.util.openAddVolumeDialog()
        added = [node for node in _volumes() if node not in before]
        if added:
            with self._panel.attempt():
                self._panel.parameters.ctVolume = added[0]

    def _add_phantom(self, _checked: bool = False) -> None:
        with self._panel.attempt(busy=True):
            self._panel.need_simulator()
            node = ct_nodes.phantom_node(slicer.mrmlScene)
            self._panel.parameters.ctVolume = node
            _show_in_slices(node)


def _volumes() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def _show_in_slices(node: Any) -> None:
    """In every slice view but those that keep to their own volume, as the X-ray's does."""
    application = slicer.app.applicationLogic()
    application.GetSelectionNode().SetActiveVolumeID(node.GetID())
    application.PropagateVolumeSelection(1)
