"""Affine matrices as small pure functions: apply, check, and say what they mean for a volume.

Points are rows: arrays of shape (..., 3). World coordinates are RAS millimetres; a volume's `ras_from_ijk`
has the step of one voxel along i, j and k in its first three columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from types import EllipsisType

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_RIGID_TOLERANCE = 1e-6
_AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_PATIENT_LETTERS = (("R", "L"), ("A", "P"), ("H", "F"))
_LEANS = math.sin(math.radians(20.0))


def as_floats(
    values: npt.ArrayLike, shape: Sequence[int | EllipsisType], name: str, *, finite: bool = True
) -> FloatArray:
    """A fresh float64 array of the shape asked for, or ValueError; a leading `...` allows any dimensions."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers: {values!r}.") from error
    wanted = tuple(n for n in shape if not isinstance(n, EllipsisType))
    found = array.shape[-len(wanted) :] if len(wanted) < len(shape) else array.shape
    if found != wanted:
        text = ", ".join("..." if isinstance(n, EllipsisType) else str(n) for n in shape)
        raise ValueError(f"{name} has shape {array.shape}: it must be ({text}).")
    if finite and not np.all(np.isfinite(array)):
        shown = array.tolist() if array.size <= 16 else f"{np.count_nonzero(~np.isfinite(array))} values"
        raise ValueError(f"{name} holds NaN or infinity: {shown}. Give finite numbers.")
    return array


def apply(matrix: npt.ArrayLike, points: npt.ArrayLike) -> FloatArray:
    """Points (..., 3) mapped by an affine matrix (4, 4).

    >>> apply([[2, 0, 0, 1], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]], [1, 1, 1]).tolist()
    [3.0, 2.0, 2.0]
    """
    affine = as_floats(matrix, (4, 4), "matrix")
    mapped: FloatArray = as_floats(points, (..., 3), "points", finite=False) @ affine[:3, :3].T + affine[:3, 3]
    return mapped


def rotation(axis: npt.ArrayLike, angle_deg: float) -> FloatArray:
    """The rotation (3, 3) about an axis (3,) of any length, counter-clockwise seen against it.

    Rodrigues' formula.

    >>> rotation([0, 0, 1], 90).round(12).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    direction = as_floats(axis, (3,), "axis")
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        raise ValueError("The rotation axis is (0, 0, 0): give a direction.")
    x, y, z = direction / length
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(angle_deg)
    turn: FloatArray = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    return turn


def rigid(rotation: npt.ArrayLike | None = None, translation_mm: npt.ArrayLike = (0.0, 0.0, 0.0)) -> FloatArray:
    """The matrix (4, 4) that first rotates (3, 3), then translates (3,)."""
    matrix = np.eye(4)
    if rotation is not None:
        matrix[:3, :3] = as_floats(rotation, (3, 3), "rotation")
    matrix[:3, 3] = as_floats(translation_mm, (3,), "translation_mm")
    return matrix


def inverse_rigid(matrix: FloatArray) -> FloatArray:
    """The inverse of a rigid motion (4, 4), by transposition: exact where a general inverse rounds."""
    return rigid(matrix[:3, :3].T, -matrix[:3, :3].T @ matrix[:3, 3])


def check_rigid(matrix: npt.ArrayLike, name: str = "matrix") -> FloatArray:
    """A float64 copy of a right-handed rigid motion (4, 4); ValueError says what is wrong with any other.

    The rotation may be off by 1e-6, which single precision keeps.
    """
    motion = as_floats(matrix, (4, 4), name)
    _check_last_row(motion, name)
    turn = motion[:3, :3]
    error = float(np.abs(turn @ turn.T - np.eye(3)).max())
    if error > _RIGID_TOLERANCE:
        raise ValueError(
            f"The rotation in {name} is off by {error:.2g} from orthonormal: {turn.tolist()}. "
            "Remove scale and shear: only rotation and translation are allowed."
        )
    if np.linalg.det(turn) < 0:
        raise ValueError(
            f"The rotation in {name} is a reflection (determinant -1): {turn.tolist()}. "
            "Keep the frame right-handed; a mirrored picture is a negative focal length."
        )
    return motion


def check_affine(matrix: npt.ArrayLike, name: str = "ras_from_ijk", *, shear_tolerance_deg: float = 0.1) -> FloatArray:
    """A float64 copy of a volume's affine (4, 4); ValueError if it is not finite, singular or sheared.

    Axes may lean from the perpendicular by `shear_tolerance_deg`: 0.1° displaces the far end of a 500 mm
    volume by less than 1 mm; rounded direction cosines lean by less than 0.01°, a tilted gantry by degrees.
    """
    affine = as_floats(matrix, (4, 4), name)
    _check_last_row(affine, name)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(steps == 0.0):
        raise ValueError(f"{name} is singular: its voxel spacing is {steps.tolist()} mm. Give every axis a spacing.")
    directions = affine[:3, :3] / steps
    if abs(np.linalg.det(directions)) < _RIGID_TOLERANCE:
        raise ValueError(f"{name} is singular: its axes {directions.T.tolist()} lie in one plane.")
    cosines = directions.T @ directions - np.eye(3)
    lean_deg = float(np.degrees(np.arcsin(np.abs(cosines).max().clip(0.0, 1.0))))
    if lean_deg > shear_tolerance_deg:
        raise ValueError(
            f"{name} is sheared: its axes are {lean_deg:.3g}° from perpendicular (a tilted gantry does this; "
            f"allowed: {shear_tolerance_deg}°). Resample the volume to a rectangular grid first."
        )
    return affine


def _check_last_row(matrix: FloatArray, name: str) -> None:
    if not np.array_equal(matrix[3], [0.0, 0.0, 0.0, 1.0]):
        raise ValueError(
            f"The last row of {name} is {matrix[3].tolist()}: it must be 0 0 0 1. "
            "Transpose the matrix if its translation is in the last row."
        )


def spacing_mm(affine: npt.ArrayLike) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxel centres along i, j and k of a volume's affine (4, 4)."""
    i, j, k = np.linalg.norm(as_floats(affine, (4, 4), "affine")[:3, :3], axis=0).tolist()
    return i, j, k


def orientation(affine: npt.ArrayLike) -> str:
    """Where i, j and k lead, as three letters such as "RAS" or "LPS"; for an oblique volume the nearest.

    The letters say the direction of increasing index: "LPS" runs to the patient's left, back and head.

    >>> orientation([[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    'LPS'
    """
    directions = _directions(affine)

    # All axes at once: taken one by one, two axes of a volume turned by 45° could share a letter.
    def agreement(rows: tuple[int, ...]) -> float:
        return float(sum(abs(directions[row, n]) for n, row in enumerate(rows)))

    axes = max(permutations(range(3)), key=agreement)
    return "".join(_AXIS_LETTERS[row][int(directions[row, n] > 0)] for n, row in enumerate(axes))


def patient_letters(direction_ras: npt.ArrayLike) -> str:
    """Where a direction (3,) leads: "R", "L", "A", "P", "H" or "F", or the largest part and others beyond 20°.

    DICOM PS3.3 C.7.6.1.1.1, Patient Orientation.

    >>> patient_letters([0.0, 0.0, -2.0]), patient_letters([-1.0, 0.0, 0.2]), patient_letters([1.0, 0.5, 0.0])
    ('F', 'L', 'RA')
    """
    parts = np.asarray(direction_ras, np.float64) / np.linalg.norm(direction_ras)
    largest_first = np.argsort(-np.abs(parts), kind="stable")
    return "".join(_PATIENT_LETTERS[axis][int(parts[axis] < 0)] for axis in largest_first if abs(parts[axis]) > _LEANS)


def is_oblique(affine: npt.ArrayLike, tolerance_deg: float = 0.1) -> bool:
    """Whether any axis of the volume leans from its nearest anatomical axis by more than the tolerance."""
    largest = np.abs(_directions(affine)).max(axis=0).clip(0.0, 1.0)
    return bool(np.degrees(np.arccos(largest)).max() > tolerance_deg)


def is_left_handed(affine: npt.ArrayLike) -> bool:
    """Whether i, j, k form a left-handed system in RAS, such as "LAS"."""
    return bool(np.linalg.det(as_floats(affine, (4, 4), "affine")[:3, :3]) < 0)


def _directions(affine: npt.ArrayLike) -> FloatArray:
    linear = check_affine(affine, "affine", shear_tolerance_deg=90.0)[:3, :3]
    directions: FloatArray = linear / np.linalg.norm(linear, axis=0)
    return directions
