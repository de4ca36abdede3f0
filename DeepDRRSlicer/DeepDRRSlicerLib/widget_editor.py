"""Slicer's Segment Editor inside the panel. Uses Qt."""

from __future__ import annotations

from typing import Any

import slicer

from .widget_panel import Panel


class EditorBox:
    """The editor is large and slow to make: it is made when it is first wanted."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._editor: Any = None
        panel.ui.editGroup.connect("toggled(bool)", self._open)

    def update(self) -> None:
        if self._editor is not None:
            self._connect()

    def enter(self) -> None:
        """The module was opened."""
        if self._editor is not None and not self._panel.ui.editGroup.collapsed:
            self._editor.installKeyboardShortcuts()

    def exit(self) -> None:
        """The module was left: an effect would go on taking the clicks in the views, and the editor the keys."""
        if self._editor is not None:
            self._editor.setActiveEffect(None)
            self._editor.uninstallKeyboardShortcuts()
            self._editor.removeViewObservations()

    def scene_closed(self) -> None:
        if self._editor is not None:
            self._editor.setSegmentationNode(None)
            self._editor.removeViewObservations()

    def save(self) -> None:
        """For the Segment Editor's own Undo, which knows materials and keeps voxels that stay only once.

        The segments are those that are chosen. The scene's Undo would copy all of them each time.
        """
        self._make()
        self._editor.saveStateForUndo()

    def _open(self, opened: bool) -> None:
        if opened:
            self._make()
            self.enter()
        else:
            self.exit()

    def _make(self) -> None:
        if self._editor is not None:
            return
        self._editor = slicer.qMRMLSegmentEditorWidget()
        self._editor.autoShowSourceVolumeNode = False  # it would put the CT into the views, the X-ray's among them
        self._editor.setMRMLScene(slicer.mrmlScene)
        self._editor.segmentationNodeSelectorVisible = False
        self._editor.sourceVolumeNodeSelectorVisible = False
        self._editor.switchToSegmentationsButtonVisible = False
        self._editor.maximumNumberOfUndoStates = 10
        self._panel.ui.editGroup.layout().addWidget(self._editor)
        self._connect()

    def _connect(self) -> None:
        editor, parameters = self._editor, self._panel.parameters
        node = slicer.mrmlScene.GetSingletonNode("DeepDRRSlicer", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag("DeepDRRSlicer")
            node = slicer.mrmlScene.AddNode(node)
        if editor.mrmlSegmentEditorNode() is not node:
            editor.setMRMLSegmentEditorNode(node)
        if editor.segmentationNode() is not parameters.segmentation:
            editor.setSegmentationNode(parameters.segmentation)
        # Without a segmentation the editor takes no volume, and logs an error for each.
        if parameters.segmentation is not None and editor.sourceVolumeNode() is not parameters.ctVolume:
            editor.setSourceVolumeNode(parameters.ctVolume)
