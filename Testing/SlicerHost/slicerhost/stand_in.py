"""What a stand-in for a C++ widget may offer: no more than the real class does.

`facts.json` lists, for each class that the host stands in for, its base class, properties, slots, invokable methods and
signals as Slicer's and CTK's headers declare them. A stand-in that offers anything else is refused when it is defined,
so that no test passes on what the application would not do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from PySide6 import QtCore

REGISTRY: dict[str, type] = {}


@cache
def facts() -> dict[str, dict[str, Any]]:
    """Class name → base, readable and writable properties, methods, signals."""
    text = (Path(__file__).parent / "facts.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def lineage(name: str) -> list[str]:
    """A class and its bases, up to and including the first one of Qt."""
    names = [name]
    while names[-1] in facts():
        names.append(facts()[names[-1]]["base"])
    return names


def offered(name: str) -> set[str]:
    """Every name that the real class and its bases, short of Qt's, show to Python."""
    names: set[str] = set()
    for ancestor in lineage(name)[:-1]:
        entry = facts()[ancestor]
        names.update(entry["readable"], entry["writable"], entry["methods"])
        names.update(signal.split("(")[0] for signal in entry["signals"])
    return names


def properties(name: str, kind: str = "writable") -> set[str]:
    return {p for ancestor in lineage(name)[:-1] for p in facts()[ancestor][kind]}


def complaints(cls: type) -> list[str]:
    """What a stand-in offers beyond the real class; empty if all is well."""
    name = cls.__name__
    if name not in facts():
        return [f"{name} is not in facts.json"]
    qt_name = lineage(name)[-1]
    qt_base = next(c for c in cls.__mro__ if c.__module__.startswith("PySide6"))
    found = [] if qt_base.__name__ == qt_name else [f"{name} is a {qt_base.__name__}, the real one a {qt_name}"]
    signals = {signal for ancestor in lineage(name)[:-1] for signal in facts()[ancestor]["signals"]}
    for ancestor in cls.__mro__[: cls.__mro__.index(qt_base)]:
        for attribute, value in vars(ancestor).items():
            if attribute.startswith("_") or attribute in ("cpp_signals", "slicerhost_stand_in", "staticMetaObject"):
                continue
            if attribute not in offered(name) and not hasattr(qt_base, attribute):
                found.append(f"{name} has no {attribute}")
            if isinstance(value, property) and value.fset and attribute not in properties(name):
                found.append(f"{name}.{attribute} is not writable")
        found += [f"{name} has no signal {s}" for s in vars(ancestor).get("cpp_signals", {}) if s not in signals]
    return found


def stand_in(cls: type) -> type:
    """Registers a stand-in; TypeError where it offers more than the real class."""
    wrong = complaints(cls)
    if wrong:
        raise TypeError("; ".join(wrong))
    cls.slicerhost_stand_in = True
    REGISTRY[cls.__name__] = cls
    return cls


def stored(name: str, default: Any, changed: str = "") -> property:
    """A property that is kept as it is set; `changed` names a method to call with the new value."""
    key = f"_{name}"

    def read(self: QtCore.QObject) -> Any:
        return self.__dict__.get(key, default)

    def write(self: QtCore.QObject, value: Any) -> None:
        before = read(self)
        self.__dict__[key] = value
        if changed and value != before:
            getattr(self, changed)(value)

    return property(read, write)


def forwarded(name: str, target: str, changed: str = "") -> property:
    """A property that belongs to a child widget."""
    setter = "set" + name[0].upper() + name[1:]

    def read(self: QtCore.QObject) -> Any:
        return QtCore.QObject.property(getattr(self, target), name)

    def write(self: QtCore.QObject, value: Any) -> None:
        getattr(getattr(self, target), setter)(value)
        if changed:
            getattr(self, changed)()

    return property(read, write)


class Absent(type):
    """A class that exists in Slicer and has no stand-in: it can be named, but not made."""

    def __call__(cls, *_: Any) -> Any:
        raise NotImplementedError(f"the host has no stand-in for {cls.__name__}")


@cache
def absent(name: str) -> Callable[..., Any]:
    return Absent(name, (), {})
