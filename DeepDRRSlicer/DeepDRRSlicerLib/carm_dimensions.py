"""The measures a C-arm is drawn from: those of its geometry, and what follows from them for arc and stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from DeepDRRLogic.collimator import CircularCollimator, RectangularCollimator

from .carm_stand import STANDS

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.collimator import Collimator

NO_STAND = "none"

# Machines that are not wheeled to the patient's right; a tube farther away than an arm's reach hangs free.
_STAND_OF_MACHINE = {"biplane_frontal": "head", "biplane_lateral": "feet", "radiography_room": NO_STAND}
_ARM_REACH_MM = 1000.0

TUBE_DEPTH_MM = 112.0  # from the focal spot to the back of the tube housing
PANEL_DEPTH_MM = 78.0  # from the image plane to the back of a flat panel
INTENSIFIER_DEPTH_MM = 240.0
ARC_THICKNESS_MM = 74.0
ARC_WIDTH_MM = 96.0
_LOWEST_ISOCENTER_MM = 1060.0
_CHASSIS_CLEARANCE_MM = 230.0


@dataclass(frozen=True)
class Dimensions:
    """What the shape of a C-arm depends on, mm: equal dimensions, equal meshes.

    detector_offset_mm: middle of the detector off the central ray along x and z of the gantry frame.
    field_diameter_mm: of an image intensifier, None for a flat panel. shutters: what a collimator leaves open, in mm
    along x and z of the gantry frame from the detector's middle. stand: a side of the table (STANDS), or "none" for
    tube and detector alone. Raises ValueError for an unknown stand.
    """

    source_to_detector_mm: float
    source_to_isocenter_mm: float
    detector_width_mm: float
    detector_height_mm: float
    field_diameter_mm: float | None = None
    detector_offset_mm: tuple[float, float] = (0.0, 0.0)
    stand: str = "right"
    shutters: Collimator | None = None

    def __post_init__(self) -> None:
        if self.stand not in (*STANDS, NO_STAND):
            raise ValueError(f"There is no stand {self.stand!r}. Choose one of: {', '.join((*STANDS, NO_STAND))}.")

    @classmethod
    def of(cls, arm: CArm, stand: str | None = None, collimator: Collimator | None = None) -> Dimensions:
        """The dimensions of a machine, standing where its kind usually does unless a `stand` is given."""
        if stand is None:
            usual = "right" if arm.source_to_isocenter_mm <= _ARM_REACH_MM else NO_STAND
            stand = _STAND_OF_MACHINE.get(arm.name, usual)
        side = -1.0 if arm.is_read_from_detector else 1.0
        shift_u, shift_v = arm.detector_shift_mm
        return cls(
            source_to_detector_mm=arm.source_to_detector_mm,
            source_to_isocenter_mm=arm.source_to_isocenter_mm,
            detector_width_mm=arm.width * arm.pixel_pitch_mm,
            detector_height_mm=arm.height * arm.pixel_pitch_mm,
            field_diameter_mm=arm.field_diameter_mm,
            detector_offset_mm=(side * shift_u + 0.0, -shift_v + 0.0),
            stand=stand,
            shutters=None if collimator is None else _seen_from_gantry(collimator, arm, side),
        )

    @property
    def has_stand(self) -> bool:
        return self.stand != NO_STAND

    @property
    def source_y(self) -> float:
        """Focal spot on the beam, from the isocentre."""
        return -self.source_to_isocenter_mm

    @property
    def detector_y(self) -> float:
        """Image plane on the beam, from the isocentre."""
        return self.source_to_detector_mm - self.source_to_isocenter_mm

    @property
    def arc_radius_mm(self) -> float:
        """From the isocentre to the middle of the arc, which clears the backs of tube and detector."""
        reach = max(self.source_to_isocenter_mm + TUBE_DEPTH_MM, self.detector_y + self.detector_depth_mm + 12.0)
        return reach + ARC_THICKNESS_MM / 2

    @property
    def detector_depth_mm(self) -> float:
        """From the image plane to the back of the detector's housing."""
        return PANEL_DEPTH_MM if self.field_diameter_mm is None else INTENSIFIER_DEPTH_MM

    @property
    def column_distance_mm(self) -> float:
        """From the isocentre to the axis of the mast."""
        return self.arc_radius_mm + 470.0

    @property
    def isocenter_height_mm(self) -> float:
        """Of the isocentre over the floor with the lift at rest, such that the C turns above the chassis."""
        return float(np.maximum(_LOWEST_ISOCENTER_MM, self.arc_radius_mm + _CHASSIS_CLEARANCE_MM))


def _seen_from_gantry(collimator: Collimator, arm: CArm, side: float) -> Collimator:
    """The same opening in mm along x, which runs with u or against it, and z, which runs against v."""
    pitch = 1.0 if collimator.unit == "mm" else arm.pixel_pitch_mm
    middle = (0.0, 0.0) if collimator.unit == "mm" else ((arm.width - 1) / 2, (arm.height - 1) / 2)
    if isinstance(collimator, CircularCollimator):
        u, v = collimator.center or middle
        center = (side * (u - middle[0]) * pitch + 0.0, -(v - middle[1]) * pitch + 0.0)
        return CircularCollimator(collimator.radius * pitch, center, "mm")
    x0, x1 = sorted(side * (u - middle[0]) * pitch for u in (collimator.u0, collimator.u1))
    z0, z1 = sorted(-(v - middle[1]) * pitch for v in (collimator.v0, collimator.v1))
    return RectangularCollimator(x0, z0, x1, z1, "mm")
