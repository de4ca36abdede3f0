"""What ITK passes over in the headers of volumes: whether they say where the volume lies, and in which unit."""

from __future__ import annotations

import re
from pathlib import Path

# "left-posterior-superior-time" and "LPST" begin with these, too (NRRD format, section 5.1).
_ANATOMICAL = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps")
_MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_LONGEST_HEADER = 1 << 20

_NO_ORIENTATION = "the file does not say how the volume lies in the patient; LPS is assumed, left may be right"
_NO_SPACING = "the file does not say how large its voxels are; 1 mm is assumed"


def notes_on_nrrd(path: Path) -> tuple[str, ...]:
    """What an NRRD leaves open; ValueError where its space is measured in anything but millimetres."""
    fields = _fields(path, ":")
    units = {unit.lower() for unit in re.findall(r'"([^"]*)"', fields.get("space units", ""))}
    if wrong := sorted(units.difference(_MILLIMETRES)):
        raise ValueError(f"{path.name} is measured in {', '.join(wrong)} (space units): convert it to mm first.")
    spaced = "space directions" in fields or "spacings" in fields
    return _notes(fields.get("space", "").lower().startswith(_ANATOMICAL), spaced)


def notes_on_metaimage(path: Path) -> tuple[str, ...]:
    """What a MetaImage leaves open."""
    fields = _fields(path, "=")
    turned = not fields.keys().isdisjoint(("transformmatrix", "rotation", "orientation"))
    return _notes(turned, "elementspacing" in fields or "elementsize" in fields)


def _notes(oriented: bool, spaced: bool) -> tuple[str, ...]:
    return (() if oriented else (_NO_ORIENTATION,)) + (() if spaced else (_NO_SPACING,))


def _fields(path: Path, separator: str) -> dict[str, str]:
    """The fields of a text header, names in lower case, up to an empty line or the name of the data file."""
    with path.open("rb") as file:
        lines = file.read(_LONGEST_HEADER).split(b"\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode("latin-1").strip().partition(separator)
        if not name:
            break
        fields[name.strip().lower()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    return fields
