"""A material volume in 16 bits per voxel, with the occupied part of every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..threads import in_slabs

if TYPE_CHECKING:
    from ..volume import MaterialVolume

MAX_MATERIALS = 16
MAX_LEVEL = (1 << 12) - 1

Rows = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


HARD_PER_CM = 1.2
"""Attenuation above which matter is hard: more than that of any bone, less than that of any metal but aluminium."""

HARD_PER_VOXEL = 0.1
"""What a voxel of hard matter attenuates at least; finer ones need no finer lines."""

HARDNESS_ENERGY_KEV = 60.0


@dataclass(frozen=True, eq=False)
class PackedVolume:
    """Density and label of each voxel in one word, as the projector's inner loop reads them.

    codes (nk, nj, ni) uint16: the density in units of its material's scale in the upper 12 bits, in the lower 4 which
    of the `members` it is. members: the materials that have a voxel here, by their labels in the whole volume.
    rows[axis]: first and one-past-last occupied voxel of each row that the rays cross when they follow that
    axis, indexed [row, slice]. box: first and one-past-last voxel along i, j, k that matter reaches by interpolation.
    is_hard: whether this is the metal of a volume.
    """

    codes: npt.NDArray[np.uint16]
    scales_g_cm3: npt.NDArray[np.float64]
    members: npt.NDArray[np.int64]
    ras_from_ijk: npt.NDArray[np.float64]
    rows: tuple[Rows, Rows, Rows]
    box: tuple[tuple[int, int], ...]
    is_hard: bool


def pack(volume: MaterialVolume, threads: int) -> tuple[PackedVolume, ...]:
    """Packs a volume in up to two parts whose area densities add up: its hard voxels, and all others.

    Interpolation is linear, so that the parts of a volume may be projected one by one; the edges of metal need finer
    lines than patients do. Each density is rounded to 1/4095 of the densest voxel of its material in its part.
    """
    density = np.ascontiguousarray(volume.density_g_cm3, np.float32)
    labels = np.ascontiguousarray(volume.labels, np.uint8)
    if len(volume.materials) > MAX_MATERIALS:
        raise ValueError(
            f"{len(volume.materials)} materials in one volume; the projector takes {MAX_MATERIALS}: merge some."
        )
    limits = _hardness_limits(volume)
    peaks, box = _densest(density, labels, limits, threads)
    affine = np.asarray(volume.ras_from_ijk, np.float64)
    nothing, everything = np.zeros_like(limits), np.full_like(limits, np.inf)
    parts = []
    if peaks[0].any():
        parts.append(_pack(density, labels, (nothing, limits), peaks[0], affine, False, threads))
    if peaks[1].any():
        # With a voxel of nothing around it, into which interpolation reaches.
        low = np.maximum(box[:, 0] - 1, 0)
        k, j, i = (slice(*ends) for ends in zip(low[::-1], box[::-1, 1] + 1, strict=True))
        crop = np.ascontiguousarray(density[k, j, i]), np.ascontiguousarray(labels[k, j, i])
        shifted = affine.copy()
        shifted[:3, 3] += affine[:3, :3] @ low
        parts.append(_pack(*crop, (limits, everything), peaks[1], shifted, True, threads))
    return tuple(parts)


def _hardness_limits(volume: MaterialVolume) -> npt.NDArray[np.float32]:
    """The density of each material above which a voxel is hard, in g/cm³."""
    per_cm = max(HARD_PER_CM, HARD_PER_VOXEL / (0.1 * min(volume.spacing_mm)))
    attenuation = [float(material.mass_attenuation_cm2_g(HARDNESS_ENERGY_KEV)) for material in volume.materials]
    return (per_cm / np.array(attenuation)).astype(np.float32)


def _densest(
    density: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8], limits: npt.NDArray[np.float32], threads: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The largest density of each material up to its limit and above it (2, n_materials), and the box of the latter."""
    from . import kernels_pack as kernels

    found: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]] = []

    def look(k0: int, k1: int) -> None:
        peaks, box = np.zeros((2, limits.size), np.float32), np.array([[2**40, 0]] * 3)
        top = kernels.densest(density, labels, limits, k0, k1, peaks, box)
        if top >= limits.size:
            raise ValueError(
                f"Label {top} has no material: the volume names {limits.size} (labels 0 to {limits.size - 1})."
            )
        found.append((peaks, box))

    in_slabs(look, len(density), threads)
    boxes = np.array([box for _, box in found])
    return np.max([peaks for peaks, _ in found], axis=0), np.stack([boxes[..., 0].min(0), boxes[..., 1].max(0)], axis=1)


def _pack(
    density: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    limits: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    peak: npt.NDArray[np.float32],
    ras_from_ijk: npt.NDArray[np.float64],
    is_hard: bool,
    threads: int,
) -> PackedVolume:
    """The voxels whose density lies above the first and up to the second limit of their materials."""
    from . import kernels_pack as kernels

    members = np.flatnonzero(peak > 0)
    numbers = np.zeros(peak.size, np.uint16)
    numbers[members] = np.arange(members.size)
    codes_per_g_cm3 = np.divide(MAX_LEVEL, peak, out=np.zeros_like(peak), where=peak > 0)

    nk, nj, ni = density.shape
    codes = np.empty(density.shape, np.uint16)
    along_i = np.empty((nk, nj), np.int32), np.empty((nk, nj), np.int32)
    along_j = np.empty((nk, ni), np.int32), np.empty((nk, ni), np.int32)

    def fill(k0: int, k1: int) -> None:
        kernels.pack_codes(density, labels, *limits, codes_per_g_cm3, numbers, k0, k1, codes)
        kernels.occupied(codes, k0, k1, *along_i, *along_j)

    in_slabs(fill, nk, threads)
    return PackedVolume(
        codes=codes,
        scales_g_cm3=peak[members].astype(np.float64) / MAX_LEVEL,
        members=members,
        ras_from_ijk=ras_from_ijk,
        box=(_reach(*along_i, ni), _reach(*along_j, nj), _reach(*_occupied_slices(along_i), nk)),
        rows=(along_j, along_i, (np.ascontiguousarray(along_i[0].T), np.ascontiguousarray(along_i[1].T))),
        is_hard=is_hard,
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
