"""Test double of `slicer.parameterNodeWrapper` for the types that the module uses.

Fields are bool, int, float, str, a node or None, or a pack of them; each is stored in the parameter node by its name,
as the real wrapper stores it. A widget is connected if the real wrapper has a connector for just that class and type.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
import vtk

SlicerParameterNamePropertyName = "SlicerParameterName"


class Default:
    def __init__(self, value: Any) -> None:
        self.value = value


class Choice:
    def __init__(self, choices: Any) -> None:
        self.choices = list(choices)

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


class WithinRange:
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} to {self.maximum}")


class Minimum(WithinRange):
    def __init__(self, minimum: float) -> None:
        super().__init__(minimum, float("inf"))


class Maximum(WithinRange):
    def __init__(self, maximum: float) -> None:
        super().__init__(float("-inf"), maximum)


class Decimals:
    def __init__(self, value: int) -> None:
        self.value = value


class SingleStep:
    def __init__(self, value: float) -> None:
        self.value = value


class _Field:
    """One named value: how it is checked, written and read."""

    def __init__(self, hint: Any, given: Any) -> None:
        self.notes: tuple[Any, ...] = ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *notes = typing.get_args(hint)
            self.notes = tuple(notes)
        self.optional = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        self.type = next(t for t in typing.get_args(hint) if t is not type(None)) if self.optional else hint
        self.is_node = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        if not self.is_node and self.type not in (bool, int, float, str):
            raise TypeError(f"the test double of parameterNodeWrapper has no serializer for {hint}")
        default = self.note(Default)
        self.default = (
            given if given is not None else default.value if default else None if self.is_node else self.type()
        )

    def note(self, kind: type) -> Any:
        return next((n for n in self.notes if isinstance(n, kind)), None)

    def check(self, value: Any) -> None:
        if value is None and self.optional:
            return
        wanted = (int, float) if self.type is float else self.type
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.type is not bool):
            raise ValueError(f"{value!r} is not a {self.type.__name__}")
        for note in self.notes:
            if hasattr(note, "validate"):
                note.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        if self.is_node:
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(name, str(value))

    def read(self, node: Any, name: str) -> Any:
        if self.is_node:
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        return text == "True" if self.type is bool else self.type(text)

    def is_in(self, node: Any, name: str) -> bool:
        return self.is_node or bool(node.HasParameter(name))


def _fields(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {n: h if _is_pack(h) else _Field(h, cls.__dict__.get(n)) for n, h in hints.items()}


def _is_pack(hint: Any) -> bool:
    return isinstance(hint, type) and "_double_fields" in hint.__dict__


def parameterPack(cls: type) -> type:
    fields = _fields(cls)

    def initialise(self: Any, *values: Any, **named: Any) -> None:
        given = dict(zip(fields, values, strict=False)) | named
        store = {n: given.get(n, f.default) for n, f in fields.items()}
        self._read, self._write = store.__getitem__, store.__setitem__

    def item(name: str, field: _Field) -> property:
        def write(self: Any, value: Any) -> None:
            field.check(value)
            self._write(name, value)

        return property(lambda self: self._read(name), write)

    for name, field in fields.items():
        setattr(cls, name, item(name, field))
    cls._double_fields, cls.__init__ = fields, initialise
    return cls


def parameterNodeWrapper(cls: type) -> type:
    top = _fields(cls)
    flat: dict[str, _Field] = {}
    for name, field in top.items():
        inner = {f"{name}.{n}": f for n, f in field._double_fields.items()} if _is_pack(field) else {name: field}
        flat.update(inner)

    def initialise(self: Any, node: Any) -> None:
        self.parameterNode, self._guis, self._showing = node, {}, False
        for name, field in flat.items():
            if not field.is_in(node, name):
                field.write(node, name, field.default)

    def pack(self: Any, name: str, pack_type: type) -> Any:
        made = pack_type()
        made._read = lambda n: self.getValue(f"{name}.{n}")
        made._write = lambda n, value: self.setValue(f"{name}.{n}", value)
        return made

    def write_pack(self: Any, name: str, value: Any, pack_type: type) -> None:
        with slicer.util.NodeModify(self):
            for inner in pack_type._double_fields:
                self.setValue(f"{name}.{inner}", getattr(value, inner))

    for name, field in top.items():
        if _is_pack(field):
            read = lambda self, n=name, f=field: pack(self, n, f)  # noqa: E731
            write = lambda self, value, n=name, f=field: write_pack(self, n, value, f)  # noqa: E731
        else:
            read = lambda self, n=name: self.getValue(n)  # noqa: E731
            write = lambda self, value, n=name: self.setValue(n, value)  # noqa: E731
        setattr(cls, name, property(read, write))
    cls.__init__ = initialise
    cls.getValue = lambda self, name: flat[name].read(self.parameterNode, name)
    cls.setValue = lambda self, name, value: flat[name].write(self.parameterNode, name, value)
    cls.connectGui = lambda self, widget: _connect_gui(self, widget, flat)
    cls.disconnectGui = _disconnect_gui
    for name in ("StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified"):
        setattr(cls, name, lambda self, *arguments, n=name: getattr(self.parameterNode, n)(*arguments))
    return cls


class _Connector:
    """A widget that shows one field: how its value is read and written, and which signal says that it changed."""

    def __init__(self, widget: Any, field: _Field) -> None:
        self.widget, self.field = widget, field
        kinds: dict[type, tuple[str, tuple[type, ...], Callable[[], None]]] = {
            qt.QCheckBox: ("toggled", (bool,), lambda: None),
            qt.QPushButton: ("toggled", (bool,), lambda: None),
            qt.QSpinBox: ("valueChanged", (int,), self._range),
            qt.QDoubleSpinBox: ("valueChanged", (float, int), self._range),
            ctk.ctkSliderWidget: ("valueChanged", (float, int), self._range),
            slicer.qMRMLSliderWidget: ("valueChanged", (float, int), self._range),
            qt.QComboBox: ("currentIndexChanged", (str,), self._choices),
            qt.QLineEdit: ("textChanged", (str,), lambda: None),
        }
        if field.is_node and type(widget) is slicer.qMRMLNodeComboBox:
            self.signal = widget.currentNodeChanged
            widget.nodeTypes = (field.type.__name__,)
            return
        signal, accepted, prepare = kinds.get(type(widget), ("", (), lambda: None))
        if field.type not in accepted:
            raise RuntimeError(f"no connector between {type(widget).__name__} and {field.type.__name__}")
        self.signal = getattr(widget, signal)
        prepare()

    def _range(self) -> None:
        bounds = self.field.note(WithinRange)
        if bounds is None and "Slider" in type(self.widget).__name__:
            raise RuntimeError("a slider needs a range")
        for note, name in ((Decimals, "decimals"), (SingleStep, "singleStep")):
            if self.field.note(note) is not None:
                setattr(self.widget, name, self.field.note(note).value)
        if bounds is not None:
            self.widget.minimum, self.widget.maximum = bounds.minimum, bounds.maximum

    def _choices(self) -> None:
        self.widget.clear()
        for text in self.field.note(Choice).choices:
            self.widget.addItem(text)

    def read(self) -> Any:
        if self.field.is_node:
            return self.widget.currentNode()
        name = {bool: "checked", str: "currentText" if type(self.widget) is qt.QComboBox else "text"}
        value = getattr(self.widget, name.get(self.field.type, "value"))
        return int(value) if self.field.type is int else value

    def write(self, value: Any) -> None:
        if self.field.is_node:
            self.widget.setCurrentNode(value)
        elif type(self.widget) is qt.QComboBox:
            self.widget.currentIndex = self.field.note(Choice).choices.index(value)
        elif self.field.type is str:
            if value != self.widget.text:
                self.widget.text = value
        elif self.field.type is bool:
            self.widget.checked = value
        else:
            self.widget.value = value


def _connect_gui(self: Any, widget: Any, flat: dict[str, _Field]) -> int:
    connectors = {}
    for child in widget.findChildren(qt.QWidget):
        name = child.property(SlicerParameterNamePropertyName)
        if name:
            if name not in flat:
                raise ValueError(f"no parameter is called {name}")
            connectors[name] = _Connector(child, flat[name])
    relays = []

    def show(*_: Any) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            with slicer.util.NodeModify(self):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._showing = False

    for name, connector in connectors.items():
        connector.write(self.getValue(name))

        def relay(*_: Any, name: str = name, connector: _Connector = connector) -> None:
            if not self._showing:
                with slicer.util.NodeModify(self):
                    self.setValue(name, connector.read())

        connector.signal.connect(relay)
        relays.append((connector.signal, relay))
    tag = len(self._guis) + 1
    self._guis[tag] = (relays, self.AddObserver(vtk.vtkCommand.ModifiedEvent, show))
    return tag


def _disconnect_gui(self: Any, tag: int) -> None:
    relays, observer = self._guis.pop(tag)
    for signal, relay in relays:
        signal.disconnect(relay)
    self.RemoveObserver(observer)
