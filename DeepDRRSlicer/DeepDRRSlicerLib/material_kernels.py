"""Compiled loops over the voxels' owners; see material_map.py."""

from __future__ import annotations

import numpy as np

from DeepDRRLogic.compiled import compiled


@compiled()
def paint(target, values, table):
    """Give each voxel to table[value] - 1, where that is not nobody (0); both arrays of one shape [k, j, i]."""
    for k in range(target.shape[0]):
        for j in range(target.shape[1]):
            for i in range(target.shape[2]):
                found = table[values[k, j, i]]
                if found:
                    target[k, j, i] = found - 1


@compiled()
def box_of_changes(before, after, changed, k0, k1, box):
    """Widen `box`, (first, last) of k, j, i, by voxels of slices k0 to k1 whose owner differs or is `changed`."""
    for k in range(k0, k1):
        for j in range(after.shape[1]):
            first, last = -1, -1
            for i in range(after.shape[2]):
                owner = after[k, j, i]
                if owner != before[k, j, i] or changed[owner]:
                    if first < 0:
                        first = i
                    last = i
            if first >= 0:
                box[0, 0], box[0, 1] = min(box[0, 0], k), max(box[0, 1], k)
                box[1, 0], box[1, 1] = min(box[1, 0], j), max(box[1, 1], j)
                box[2, 0], box[2, 1] = min(box[2, 0], first), max(box[2, 1], last)


def empty_box() -> np.ndarray:
    """The box that any voxel widens."""
    box = np.empty((3, 2), np.int64)
    box[:, 0], box[:, 1] = np.iinfo(np.int64).max, -1
    return box
