"""Crosstalk: the part of a pixel's signal that its neighbours give, as light that spreads in a scintillator does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .checks import check_positive
from .threads import in_slabs, thread_count

Float32Array = npt.NDArray[np.float32]
Kernel = tuple[tuple[float, ...], ...]

NO_CROSSTALK: Kernel = ((1.0,),)

_LEAST_SHARE = 0.995
"""A kernel ends where so much of the light is in it; the rest is shared out among its pixels."""


@dataclass(frozen=True)
class LightSpread:
    """How far light spreads in a scintillator, in mm: what a pixel's neighbours get depends on its size.

    A detail of frequency f, in 1/mm, keeps 1 / (1 + area_mm2 · f²) of its contrast, and what a square pixel averages
    comes on top. Raises ValueError for an area that is not positive.
    """

    area_mm2: float

    def __post_init__(self) -> None:
        check_positive("area_mm2", self.area_mm2)

    def kernel(self, pixel_pitch_mm: tuple[float, float]) -> Kernel:
        """The shares that a pixel's neighbours get of its light, for pixels of so many mm along u and v."""
        pitch_u, pitch_v = (round(pitch, 5) for pitch in pixel_pitch_mm)  # angles of one C-arm differ by rounding
        return _shares(self.area_mm2, pitch_u, pitch_v)


Crosstalk = Kernel | LightSpread
"""What pixels share: an odd-sized kernel that sums to 1, or a spread in mm, which becomes one at a pixel's size."""


def kernel_at(crosstalk: Crosstalk, pixel_pitch_mm: tuple[float, float]) -> Kernel:
    """The kernel of a crosstalk for pixels of so many mm along u and v."""
    return crosstalk.kernel(pixel_pitch_mm) if isinstance(crosstalk, LightSpread) else crosstalk


@lru_cache(maxsize=64)
def _shares(area_mm2: float, pitch_u_mm: float, pitch_v_mm: float) -> Kernel:
    """1 / (1 + A f²) = ∫ e^-t e^(-t A f²) dt: Gaussians of σ² = t A / 2π², each of which is integrated over pixels."""
    logarithms = np.linspace(-16.0, 4.2, 64)
    t = np.exp(logarithms)
    weights = t * np.exp(-t)
    sigmas = np.sqrt(t * area_mm2 / 2.0) / math.pi
    across = [_gaussians_in_pixels(sigmas, pitch) for pitch in (pitch_v_mm, pitch_u_mm)]
    shares = np.einsum("t,tv,tu->vu", weights / weights.sum(), *across)
    while shares[1:-1, 1:-1].sum() >= _LEAST_SHARE:
        shares = shares[1:-1, 1:-1]
    return tuple(map(tuple, (shares / shares.sum()).tolist()))


def _gaussians_in_pixels(sigmas: npt.NDArray[np.float64], pitch: float) -> npt.NDArray[np.float64]:
    """What pixels around the middle one get of Gaussians in its centre, (sigma, pixel)."""
    reach = math.ceil(6.0 * float(sigmas[-1]) / pitch)
    edges = (np.arange(-reach, reach + 2) - 0.5) * pitch
    error_function = np.vectorize(math.erf)
    below = 0.5 * (1.0 + error_function(edges / (math.sqrt(2.0) * sigmas[:, None])))
    shares: npt.NDArray[np.float64] = np.diff(below, axis=1)
    return shares


def separable_kernel(profile: Sequence[float]) -> Kernel:
    """Return the square kernel whose rows and columns are both `profile`."""
    return tuple(tuple(a * b for b in profile) for a in profile)


def checked_kernel(kernel: Crosstalk) -> Float32Array:
    """Return the kernel as a float32 array; ValueError unless it is one, odd-sized, and sums to 1."""
    if isinstance(kernel, LightSpread):
        raise ValueError(f"{kernel} spreads light in mm: ask for the kernel of a pixel's size, kernel_at(...).")
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


def spread(planes: Float32Array, kernel: Kernel, threads: int | None = None) -> Float32Array:
    """Return the planes (C, H, W), float32, that `widened` ones give when every pixel shares by `kernel`.

    A kernel of one weight returns the planes themselves. Its weights are given in the order in which the planes are
    stored: pixel (v, u) takes kernel[dv][du] of pixel (v + dv - H_k // 2, u + du - W_k // 2).
    """
    weights = checked_kernel(kernel)
    if weights.size == 1:
        return planes
    height, width = (n - k + 1 for n, k in zip(planes.shape[1:], weights.shape, strict=True))
    shared = np.empty((len(planes), height, width), np.float32)
    from .crosstalk_kernels import share_rows

    rows = np.ascontiguousarray(planes, np.float32)
    in_slabs(lambda first, last: share_rows(rows, weights, first, last, shared), height, thread_count(threads))
    return shared
