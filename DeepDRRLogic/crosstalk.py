"""Crosstalk: the part of a pixel's signal that its neighbours give, as light that spreads in a scintillator does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Kernel = tuple[tuple[float, ...], ...]

NO_CROSSTALK: Kernel = ((1.0,),)


def separable_kernel(profile: Sequence[float]) -> Kernel:
    """Return the square kernel whose rows and columns are both `profile`."""
    return tuple(tuple(a * b for b in profile) for a in profile)


def checked_kernel(kernel: Kernel) -> Float32Array:
    """Return the kernel as a float32 array; ValueError unless it is odd-sized and sums to 1."""
    try:
        values = np.array(kernel, dtype=np.float64)
    except ValueError as error:
        raise ValueError("The crosstalk kernel is ragged; give rows of one length.") from error
    if values.ndim != 2 or not values.size or values.shape[0] % 2 == 0 or values.shape[1] % 2 == 0:
        raise ValueError(f"The crosstalk kernel has shape {values.shape}; give odd numbers of rows and columns.")
    if not abs(values.sum() - 1.0) < 1e-6:
        raise ValueError(f"The crosstalk kernel sums to {values.sum():g}; divide it by that, so that it sums to 1.")
    return values.astype(np.float32)


def widened(planes: Float32Array, kernel: Kernel) -> Float32Array:
    """Return planes (C, H, W) with the margin that `spread` takes off; beyond the border all is as at the border."""
    rows, columns = len(kernel) // 2, len(kernel[0]) // 2
    if not rows and not columns:
        return planes
    return np.pad(planes, ((0, 0), (rows, rows), (columns, columns)), mode="edge")


def spread(planes: Float32Array, kernel: Kernel) -> Float32Array:
    """Return the planes (C, H, W), float32, that `widened` ones give when every pixel shares by `kernel`.

    A kernel of one weight returns the planes themselves. Its weights are given in the order in which the planes are
    stored: pixel (v, u) takes kernel[dv][du] of pixel (v + dv - H_k // 2, u + du - W_k // 2).
    """
    weights = checked_kernel(kernel)
    if weights.size == 1:
        return planes
    height, width = (n - k + 1 for n, k in zip(planes.shape[1:], weights.shape, strict=True))
    shared = np.zeros((len(planes), height, width), np.float32)
    for (row, column), weight in np.ndenumerate(weights):
        if weight:
            shared += weight * planes[:, row : row + height, column : column + width]
    return shared
