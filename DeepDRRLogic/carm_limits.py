"""What a C-arm can reach. A position outside is refused or reported, never silently clipped."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .carm import CArm

Range = tuple[float, float]

_DISTANCES = ("source_to_detector_mm", "source_to_isocenter_mm")
_ROUNDING_DEG = 1e-9


@dataclass(frozen=True)
class CArmLimits:
    """Closed ranges (lowest, highest) of the joints in degrees and mm, None for no limit.

    Primary and secondary angle are judged together: (α, β) and (α + 180°, 180° - β) put the detector at one
    place, so a mobile arm that tilts by 180° takes a right lateral although its orbit ends at the left one.
    """

    primary_angle_deg: Range | None = None
    secondary_angle_deg: Range | None = None
    roll_deg: Range | None = None
    source_to_detector_mm: Range | None = None
    source_to_isocenter_mm: Range | None = None

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            limits = getattr(self, item.name)
            if limits is not None and not limits[0] <= limits[1]:
                raise ValueError(f"The limits of {item.name} are {limits}: give (lowest, highest).")

    def violations(self, arm: CArm) -> list[str]:
        """One phrase for every joint that is out of range, with value and range; empty if all is well."""
        found = []
        primary, secondary = arm.primary_angle_deg, arm.secondary_angle_deg
        if not any(
            _reaches(self.primary_angle_deg, alpha) and _reaches(self.secondary_angle_deg, beta)
            for alpha, beta in ((primary, secondary), (primary + 180.0, 180.0 - secondary))
        ):
            found.append(
                f"primary angle {primary:g}°, secondary angle {secondary:g}° "
                f"(allowed: {_text(self.primary_angle_deg)}°, {_text(self.secondary_angle_deg)}°)"
            )
        if not _reaches(self.roll_deg, arm.roll_deg):
            found.append(f"roll_deg {arm.roll_deg:g} (allowed: {_text(self.roll_deg)})")
        for name in _DISTANCES:
            limits, value = getattr(self, name), getattr(arm, name)
            if limits is not None and not limits[0] <= value <= limits[1]:
                found.append(f"{name} {value:g} (allowed: {_text(limits)})")
        return found


def _reaches(limits: Range | None, angle_deg: float) -> bool:
    """Whether the angle, or the same some whole turns away, lies in the closed range."""
    if limits is None:
        return True
    above = (angle_deg - limits[0]) % 360.0
    return above <= limits[1] - limits[0] + _ROUNDING_DEG or above >= 360.0 - _ROUNDING_DEG


def _text(limits: Range | None) -> str:
    return "any" if limits is None else f"{limits[0]:g} to {limits[1]:g}"
