"""Checks of single values, each with a message that names the value and what to give instead."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is positive and finite."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} is {value}; give a positive number.")


def check_range(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise ValueError unless `value` lies from `low` to `high`, both included."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; give {low:g} to {high:g} {unit}".rstrip() + ".")


def check_seed(seed: object) -> None:
    """Raise ValueError unless `seed` is a whole number from 0."""
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed = {seed!r:.60}: give 0 or a positive whole number.")


def chosen(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the known name that is meant, whatever its case, blanks, hyphens and underscores; ValueError if none."""
    names = {_plain(one): one for one in known}
    if (found := names.get(_plain(name))) is None:
        raise ValueError(f"Unknown {kind} '{name!s:.60}'; known are {', '.join(names.values())}.")
    return found


def _plain(name: object) -> str:
    return "".join(letter for letter in str(name).lower() if letter not in " -_")


def check_kind(name: str, value: object, kind: type | tuple[type, ...], example: str) -> None:
    """Raise TypeError unless `value` is of a kind; `example` is code that makes one."""
    if not isinstance(value, kind):
        shown = " ".join(repr(value).split())  # an array's own text has several lines
        raise TypeError(f"{name} = {shown:.60}: give one like {example}.")
