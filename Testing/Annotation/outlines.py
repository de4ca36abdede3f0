"""What a person outlined in some slices, and between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from grids import Mask, Scan, signed_distances

Outline = tuple[float, Sequence[Sequence[float]]]
"""S in mm, and the corners (R, A) of a polygon in mm; the last joins the first."""


def outlined(scan: Scan, outlines: Sequence[Outline]) -> Mask:
    """All voxels in the polygons, each of which counts for the slice nearest to it; contours move evenly between them.

    Several polygons in one slice add up. Those above or below the scan count for what is between them and the others.
    ValueError for one of less than three corners.
    """
    r, a, s = (axis.ravel() for axis in scan.axes_ras())
    drawn: dict[int, Mask] = {}
    for level, corners in outlines:
        if len(corners) < 3:
            raise ValueError(f"Outline at S {level}: {len(corners)} corners; give at least 3.")
        k = int(np.rint((level - s[0]) / scan.spacing_mm[2]))
        drawn[k] = drawn.get(k, np.zeros((a.size, r.size), np.bool_)) | _inside(r, a, corners)
    mask = np.zeros(scan.hu.shape, np.bool_)
    slices = sorted(drawn)
    for k in slices:
        if 0 <= k < len(mask):
            mask[k] = drawn[k]
    distances = signed_distances(np.array([drawn[k] for k in slices]), scan.sampling_mm[1:])
    for (below, near), (above, far) in pairwise(zip(slices, distances, strict=True)):
        for k in range(max(below + 1, 0), min(above, len(mask))):
            share = (k - below) / (above - below)
            mask[k] = (1.0 - share) * near + share * far > 0.0
    return mask


def _inside(r: npt.NDArray[np.float32], a: npt.NDArray[np.float32], corners: Sequence[Sequence[float]]) -> Mask:
    """Of the points (a, r) those from which a line to the right crosses the polygon an odd number of times."""
    inside = np.zeros((a.size, r.size), np.bool_)
    points = np.array(corners, float)
    for (r0, a0), (r1, a1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crossed = (a0 > a) != (a1 > a)
        at = r0 + (a[crossed] - a0) * (r1 - r0) / (a1 - a0) if crossed.any() else np.empty(0)
        inside[crossed] ^= r[None, :] < at[:, None]
    return inside
