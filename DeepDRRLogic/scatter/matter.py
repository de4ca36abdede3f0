"""The matter that scatters: one volume out of several, no finer than scatter needs, and the box that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from ..affine import FloatArray, apply
from ..grid import block_factors
from ..memory import require_memory
from ..volume import MaterialVolume
from ..voxels import nearest

_MERGED_BYTES = 20
"""Of a voxel while volumes are merged: two densities, two labels, and what one volume adds."""


def coarsened(volume: MaterialVolume, voxel_mm: float | None) -> MaterialVolume:
    """The volume with voxels of about `voxel_mm` where they were smaller; None leaves it as it is."""
    if voxel_mm is None:
        return volume
    i, j, k = (max(1, round(voxel_mm / step)) for step in volume.spacing_mm)
    return volume.downsampled(block_factors((i, j, k)))


def joined(volumes: MaterialVolume | Sequence[MaterialVolume], voxel_mm: float) -> MaterialVolume:
    """One volume with voxels of about `voxel_mm` or larger from one or several; ValueError for none."""
    if isinstance(volumes, MaterialVolume):
        return coarsened(volumes, voxel_mm)
    if not volumes:
        raise ValueError("No volume to scatter in: give at least one MaterialVolume.")
    return coarsened(volumes[0], voxel_mm) if len(volumes) == 1 else merged(volumes, voxel_mm)


def merged(volumes: Sequence[MaterialVolume], voxel_mm: float) -> MaterialVolume:
    """Several volumes as one, on a grid along RAS around all that they hold: densities add, the heavier label counts.

    Every voxel is the mean of eight nearest samples, so that masses are kept to what such sampling keeps. ValueError
    where the grid does not fit into memory.
    """
    materials = tuple(dict.fromkeys(material for volume in volumes for material in volume.materials))
    corners = np.concatenate([body_box(volume)[1] for volume in volumes])
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = 0.5 * voxel_mm
    i, j, k = (int(n) for n in np.ceil((high - low) / step))
    require_memory(
        (k, j, i), _MERGED_BYTES, "The box around all volumes, for their scatter,", "bring them nearer together"
    )
    ras_from_ijk = np.diag([step, step, step, 1.0])
    ras_from_ijk[:3, 3] = low + 0.5 * step
    total, heaviest = np.zeros((k, j, i), np.float32), np.zeros((k, j, i), np.float32)
    labels = np.zeros((k, j, i), np.uint8)
    for volume in volumes:
        inside = volume.ijk_from_ras @ ras_from_ijk
        density = nearest(volume.density_g_cm3, inside, (k, j, i))
        label = nearest(volume.labels, inside, (k, j, i))
        new = np.array([materials.index(material) for material in volume.materials], np.uint8)
        heavier = density > heaviest
        labels[heavier] = new[label[heavier]]
        heaviest[heavier] = density[heavier]
        total += density
    return MaterialVolume(total, labels, materials, ras_from_ijk).downsampled(2)


def occupied(density: npt.NDArray[np.float32], axis: int) -> slice:
    """The slices along an axis that hold matter, or the first."""
    others = tuple(a for a in range(3) if a != axis)
    filled = np.flatnonzero(density.any(axis=others))
    return slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 1)


def body_box(volume: MaterialVolume) -> tuple[tuple[slice, slice, slice], FloatArray]:
    """The slices [k, j, i] that hold all mass of a volume, and the corners (8, 3) of that box in RAS mm."""
    box = (occupied(volume.density_g_cm3, 0), occupied(volume.density_g_cm3, 1), occupied(volume.density_g_cm3, 2))
    ends = [(axis.start - 0.5, axis.stop - 0.5) for axis in reversed(box)]
    return box, apply(volume.ras_from_ijk, np.array(list(product(*ends))))
