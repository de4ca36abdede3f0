"""CT from DICOM: which series, which slices, and every check before the first pixel is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..affine import FloatArray
from ..memory import require_memory
from ..volume_io import RAS_FROM_LPS
from .headers import Series, Slice
from .listing import Listing, listing
from .pixels import read_pixels
from .stack import TILT_DEG, lps_from_ijk, ordered, require_untilted, tilt_deg
from .tilt import straightened

# Bytes of a voxel in memory: as float32, the larger kind; and in a file of many frames, which is held as a whole
# with those of its frames that are at work.
_AS_HU, _AS_STORED = 4, 4
# Rescale types other than these are not Hounsfield units (PS3.3 C.11.1.1.2); US is "unspecified".
_HOUNSFIELD_TYPES = ("", "HU", "HU_MOD", "US")


def read_dicom(
    path: Path, wanted: str | None = None, *, hu_offset: float | None = None, correct_tilt: bool = False
) -> tuple[npt.NDArray[Any], FloatArray, str, tuple[str, ...]]:
    """Hounsfield units [k, j, i], ras_from_ijk (4, 4), a name and notes, from a folder or one file.

    `wanted` chooses a series by UID, number or description. `hu_offset` is the rescale intercept of slices
    that lack one; if none does, it is added to all. With `correct_tilt` slices of a tilted gantry are resampled.
    Raises ValueError for everything else that is no one CT.
    """
    found = listing(path)
    series = _chosen(found, wanted, path)
    left_out = _without_unreadable(found, series, wanted is not None or path.is_file())
    stack, notes = ordered(series.slices)
    if not correct_tilt:
        require_untilted(stack)
    stack, on_rescale = _with_offset(stack, hu_offset)
    notes = (*notes, *left_out, *on_rescale)
    first = stack[0]
    name = series.description or (path.name if path.is_dir() else path.parent.name)
    angle = tilt_deg(stack)
    many_frames = len({s.path for s in stack}) < len(stack)
    bytes_per_voxel = _AS_HU * (2 if angle > TILT_DEG else 1) + _AS_STORED * many_frames
    require_memory((len(stack), first.rows, first.columns), bytes_per_voxel, name)
    if series.localizers:
        notes = (*notes, f"{series.localizers} localizers were left out")
    if series.without_place:
        notes = (*notes, f"{series.without_place} images without a place in space were left out")
    hu: npt.NDArray[Any] = read_pixels(stack)
    ras_from_ijk = RAS_FROM_LPS @ lps_from_ijk(stack)
    if angle > TILT_DEG:
        hu, ras_from_ijk = straightened(hu, ras_from_ijk)
        notes = (
            *notes,
            f"the gantry was tilted by {angle:.2f}°; the slices were resampled to a rectangular grid",
        )
    return hu, ras_from_ijk, name, notes


def _chosen(found: Listing, wanted: str | None, path: Path) -> Series:
    usable = found.usable
    if not usable:
        if found.unreadable:
            raise ValueError(found.unreadable[0].problem)
        if not found.series:
            raise ValueError(f"There is no DICOM image in {path}: give the folder that holds the slices.")
        modalities = ", ".join(sorted({s.modality for s in found.series if s.modality != "CT"}))
        if modalities:
            raise ValueError(f"{path.name} holds no CT, but {modalities}: X-rays can be computed from a CT only.")
        raise ValueError(f"{path.name} holds localizers or images without a place in space only: give the CT's slices.")
    if wanted is not None:
        key = wanted.strip().lower()
        matching = tuple(s for s in usable if key in (s.uid.lower(), s.number.lower(), s.description.lower()))
        problem = f"No CT series in {path.name} has" if not matching else f"Several series in {path.name} have"
        problem += f" UID, number or description '{wanted}'"
    else:
        matching, problem = usable, f"{path.name} holds {len(usable)} CT series"
    if len(matching) != 1:
        listed = "\n  ".join(str(s) for s in usable)
        raise ValueError(f"{problem}; choose with series=, the UID being unmistakable:\n  {listed}")
    return matching[0]


def _without_unreadable(found: Listing, series: Series, asked: bool) -> tuple[str, ...]:
    """A note on the files left out; ValueError if one belongs to the series, or may, unless that was asked for."""
    for one in found.unreadable:
        if one.series_uid == series.uid or (series.uid.startswith(one.series_uid) and not asked):
            raise ValueError(one.problem)
    names = ", ".join(one.path.name for one in found.unreadable)
    return (f"files of other or unknown series that cannot be read were left out: {names}",) if names else ()


def _with_offset(stack: list[Slice], hu_offset: float | None) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices with an offset in their intercepts, and notes."""
    types = {s.rescale_type.upper() for s in stack} - set(_HOUNSFIELD_TYPES)
    if types:
        raise ValueError(f"The rescale type is {', '.join(sorted(types))}, not HU: give a CT in Hounsfield units.")
    lacking = [s.slope is None or s.intercept is None for s in stack]
    some = f"{sum(lacking)} of {len(stack)} slices"
    if hu_offset is None:
        if any(lacking):
            raise ValueError(
                f"{some} lack rescale slope or intercept, so their values are not known to be HU. Read them with "
                "hu_offset=-1024 if water is stored as 1024 in them, or hu_offset=0 if it is stored as 0; slices "
                "that have a rescale keep it."
            )
        return stack, ()
    if not any(lacking):
        return [replace(s, intercept=(s.intercept or 0.0) + hu_offset) for s in stack], ()
    own = float(hu_offset)
    with_offset = [replace(s, intercept=own) if lacks else s for s, lacks in zip(stack, lacking, strict=True)]
    if all(lacking):
        return with_offset, ()
    return with_offset, (f"{some} lacked rescale slope or intercept; hu_offset={hu_offset:g} is theirs only",)
