"""Reads a .ui file as Slicer's loader does, with stand-ins for the widgets that are C++ there."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from .pythonqt import ui_loading
from .stand_in import REGISTRY


class QUiLoader(QtUiTools.QUiLoader):
    """Makes stand-ins, gives them the properties of the .ui, and makes its connections."""

    def createWidget(self, name: str, parent: QtWidgets.QWidget | None = None, object_name: str = "") -> Any:
        if name not in REGISTRY:
            if name.startswith(("ctk", "qMRML", "qSlicer")):
                raise NotImplementedError(f"the host has no stand-in for {name}")
            return super().createWidget(name, parent, object_name)
        widget = REGISTRY[name](parent)
        widget.setObjectName(object_name)
        self._made[object_name] = widget
        return widget

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> Any:
        self._made: dict[str, Any] = {}
        form = ElementTree.fromstring(bytes(device.readAll().data()))
        wiring = form.find("connections")
        if wiring is not None:
            form.remove(wiring)
        for element in form.iter("widget"):
            for entry in element.findall("property") if element.get("class") in REGISTRY else ():
                if entry.find("set") is not None:  # flags of an enumeration that only the C++ class knows
                    element.remove(entry)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(form))
        buffer.open(QtCore.QIODevice.ReadOnly)
        with ui_loading():
            top = super().load(buffer, parent)
        for element in form.iter("widget"):
            if element.get("name") in self._made:
                self._give_properties(self._made[element.get("name")], element)
        for connection in wiring if wiring is not None else ():
            sender, signal, receiver, slot = (connection.findtext(t) for t in ("sender", "signal", "receiver", "slot"))
            found = [top if top.objectName() == n else top.findChild(QtCore.QObject, n) for n in (sender, receiver)]
            found[0].connect(signal, getattr(found[1], slot.split("(")[0]))
        return top

    @staticmethod
    def _give_properties(widget: Any, element: ElementTree.Element) -> None:
        """PySide6 knows a stand-in's Python properties only as dynamic ones: hand their values over."""
        for entry in element.findall("property"):
            name = entry.get("name")
            if isinstance(getattr(type(widget), name, None), property) and entry.get("stdset") != "0":
                value = QtCore.QObject.property(widget, name)
                QtCore.QObject.setProperty(widget, name, None)
                setattr(widget, name, value)
