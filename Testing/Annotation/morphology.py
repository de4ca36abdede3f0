"""Morphology in millimetres, and holes as they are seen slice by slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from grids import Mask, box_around
from scipy import ndimage

Sampling = tuple[float, float, float]


def dilated(mask: Mask, radius_mm: float, sampling_mm: Sampling) -> Mask:
    """All voxels within a distance of the mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling_mm) <= radius_mm)


def closed(mask: Mask, radius_mm: float, sampling_mm: Sampling) -> Mask:
    """The mask with gaps narrower than twice the radius bridged."""
    margin = tuple(int(np.ceil(radius_mm / step)) + 1 for step in sampling_mm)
    padded = np.pad(mask, [(m, m) for m in margin])
    grown = dilated(padded, radius_mm, sampling_mm)
    kept = ndimage.distance_transform_edt(grown, sampling_mm) > radius_mm
    k, j, i = margin
    return np.asarray(kept[k:-k, j:-j, i:-i] | mask)


def holes_in_slices(mask: Mask, axis: int, max_mm2: float = np.inf, border_mm2: float = 0.0, mm2: float = 1.0) -> Mask:
    """What the mask encloses in the slices across an axis, of no more than an area.

    `mm2` is the area of a pixel of these slices. What touches the border of the volume counts as enclosed only up to
    `border_mm2`, for bones that are cut off there.
    """
    plane = ndimage.generate_binary_structure(3, 1)
    plane[tuple(slice(0, 1) if a == axis else slice(None) for a in range(3))] = False
    plane[tuple(slice(2, 3) if a == axis else slice(None) for a in range(3))] = False
    box = box_around(mask, (1, 1, 1))
    empty, _ = ndimage.label(~mask[box], plane)
    areas = np.bincount(empty.ravel()) * mm2
    allowed = areas <= max_mm2
    for other in {0, 1, 2} - {axis}:
        for end, cut in ((0, box[other].start == 0), (-1, box[other].stop == mask.shape[other])):
            touching = np.unique(np.take(empty, end, other))
            allowed[touching] &= (areas[touching] <= border_mm2) & cut  # beyond a mere box the outside goes on
    allowed[0] = False
    holes = np.zeros_like(mask)
    holes[box] = allowed[empty]
    return holes


def component_sizes(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Labels of the connected parts (26 neighbours) and how many voxels each has; background is 0."""
    parts, count = ndimage.label(mask, np.ones((3, 3, 3), np.bool_))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return parts, sizes
