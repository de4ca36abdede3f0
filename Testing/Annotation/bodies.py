"""The body without the couch, and the air in it."""

from __future__ import annotations

import numpy as np
from grids import Mask, Scan
from morphology import holes_in_slices
from scipy import ndimage

AIR_MAX_HU = -500.0
"""Half-way between air or lung and soft tissue: where a blurred boundary is drawn."""


def body_mask(scan: Scan, least_half_thickness_mm: float = 9.0) -> Mask:
    """The body with the gas in it: what is denser than air, thick enough to be no couch, and holes in its slices.

    A couch, a headrest or a sheet is a shell: nowhere is it further than `least_half_thickness_mm` from its border.
    """
    dense = scan.hu > AIR_MAX_HU
    step = max(1, round(1.5 / scan.spacing_mm[0]))
    opened = ndimage.binary_erosion(dense, _disc(step))
    parts, count = ndimage.label(opened)
    kept = np.zeros(count + 1, np.bool_)
    volumes = np.bincount(parts.ravel(), minlength=count + 1) * scan.voxel_ml
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        kept[index] = volumes[index] > 10.0 and _is_thick(parts[box] == index, scan, least_half_thickness_mm)
    core = kept[parts]
    grown = ndimage.binary_dilation(core, _disc(step + 1)) & dense
    return grown | holes_in_slices(grown, axis=0)


def _is_thick(part: Mask, scan: Scan, half_thickness_mm: float) -> bool:
    """Whether some slice through the part holds a disc of that radius."""
    sampling = scan.sampling_mm[1:]
    slices = range(0, len(part), max(1, len(part) // 12))
    padded = (np.pad(part[k] | holes_in_slices(part[k : k + 1], axis=0)[0], 1) for k in slices)
    return any(ndimage.distance_transform_edt(p, sampling).max() > half_thickness_mm for p in padded)


def _disc(radius: int) -> Mask:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius + 1)[None]
