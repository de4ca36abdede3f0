"""A window with the module panel on the left and the layout on the right, as in the application."""

from __future__ import annotations

import slicer
from PySide6 import QtCore, QtWidgets

from .layout_manager import qSlicerLayoutManager
from .scripted import ScriptedModule

PANEL_WIDTH = 500  # what Slicer gives the panel on a 1366-pixel screen, less its scroll bar


class MainWindow(QtWidgets.QMainWindow):
    """Shows a module and the layout manager's views; there is one per process, as `slicer.app.layoutManager()`."""

    def __init__(self, module: ScriptedModule | None = None, width: int = 1366, height: int = 768) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.resize(width, height)
        center = QtWidgets.QWidget()
        row = QtWidgets.QHBoxLayout(center)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(4)
        self.setCentralWidget(center)
        self._viewport = QtWidgets.QWidget()
        slicer.app._layouts = qSlicerLayoutManager(self._viewport)
        self._scroll = QtWidgets.QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarAlwaysOff)
        self._scroll.setFrameShape(QtWidgets.QFrame.NoFrame)
        self._scroll.setFixedWidth(PANEL_WIDTH)
        if module is not None:
            row.addWidget(self._scroll)
        row.addWidget(self._viewport, 1)
        self.show()
        slicer.app.processEvents()
        if module is not None:
            self._scroll.setWidget(module.widgetRepresentation())
            module.widgetRepresentation().enter()
        slicer.app.processEvents()
