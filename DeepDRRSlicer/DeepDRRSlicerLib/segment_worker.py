"""The other side of background.py: python -m DeepDRRSlicerLib.segment_worker FOLDER. Knows no Slicer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from DeepDRRLogic import segmentation
from DeepDRRLogic.files import replaced_when_written
from DeepDRRLogic.volume import CTVolume

from .background import CT, HU, LABELS, PROGRESS, RESULT
from .trouble import words


def work(folder: Path) -> dict[str, Any]:
    """Segment the CT in a folder; what there is to say of the result, its labels written beside."""
    header = json.loads((folder / CT).read_text(encoding="utf-8"))
    ct = CTVolume(np.load(folder / HU, allow_pickle=False), header["ras_from_ijk"], header["name"])
    try:
        method, options = header["method"], header["options"]
        if segmentation.reports_progress(method):
            options = options | {"progress": _report}
        labels = segmentation.segment(ct, method, **options)
    except (ValueError, TypeError, ImportError, MemoryError) as error:
        return {"error": words(error)}
    with replaced_when_written(folder / LABELS) as (temporary,), temporary.open("wb") as file:
        np.save(file, labels.labels, allow_pickle=False)
    return {"materials": [its.name for its in labels.materials]}


def _report(done: int, total: int) -> None:
    sys.stdout.write(f"{PROGRESS}{done} {total}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    result = work(place)
    with replaced_when_written(place / RESULT) as (temporary,):
        temporary.write_text(json.dumps(result), encoding="utf-8")
