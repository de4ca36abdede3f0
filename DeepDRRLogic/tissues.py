"""Spongy bone, marrow and fat: finer materials than air, soft tissue and bone, told by their CT numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .grid import require_same_grid
from .materials import material

if TYPE_CHECKING:
    from .materials import Material
    from .volume import CTVolume, MaterialLabels

FAT_MIN_HU = -200.0
FAT_MAX_HU = -15.0
SPONGY_MIN_HU = 170.0
COMPACT_MIN_HU = 700.0
"""Half-way in attenuation at 60 kV from one tissue to the next: below and above it the error of either is the same.

Below FAT_MIN_HU is lung, much as soft tissue but for its density.
"""


def with_tissues(ct: CTVolume, labels: MaterialLabels) -> MaterialLabels:
    """The labels with bone split into compact bone, spongy bone and marrow, and soft tissue into fat and the rest.

    Densities follow the CT number whatever the material is, at the energy of the CT; at others what a voxel is made of
    counts. A thin layer of spongy bone that is taken for compact bone attenuates 31 % too much at 60 kV and 5 % at
    120 kV, fat that is taken for soft tissue 7 and 1 %. Below SPONGY_MIN_HU bone is marrow, soft tissue or fat as
    elsewhere; below COMPACT_MIN_HU it is "trabecular_bone"; soft tissue from FAT_MIN_HU to FAT_MAX_HU is "adipose".
    Other materials stay. ValueError for labels of another grid, and without "bone" and "soft_tissue" among their
    materials.
    """
    names = [material.name for material in labels.materials]
    if missing := {"soft_tissue", "bone"} - set(names):
        raise ValueError(f"There are {', '.join(names)}, but no {' or '.join(sorted(missing))} to tell tissues from.")
    require_same_grid(ct, labels, ("CT", "labels"), "Resample the labels with labels.resampled(ct).")
    materials, (soft, bone, spongy, fat) = _among(labels.materials, "soft_tissue", "bone", "trabecular_bone", "adipose")
    found = labels.labels.copy()
    for plane, hu in zip(found, ct.hu, strict=True):
        in_bone = plane == bone
        plane[in_bone & (hu < COMPACT_MIN_HU)] = spongy
        plane[in_bone & (hu < SPONGY_MIN_HU)] = soft
        plane[(plane == soft) & (hu >= FAT_MIN_HU) & (hu < FAT_MAX_HU)] = fat
    return type(labels)(found, materials, labels.ras_from_ijk)


def _among(materials: tuple[Material, ...], *names: str) -> tuple[tuple[Material, ...], list[np.uint8]]:
    """The materials with those of the names that they lack, and the labels of the named ones."""
    known = {material.name: material for material in materials}
    known |= {name: material(name) for name in names if name not in known}
    listed = list(known)
    return tuple(known.values()), [np.uint8(listed.index(name)) for name in names]
