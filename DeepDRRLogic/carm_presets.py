"""Named C-arms and named views: the tables in data/carms.json, with where each number comes from."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from .checks import chosen


def carm_presets() -> dict[str, str]:
    """Name and one-line description of every C-arm there is a preset for."""
    return _descriptions("presets")


def carm_views() -> dict[str, str]:
    """Name and one-line description of every named view."""
    return _descriptions("views")


def preset_settings(name: str) -> tuple[dict[str, Any], dict[str, tuple[float, float]]]:
    """Fields of `CArm` and limits, both by field name, of a preset; ValueError lists the names there are."""
    preset = _entry("presets", name, "C-arm preset")
    return dict(preset["settings"]), {field: (low, high) for field, (low, high) in preset["limits"].items()}


def view_angles_deg(name: str) -> tuple[float, float]:
    """Primary and secondary angle of a named view, degrees; ValueError lists the names there are."""
    view = _entry("views", name, "view")
    return float(view["primary_angle_deg"]), float(view["secondary_angle_deg"])


def _descriptions(kind: str) -> dict[str, str]:
    return {name: entry["description"] for name, entry in _tables()[kind].items()}


def _entry(kind: str, name: str, called: str) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = _tables()[kind]
    return entries[chosen(called, name, entries)]


@cache
def _tables() -> dict[str, Any]:
    text = resources.files("DeepDRRLogic").joinpath("data", "carms.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables
