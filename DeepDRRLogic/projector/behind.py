"""What lies behind the detector does not cast a shadow on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .fan import transverse_axes
from .packing import Rows

FloatArray = npt.NDArray[np.float64]


def rows_before_detector(
    rows: tuple[Rows, Rows, Rows], depth_from_ijk: FloatArray, limit: float
) -> tuple[Rows, Rows, Rows]:
    """The occupied rows of a volume, cut where the depth of their voxels exceeds the limit.

    depth_from_ijk (4,): depth = depth_from_ijk · (i, j, k, 1). Rows before the detector are returned as they are.
    """
    return tuple(_cut(rows[axis], axis, depth_from_ijk, limit) for axis in range(3))  # type: ignore[return-value]


def _cut(rows: Rows, axis: int, depth: FloatArray, limit: float) -> Rows:
    start, stop = rows
    p, q = transverse_axes(axis)
    q_index, slice_index = np.indices(start.shape)
    room = limit - depth[3] - depth[q] * q_index - depth[axis] * slice_index
    # Voxel number p is kept while depth[p] · p ≤ room.
    if depth[p] > 0:
        stop = np.minimum(stop, np.floor(np.clip(room / depth[p], -1, 2**30)) + 1)
    elif depth[p] < 0:
        start = np.maximum(start, np.ceil(np.clip(room / depth[p], 0, 2**30)))
    else:
        stop = np.where(room < 0, 0, stop)
    empty = stop <= start
    return np.where(empty, 0, start).astype(np.int32), np.where(empty, 0, stop).astype(np.int32)
