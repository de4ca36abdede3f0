"""The loops that pack a material volume, compiled by numba; each works on the slices k0…k1 of its arrays."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled

LABEL_BITS = 4


@compiled()
def densest(density, labels, k0, k1, peak):
    """Raises peak[label] to the largest density found; returns the largest label."""
    top = 0
    for k in range(k0, k1):
        for j in range(density.shape[1]):
            for i in range(density.shape[2]):
                label = labels[k, j, i]
                top = max(top, label)
                if label < peak.shape[0] and density[k, j, i] > peak[label]:
                    peak[label] = density[k, j, i]
    return top


@compiled()
def pack_codes(density, labels, codes_per_g_cm3, k0, k1, codes):
    """Density in codes, rounded, over the label; a voxel without matter becomes 0 whatever its label."""
    for k in range(k0, k1):
        for j in range(density.shape[1]):
            for i in range(density.shape[2]):
                label = labels[k, j, i]
                level = np.uint16(density[k, j, i] * codes_per_g_cm3[label] + np.float32(0.5))
                codes[k, j, i] = 0 if level == 0 else (level << np.uint16(LABEL_BITS)) | np.uint16(label)


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
