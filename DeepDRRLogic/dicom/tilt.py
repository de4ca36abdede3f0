"""A tilted gantry undone: sheared slices onto a rectangular grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..affine import FloatArray

_AIR_HU = -1000.0


def straightened(hu: npt.NDArray[Any], ras_from_ijk: FloatArray) -> tuple[npt.NDArray[Any], FloatArray]:
    """Slices [k, j, i] moved within their planes, by linear interpolation, until k runs along their normal.

    The grid grows so that no slice is cut; what it gains is air, -1000 HU. Integers stay integers. Slices
    keep their planes and pixels their size, so nothing is blurred across slices.
    """
    along_i, along_j, along_k = ras_from_ijk[:3, :3].T
    # Voxels by which each slice has drifted along i and j from the first one.
    drift = np.array([along_k @ along_i / (along_i @ along_i), along_k @ along_j / (along_j @ along_j)])
    drifts = np.arange(len(hu))[:, None] * drift
    start = drifts.min(axis=0)
    grown = np.ceil(drifts.max(axis=0) - start).astype(int)
    size_j, size_i = hu.shape[1] + int(grown[1]), hu.shape[2] + int(grown[0])

    out = np.empty((len(hu), size_j, size_i), hu.dtype)
    for k, (shift_i, shift_j) in enumerate(drifts - start):
        over_air = hu[k].astype(np.float32) - np.float32(_AIR_HU)
        moved = _shifted(_shifted(over_air, shift_j, size_j).T, shift_i, size_i).T + np.float32(_AIR_HU)
        out[k] = np.rint(moved) if hu.dtype.kind == "i" else moved

    affine = ras_from_ijk.copy()
    affine[:3, 2] = along_k - drift[0] * along_i - drift[1] * along_j
    affine[:3, 3] += start[0] * along_i + start[1] * along_j
    return out, affine


def _shifted(image: npt.NDArray[np.float32], shift: float, size: int) -> npt.NDArray[np.float32]:
    """Rows of the image moved down by `shift` ≥ 0 rows into `size` rows; zero where there are none."""
    whole = int(np.floor(shift))
    part = np.float32(shift - whole)
    rows = len(image)
    out = np.zeros((size, image.shape[1]), np.float32)
    out[whole : whole + rows] += (1 - part) * image
    if part:
        out[whole + 1 : whole + 1 + rows] += part * image
    return out
