"""A host for Slicer's scripted modules without the Slicer application.

`slicer-core` brings the real MRML nodes, logics and displayable managers; PySide6 the widgets, with PythonQt's manners;
the `ctk*` and `qMRML*` widgets have stand-ins that offer nothing the real ones do not (see stand_in.py). A module's
`.py` and `.ui` run as they are shipped, and its views take real mouse events.

    import slicerhost
    app = slicerhost.start()                       # then: import qt, ctk, slicer
    module = slicerhost.load_scripted_module(path)
    window = slicerhost.MainWindow(module)

Where the environment variable SLICER_PYTHON_DIR names `Base/Python/slicer` of a Slicer checkout, Slicer's own
`parameterNodeWrapper`, `ScriptedLoadableModule`, `i18n` and so on are used; otherwise the small ones in `doubles/`.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

_started: Any = None


def start() -> Any:
    """The application, `slicer.app`; made on the first call, which also puts `qt` and `ctk` into sys.modules."""
    global _started
    if _started is not None:
        return _started
    from . import pythonqt

    qt = pythonqt.install()
    import slicer
    import slicer_core

    for name in ("MRMLCore", "MRMLLogic", "MRMLDisplayableManager"):
        sys.modules.setdefault(name + "Python", getattr(slicer_core, name))
    own = os.environ.get("SLICER_PYTHON_DIR")
    slicer.__path__.append(own or str(Path(__file__).parent / "doubles"))
    from . import ctk_widgets, mrml_widgets, ui_loader
    from .application import qSlicerApplication
    from .stand_in import REGISTRY, absent

    qt.QUiLoader = ui_loader.QUiLoader
    sys.modules["ctk"] = ctk_widgets.ctk
    for name, cls in REGISTRY.items():
        if not name.startswith("ctk"):
            setattr(slicer, name, cls)
    for name in ("qMRMLSpinBox", "qMRMLRangeWidget", "qMRMLCheckableNodeComboBox"):
        setattr(slicer, name, absent(name))
    slicer.modules, slicer.moduleNames = types.ModuleType("slicer.modules"), types.SimpleNamespace()
    sys.modules["slicer.modules"] = slicer.modules
    slicer.app = _started = qSlicerApplication()
    slicer.mrmlScene = slicer.app.mrmlScene()
    slicer.app._fill_scene()
    from .scripted import CppModule

    for name, logic in slicer.app._logics.items():
        setattr(slicer.modules, name.lower(), CppModule(name, logic))
        setattr(slicer.moduleNames, name, name)
    assert mrml_widgets is not None
    return _started


def __getattr__(name: str) -> Any:
    homes = {"load_scripted_module": "scripted", "MainWindow": "main_window", "mouse": "mouse"}
    if name not in homes:
        raise AttributeError(name)
    module = importlib.import_module(f".{homes[name]}", __name__)
    return module if name == homes[name] else getattr(module, name)
