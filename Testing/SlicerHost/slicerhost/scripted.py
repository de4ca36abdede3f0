"""Loads a scripted module as qSlicerScriptedLoadableModule does: the shipped file, unmodified."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtGui, QtWidgets

from .mrml_widgets import qSlicerScriptedLoadableModuleWidget
from .stand_in import properties


class CppModule:
    """`slicer.modules.<name>` of a module in C++: its logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self._logic = name, logic

    def logic(self) -> Any:
        return self._logic


class ScriptedModule:
    """What a scripted module's class is given as its parent; takes no attribute that the C++ class lacks."""

    _writable = properties("qSlicerScriptedLoadableModule")

    def __init__(self, path: Path) -> None:
        self.__dict__.update(path=str(path), name=path.stem, title="", categories=[], dependencies=[], contributors=[])
        self.__dict__.update(helpText="", acknowledgementText="", icon=QtGui.QIcon(), hidden=False)
        self.__dict__.update(_widget=None, _python_module=None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._writable:
            raise AttributeError(f"'{name}' does not exist on qSlicerScriptedLoadableModule")
        self.__dict__[name] = value

    def logic(self) -> Any:
        return slicer.vtkSlicerScriptedLoadableModuleLogic()

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        if self._widget is None:
            widget = qSlicerScriptedLoadableModuleWidget()
            widget.setObjectName(self.name + "ModuleWidget")
            widget.setLayout(QtWidgets.QVBoxLayout())
            widget.layout().setContentsMargins(2, 2, 2, 2)
            widget._module_name = self.name
            widget.setMRMLScene(slicer.mrmlScene)
            self.__dict__["_widget"] = widget
            widget._python_widget = getattr(self._python_module, self.name + "Widget")(widget)
            setattr(slicer.modules, self.name + "Widget", widget._python_widget)
            widget._python_widget.setup()
        return self._widget


def load_scripted_module(path: Path) -> ScriptedModule:
    """Imports a module's file by its path and registers it under slicer.modules."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    parent = ScriptedModule(path)
    parent.__dict__["_python_module"] = module
    setattr(slicer.modules, path.stem.lower(), parent)
    setattr(slicer.moduleNames, path.stem, path.stem)
    setattr(slicer.modules, path.stem + "Instance", getattr(module, path.stem)(parent))
    return parent
