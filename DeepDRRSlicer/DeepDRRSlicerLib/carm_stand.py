"""How a C-arm's stand follows its C: the joints of a real machine, found from where the C is.

The gantry frame is that of kinematics.py. A stand is at one side of the table, and its frame has x from the isocentre
to the machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from DeepDRRLogic.affine import FloatArray, rigid

from .kinematics import about

# Turn about the front (y) that takes x, the patient's right, to the side where the machine stands.
STANDS: Mapping[str, float] = {"right": 0.0, "left": 180.0, "head": -90.0, "feet": 90.0}

# The C ends this far behind its middle, and the carriage needs the last degrees to hold on.
ARC_HALF_ANGLE_DEG = 108.0
ORBITAL_REACH_DEG = 100.0
WIGWAG_REACH_DEG = 12.0
LIFT_REACH_MM = 220.0

_POLE = 1e-9


def joint_angles_deg(rotation: npt.ArrayLike, stand: str) -> tuple[float, float, float]:
    """Swivel, angular and orbital angle of the machine that holds its C in this `rotation` (3, 3), degrees.

    The machine is wheeled or wig-wagged about the vertical through the isocentre (swivel), tilts the C about
    its horizontal arm (angular), and slides it in its guide (orbital). For a machine at the head and no roll,
    angular is the primary angle and orbital the secondary, negative. Two triples lead to one place, with the
    machine on either side of the table: the one that needs no turn round the table, unless the C would slide
    out of its guide. At angular ±90°, where swivel and orbital do the same, the machine is not swivelled.
    """
    to_stand = about("y", STANDS[stand])
    m = to_stand.T @ np.asarray(rotation, dtype=np.float64) @ to_stand
    # m = Ry(swivel) Rx(angular) Rz(orbital); its second row and third column hold the angles.
    upright = float(np.hypot(m[1, 0], m[1, 1]))
    angular = np.degrees(np.arctan2(-m[1, 2], upright))
    if upright < _POLE:
        near = (0.0, float(angular), float(np.degrees(np.arctan2(np.sign(angular) * m[2, 0], m[0, 0]))))
    else:
        swivel, orbital = np.degrees(np.arctan2(m[0, 2], m[2, 2])), np.degrees(np.arctan2(m[1, 0], m[1, 1]))
        near = (float(swivel), float(angular), float(orbital))
    far = (_wrapped(near[0] + 180.0), _wrapped(180.0 - near[1]), _wrapped(near[2] + 180.0))
    reachable = [angles for angles in (near, far) if abs(angles[2]) <= ORBITAL_REACH_DEG]
    return min(reachable, key=lambda angles: abs(angles[0]))


def group_matrices(
    ras_from_gantry: npt.ArrayLike,
    stand: str,
    column_distance_mm: float,
    isocenter_height_mm: float,
    rest_height_ras_mm: float | None = None,
) -> dict[str, FloatArray]:
    """`ras_from_group` (4, 4) of every group of parts, by name; only "orbital" where there is no stand.

    The floor is `isocenter_height_mm` below the RAS y that the isocentre has with the lift at rest,
    `rest_height_ras_mm` (default: where it is now). The mast follows the isocentre up and down as far as it
    reaches; beyond, the whole machine does. Parts of "base" have their origin on the floor under the mast's axis,
    those of "lift" at arm height on that axis, the others at the isocentre.
    """
    gantry = np.asarray(ras_from_gantry, dtype=np.float64)
    if stand not in STANDS:
        return {"orbital": gantry}
    isocenter = gantry[:3, 3]
    swivel, angular, _ = joint_angles_deg(gantry[:3, :3], stand)
    wigwag = float(np.clip(swivel, -WIGWAG_REACH_DEG, WIGWAG_REACH_DEG))
    arm = about("y", STANDS[stand] + swivel)
    column = isocenter + column_distance_mm * arm[:, 0]
    wheeled = about("y", STANDS[stand] + swivel - wigwag)
    rest = isocenter[1] if rest_height_ras_mm is None else rest_height_ras_mm
    lifted = np.clip(isocenter[1] - rest, -LIFT_REACH_MM, LIFT_REACH_MM)
    floor = column - (isocenter_height_mm + lifted) * np.array([0.0, 1.0, 0.0])
    return {
        "orbital": gantry,
        "angular": rigid(arm @ about("x", angular), isocenter),
        "wigwag": rigid(arm, isocenter),
        "lift": rigid(wheeled, column),
        "base": rigid(wheeled, floor),
    }


def _wrapped(angle_deg: float) -> float:
    return 180.0 - (180.0 - angle_deg) % 360.0
