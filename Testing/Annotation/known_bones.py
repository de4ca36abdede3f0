"""Bone where anatomical labels are known already: they decide, the CT refines their border."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from bones import Bones, smoothed
from grids import Mask, Scan
from morphology import dilated

BONE_IDS = frozenset(range(25, 51)) | frozenset(range(69, 79)) | frozenset(range(91, 117))
"""TotalSegmentator's numbers (class map "total", version 2): vertebrae, limbs and hips, skull, ribs and sternum."""

VESSEL_IDS = frozenset(range(51, 69))
EDGE_HU = 170.0
BRIM_MM = 1.5


def bones_from_labels(scan: Scan, known: npt.NDArray[np.uint8], not_bone: Mask, surely_bone: Mask) -> Bones:
    """The labelled bones; what is dense beyond them, and in no other organ, is doubtful.

    The labels were drawn by a network on voxels of 1.5 mm, so that the border may be off by one of them.
    """
    bone = np.isin(known, sorted(BONE_IDS))
    organ = (known > 0) & ~bone
    dense = smoothed(scan, 0.5) > EDGE_HU
    near = dilated(bone, BRIM_MM, scan.sampling_mm) & ~organ
    bone = (bone | (near & dense) | surely_bone) & ~not_bone
    doubtful = dilated(bone, 2 * BRIM_MM, scan.sampling_mm) & dense & ~bone & ~organ & ~not_bone
    return Bones(bone, doubtful)
