"""What lies behind the detector does not cast a shadow on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .fan import Fan, transverse_axes


def pace_of_lines(fan: Fan, progress: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """The part of its way from source to detector that a line of the fan covers in one slice.

    progress (3,): what one voxel along i, j, k adds to that part. Returns the pace of the line in column 0 of row 0,
    and what each column and each row adds to it.
    """
    p, q = transverse_axes(fan.axis)
    a0, da, b0, db = fan.grid
    first, column, row = fan.forward * np.array(
        [progress[fan.axis] + a0 * progress[p] + b0 * progress[q], da * progress[p], db * progress[q]]
    )
    return float(first), float(column), float(row)
