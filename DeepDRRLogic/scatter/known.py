"""The views that the scatter network was trained on; what lies beyond them is said, as nothing else would show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..once import warn_once

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..spectrum import Spectrum

DETECTOR_MM = (180.0, 600.0)
"""The longer side of the detector."""
DISTANCE_MM = (900.0, 1800.0)
ENERGY_KEV = (25.0, 120.0)
"""The beam's mean energy."""
TOLERANCE = 0.1


def warn_beyond(camera: Camera, spectrum: Spectrum) -> None:
    """Warn, once for each, of what is more than a tenth beyond anything that the network has seen."""
    pitch_u, pitch_v = camera.pixel_pitch_mm
    seen = (
        ("A detector", "mm", max(camera.width * pitch_u, camera.height * pitch_v), DETECTOR_MM),
        ("A source-to-detector distance", "mm", camera.source_to_detector_mm, DISTANCE_MM),
        ("A mean energy", "keV", spectrum.mean_energy_kev, ENERGY_KEV),
    )
    for what, unit, value, (low, high) in seen:
        if not low * (1.0 - TOLERANCE) <= value <= high * (1.0 + TOLERANCE):
            warn_once(
                f"{what} of {value:.0f} {unit} is beyond what the scatter network was trained on, {low:.0f} to "
                f"{high:.0f} {unit}: compare its scatter with that of 'montecarlo'."
            )
