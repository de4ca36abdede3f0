"""A material volume in 16 bits per voxel, with the occupied part of every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..threads import in_slabs

if TYPE_CHECKING:
    from ..materials import Material
    from ..volume import MaterialVolume

MAX_MATERIALS = 16
MAX_LEVEL = (1 << 12) - 1

Rows = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class PackedVolume:
    """Density and label of each voxel in one word, as the projector's inner loop reads them.

    codes (nk, nj, ni) uint16: the density in units of its material's scale in the upper 12 bits, the label in the
    lower 4. rows[axis]: first and one-past-last occupied voxel of each row that the rays cross when they follow that
    axis, indexed [row, slice]. box: first and one-past-last voxel along i, j, k that matter reaches by interpolation.
    """

    codes: npt.NDArray[np.uint16]
    scales_g_cm3: npt.NDArray[np.float64]
    materials: tuple[Material, ...]
    ras_from_ijk: npt.NDArray[np.float64]
    rows: tuple[Rows, Rows, Rows]
    box: tuple[tuple[int, int], ...]


def pack(volume: MaterialVolume, threads: int) -> PackedVolume:
    """Packs a volume; each density is rounded to 1/4095 of the densest voxel of its material."""
    from . import kernels_pack as kernels

    density = np.ascontiguousarray(volume.density_g_cm3, np.float32)
    labels = np.ascontiguousarray(volume.labels, np.uint8)
    nk, nj, ni = density.shape
    count = len(volume.materials)
    if count > MAX_MATERIALS:
        raise ValueError(f"{count} materials in one volume; the projector takes {MAX_MATERIALS}: merge some.")

    peaks: list[npt.NDArray[np.float32]] = []

    def find_peaks(k0: int, k1: int) -> None:
        peak = np.zeros(count, np.float32)
        top = kernels.densest(density, labels, k0, k1, peak)
        if top >= count:
            raise ValueError(f"Label {top} has no material: the volume names {count} (labels 0 to {count - 1}).")
        peaks.append(peak)

    in_slabs(find_peaks, nk, threads)
    peak = np.max(peaks, axis=0)
    codes_per_g_cm3 = np.divide(MAX_LEVEL, peak, out=np.zeros_like(peak), where=peak > 0)

    codes = np.empty(density.shape, np.uint16)
    along_i = np.empty((nk, nj), np.int32), np.empty((nk, nj), np.int32)
    along_j = np.empty((nk, ni), np.int32), np.empty((nk, ni), np.int32)

    def fill(k0: int, k1: int) -> None:
        kernels.pack_codes(density, labels, codes_per_g_cm3, k0, k1, codes)
        kernels.occupied(codes, k0, k1, *along_i, *along_j)

    in_slabs(fill, nk, threads)
    return PackedVolume(
        codes=codes,
        scales_g_cm3=peak.astype(np.float64) / MAX_LEVEL,
        materials=volume.materials,
        ras_from_ijk=np.asarray(volume.ras_from_ijk, np.float64),
        box=(_reach(*along_i, ni), _reach(*along_j, nj), _reach(*_occupied_slices(along_i), nk)),
        rows=(along_j, along_i, (np.ascontiguousarray(along_i[0].T), np.ascontiguousarray(along_i[1].T))),
    )


def _occupied_slices(along_i: Rows) -> Rows:
    k = np.flatnonzero((along_i[1] > 0).any(axis=1)).astype(np.int32)
    return k, k + 1


def _reach(start: npt.NDArray[np.int32], stop: npt.NDArray[np.int32], count: int) -> tuple[int, int]:
    """The range of all occupied voxels, one voxel wider where the volume goes on."""
    occupied = stop > start
    if not occupied.any():
        return 0, 0
    return max(int(start[occupied].min()) - 1, 0), min(int(stop[occupied].max()) + 1, count)
