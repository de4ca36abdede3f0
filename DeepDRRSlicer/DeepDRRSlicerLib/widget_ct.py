"""The panel's first section: the CT. Uses Qt."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import slicer

from . import ct_nodes, material_nodes, xray_nodes
from .widget_panel import Panel


class CTSection:
    """Chooses a CT and says in one line whether it will do."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._judged: Any = None
        self._followed: tuple[Any, Any] = (None, None)
        panel.ui.loadButton.connect("clicked(bool)", self._load)
        panel.ui.phantomButton.connect("clicked(bool)", self._add_phantom)

    def hide_xrays(self) -> None:
        """Nobody looks through an X-ray: they are left out of the list of CTs."""
        chosen = self._panel.parameters.ctVolume
        xrays = [node.GetID() for node in _volumes() if node is not chosen and xray_nodes.is_xray(node)]
        self._panel.ui.ctSelector.sortFilterProxyModel().hiddenNodeIDs = xrays

    def update(self) -> None:
        self.hide_xrays()
        self._choose_segments()
        self.judge()

    def judge(self) -> None:
        """Say whether the CT will do, anew if its values, its place or its transforms have changed."""
        node = self._panel.parameters.ctVolume
        key = _key(node) if node is not None else ""
        if key == self._judged:
            return
        self._judged = key
        label = self._panel.ui.verdictLabel
        label.text = "Load a CT, or add the phantom." if node is None else self._panel.logic.verdict(node)
        label.setStyleSheet("color: #2e7d32" if label.text.endswith("HU ok") else "")

    def scene_closed(self) -> None:
        self._judged = None
        self._followed = (None, None)
        # The next scene may have a CT under the ID of an X-ray of this one.
        self._panel.ui.ctSelector.sortFilterProxyModel().hiddenNodeIDs = []

    def close(self) -> None:
        """Nothing is observed here."""

    def _choose_segments(self) -> None:
        """A CT that is newly chosen brings its own segments, or none: those of the CT before are not its materials.

        What a scene was saved with stays.
        """
        parameters = self._panel.parameters
        ct = parameters.ctVolume
        (followed, before), self._followed = self._followed, (parameters, ct)
        if followed is parameters and before is not ct:
            parameters.segmentation = material_nodes.segmentation_of(ct) if ct is not None else None

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


def _key(volume: Any) -> Hashable:
    try:
        return ct_nodes.content_key(volume), ct_nodes.ras_from_local(volume).tobytes()
    except ValueError as error:
        return str(error)


def _volumes() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def _show_in_slices(node: Any) -> None:
    """In every slice view but those that keep to their own volume, as the X-ray's does."""
    application = slicer.app.applicationLogic()
    application.GetSelectionNode().SetActiveVolumeID(node.GetID())
    application.PropagateVolumeSelection(1)
