"""The loops that pack a material volume, compiled by numba; each works on the slices k0…k1 of its arrays."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled

LABEL_BITS = 4


@compiled()
def densest(density, labels, limits, k0, k1, peaks, box):
    """Raises peaks[0, label] to the largest density found up to limits[label], peaks[1, label] to that above it.

    Widens box (3, 2), first and one-past-last voxel along i, j, k, by all voxels above. Returns the largest label.
    """
    top = 0
    for k in range(k0, k1):
        for j in range(density.shape[1]):
            for i in range(density.shape[2]):
                label = labels[k, j, i]
                top = max(top, label)
                if label >= limits.size:
                    continue
                value = density[k, j, i]
                if value > limits[label]:
                    peaks[1, label] = max(peaks[1, label], value)
                    for axis, place in enumerate((i, j, k)):
                        box[axis, 0] = min(box[axis, 0], place)
                        box[axis, 1] = max(box[axis, 1], place + 1)
                elif value > peaks[0, label]:
                    peaks[0, label] = value
    return top


@compiled()
def pack_codes(density, labels, above, up_to, codes_per_g_cm3, numbers, k0, k1, codes):
    """Density in codes, rounded, over the number of the label; 0 for a voxel without matter or out of the range."""
    for k in range(k0, k1):
        for j in range(density.shape[1]):
            for i in range(density.shape[2]):
                label = labels[k, j, i]
                value = density[k, j, i]
                wanted = above[label] < value <= up_to[label]
                level = np.uint16(value * codes_per_g_cm3[label] + np.float32(0.5)) if wanted else np.uint16(0)
                codes[k, j, i] = 0 if level == 0 else (level << np.uint16(LABEL_BITS)) | numbers[label]


@compiled()
def occupied(codes, k0, k1, i_start, i_stop, j_start, j_stop):
    """First and one-past-last occupied voxel of every row along i, [k, j], and along j, [k, i]."""
    nj, ni = codes.shape[1:]
    for k in range(k0, k1):
        for i in range(ni):
            j_start[k, i] = 0
            j_stop[k, i] = 0
        for j in range(nj):
            first = 0
            last = 0
            for i in range(ni):
                if codes[k, j, i] != 0:
                    if last == 0:
                        first = i
                    last = i + 1
                    if j_stop[k, i] == 0:
                        j_start[k, i] = j
                    j_stop[k, i] = j + 1
            i_start[k, j] = first
            i_stop[k, j] = last
