"""`slicer.app`: the scene, the module logics and what else of the application a scripted module touches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from .io_manager import qSlicerIOManager
from .stand_in import stand_in

_LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Models": "vtkSlicerModelsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
}


@stand_in
class qSlicerModuleManager(QtCore.QObject):  # noqa: N801
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)
    cpp_signals = {  # noqa: RUF012
        "moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded",
        "moduleLoaded(QString)": "moduleLoaded",
    }

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)

    def modulesNames(self) -> tuple[str, ...]:
        return tuple(module.name for module in vars(slicer.modules).values() if hasattr(module, "widgetRepresentation"))


@stand_in
class qSlicerApplication(QtWidgets.QApplication):  # noqa: N801
    startupCompleted = QtCore.Signal()
    cpp_signals = {"startupCompleted()": "startupCompleted"}  # noqa: RUF012
    majorVersion = property(lambda _: 5)
    minorVersion = property(lambda _: 12)
    documentationBaseUrl = property(lambda _: "https://slicer.readthedocs.io/en/latest/")
    slicerHome = property(lambda _: str(Path(__file__).parent))
    temporaryPath = property(lambda self: self._temporary.name)

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self._temporary = tempfile.TemporaryDirectory(prefix="slicerhost")
        QtCore.QCoreApplication.setOrganizationName("slicerhost")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self._temporary.name)
        self._modules, self._io, self._layouts = qSlicerModuleManager(), qSlicerIOManager(), None
        self._scene, self._logic, self._logics = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic(), {}

    def _fill_scene(self) -> None:
        scene, logic = self._scene, self._logic
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
        for class_name in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode"):
            node = getattr(slicer, class_name)()
            node.SetSingletonTag("Singleton")
            scene.AddNode(node)
        logic.SetMRMLScene(scene)
        logic.GetColorLogic().SetMRMLScene(scene)
        logic.GetColorLogic().AddDefaultColorNodes()
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        logic.SetModuleLogic("Colors", logic.GetColorLogic())
        self._logics["Colors"] = logic.GetColorLogic()
        for name, class_name in _LOGICS.items():
            module_logic = getattr(slicer, class_name)()
            module_logic.SetMRMLScene(scene)
            module_logic.SetMRMLApplicationLogic(logic)
            logic.SetModuleLogic(name, module_logic)
            self._logics[name] = module_logic
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        self._remote, self._data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
        self._remote.SetMRMLScene(scene)  # scene files can not be read without a cache and a data manager
        self._remote.SetMRMLApplicationLogic(logic)
        self._remote.GetCacheManager().SetRemoteCacheDirectory(self.temporaryPath)
        self._data.SetMRMLScene(scene)
        self._data.SetMRMLApplicationLogic(logic)
        self._data.SetAndObserveDataIOManager(self._remote.GetDataIOManager())
        self._remote.AddDataIOToScene()

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def moduleLogic(self, name: str) -> Any:
        return self._logics.get(name)

    def moduleManager(self) -> qSlicerModuleManager:
        return self._modules

    def coreIOManager(self) -> qSlicerIOManager:
        return self._io

    def ioManager(self) -> qSlicerIOManager:
        return self._io

    def layoutManager(self) -> Any:
        return self._layouts

    def testingEnabled(self) -> bool:
        return True

    def settings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    def userSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    def revisionUserSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    def moduleDocumentationUrl(self, name: str) -> str:
        return self.documentationBaseUrl + name

    def pauseRender(self) -> None:
        """The host draws when it is asked to."""

    def resumeRender(self) -> None:
        """The host draws when it is asked to."""
