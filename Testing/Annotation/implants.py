"""Implants where a patient has none, and the CT that a scanner would have shown of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from grids import FloatVolume, Mask, Scan, slices_between, squared_distance
from rescans import Filling, Rescan, rescanned

SUBSTANCES = {
    "titanium": ("titanium", 4.43),
    "cobalt_chrome": ("cobalt_chrome", 8.3),
    "stainless_steel": ("stainless_steel", 7.99),
    "cement": ("cortical_bone", 1.9),  # acrylic with barium sulphate absorbs about like this
    "polyethylene": ("water", 0.94),
    "tissue": ("water", 1.05),  # where bone was taken away
}
"""What an implant is made of: a material of the package and its density in g/cm³."""

SOFT, BONE = 1, 2
_SOFT_SUBSTANCES = ("polyethylene", "tissue")


@dataclass(frozen=True, eq=False)
class Implanted:
    """The scan and labels with implants; `metal` is where they are hard."""

    scan: Scan
    labels: npt.NDArray[np.uint8]
    metal: Mask


def implanted(
    scan: Scan, labels: npt.NDArray[np.uint8], parts: Iterable[Mapping[str, Any]], rescan: Rescan
) -> Implanted:
    """A scan with implants, each part in place of the body and of earlier parts; see `_share` for a part.

    Metal and cement are labelled bone, polyethylene and tissue soft. Raises ValueError for an unknown substance and
    for a part that lies outside the scan.
    """
    shares: dict[str, FloatVolume] = {}
    for part in parts:
        substance = part["of"]
        if substance not in SUBSTANCES:
            raise ValueError(f"Implant of '{substance}'; known are {', '.join(SUBSTANCES)}.")
        box, share = _share(scan, part)
        if not share.any():
            raise ValueError(f"{dict(part)} lies outside the scan: move it.")
        for other in shares.values():
            other[box] *= 1.0 - share
        shares.setdefault(substance, np.zeros(scan.hu.shape, np.float32))[box] += share
    soft, hard = np.zeros((2, *scan.hu.shape), np.float32)
    for substance, share in shares.items():
        target = soft if substance in _SOFT_SUBSTANCES else hard
        target += share
    with_implants = np.where(hard > 0.5, np.uint8(BONE), np.where(soft > 0.5, np.uint8(SOFT), labels))
    fillings = [Filling(*SUBSTANCES[substance], share) for substance, share in shares.items()]
    return Implanted(rescanned(scan, labels, fillings, rescan), with_implants, np.asarray(hard > 0.5))


def _share(scan: Scan, part: Mapping[str, Any]) -> tuple[tuple[slice, slice, slice], FloatVolume]:
    """How much of each voxel in a box a part fills, 0 to 1, averaged over the thickness of the slice.

    `path` is points in RAS mm, one point a ball, more joined by cylinders or, with one `radius_mm` per point, cones.
    `facing`, a direction, keeps the half of it that looks there from the first point: a cup.
    """
    points = np.array(part["path"], float).reshape(-1, 3)
    radii = np.broadcast_to(np.array(part["radius_mm"], float), len(points))
    margin = radii.max() + np.array(scan.spacing_mm)
    box = slices_between(scan, points.min(axis=0) - margin, points.max(axis=0) + margin)
    r, a, s = scan.axes_ras()
    r, a, s = r[:, :, box[2]], a[:, box[1]], s[box[0]]
    share = np.zeros([axis.stop - axis.start for axis in box], np.float32)
    for offset in (-1 / 3, 0.0, 1 / 3):
        axes = r, a, s + np.float32(offset * scan.spacing_mm[2])
        depth = np.full(share.shape, -np.inf, np.float32)
        for n in range(max(len(points) - 1, 1)):
            ends = [n, min(n + 1, len(points) - 1)]
            squared, along = squared_distance(axes, *points[ends])
            first, last = radii[ends]
            np.maximum(depth, first + along * np.float32(last - first) - np.sqrt(squared), out=depth)
        if "facing" in part:
            way = np.array(part["facing"], float) / np.linalg.norm(part["facing"])
            ahead = sum((x - np.float32(c)) * np.float32(w) for x, c, w in zip(axes, points[0], way, strict=True))
            depth = np.minimum(depth, ahead)
        share += np.clip(0.5 + depth / max(scan.spacing_mm[:2]), 0.0, 1.0) / 3.0
    return box, share
