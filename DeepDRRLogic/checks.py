"""Checks of single numbers, each with a message that names the value and what to give instead."""

from __future__ import annotations


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is positive and finite."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} is {value}; give a positive number.")


def check_range(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise ValueError unless `value` lies from `low` to `high`, both included."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; give {low:g} to {high:g} {unit}".rstrip() + ".")
