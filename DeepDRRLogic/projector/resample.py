"""From a fan to the detector's pixels (compiled by numba)."""

from __future__ import annotations

import numpy as np

from ..compiled import compiled


@compiled()
def _cubic(f):
    """Weights of the four-point cubic convolution (Keys 1981, a = −½)."""
    g = np.float32(1.0) - f
    half = np.float32(0.5)
    return (
        -half * f * g * g,
        np.float32(1.0) + half * f * f * (np.float32(3.0) * f - np.float32(5.0)),
        np.float32(1.0) + half * g * g * (np.float32(3.0) * g - np.float32(5.0)),
        -half * g * f * f,
    )


@compiled(fastmath={"contract", "reassoc", "nsz"})
def resample_fan(total, axis, forward, grid, rays, mm_from_ijk, scales, v0, v1, out):
    """Reads the pixels of detector rows v0…v1 off a fan: cubic interpolation, times the ray's length per slice.

    rays (3, 3) columns: origin, step per u, step per v, of the ray directions in voxels; scales (n_materials,) g/cm²
    per code and millimetre. Pixels that belong to another fan are left alone.
    """
    p_axis = 1 if axis == 0 else 0
    q_axis = 1 if axis == 2 else 2
    rows, materials, columns = total.shape
    a0, da, b0, db = grid
    for v in range(v0, v1):
        for u in range(out.shape[2]):
            d0 = rays[0, 0] + u * rays[0, 1] + v * rays[0, 2]
            d1 = rays[1, 0] + u * rays[1, 1] + v * rays[1, 2]
            d2 = rays[2, 0] + u * rays[2, 1] + v * rays[2, 2]
            e0 = abs(d0)
            e1 = abs(d1)
            e2 = abs(d2)
            if e1 >= e0 and e1 >= e2:
                main = 1
                dw = d1
            elif e0 >= e2:
                main = 0
                dw = d0
            else:
                main = 2
                dw = d2
            if main != axis or dw * forward <= 0.0:
                continue
            dp = d1 if p_axis == 1 else d0
            dq = d1 if q_axis == 1 else d2
            x = (dp / dw - a0) / da
            y = (dq / dw - b0) / db
            if not (x >= 1.0 and y >= 1.0 and x < columns - 2.0 and y < rows - 2.0):
                continue
            ix = int(x)
            iy = int(y)
            wx = _cubic(np.float32(x - ix))
            wy = _cubic(np.float32(y - iy))
            sx = d0 * mm_from_ijk[0, 0] + d1 * mm_from_ijk[0, 1] + d2 * mm_from_ijk[0, 2]
            sy = d0 * mm_from_ijk[1, 0] + d1 * mm_from_ijk[1, 1] + d2 * mm_from_ijk[1, 2]
            sz = d0 * mm_from_ijk[2, 0] + d1 * mm_from_ijk[2, 1] + d2 * mm_from_ijk[2, 2]
            length = np.float32(np.sqrt(sx * sx + sy * sy + sz * sz) / abs(dw))
            for m in range(materials):
                value = np.float32(0.0)
                for j in range(4):
                    line = total[iy - 1 + j, m]
                    value += wy[j] * (
                        wx[0] * line[ix - 1] + wx[1] * line[ix] + wx[2] * line[ix + 1] + wx[3] * line[ix + 2]
                    )
                out[m, v, u] = max(value, np.float32(0.0)) * length * scales[m]
