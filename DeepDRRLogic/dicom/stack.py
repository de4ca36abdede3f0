"""Slices to a volume: their order, their affine, and everything that keeps them from being one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..affine import FloatArray
from .headers import Slice

TILT_DEG = 0.1
"""What the affine of a volume may lean; see affine.check_affine."""

_SAME_PLACE_MM = 0.01
_MANY = 8


def ordered(slices: Sequence[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices in order along their normal, copies of one file once; ValueError if they are no stack.

    A stack has slices of one size, spacing and orientation at even distances. Returns it with notes.
    """
    for one in slices:
        _require_sound(one)
    _require_one_kind(slices)
    on_frames = _one_frame_of_reference(slices)
    once, on_copies = _each_once(slices)
    notes = on_frames + on_copies
    if len(once) < 2:
        raise ValueError(f"There is only {len(once)} slice: a volume needs its whole series in one folder.")
    heights = [float(np.dot(s.position_lps, normal_lps(s))) for s in once]
    order = np.argsort(heights, kind="stable")
    stack = [once[n] for n in order]
    _require_even(np.array(heights)[order], stack)
    return stack, notes


def _each_once(slices: Sequence[Slice]) -> tuple[Sequence[Slice], tuple[str, ...]]:
    """Copies of one file once, known by their UID, unless careless anonymising gave one UID to several slices."""
    once: dict[str, Slice] = {}
    for one in slices:
        known = once.setdefault(one.uid or f"{one.path}/{one.frame}", one)
        if np.abs(np.subtract(known.position_lps, one.position_lps)).max() > _SAME_PLACE_MM:
            return slices, ("slices at several positions have the same UID; UIDs were not used to tell copies",)
    copies = len(slices) - len(once)
    return [*once.values()], (f"{copies} slices were there twice, with the same UID; each is used once",) * bool(copies)


def normal_lps(one: Slice) -> FloatArray:
    """The unit normal of a slice, along which slices are counted, right-handed with rows and columns."""
    row, column = np.reshape(one.orientation_lps, (2, 3))
    normal = np.cross(row, column)
    length = float(np.linalg.norm(normal))
    if not (abs(length - 1.0) < 1e-2 and abs(float(row @ column)) < 1e-2):
        raise ValueError(
            f"{one.path.name}: ImageOrientationPatient {list(one.orientation_lps)} is not two perpendicular "
            "unit vectors; repair the header or convert the series with another tool."
        )
    return normal / length


def lps_from_ijk(stack: Sequence[Slice]) -> FloatArray:
    """The affine (4, 4) of an ordered stack; its third column leans if the gantry was tilted.

    DICOM PS3.3 C.7.6.2.1.1: PixelSpacing is the row distance, then the column distance.
    """
    row, column = np.reshape(stack[0].orientation_lps, (2, 3))
    between_rows, between_columns = stack[0].pixel_spacing_mm
    first, last = np.array(stack[0].position_lps), np.array(stack[-1].position_lps)
    affine = np.eye(4)
    affine[:3, 0] = row / np.linalg.norm(row) * between_columns
    affine[:3, 1] = column / np.linalg.norm(column) * between_rows
    affine[:3, 2] = (last - first) / (len(stack) - 1)
    affine[:3, 3] = first
    return affine


def tilt_deg(stack: Sequence[Slice]) -> float:
    """The angle between the line through the slices and their normal; ValueError if there is no line."""
    positions = np.array([s.position_lps for s in stack])
    affine = lps_from_ijk(stack)
    sideways = positions - (affine[:3, 3] + np.arange(len(stack))[:, None] * affine[:3, 2])
    normal = normal_lps(stack[0])
    sideways -= np.outer(sideways @ normal, normal)
    worst_mm = float(np.linalg.norm(sideways, axis=1).max())
    if worst_mm > 0.5:
        raise ValueError(
            f"The slices are shifted sideways by up to {worst_mm:.3g} mm against each other: they are no "
            "straight stack. Resample the series, for instance with 3D Slicer's DICOM module."
        )
    along = affine[:3, 2]
    across = float(np.linalg.norm(along - (along @ normal) * normal))
    return float(np.degrees(np.arctan2(across, float(along @ normal))))


def require_untilted(stack: Sequence[Slice]) -> None:
    """Raise ValueError, with the angle, if the gantry was tilted."""
    angle = tilt_deg(stack)
    if angle > TILT_DEG:
        stated = stack[0].gantry_tilt_deg
        said = "" if stated is None else f" (the header states {stated:g}°)"
        raise ValueError(
            f"The gantry was tilted by {angle:.2f}°{said}: the slices are sheared against each other. Read "
            "it with correct_tilt=True, which resamples them to a rectangular grid."
        )


def _require_sound(one: Slice) -> None:
    slope, intercept = one.slope, one.intercept
    if slope == 0.0 or not np.isfinite([1.0 if slope is None else slope, intercept or 0.0]).all():
        raise ValueError(
            f"{one.path.name}: RescaleSlope {slope} and RescaleIntercept {intercept} make no Hounsfield units; repair "
            "the header or export the series again."
        )
    if not (min(one.pixel_spacing_mm) > 0.0 and np.isfinite(one.pixel_spacing_mm).all()):
        raise ValueError(
            f"{one.path.name}: PixelSpacing {list(one.pixel_spacing_mm)} is not two distances in mm; repair the "
            "header or export the series again."
        )
    if not np.isfinite(one.position_lps).all():
        raise ValueError(
            f"{one.path.name}: ImagePositionPatient {list(one.position_lps)} is no place; repair the header or export "
            "the series again."
        )


def _one_frame_of_reference(slices: Sequence[Slice]) -> tuple[str, ...]:
    """A note where careless anonymising gave each file a frame of reference; ValueError for any other several."""
    frames = Counter(s.frame_of_reference for s in slices if s.frame_of_reference)
    if len(frames) == len({s.path for s in slices}) > 2:
        return ("every file has a frame of reference of its own; positions were compared nonetheless",)
    if len(frames) > 1:
        shown = "; ".join(f"{uid}: {count}" for uid, count in frames.most_common(_MANY))
        raise ValueError(
            "The series has slices in different frames of reference (FrameOfReferenceUID), whose positions cannot be "
            f"compared: {shown}. Keep those of one in a folder of their own."
        )
    return ()


def _require_one_kind(slices: Sequence[Slice]) -> None:
    kinds: dict[str, list[tuple[float, ...]]] = {
        "sizes (columns × rows)": [(s.columns, s.rows) for s in slices],
        "pixel spacings": [s.pixel_spacing_mm for s in slices],
        "orientations": [s.orientation_lps for s in slices],
    }
    for what, values in kinds.items():
        if np.ptp(np.array(values), axis=0).max() > 1e-3:
            counts = Counter("×".join(f"{x:.4g}" for x in value) for value in values)
            shown = "; ".join(f"{value}: {count}" for value, count in counts.most_common(_MANY))
            raise ValueError(
                f"The series has slices of different {what}: {shown}. Keep those of one kind in a folder of their own."
            )
    if any(s.samples != 1 for s in slices):
        raise ValueError(f"{slices[0].path.name} is a colour image: give a CT of one sample per pixel.")


def _require_even(heights_mm: FloatArray, stack: Sequence[Slice]) -> None:
    steps = np.diff(heights_mm)
    apart = np.sort(steps[steps > _SAME_PLACE_MM])
    # The lower median, because the mean of two kinds of steps is neither.
    step = float(apart[(apart.size - 1) // 2]) if apart.size else 0.0
    doubled = heights_mm[1:][steps <= max(_SAME_PLACE_MM, 0.02 * step)]
    if doubled.size:
        raise ValueError(
            f"{doubled.size} slices share a position with another, at {_positions(doubled)} mm: two "
            f"reconstructions or phases in one series{_told_apart(heights_mm, stack)}."
        )
    wide = np.flatnonzero(steps > 1.5 * step)
    # Slices go missing here and there; three wide steps in a row were planned so.
    if np.any(wide[2:] - wide[:-2] == 2):
        raise ValueError(
            f"The slices are unevenly spaced, from {steps.min():.3g} to {steps.max():.3g} mm: resample the "
            "series to one spacing, for instance with 3D Slicer's DICOM module."
        )
    if wide.size:
        gaps = [np.linspace(heights_mm[n], heights_mm[n + 1], round(steps[n] / step) + 1)[1:-1] for n in wide]
        missing = np.concatenate(gaps)
        raise ValueError(
            f"{missing.size} of {missing.size + heights_mm.size} slices are missing, at "
            f"{_positions(missing)} mm along the stack, where slices are {step:.3g} mm apart: copy or export "
            "the series again."
        )
    even = np.linspace(heights_mm[0], heights_mm[-1], heights_mm.size)
    off_mm = float(np.abs(heights_mm - even).max())
    if off_mm > max(0.1 * step, 0.1):
        raise ValueError(
            f"The slices are unevenly spaced, up to {off_mm:.3g} mm from where even spacing of {step:.3g} mm "
            "puts them: resample the series, for instance with 3D Slicer's DICOM module."
        )


def _told_apart(heights_mm: FloatArray, stack: Sequence[Slice]) -> str:
    """What differs between slices of one place, and how to keep one kind of them."""
    groups = np.split(np.arange(len(stack)), np.flatnonzero(np.diff(heights_mm) > _SAME_PLACE_MM) + 1)
    values: dict[str, set[str]] = {}
    for group in groups:
        traits = [dict(stack[n].traits) for n in group]
        for keyword in traits[0]:
            if len(found := {its.get(keyword, "-") for its in traits}) > 1:
                values.setdefault(keyword, set()).update(found)
    apart = "; ".join(f"{keyword} is {' or '.join(sorted(found)[:_MANY])}" for keyword, found in values.items())
    where = "export one of them as a series" if len({s.path for s in stack}) == 1 else "keep one of them in a folder"
    return f" ({apart}): {where} of its own" if apart else f": {where} of its own"


def _positions(values_mm: FloatArray) -> str:
    shown = ", ".join(f"{value:.2f}" for value in values_mm[:_MANY])
    return shown + (f" and {values_mm.size - _MANY} more" if values_mm.size > _MANY else "")
