"""Stand-ins for Slicer's own widgets of the panel; they work on the real MRML scene."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .ctk_widgets import _SliderBase
from .stand_in import stand_in, stored

Signal = QtCore.Signal


class _OfScene:
    """Follows a MRML scene: `_scene_changed` is called when nodes come, go, or a scene was closed or read."""

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")

    def setMRMLScene(self, scene: Any) -> None:
        before = self.mrmlScene()
        if scene is before:
            return
        for tag in self.__dict__.get("_tags", []):
            before.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            events = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent", "EndBatchProcessEvent")
            self._tags = [scene.AddObserver(getattr(scene, event), self._scene_event) for event in events]
        self._scene_changed()

    def _scene_event(self, scene: Any, _: str) -> None:
        if not scene.IsBatchProcessing():
            self._scene_changed()

    def _scene_changed(self) -> None:
        pass


@stand_in
class qMRMLWidget(_OfScene, QtWidgets.QWidget):  # noqa: N801
    mrmlSceneChanged = Signal(object)
    cpp_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.mrmlScene():
            super().setMRMLScene(scene)
            self.mrmlSceneChanged.emit(scene)


@stand_in
class qSlicerWidget(QtWidgets.QWidget):  # noqa: N801
    mrmlSceneChanged = Signal(object)
    cpp_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


@stand_in
class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):  # noqa: N801
    isEntered = property(lambda self: self.__dict__.get("_entered", False))
    moduleName = property(lambda self: self.__dict__.get("_module_name", ""))

    def self(self) -> Any:
        return self._python_widget

    def enter(self) -> None:
        if not self.isEntered:
            self._entered = True
            self._python_widget.enter()

    def exit(self) -> None:
        if self.isEntered:
            self._entered = False
            self._python_widget.exit()


@stand_in
class qMRMLSliderWidget(_OfScene, _SliderBase):  # noqa: N801
    quantity = stored("quantity", "")


@stand_in
class qMRMLSortFilterProxyModel(QtCore.QSortFilterProxyModel):  # noqa: N801
    """What a list of nodes leaves out; here it only remembers."""

    hiddenNodeIDs = stored("hiddenNodeIDs", (), "_tell")

    def __init__(self, changed: Any) -> None:
        super().__init__()
        self._changed = changed

    def _tell(self, _: object) -> None:
        self._changed()


@stand_in
class qMRMLNodeComboBox(_OfScene, QtWidgets.QWidget):  # noqa: N801
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    cpp_signals = {  # noqa: RUF012
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAddedByUserAction(vtkMRMLNode*)": "nodeAddedByUserAction",
    }
    nodeTypes = stored("nodeTypes", (), "_refresh")
    noneEnabled = stored("noneEnabled", False, "_refresh")
    noneDisplay = stored("noneDisplay", "None", "_refresh")
    addEnabled = stored("addEnabled", True, "_refresh")
    removeEnabled = stored("removeEnabled", True, "_refresh")
    renameEnabled = stored("renameEnabled", False, "_refresh")
    editEnabled = stored("editEnabled", False)
    showHidden = stored("showHidden", False, "_refresh")
    showChildNodeTypes = stored("showChildNodeTypes", True, "_refresh")
    hideChildNodeTypes = stored("hideChildNodeTypes", (), "_refresh")
    baseName = stored("baseName", "")
    selectNodeUponCreation = stored("selectNodeUponCreation", True)
    currentNodeID = property(lambda self: self._current, lambda self, value: self.setCurrentNodeID(value))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._current, self._ids, self._wanted = "", [], []
        self._filter = qMRMLSortFilterProxyModel(self._refresh)
        self._box = QtWidgets.QComboBox(self)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(12)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._activated)
        self._refresh()

    def _scene_changed(self) -> None:
        known = set(self._ids)
        self._refresh()
        for node_id in self._ids:
            if node_id and node_id not in known:
                self.nodeAdded.emit(self._scene.GetNodeByID(node_id))
        if self._current not in self._ids or (not self._current and not self.noneEnabled):
            self.setCurrentNodeID("" if self.noneEnabled else next((i for i in self._ids if i), ""))

    def sortFilterProxyModel(self) -> qMRMLSortFilterProxyModel:
        return self._filter

    def _accepts(self, node: Any) -> bool:
        if node.GetID() in self._filter.hiddenNodeIDs:
            return False
        names = self.nodeTypes or ()
        if not any(node.IsA(t) if self.showChildNodeTypes else node.GetClassName() == t for t in names):
            return False
        if (node.GetHideFromEditors() and not self.showHidden) or node.GetClassName() in (
            self.hideChildNodeTypes or ()
        ):
            return False
        for node_type, attribute, value in self._wanted:
            found = node.GetAttribute(attribute)
            if node.IsA(node_type) and (found is None or (value is not None and found != value)):
                return False
        return True

    def _refresh(self, *_: object) -> None:
        scene = self.mrmlScene()
        nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())] if scene is not None else []
        nodes = [node for node in nodes if self._accepts(node)]
        none = [("", self.noneDisplay)] if self.noneEnabled else []
        self._ids = [i for i, _ in none] + [node.GetID() for node in nodes]
        kind = (self.nodeTypes[0] if self.nodeTypes else "").replace("vtkMRML", "").replace("Node", "")
        actions = [
            ("Create new " + kind, self.addEnabled and kind),
            ("Rename current", self.renameEnabled and self._current),
            ("Delete current", self.removeEnabled and self._current),
        ]
        blocked = self._box.blockSignals(True)
        self._box.clear()
        self._box.addItems([t for _, t in none] + [n.GetName() or "" for n in nodes] + [t for t, on in actions if on])
        self._box.setCurrentIndex(self._ids.index(self._current) if self._current in self._ids else -1)
        self._box.blockSignals(blocked)

    def _activated(self, index: int) -> None:
        if index < len(self._ids):
            self.setCurrentNodeID(self._ids[index])
            return
        action = self._box.itemText(index)
        self._refresh()
        if action.startswith("Create"):
            node = self.addNode()
            self.nodeAddedByUser.emit(node)
            self.nodeAddedByUserAction.emit(node)
        elif action.startswith("Delete"):
            self.removeCurrentNode()

    def addNode(self, node_type: str | None = None) -> Any:
        name = node_type or self.nodeTypes[0]
        base = self.baseName or name.replace("vtkMRML", "").replace("Node", "")
        node = self._scene.AddNewNodeByClass(name, self._scene.GenerateUniqueName(base))
        for _, attribute, value in self._wanted:
            node.SetAttribute(attribute, value or "")
        self._refresh()
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def currentNode(self) -> Any:
        scene = self.mrmlScene()
        return scene.GetNodeByID(self._current) if scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str | None) -> None:
        node_id = node_id or ""
        if node_id not in self._ids:
            self._refresh()
        node_id = node_id if node_id in self._ids else ""
        changed = node_id != self._current
        self._current = node_id
        self._refresh()
        if changed:
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(node_id)

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._wanted.append((node_type, name, None if value is None else str(value)))
        self._refresh()

    def nodeCount(self) -> int:
        return sum(1 for node_id in self._ids if node_id)


@stand_in
class qMRMLSegmentEditorWidget(qMRMLWidget):  # noqa: N801
    """Lists the segments, and undoes; the effects are C++ and are not there."""

    maximumNumberOfUndoStates = stored("maximumNumberOfUndoStates", 10)
    segmentationNodeSelectorVisible = stored("segmentationNodeSelectorVisible", True)
    sourceVolumeNodeSelectorVisible = stored("sourceVolumeNodeSelectorVisible", True)
    switchToSegmentationsButtonVisible = stored("switchToSegmentationsButtonVisible", True)
    show3DButtonVisible = stored("show3DButtonVisible", True)
    autoShowSourceVolumeNode = stored("autoShowSourceVolumeNode", True)
    effectColumnCount = stored("effectColumnCount", 2)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._editor, self._has_shortcuts = None, False
        self._history = slicer.vtkSegmentationHistory()
        self._list = QtWidgets.QListWidget(self)
        self._list.setMaximumHeight(90)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list)

    def _needs_editor(self) -> Any:
        if self._editor is None:
            raise RuntimeError("setMRMLSegmentEditorNode comes first: Slicer only logs an error here")
        return self._editor

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._editor = node

    def mrmlSegmentEditorNode(self) -> Any:
        return self._editor

    def setSegmentationNode(self, node: Any) -> None:
        is_new = node is not self._needs_editor().GetSegmentationNode()
        if is_new:
            self._editor.SetActiveEffectName("")
        self._editor.SetAndObserveSegmentationNode(node)
        self._list.clear()
        segmentation = node.GetSegmentation() if node is not None else None
        self._history.SetMaximumNumberOfStates(self.maximumNumberOfUndoStates)
        self._history.SetSegmentation(segmentation)
        for n in range(segmentation.GetNumberOfSegments() if segmentation is not None else 0):
            self._list.addItem(segmentation.GetNthSegment(n).GetName())
        if is_new and node is not None:
            node.CreateDefaultDisplayNodes()
            if reference := node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()):
                self.setSourceVolumeNode(reference)

    def segmentationNode(self) -> Any:
        return self._editor.GetSegmentationNode() if self._editor is not None else None

    def setSourceVolumeNode(self, node: Any) -> None:
        if self._needs_editor().GetSegmentationNode() is None:
            if node is not None:
                raise RuntimeError("setSegmentationNode comes first: Slicer only logs an error here")
            return
        is_new = node is not self._editor.GetSourceVolumeNode()
        self._editor.SetAndObserveSourceVolumeNode(node)
        if is_new and node is not None and self.autoShowSourceVolumeNode:
            self._show_source_volume(node)

    def _show_source_volume(self, node: Any) -> None:
        """In the background of every slice view that shows the segments."""
        segments = self._editor.GetSegmentationNode()
        displays = [segments.GetNthDisplayNode(n) for n in range(segments.GetNumberOfDisplayNodes())]
        logics = slicer.app.applicationLogic().GetSliceLogics()
        for logic in (logics.GetItemAsObject(n) for n in range(logics.GetNumberOfItems())):
            composite = logic.GetSliceCompositeNode()
            shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
            in_view = any(display.IsDisplayableInView(logic.GetSliceNode().GetID()) for display in displays)
            if in_view and node.GetID() not in shown:
                composite.SetBackgroundVolumeID(node.GetID())
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)

    def sourceVolumeNode(self) -> Any:
        return self._editor.GetSourceVolumeNode() if self._editor is not None else None

    def saveStateForUndo(self) -> None:
        if self._history.GetSegmentation() is not None:
            self._history.SaveState()

    def undo(self) -> None:
        self._history.RestorePreviousState()

    def redo(self) -> None:
        self._history.RestoreNextState()

    def setActiveEffect(self, effect: None) -> None:
        if effect is not None:
            raise NotImplementedError("Segment Editor effects are C++ and not in the host")
        if self._editor is not None:
            self._editor.SetActiveEffectName("")

    def installKeyboardShortcuts(self) -> None:
        self._has_shortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:
        self._has_shortcuts = False

    def removeViewObservations(self) -> None:
        """The host has no effects that observe views."""
