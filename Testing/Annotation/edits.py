"""A person's corrections as data: shapes in RAS millimetres, each with what to do there and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from grids import Mask, Scan, slices_between, squared_distance
from outlines import outlined

ACTIONS = ("not_bone", "bone", "air", "soft", "unknown", "outside")
"""not_bone, bone: before marrow is filled; air, soft: at the end; unknown: weight 0; outside: no part of the body."""


def edited(scan: Scan, edits: Iterable[Mapping[str, Any]], action: str) -> Mask:
    """All voxels that the edits with this action name; see `_shape` for the shapes."""
    mask = np.zeros(scan.hu.shape, np.bool_)
    for edit in edits:
        if edit["do"] not in ACTIONS:
            raise ValueError(f"Edit {dict(edit)}: '{edit['do']}' is none of {', '.join(ACTIONS)}.")
        if edit["do"] != action:
            continue
        box, inside = _shape(scan, edit)
        low, high = edit.get("hu", (-np.inf, np.inf))
        mask[box] |= inside & (scan.hu[box] >= low) & (scan.hu[box] <= high)
    return mask


def _shape(scan: Scan, edit: Mapping[str, Any]) -> tuple[tuple[slice, slice, slice], Mask]:
    """Box and mask of an edit: `box`, `path` or `outlines`, all in RAS mm.

    `box` is [[r, a, s], [r, a, s]]. `path` is points with `radius_mm`, one point a sphere; `slab` beside it limits it
    to [s0, s1], a joint for instance. `outlines` are polygons in slices, [[s, [[r, a], ...]], ...]. `discs` are
    [[[r, a, s], [nr, na, ns], below, above], ...] with `radius_mm`: a centre, the normal of its plane, and from
    where to where along it.
    """
    if "discs" in edit:
        return (slice(None), slice(None), slice(None)), _discs(scan, edit["discs"], float(edit["radius_mm"]))
    if "outlines" in edit:
        return (slice(None), slice(None), slice(None)), outlined(scan, edit["outlines"])
    if "box" in edit:
        low, high = np.sort(np.array(edit["box"], float), axis=0)
        box = slices_between(scan, low, high)
        return box, np.ones([axis.stop - axis.start for axis in box], np.bool_)
    points = np.array(edit["path"], float).reshape(-1, 3)
    radius = float(edit["radius_mm"])
    low, high = points.min(axis=0) - radius, points.max(axis=0) + radius
    if "slab" in edit:
        low[2], high[2] = max(low[2], min(edit["slab"])), min(high[2], max(edit["slab"]))
    box = slices_between(scan, low, high)
    r, a, s = scan.axes_ras()
    axes = r[:, :, box[2]], a[:, box[1]], s[box[0]]
    inside = np.zeros([axis.stop - axis.start for axis in box], np.bool_)
    for start, stop in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        inside |= squared_distance(axes, start, stop)[0] <= radius * radius
    return box, inside


def _discs(scan: Scan, discs: Iterable[Sequence[Any]], radius: float) -> Mask:
    """Flat cylinders, tilted as the spine is."""
    mask = np.zeros(scan.hu.shape, np.bool_)
    for center, normal, below, above in discs:
        middle, up = np.array(center, float), np.array(normal, float) / np.linalg.norm(normal)
        reach = np.hypot(radius, max(abs(below), abs(above)))
        box = slices_between(scan, middle - reach, middle + reach)
        r, a, s = scan.axes_ras()
        axes = r[:, :, box[2]], a[:, box[1]], s[box[0]]
        apart = [axis - np.float32(origin) for axis, origin in zip(axes, middle, strict=True)]
        along = sum(x * np.float32(n) for x, n in zip(apart, up, strict=True))
        aside2 = sum(x * x for x in apart) - along * along
        mask[box] |= (along >= below) & (along <= above) & (aside2 <= radius * radius)
    return mask
