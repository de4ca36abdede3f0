"""CT from DICOM: which series, which slices, and every check before the first pixel is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..affine import FloatArray
from ..memory import require_memory
from ..volume_io import RAS_FROM_LPS
from .headers import Series, Slice, list_series
from .pixels import read_pixels
from .stack import TILT_DEG, lps_from_ijk, ordered, require_untilted, tilt_deg
from .tilt import straightened

# Rescale types other than these are not Hounsfield units (PS3.3 C.11.1.1.2); US is "unspecified".
_HOUNSFIELD_TYPES = ("", "HU", "HU_MOD", "US")


def read_dicom(
    path: Path, wanted: str | None = None, *, rescaled: bool = True, correct_tilt: bool = False
) -> tuple[npt.NDArray[Any], FloatArray, str, tuple[str, ...]]:
    """Hounsfield units [k, j, i], ras_from_ijk (4, 4), a name and notes, from a folder or one file.

    `wanted` chooses a series by UID, number or description. Without `rescaled` slices may lack rescale slope
    and intercept; with `correct_tilt` slices of a tilted gantry are resampled. Raises ValueError for
    everything else that is no one CT.
    """
    series = _chosen(list_series(path), wanted, path)
    stack, notes = ordered(series.slices)
    if not correct_tilt:
        require_untilted(stack)
    _require_rescale(stack, rescaled)
    first = stack[0]
    name = series.description or (path.name if path.is_dir() else path.parent.name)
    require_memory((len(stack), first.rows, first.columns), 4, name)
    if series.localizers:
        notes = (*notes, f"{series.localizers} localizers were left out")
    if series.without_place:
        notes = (*notes, f"{series.without_place} images without a place in space were left out")
    hu: npt.NDArray[Any] = read_pixels(stack)
    ras_from_ijk = RAS_FROM_LPS @ lps_from_ijk(stack)
    if (angle := tilt_deg(stack)) > TILT_DEG:
        hu, ras_from_ijk = straightened(hu, ras_from_ijk)
        notes = (
            *notes,
            f"the gantry was tilted by {angle:.2f}°; the slices were resampled to a rectangular grid",
        )
    return hu, ras_from_ijk, name, notes


def _chosen(found: Sequence[Series], wanted: str | None, path: Path) -> Series:
    if not found:
        raise ValueError(f"There is no DICOM image in {path}: give the folder that holds the slices.")
    usable = [s for s in found if s.modality == "CT" and s.slices]
    if not usable:
        modalities = ", ".join(sorted({s.modality for s in found if s.modality != "CT"}))
        if modalities:
            raise ValueError(f"{path.name} holds no CT, but {modalities}: X-rays can be computed from a CT only.")
        raise ValueError(f"{path.name} holds localizers or images without a place in space only: give the CT's slices.")
    if wanted is not None:
        key = wanted.strip().lower()
        matching = [s for s in usable if key in (s.uid.lower(), s.number.lower(), s.description.lower())]
        problem = f"No CT series in {path.name} has" if not matching else f"Several series in {path.name} have"
        problem += f" UID, number or description '{wanted}'"
    else:
        matching, problem = usable, f"{path.name} holds {len(usable)} CT series"
    if len(matching) != 1:
        listed = "\n  ".join(str(s) for s in usable)
        raise ValueError(f"{problem}; choose with series=, the UID being unmistakable:\n  {listed}")
    return matching[0]


def _require_rescale(stack: Sequence[Slice], rescaled: bool) -> None:
    types = {s.rescale_type.upper() for s in stack} - set(_HOUNSFIELD_TYPES)
    if types:
        raise ValueError(f"The rescale type is {', '.join(sorted(types))}, not HU: give a CT in Hounsfield units.")
    missing = sum(s.slope is None or s.intercept is None for s in stack)
    if missing and rescaled:
        raise ValueError(
            f"{missing} of {len(stack)} slices lack rescale slope or intercept, so their values are not "
            "known to be HU. Read them with hu_offset=-1024 if water is stored as 1024, or hu_offset=0 if it "
            "is stored as 0."
        )
