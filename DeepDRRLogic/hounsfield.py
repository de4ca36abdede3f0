"""Are these Hounsfield units? What a CT's values look like, and what is mistaken for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

OFFSET_GIVEN = "the values are taken for Hounsfield units, because hu_offset was given"
"""The note of a CT whose values are not to be doubted."""

_SAMPLES = 1_000_000
_REMEDY = "If the values are Hounsfield units nonetheless, say so with hu_offset=0."


def sample(values: Values) -> Values:
    """About a million values spread evenly over the volume (1-D): enough for a histogram, soon sorted."""
    step = max(1, values.size // _SAMPLES)
    # An odd step does not beat with rows, whose length is even: every column gets its turn.
    return values.reshape(-1)[:: step | 1]


def require_finite(values: Values) -> None:
    """Raise ValueError, with number and place, if the volume [k, j, i] holds anything but finite numbers."""
    if values.dtype.kind not in "iuf":
        raise ValueError(f"The CT's values are {values.dtype}: give real numbers, int16 or float32.")
    # NaN travels through min and max, so the common case takes one pass each and no memory.
    if values.dtype.kind != "f" or np.isfinite([values.min(), values.max()]).all():
        return
    wrong = ~np.isfinite(values)
    k, j, i = np.unravel_index(int(wrong.argmax()), values.shape)
    raise ValueError(
        f"{np.count_nonzero(wrong)} of {values.size} voxels are NaN or infinite, the first at (i, j, k) = "
        f"({i}, {j}, {k}). Replace them, for instance with -1000 HU, before use."
    )


def as_hounsfield(values: Values) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    """The values as int16, half the memory, if they are whole numbers that fit, otherwise as float32."""
    if values.dtype.kind == "f":
        return values.astype(np.int16) if _fits_int16(values) else values.astype(np.float32, copy=False)
    limits = np.iinfo(np.int16)
    if values.min() >= limits.min and values.max() <= limits.max:
        return values.astype(np.int16, copy=False)
    return values.astype(np.float32)


def _fits_int16(values: Values) -> bool:
    """Whether floats [k, j, i] are whole numbers within int16, slice by slice up to the first that is not."""
    with np.errstate(invalid="ignore"):  # what does not fit becomes some other number
        return all(np.array_equal(one.astype(np.int16), one) for one in values)


def require_plausible(values: Values, name: str) -> None:
    """Raise ValueError for a label map, an MR, a normalised image, and CT numbers with an offset."""
    lowest, highest = float(values.min()), float(values.max())
    spread = sample(values)
    found = f"{name}: values run from {lowest:g} to {highest:g}"
    if lowest == highest:
        raise ValueError(f"{name}: all voxels are {lowest:g}; there is nothing to X-ray. {_REMEDY}")
    whole = bool((spread == np.rint(spread)).all())
    distinct = len(np.unique(spread))
    if whole and lowest >= 0 and (highest <= 255 or distinct <= 256):
        raise ValueError(
            f"{found}, {distinct} different whole numbers and none negative: a label map or an 8-bit "
            f"picture, not a CT. Give the CT itself; a segmentation is read with read_segmentation. {_REMEDY}"
        )
    if highest - lowest < 100 or highest > 65535:
        raise ValueError(
            f"{found}: not Hounsfield units, where air is -1000 and water 0. Undo the normalisation; "
            f"attenuation coefficients become 1000 (µ/µ_water - 1). {_REMEDY}"
        )
    if has_offset(spread):
        raise ValueError(
            f"{found}, air near {np.median(spread[spread <= 200]):g} and soft tissue near "
            f"{_soft_peak(spread):g}: CT numbers stored with an offset. Read them with hu_offset={offset_of(spread)}. "
            f"{_REMEDY}"
        )
    if lowest >= 0:
        raise ValueError(
            f"{found}: nothing is below 0 HU, no air and no fat. This may be an MR or a PET; give a CT. {_REMEDY}"
        )


def has_offset(spread: Values) -> bool:
    """Whether 1000 or 1024 seems to be added to the CT numbers: air near 0, soft tissue near 1050, little between.

    Padding far below -1000 is left out. A CT has few voxels from -670 to -230 HU, between lung and fat; an MR
    has no such gap.
    """
    valid = spread[spread > -1500]
    if valid.size == 0 or np.mean(valid < -200) > 0.005:
        return False
    air, between, soft = (np.mean((valid >= a) & (valid < b)) for a, b in ((-200, 300), (350, 800), (850, 1200)))
    return bool(air > 0.01 and soft > 0.02 and soft > 2 * between)


def offset_of(spread: Values) -> int:
    """What to add to CT numbers that `has_offset`: -1000 if air is stored as 0, -1024 if it is stored as 24.

    Zeros may be padding beside air at 24, and a few values are anywhere.
    """
    zeros, near_0, near_24 = (np.count_nonzero((spread >= a) & (spread <= b)) for a, b in ((0, 0), (1, 12), (19, 30)))
    return -1000 if max(near_0, 0.04 * zeros) > near_24 else -1024


def _soft_peak(spread: Values) -> float:
    counts, edges = np.histogram(spread, bins=35, range=(850, 1200))
    return float(edges[counts.argmax()] + 5)
