"""The module `qt` as PythonQt presents it, made from PySide6.

PythonQt shows Qt properties as attributes (`label.text = "x"`), connects signals by signature
(`button.connect("clicked(bool)", function)`) and refuses attributes that a C++ object does not have. PySide6's classes
are taught these manners in place, since they are also what `findChildren` and the `.ui` loader hand out. The host
itself keeps PySide6's own manners: which of the two holds is decided by the module that asks.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

QObject = QtCore.QObject
_PYSIDE_CALLERS = ("slicerhost", "PySide6", "shiboken6")
_native_setattr = shiboken6.Shiboken.Object.__setattr__
_native_connect, _native_disconnect = QObject.connect, QObject.disconnect
_loading_ui = False  # PySide6's .ui loader sets children as attributes of the form


def _asked_by_host() -> bool:
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    name = frame.f_globals.get("__name__", "") if frame is not None else ""
    return name.startswith(_PYSIDE_CALLERS) and not name.startswith("slicerhost.doubles")


class _QtProperty:
    """A Qt property that is a value to a Slicer module and PySide6's getter method to the host."""

    def __init__(self, name: str, getter: Any, writable: bool) -> None:
        self.name, self.getter, self.writable = name, getter, writable

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self.getter if self.getter is not None else self
        if self.getter is None:
            return QObject.property(obj, self.name)
        bound = self.getter.__get__(obj, owner)
        return bound if _asked_by_host() else bound()

    def __set__(self, obj: Any, value: Any) -> None:
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of {type(obj).__name__} is not writable")
        setter = getattr(type(obj), "set" + self.name[0].upper() + self.name[1:], None)
        if setter is not None:
            setter(obj, value)
        else:
            QObject.setProperty(obj, self.name, value)


def _show_properties(cls: type) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        meta_property = meta.property(index)
        name = meta_property.name()
        getter = cls.__dict__.get(name)
        inherited = index < meta.propertyOffset()
        if (getter is None and inherited) or (getter is not None and not callable(getter)):
            continue
        getter = getter or inspect.getattr_static(cls, name, None)
        if isinstance(getter, _QtProperty):
            getter = getter.getter
        if getter is None:  # isChecked, hasFrame: the property `checked` has no getter of its own name
            capital = name[0].upper() + name[1:]
            renamed = getattr(cls, f"is{capital}", None) or getattr(cls, f"has{capital}", None)
            if renamed is not None:
                setattr(cls, name, _value_property(name, renamed, meta_property.isWritable()))
                continue
        setattr(cls, name, _QtProperty(name, getter, meta_property.isWritable()))


def _value_property(name: str, getter: Callable[[Any], Any], writable: bool) -> property:
    setter = (lambda self, value: QObject.setProperty(self, name, value)) if writable else None
    return property(lambda self: getter(self), setter)


def _signal_of(obj: Any, signature: str) -> tuple[Any, int]:
    """The bound PySide6 signal and the number of its arguments; AttributeError where C++ has no such signal."""
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    name, arguments = re.fullmatch(r"(\w+)\((.*)\)", normal).groups() if "(" in normal else (normal, "")
    types_ = [a for a in arguments.split(",") if a]
    for cls in type(obj).__mro__:  # stand-ins list the C++ signatures of their signals
        if normal in cls.__dict__.get("cpp_signals", {}):
            return getattr(obj, cls.__dict__["cpp_signals"][normal]), len(types_)
    if obj.metaObject().indexOfSignal(normal) < 0:
        raise AttributeError(f"signal '{signature}' does not exist on {type(obj).__name__}")
    signal = getattr(obj, name)
    try:
        return (signal[tuple(types_)] if len(types_) > 1 else signal[types_[0]] if types_ else signal), len(types_)
    except (KeyError, IndexError):
        return signal, len(types_)


def _accepted_arguments(function: Callable[..., Any], offered: int) -> int:
    plain, bound = (function.__func__, 1) if inspect.ismethod(function) else (function, 0)
    if not inspect.isfunction(plain) or plain.__code__.co_flags & inspect.CO_VARARGS:
        return offered
    return min(offered, plain.__code__.co_argcount - bound)


def _connect(self: Any, *arguments: Any) -> Any:
    if isinstance(arguments[0], QObject):  # how PySide6 itself calls the static form
        return _native_connect(*arguments)
    if not (len(arguments) >= 2 and isinstance(arguments[0], str)):
        return _native_connect(self, *arguments)
    if len(arguments) == 3 and isinstance(arguments[2], str):  # connect(signal, receiver, "slot()")
        slot = getattr(arguments[1], arguments[2].split("(")[0])
    else:
        slot = arguments[1]
    signal, offered = _signal_of(self, arguments[0])
    accepted = _accepted_arguments(slot, offered)

    def relay(*values: Any) -> None:
        slot(*values[:accepted])

    self.__dict__.setdefault("_connections", []).append((arguments[0], slot, signal, relay))
    signal.connect(relay)
    return True


def _disconnect(self: Any, *arguments: Any) -> Any:
    if not (arguments and isinstance(arguments[0], str)):
        return _native_disconnect(self, *arguments)
    kept, found = [], False
    for connection in self.__dict__.get("_connections", []):
        signature, slot, signal, relay = connection
        if signature == arguments[0] and (len(arguments) == 1 or slot == arguments[1]):
            signal.disconnect(relay)
            found = True
        else:
            kept.append(connection)
    self.__dict__["_connections"] = kept
    return found


def _is_cpp(cls: type) -> bool:
    return cls.__module__.startswith("PySide6") or "slicerhost_stand_in" in cls.__dict__


def _setattr(self: Any, name: str, value: Any) -> None:
    if not _loading_ui and _is_cpp(type(self)) and not name.startswith("_"):
        known = inspect.getattr_static(type(self), name, None)
        if known is None:
            if QObject.property(self, name) is None:
                raise AttributeError(
                    f"'{name}' does not exist on {type(self).__name__}, and C++ objects take no new ones"
                )
            QObject.setProperty(self, name, value)
            return
        if not hasattr(known, "__set__") and not isinstance(value, QtCore.SignalInstance):
            raise AttributeError(f"Slot or signal '{name}' of {type(self).__name__} can not be overwritten")
    _native_setattr(self, name, value)


def _getattr(self: Any, name: str) -> Any:
    """Reached only where the normal look-up fails: dynamic properties."""
    if not name.startswith("_"):
        value = QObject.property(self, name)
        if value is not None:
            return value
    raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")


def _own_getattribute(native: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """PySide6 answers connect and disconnect in C, before any attribute of the class is looked at."""
    own = {"connect": _connect, "disconnect": _disconnect}

    def getattribute(self: Any, name: str) -> Any:
        return types.MethodType(own[name], self) if name in own else native(self, name)

    return getattribute


class ui_loading:  # noqa: N801 - reads as a phrase: with ui_loading()
    """While a .ui is read, children may be set as attributes."""

    def __enter__(self) -> None:
        global _loading_ui
        _loading_ui = True

    def __exit__(self, *_: object) -> None:
        global _loading_ui
        _loading_ui = False


def install() -> types.ModuleType:
    """Teaches PySide6 PythonQt's manners and returns the module `qt`, also put into sys.modules."""
    module = types.ModuleType("qt", "PythonQt's qt, made from PySide6")
    classes = set()
    for part in (QtCore, QtGui, QtWidgets, QtUiTools):
        for name in dir(part):  # not vars(): PySide6 makes its types when they are asked for
            if name.startswith("_"):
                continue
            value = getattr(part, name)
            setattr(module, name, value)
            if isinstance(value, type) and issubclass(value, QObject):
                classes.add(value)
    for cls in sorted(classes, key=lambda c: len(c.__mro__)):
        _show_properties(cls)
    QtCore.QTimer.singleShot = getattr(QtCore.QTimer.__dict__["singleShot"], "getter", QtCore.QTimer.singleShot)
    QObject.className = lambda self: self.metaObject().className()
    QObject.name = property(
        lambda self: QObject.property(self, "objectName"), lambda self, value: self.setObjectName(value)
    )
    QObject.__getattr__ = _getattr
    for cls in classes:
        if cls is QObject or "__setattr__" in cls.__dict__:
            cls.__setattr__ = _setattr
        if "__getattribute__" in cls.__dict__:
            cls.__getattribute__ = _own_getattribute(cls.__dict__["__getattribute__"])
    sys.modules["qt"] = module
    return module
