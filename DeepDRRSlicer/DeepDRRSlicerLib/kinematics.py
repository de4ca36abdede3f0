"""From joints to DICOM angles and back: pure mathematics, no scene.

The gantry frame has its origin in the isocentre, y along the central ray from source to detector, z to the top of the
unrolled picture and x = y × z; at rest it is RAS. Turning by α about z, by β about x and by ρ about y, in this order
from the outside in, gives the beam and the up direction of `DeepDRRLogic.carm.beam_frame_ras`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from DeepDRRLogic.affine import FloatArray, rigid, rotation

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm

Angles = tuple[float, float, float]

Axis = Literal["x", "y", "z"]

AXES: dict[str, Axis] = {"wigwag": "y", "primary": "z", "secondary": "x", "roll": "y"}
"""The axis that each turning joint turns about, in its parent's frame."""

_DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}

_POLE = 1e-9


def about(axis: Axis, angle_deg: float) -> FloatArray:
    """The rotation (3, 3) about an axis, counter-clockwise seen against it; exact at multiples of 90°."""
    quarter, rest = divmod(angle_deg, 90.0)
    if rest == 0.0:
        return np.round(rotation(_DIRECTIONS[axis], 90.0 * (quarter % 4)))
    return rotation(_DIRECTIONS[axis], angle_deg)


def turn(joint: str, angle_deg: float) -> FloatArray:
    """The rotation (3, 3) of a turning joint."""
    return about(AXES[joint], angle_deg)


def angle_about(joint: str, matrix: npt.ArrayLike) -> float:
    """The angle in degrees, in (-180, 180], of the turn about the joint's axis that comes closest to a rotation (3, 3).

    It maximises the trace of turn(angle)ᵀ · matrix: tan = a · skew / (trace − aᵀ·matrix·a).
    """
    R = np.asarray(matrix, np.float64)
    a = np.array(_DIRECTIONS[AXES[joint]])
    skew = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    angle = float(np.degrees(np.arctan2(a @ skew, np.trace(R) - a @ R @ a)))
    return 180.0 if angle == -180.0 else angle


def angles_of(arm: CArm) -> Angles:
    """(α, β, ρ) in degrees of a C-arm's gantry: a picture read from the source's side turns the other way."""
    spin = arm.roll_deg if arm.is_read_from_detector else -arm.roll_deg
    return arm.primary_angle_deg, arm.secondary_angle_deg, spin


def gantry_rotation(angles_deg: Angles) -> FloatArray:
    """The gantry's axes in RAS as columns (3, 3), of (α, β, ρ) in degrees."""
    primary, secondary, spin = angles_deg
    return turn("primary", primary) @ turn("secondary", secondary) @ turn("roll", spin)


def gantry_angles_deg(ras_from_gantry: npt.ArrayLike, near: Angles = (0.0, 0.0, 0.0)) -> Angles:
    """(α, β, ρ) in degrees of a gantry rotation (3, 3): of all that describe it, those nearest to `near`.

    (α, β, ρ) and (α + 180°, 180° − β, ρ + 180°) are one pose, and whole turns make no difference. Where the beam points
    to head or foot α and ρ turn about the same axis; then α stays what it was.
    """
    R = np.asarray(ras_from_gantry, np.float64)
    beam = R[:, 1]
    level = float(np.hypot(beam[0], beam[1]))
    primary = near[0] if level < _POLE else float(np.degrees(np.arctan2(-beam[0], beam[1])))
    secondary = float(np.degrees(np.arctan2(beam[2], level)))
    spin = angle_about("roll", (turn("primary", primary) @ turn("secondary", secondary)).T @ R)
    here = _unwound((primary, secondary, spin), near)
    other = _unwound((primary + 180.0, 180.0 - secondary, spin + 180.0), near)
    return min((here, other), key=lambda angles: sum(abs(a - b) for a, b in zip(angles, near, strict=True)))


def joint_matrix(joint: str, value: float) -> FloatArray:
    """The matrix (4, 4) of a joint at a value: the lift in mm, the others in degrees."""
    return rigid(None, (0.0, value, 0.0)) if joint == "lift" else rigid(turn(joint, value))


def straightened(joint: str, matrix: FloatArray) -> FloatArray:
    """The nearest matrix that the joint can take: whatever a handle did beyond its degree of freedom is undone."""
    if joint == "root":
        return orthonormal(matrix, any_scale=True)
    value = float(matrix[1, 3]) if joint == "lift" else angle_about(joint, matrix[:3, :3])
    wanted = joint_matrix(joint, value)
    return matrix if np.allclose(matrix, wanted, rtol=0.0, atol=1e-9) else wanted


def orthonormal(matrix: FloatArray, *, any_scale: bool = False) -> FloatArray:
    """The rigid motion nearest to a matrix (4, 4) that rounding has bent; with `any_scale`, that anything has.

    Polar decomposition. A reflection, and without `any_scale` anything off by more than 1 %, is returned as it is.
    """
    turned = matrix[:3, :3]
    if np.abs(turned @ turned.T - np.eye(3)).max() < 1e-12:
        return matrix
    u, sizes, v = np.linalg.svd(turned)
    if np.linalg.det(turned) <= 0 or not (any_scale or np.abs(sizes - 1.0).max() < 0.01):
        return matrix
    straight: FloatArray = matrix.copy()
    straight[:3, :3] = u @ v
    return straight


def _unwound(angles_deg: Angles, near: Angles) -> Angles:
    """The same angles by whole turns as close to `near` as can be."""
    a, b, c = (angle + 360.0 * round((goal - angle) / 360.0) for angle, goal in zip(angles_deg, near, strict=True))
    return a, b, c
