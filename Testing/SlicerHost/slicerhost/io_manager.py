"""Reading and writing through the storage nodes and logics that are there without the application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore

from .stand_in import stand_in

_TYPES = {
    (".mrb", ".mrml"): "SceneFile",
    (".seg.nrrd", ".seg.nhdr"): "SegmentationFile",
    (".h5", ".tfm"): "TransformFile",
    (".vtk", ".vtp", ".stl", ".obj", ".ply"): "ModelFile",
    (".mrk.json", ".fcsv"): "MarkupsFile",
}


@stand_in
class qSlicerIOManager(QtCore.QObject):  # noqa: N801
    def fileType(self, path: str) -> str:
        name = str(path).lower()
        return next((kind for endings, kind in _TYPES.items() if name.endswith(endings)), "VolumeFile")

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any = None, _messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if not Path(path).is_file():
            return False
        name = properties.get("name") or Path(path).name.split(".")[0]
        if kind == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear")))
        if kind == "VolumeFile":
            node = slicer.app.moduleLogic("Volumes").AddArchetypeVolume(path, name)
        elif kind == "SegmentationFile":
            node = slicer.app.moduleLogic("Segmentations").LoadSegmentationFromFile(path, True, name)
        elif kind == "ModelFile":
            node = slicer.app.moduleLogic("Models").AddModel(path)
        else:
            raise NotImplementedError(f"the host reads no {kind}")
        if node is not None and loaded is not None:
            loaded.AddItem(node)
        return node is not None

    def _load_scene(self, path: str, clear: bool) -> bool:
        if path.endswith(".mrb"):
            return bool(slicer.mrmlScene.ReadFromMRB(path, clear))
        slicer.mrmlScene.SetURL(path)
        return bool(slicer.mrmlScene.Connect() if clear else slicer.mrmlScene.Import())

    def openAddVolumeDialog(self) -> bool:
        """The dialog is C++: the host behaves as if the user had chosen `_chosen_in_dialog` there."""
        return self.loadNodes("VolumeFile", {"fileName": self.__dict__.get("_chosen_in_dialog", "")})

    def loadScene(self, path: str, clear: bool = True) -> bool:
        return self._load_scene(path, clear)

    def saveNodes(self, kind: str, properties: dict[str, Any], _messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if kind == "SceneFile" or "nodeID" not in properties:
            return self.saveScene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))

    def saveScene(self, path: str, _screenshot: Any = None) -> bool:
        scene = slicer.mrmlScene
        scene.SetURL(path)
        scene.SetRootDirectory(str(Path(path).parent))
        return bool(scene.WriteToMRB(path) if path.endswith(".mrb") else scene.Commit(path))
