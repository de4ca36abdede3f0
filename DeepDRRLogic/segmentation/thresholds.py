"""Materials by thresholds on Hounsfield units: no network, no waiting, right where contrast agent and
metal are absent."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from ..checks import check_kind
from ..materials import material
from ..threads import in_slabs, thread_count

if TYPE_CHECKING:
    from ..volume import CTVolume, MaterialLabels

AIR_MAX_HU = -800.0
BONE_MIN_HU = 350.0


def segment_by_thresholds(
    ct: CTVolume,
    air_max_hu: float = AIR_MAX_HU,
    bone_min_hu: float = BONE_MIN_HU,
    *,
    air: str = "air",
    soft: str = "soft_tissue",
    bone: str = "bone",
) -> MaterialLabels:
    """Label 0, air, up to `air_max_hu` inclusive; 2, bone, above `bone_min_hu`; 1, soft tissue, between.

    The names choose materials (see materials.material_names). Raises ValueError for thresholds that are not
    finite or in the wrong order, and for unknown materials. Default thresholds: Unberath et al., MICCAI 2018,
    as published with it.
    """
    from ..volume import MaterialLabels

    check_kind("air_max_hu", air_max_hu, Real, "-800")
    check_kind("bone_min_hu", bone_min_hu, Real, "350")
    if not (np.isfinite([air_max_hu, bone_min_hu]).all() and air_max_hu < bone_min_hu):
        raise ValueError(
            f"Thresholds air_max_hu = {air_max_hu} and bone_min_hu = {bone_min_hu}: give two finite values, "
            "that of air below that of bone."
        )
    materials = (material(air), material(soft), material(bone))
    hu = ct.hu
    limits = [_comparable(threshold, hu.dtype) for threshold in (air_max_hu, bone_min_hu)]
    labels = np.empty(hu.shape, np.uint8)

    def label(k0: int, k1: int) -> None:
        for k in range(k0, k1):  # slice by slice, so that the second pass finds the first in the cache
            np.greater(hu[k], limits[0], out=labels[k].view(np.bool_))
            labels[k] += hu[k] > limits[1]

    in_slabs(label, len(hu), thread_count(None))
    return MaterialLabels(labels, materials, ct.ras_from_ijk)


def _comparable(threshold: float, dtype: np.dtype[np.generic]) -> np.generic:
    """The threshold in the CT's own type, to convert no voxel: for whole numbers n > 349.5 is n > 349."""
    if dtype == np.int16:
        limits = np.iinfo(np.int16)
        return np.int16(min(max(np.floor(threshold), limits.min), limits.max))
    return np.float32(threshold)
