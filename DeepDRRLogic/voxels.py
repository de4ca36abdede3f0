"""Arrays of voxels to arrays of voxels: densities from CT numbers, blocks, and sampling on another grid."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .affine import FloatArray
from .grid import blocked_shape
from .materials import Material, density_from_hu
from .threads import in_slabs, thread_count

HuArray = npt.NDArray[np.int16] | npt.NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)

AIR = "air"


def densities(
    hu: HuArray,
    labels: npt.NDArray[np.uint8],
    materials: tuple[Material, ...],
    ct_effective_energy_kev: float,
    room_air_max_hu: float,
) -> npt.NDArray[np.float32]:
    """Density in g/cm³ of every voxel by its label; see MaterialVolume.from_ct."""
    density = np.empty(hu.shape, np.float32)

    def of(values: npt.ArrayLike, material: Material) -> npt.NDArray[np.float32]:
        found = density_from_hu(values, material, ct_effective_energy_kev)
        if material.name == AIR:
            found[np.asarray(values) <= room_air_max_hu] = 0.0
        return found

    def by_label(k0: int, k1: int) -> None:
        part, where = density[k0:k1], labels[k0:k1]
        for label, material in enumerate(materials):
            chosen = where == label
            part[chosen] = of(hu[k0:k1][chosen], material)

    if hu.dtype != np.int16:
        in_slabs(by_label, len(hu), thread_count(None), slab=4)
        return density

    # Whole CT numbers have few values: one table row per material replaces the arithmetic on every voxel.
    lowest, highest = int(hu.min()), int(hu.max())
    values = np.arange(lowest, highest + 1, dtype=np.float32)
    table = np.concatenate([of(values, material) for material in materials])

    def look_up(k0: int, k1: int) -> None:
        for k in range(k0, k1):
            row = labels[k].astype(np.int32)
            row *= len(values)
            row += hu[k]
            row -= lowest
            np.take(table, row, out=density[k], mode="clip")  # "raise" would make NumPy buffer the output

    in_slabs(look_up, len(hu), thread_count(None))
    return density


def average_blocks(
    density: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    factors: tuple[int, int, int],
    materials: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Mean density and heaviest label of blocks of (i, j, k) voxels; beyond the edge there is nothing."""
    from . import volume_kernels

    k, j, i = density.shape
    shape = blocked_shape((k, j, i), factors)
    coarse, coarse_labels = np.empty(shape, np.float32), np.empty(shape, np.uint8)

    def work(k0: int, k1: int) -> None:
        volume_kernels.average_blocks(density, labels, factors, materials, k0, k1, coarse, coarse_labels)

    in_slabs(work, shape[0], thread_count(None))
    return coarse, coarse_labels


def nearest(
    source: npt.NDArray[Value],
    source_from_target: FloatArray,
    shape: tuple[int, int, int],
    outside: int = 0,
) -> npt.NDArray[Value]:
    """`source` sampled on a grid of `shape` [k, j, i] whose indices an affine maps to those of the source."""
    from . import volume_kernels

    sampled = np.empty(shape, source.dtype)

    def work(k0: int, k1: int) -> None:
        volume_kernels.nearest(source, source_from_target, k0, k1, source.dtype.type(outside), sampled)

    in_slabs(work, shape[0], thread_count(None))
    return sampled
