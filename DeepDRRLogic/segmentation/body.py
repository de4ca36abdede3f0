"""The body among what else lies in a CT: table, sheets, cables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

AIR, SOFT, BONE = 0, 1, 2
TABLE_MIN_HU = -500
_COARSE_MM = 3.0
_THIN_MM = 6.0
_SKIN_MM = 6.0
_LEAST_BONE_ML = 0.5
_METAL_MIN_HU = 2500


def clear_surroundings(
    labels: npt.NDArray[np.uint8],
    hu: npt.NDArray[np.generic],
    spacing_mm: tuple[float, float, float],
    *,
    keep_table: bool,
) -> None:
    """Make air, in place, of what the network labelled beyond the body; or soft tissue of all matter there.

    `labels` and `hu` [k, j, i] run to superior, anterior, right; `spacing_mm` along the same axes. The body is every
    connected part that is thicker than 12 mm somewhere or holds bone, most of which is no metal such as a table's
    rails, with all that it encloses in an axial slice, and 6 mm around it, found on a grid of some 3 mm. A part of the
    table that touches the body is left to the network.
    """
    factors = tuple(max(1, round(_COARSE_MM / mm)) for mm in spacing_mm)
    k, j, i = (np.arange(n) // f for n, f in zip(labels.shape, factors, strict=True))
    sampled = tuple(slice(min(f // 2, n - 1), None, f) for f, n in zip(factors, labels.shape, strict=True))
    steps = tuple(f * mm for f, mm in zip(factors, spacing_mm, strict=True))
    metal = np.greater(hu[sampled], _METAL_MIN_HU)
    near = _grown(_body(labels[sampled], metal, (steps[0], steps[1], steps[2])), (steps[0], steps[1], steps[2]))
    k, j, i = (np.minimum(index, n - 1) for index, n in zip((k, j, i), near.shape, strict=True))
    for n, plane in enumerate(labels):
        beyond = ~near[k[n]][np.ix_(j, i)]
        if keep_table:
            plane[beyond & (plane == AIR) & (hu[n] > TABLE_MIN_HU)] = SOFT
        else:
            plane[beyond] = AIR


def _body(labels: npt.NDArray[np.uint8], metal: Mask, steps_mm: tuple[float, float, float]) -> Mask:
    """Kept parts with their holes filled; all parts where none would be kept."""
    import SimpleITK as sitk

    matter = sitk.GetImageFromArray((labels != AIR).astype(np.uint8))
    radius = [max(1, round(_THIN_MM / step)) for step in reversed(steps_mm)]
    # The border of the volume counts as matter: what is cut off there is not thin.
    core = sitk.GetArrayFromImage(sitk.BinaryErode(matter, radius, sitk.sitkBall, 0.0, 1.0, True))
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(matter))
    count = int(parts.max(initial=0)) + 1
    bone, metallic = (np.bincount(parts[(labels == BONE) & which], minlength=count) for which in (True, metal))
    bony = (bone * np.prod(steps_mm) / 1000.0 >= _LEAST_BONE_ML) & (2 * metallic <= bone)
    kept = (np.bincount(parts[core > 0], minlength=count) > 0) | bony
    if not kept[1:].any():
        kept[:] = True
    kept[0] = False
    body = kept[parts]
    for plane in body:
        filled = sitk.BinaryFillhole(sitk.GetImageFromArray(plane.astype(np.uint8)))
        plane[:] = sitk.GetArrayViewFromImage(filled) > 0
    return np.asarray(body)


def _grown(mask: Mask, steps_mm: tuple[float, float, float]) -> Mask:
    import SimpleITK as sitk

    radius = [max(1, round(_SKIN_MM / step)) for step in reversed(steps_mm)]
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(mask.astype(np.uint8)), radius, sitk.sitkBall)
    return np.asarray(sitk.GetArrayFromImage(grown) > 0)
