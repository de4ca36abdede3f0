"""The march through the voxels that cuts a body into layers, compiled by numba."""
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, check-untyped-defs=False

from __future__ import annotations

import math

from ..compiled import compiled


@compiled(error_model="numpy")
def fill_layers(density, labels, source, origin, along_u, along_v, lengths_cm, first, step, finer, v0, v1, out):
    """Adds to out (layers, materials, rows, columns), g/cm², what the rays of the rows v0…v1 meet.

    source, origin, along_u, along_v are in voxels (i, j, k); origin + u·along_u + v·along_v is where the ray through
    the corner (u, v) of the pixels is, one unit of depth from the source. `lengths_cm` (rows, columns) is the length
    of a ray per unit of depth; a pixel has finer² rays, a layer of out.shape[0] takes as many steps as `first` says.
    """
    nk, nj, ni = density.shape
    per_layer = first[1]
    share = 1.0 / (finer * finer)
    for v in range(v0, v1):
        for u in range(out.shape[3]):
            mass = lengths_cm[v, u] * step * share
            for sub in range(finer * finer):
                a = u + (sub % finer + 0.5) / finer
                b = v + (sub // finer + 0.5) / finer
                dx = origin[0] + a * along_u[0] + b * along_v[0]
                dy = origin[1] + a * along_u[1] + b * along_v[1]
                dz = origin[2] + a * along_u[2] + b * along_v[2]
                for n in range(out.shape[0] * per_layer):
                    depth = first[0] + (n + 0.5) * step
                    i = math.floor(source[0] + depth * dx + 0.5)
                    j = math.floor(source[1] + depth * dy + 0.5)
                    k = math.floor(source[2] + depth * dz + 0.5)
                    if i >= 0 and j >= 0 and k >= 0 and i < ni and j < nj and k < nk:
                        found = density[k, j, i]
                        if found > 0.0:
                            out[n // per_layer, labels[k, j, i], v, u] += found * mass
