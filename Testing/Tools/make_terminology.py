"""Writes DeepDRRMaterials.term.json, from which Slicer offers our materials when a segment's terminology is chosen.

python Testing/Tools/make_terminology.py
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from DeepDRRLogic.segmentation.terminology import OWN_SCHEME

PATH = Path(__file__).parents[2] / "DeepDRRSlicer" / "Resources" / "Terminologies" / "DeepDRRMaterials.term.json"
CONTEXT = "DeepDRR materials"
_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"


def terminology() -> dict[str, Any]:
    """The terminology context: every material of the simulator, in the category that Slicer has for it."""
    data = files("DeepDRRLogic") / "data"
    materials = json.loads((data / "materials.json").read_text(encoding="utf-8"))
    table = json.loads((data / "terminology.json").read_text(encoding="utf-8"))
    categories: dict[str, dict[str, Any]] = {}
    for name, entry in materials.items():
        key, _ = table["materials"].get(name, table["other"])
        code, meaning = table["codes"][key]
        category = categories.setdefault(key, {**_code("SCT", code, meaning), "showAnatomy": True, "Type": []})
        # What a material is, not which purity or source it has.
        title = entry["title"].split(";")[0].split(" (")[0]
        category["Type"].append(
            {**_code(OWN_SCHEME, name, title), "recommendedDisplayRGBValue": entry["color_rgb"], "3dSlicerLabel": name}
        )
    return {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": _SCHEMA,
        "SegmentationCodes": {"Category": list(categories.values())},
    }


def text() -> str:
    return json.dumps(terminology(), indent=2, ensure_ascii=False) + "\n"


def _code(scheme: str, value: str, meaning: str) -> dict[str, str]:
    return {"CodingSchemeDesignator": scheme, "CodeValue": value, "CodeMeaning": meaning}


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(text(), encoding="utf-8")
    print(PATH)
