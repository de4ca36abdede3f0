"""What 3D Slicer calls the materials: entries of its terminology, out and in."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ..materials import material_names

OWN_SCHEME = "99DEEPDRR"
"""The coding scheme whose code values are our material names; "99" marks a private scheme in DICOM."""


def terminology_entry(name: str) -> str:
    """Context, category, type and region as Slicer stores them, parts separated by ~, codes by ^."""
    table = _terminology()
    category, kind = table["materials"].get(name, table["other"])
    codes = ("^".join(("SCT", *table["codes"][key])) for key in (category, kind))
    return "~".join([table["context"], *codes, "^^", table["anatomic_context"], "^^", "^^"])


def terminology_material(entry: str) -> str | None:
    """The material that a terminology entry of Slicer names by its type; None where it names none."""
    parts = entry.split("~")
    scheme, _, rest = (parts[2] if len(parts) > 2 else "").partition("^")
    code = rest.partition("^")[0]
    if scheme == OWN_SCHEME:
        return code if code in material_names() else None
    return _material_of_code().get(code) if scheme == "SCT" else None


@lru_cache(maxsize=1)
def _material_of_code() -> dict[str, str]:
    """The first material in the table of each type's code."""
    table = _terminology()
    found: dict[str, str] = {}
    for name, (_, kind) in table["materials"].items():
        found.setdefault(table["codes"][kind][0], name)
    return found


@lru_cache(maxsize=1)
def _terminology() -> dict[str, Any]:
    text = files("DeepDRRLogic").joinpath("data", "terminology.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
