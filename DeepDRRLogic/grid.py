"""What everything on a voxel grid can say of the place it takes in the world."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt

from .affine import FloatArray, apply, is_left_handed, is_oblique, orientation, spacing_mm

# Two files of one grid differ by what single precision loses at a metre from the origin, not by more.
_SAME_PLACE_MM = 1e-2


class OnGrid:
    """Voxels [k, j, i] with an affine: centres at integers, the volume reaching from -0.5 to n - 0.5."""

    ras_from_ijk: FloatArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along k, j, i, as NumPy counts them."""
        raise NotImplementedError

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j, k."""
        return spacing_mm(self.ras_from_ijk)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Length of the volume's edges along i, j, k, from voxel border to voxel border."""
        i, j, k = (n * step for n, step in zip(self.shape[::-1], self.spacing_mm, strict=True))
        return i, j, k

    @property
    def orientation(self) -> str:
        """Where i, j and k lead, such as "RAS" or "LPS"; for an oblique volume the nearest."""
        return orientation(self.ras_from_ijk)

    @property
    def is_oblique(self) -> bool:
        """Whether the axes lean from the anatomical ones."""
        return is_oblique(self.ras_from_ijk)

    @property
    def is_left_handed(self) -> bool:
        """Whether i, j, k form a left-handed system, such as "LAS"."""
        return is_left_handed(self.ras_from_ijk)

    @property
    def center_ras(self) -> FloatArray:
        """The middle of the volume, shape (3,), RAS mm."""
        return apply(self.ras_from_ijk, (np.array(self.shape[::-1]) - 1.0) / 2.0)

    @property
    def corners_ras(self) -> FloatArray:
        """The eight corners of the volume's extent, shape (8, 3), RAS mm."""
        borders = [(-0.5, n - 0.5) for n in self.shape[::-1]]
        return apply(self.ras_from_ijk, list(product(*borders)))

    @property
    def ijk_from_ras(self) -> FloatArray:
        """The inverse of `ras_from_ijk`, shape (4, 4)."""
        return np.asarray(np.linalg.inv(self.ras_from_ijk), np.float64)


def require_same_grid(one: OnGrid, other: OnGrid, names: tuple[str, str], remedy: str) -> None:
    """Raise ValueError unless both have the same shape and lie in the same place to 0.01 mm."""
    if one.shape != other.shape:
        raise ValueError(
            f"The {names[0]} has {size_text(one.shape)} voxels and the {names[1]} {size_text(other.shape)}: "
            f"their grids must agree. {remedy}"
        )
    apart_mm = float(np.abs(one.corners_ras - other.corners_ras).max())
    if apart_mm > _SAME_PLACE_MM:
        raise ValueError(
            f"The {names[0]} and the {names[1]} both have {size_text(one.shape)} voxels but lie up to "
            f"{apart_mm:.3g} mm apart: their grids must agree. {remedy}"
        )


def grid_text(volume: OnGrid) -> str:
    """Size, spacing and orientation in a few words, as in "512×512×275 voxels of 0.781×0.781×1.25 mm, LPS"."""
    spacing = "×".join(f"{step:.3g}" for step in volume.spacing_mm)
    return f"{size_text(volume.shape)} voxels of {spacing} mm, {volume.orientation}"


def size_text(shape: tuple[int, ...]) -> str:
    """A shape [k, j, i] as people say it, i first: "512×512×275"."""
    return "×".join(str(n) for n in reversed(shape))


def block_factors(factor: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """Whole factors along i, j, k from one number or three; ValueError below 1."""
    factors = np.broadcast_to(factor, 3).tolist() if np.ndim(factor) == 0 else list(factor)  # type: ignore[arg-type]
    if len(factors) != 3 or any(int(f) != f or f < 1 for f in factors):
        raise ValueError(f"Downsampling factor {factor}: give a whole number from 1, or three along i, j, k.")
    i, j, k = (int(f) for f in factors)
    return i, j, k


def blocked_affine(ras_from_ijk: FloatArray, factors: tuple[int, int, int]) -> FloatArray:
    """The affine of blocks of voxels: block (0, 0, 0) starts at the outer corner of voxel (0, 0, 0)."""
    voxel_from_block = np.diag([*factors, 1.0])
    voxel_from_block[:3, 3] = (np.array(factors) - 1.0) / 2.0
    return ras_from_ijk @ voxel_from_block


def blocked_shape(shape: tuple[int, int, int], factors: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many blocks cover a shape [k, j, i]; the last of a row may reach beyond the volume."""
    k, j, i = (math.ceil(n / f) for n, f in zip(shape, reversed(factors), strict=True))
    return k, j, i


def as_volume(array: npt.ArrayLike, name: str, least: int = 1) -> npt.NDArray[np.generic]:
    """The array in C order; ValueError unless it has three dimensions of `least` voxels or more."""
    volume = np.asarray(array)
    if volume.ndim != 3:
        raise ValueError(
            f"{name} has {volume.ndim} dimensions, shape {volume.shape}: give one scalar volume [k, j, i]; "
            "choose one time point or one colour channel."
        )
    if volume.size == 0:
        raise ValueError(f"{name} is empty: its shape is {volume.shape}.")
    if min(volume.shape) < least:
        raise ValueError(
            f"{name} has {size_text(volume.shape)} voxels: at least {least} are needed along every axis. A "
            "single slice is no volume; give the whole series."
        )
    return np.ascontiguousarray(volume)
