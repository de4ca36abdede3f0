"""What the fast models do often, compiled by numba: cutting a body into layers, and filling kernels."""
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


@compiled(error_model="numpy")
def fill_kernels(rayleigh, compton, gaps_mm, v_mm, u_mm, finer, passed, r_out, c_out):
    """Means over finer² places per pixel of p(θ) cos³ / gap² for two distributions (group, 1 - cos θ from 0 to 1).

    `v_mm`, `u_mm` are the places, r_out and c_out (group, layer, rows, columns); `passed` (group, layer, v, u), or
    empty for ones, is a further factor.
    """
    last = rayleigh.shape[1] - 1
    through = passed.size > 0
    for layer in range(gaps_mm.size):
        gap = gaps_mm[layer]
        for v in range(v_mm.size):
            for u in range(u_mm.size):
                cosine = gap / math.sqrt(v_mm[v] ** 2 + u_mm[u] ** 2 + gap * gap)
                at = min((1.0 - cosine) * last, last - 1e-3)
                index = int(at)
                part = at - index
                weight = cosine**3 / (gap * gap * finer * finer)
                for group in range(rayleigh.shape[0]):
                    factor = weight * passed[group, layer, v, u] if through else weight
                    r = rayleigh[group, index] + part * (rayleigh[group, index + 1] - rayleigh[group, index])
                    c = compton[group, index] + part * (compton[group, index + 1] - compton[group, index])
                    r_out[group, layer, v // finer, u // finer] += r * factor
                    c_out[group, layer, v // finer, u // finer] += c * factor
