"""Compiled loops over voxels; each works on the slices k0 to k1 of its output, so that threads can share a
volume."""

from __future__ import annotations

import numpy as np

from .compiled import compiled


@compiled()
def average_blocks(density, labels, factors, materials, k0, k1, out_density, out_labels):  # type: ignore[no-untyped-def]
    """Mean density and heaviest label of each block; voxels beyond the volume weigh nothing."""
    fi, fj, fk = factors
    nk, nj, ni = density.shape
    per_voxel = 1.0 / (fi * fj * fk)
    mass = np.zeros(materials, np.float64)
    for k in range(k0, k1):
        for j in range(out_density.shape[1]):
            for i in range(out_density.shape[2]):
                mass[:] = 0.0
                for z in range(k * fk, min(k * fk + fk, nk)):
                    for y in range(j * fj, min(j * fj + fj, nj)):
                        for x in range(i * fi, min(i * fi + fi, ni)):
                            mass[labels[z, y, x]] += density[z, y, x]
                heaviest = labels[k * fk, j * fj, i * fi]
                total = 0.0
                for m in range(materials):
                    total += mass[m]
                    if mass[m] > mass[heaviest]:
                        heaviest = m
                out_density[k, j, i] = total * per_voxel
                out_labels[k, j, i] = heaviest


@compiled()
def nearest(source, source_from_target, k0, k1, outside, out):  # type: ignore[no-untyped-def]
    """Each voxel of `out` from the nearest of `source`, or `outside` where its centre lies in none."""
    nk, nj, ni = source.shape
    m = source_from_target
    for k in range(k0, k1):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x = int(np.floor(m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3] + 0.5))
                y = int(np.floor(m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3] + 0.5))
                z = int(np.floor(m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3] + 0.5))
                inside = 0 <= x < ni and 0 <= y < nj and 0 <= z < nk
                out[k, j, i] = source[z, y, x] if inside else outside
