"""Contrast medium where a CT shows a little of it: the same patient in an earlier phase of the same injection."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from grids import Scan
from morphology import component_sizes
from scipy import ndimage


def enhanced(
    scan: Scan,
    labels: npt.NDArray[np.uint8],
    *,
    above_hu: float,
    gain: float,
    bone_mm: float = 2.5,
    least_ml: float = 2.0,
) -> npt.NDArray[np.int16]:
    """CT numbers with blood and what takes up contrast medium made `gain` times as much denser than `above_hu`.

    Enhanced is soft tissue whose mean over some 2 mm exceeds `above_hu`, in parts of `least_ml` or more, `bone_mm` and
    more from bone, whose blurred cortex is as dense. The raised part is blurred like the CT, so that it has no edges.
    """
    sigma = [1.5 / step for step in scan.sampling_mm]
    mean = ndimage.gaussian_filter(scan.hu.astype(np.float32), sigma, truncate=2.0)
    reach = [int(np.ceil(bone_mm / step)) for step in scan.sampling_mm]
    near_bone = ndimage.binary_dilation(labels == 2, np.ones([2 * n + 1 for n in reach], np.bool_))
    parts, sizes = component_sizes(ndimage.binary_opening((mean > above_hu) & (labels == 1) & ~near_bone))
    pool = (sizes * scan.voxel_ml >= least_ml)[parts]
    excess = np.where(pool, np.maximum(mean - above_hu, 20.0), 0.0).astype(np.float32)
    raised = ndimage.gaussian_filter(excess, [0.6 / step for step in scan.sampling_mm], truncate=3.0)
    hu = scan.hu + gain * raised
    return np.where(labels == 0, scan.hu, np.rint(np.clip(hu, -1024, 3071))).astype(np.int16)
