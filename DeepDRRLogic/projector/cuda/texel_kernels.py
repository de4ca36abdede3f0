"""The loop that looks at every voxel's neighbours, compiled by numba."""

from __future__ import annotations

import numpy as np

from ...compiled import compiled

LABEL_BITS = 5
NO_MATTER = 255
MIXED = 254


@compiled()
def _merged(one, other):
    """The material of two places together: NO_MATTER gives way to any other, two that differ are MIXED."""
    if other == NO_MATTER:
        return one
    return other if one in (NO_MATTER, other) else MIXED


@compiled()
def _matter(density, labels, k, j, i):
    nk, nj, ni = labels.shape
    k, j, i = min(k, nk - 1), min(j, nj - 1), min(i, ni - 1)
    return np.int64(labels[k, j, i]) if density[k, j, i] != 0 else np.int64(NO_MATTER)


@compiled()
def face_flags(density, labels, k0, k1, out):
    """Fills out[k0:k1] with texels as texels.Texels describes them; density may be any type that is 0 where empty."""
    nj, ni = labels.shape[1:]
    for k in range(k0, k1):
        for j in range(nj):
            for i in range(ni):
                own = _matter(density, labels, k, j, i)
                at_i = _matter(density, labels, k, j, i + 1)
                at_j = _matter(density, labels, k, j + 1, i)
                at_k = _matter(density, labels, k + 1, j, i)
                across_i = _merged(_merged(own, at_j), _merged(at_k, _matter(density, labels, k + 1, j + 1, i)))
                across_j = _merged(_merged(own, at_i), _merged(at_k, _matter(density, labels, k + 1, j, i + 1)))
                across_k = _merged(_merged(own, at_i), _merged(at_j, _matter(density, labels, k, j + 1, i + 1)))
                label = own
                for face in (across_i, across_j, across_k):
                    if label == NO_MATTER and face < MIXED:
                        label = face
                if label == NO_MATTER:
                    label = 0
                # An empty voxel takes the material of a face; the faces of other materials count as mixed.
                texel = label
                if across_i != NO_MATTER and across_i != label:
                    texel |= 1 << LABEL_BITS
                if across_j != NO_MATTER and across_j != label:
                    texel |= 1 << (LABEL_BITS + 1)
                if across_k != NO_MATTER and across_k != label:
                    texel |= 1 << (LABEL_BITS + 2)
                out[k, j, i] = texel
