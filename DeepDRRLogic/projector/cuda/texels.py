"""A material volume as the GPU's textures hold it: density in 16 bits, label in 8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...threads import in_slabs

if TYPE_CHECKING:
    from ...materials import Material
    from ...volume import MaterialVolume

MAX_MATERIALS = 16
BYTES_PER_VOXEL = 3

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Texels:
    """The part of a volume that holds matter, ready for upload.

    density (nk, nj, ni) float16, in g/cm³. labels (nk, nj, ni) uint8: the material in the lower 5 bits; bit 5 + axis
    says that the voxel and its neighbours towards +p and +q, the four that a slice across that axis interpolates, hold
    matter of more than one material. Where they do not, the label is that of their matter, and one interpolated
    density tells all.
    """

    density: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    ras_from_ijk: npt.NDArray[np.float64]
    materials: tuple[Material, ...]


def check_materials(volume: MaterialVolume) -> None:
    """ValueError for more materials than the kernels take."""
    count = len(volume.materials)
    if count > MAX_MATERIALS:
        raise ValueError(f"{count} materials in one volume; the projector takes {MAX_MATERIALS}: merge some.")


def box_of_matter(volume: MaterialVolume) -> Box:
    """The voxels [k, j, i] that hold matter, and one more to each side where the volume goes on; never empty."""
    full = np.zeros(volume.shape[0], bool)
    slice_full = np.zeros(volume.shape[1:], bool)
    for k, density in enumerate(volume.density_g_cm3):
        matter = density > 0.0
        full[k] = matter.any()
        slice_full |= matter
    return _reach(full), _reach(np.any(slice_full, axis=1)), _reach(np.any(slice_full, axis=0))


def _reach(occupied: npt.NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(occupied)
    if not where.size:
        return slice(0, 1)
    return slice(max(int(where[0]) - 1, 0), min(int(where[-1]) + 2, len(occupied)))


def pack(volume: MaterialVolume, box: Box, threads: int) -> Texels:
    """The texels of a box of a volume; a density beyond 65504 g/cm³, float16's largest, is a ValueError."""
    from .texel_kernels import face_flags

    check_materials(volume)
    density = volume.density_g_cm3[box].astype(np.float16)
    if not np.isfinite(density.max()):
        raise ValueError(f"A density of {volume.density_g_cm3.max():g} g/cm³ is too large: give values below 65504.")
    source = np.ascontiguousarray(volume.labels[box])
    labels = np.empty_like(source)
    # float16 as its bits: numba has no float16, and only "more than zero" is asked for.
    bits = density.view(np.uint16)
    in_slabs(lambda k0, k1: face_flags(bits, source, k0, k1, labels), len(source), threads)

    shift = np.eye(4)
    shift[:3, 3] = [axis.start for axis in reversed(box)]
    return Texels(density, labels, np.asarray(volume.ras_from_ijk, np.float64) @ shift, volume.materials)
