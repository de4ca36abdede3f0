"""All that turns area densities into an image, in one value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .detector import Detector
    from .noise import NoiseModel
    from .scatter import ScatterModel
    from .spectrum import Spectrum


@dataclass(frozen=True, eq=False)
class ImagingChain:
    """Spectrum, detector, noise and scatter of an exposure.

    `photons_per_pixel` reach the detector with nothing in the beam. Without `noise` the image is the expected one,
    without `scatter` the primary beam's.
    """

    spectrum: Spectrum
    detector: Detector
    noise: NoiseModel | None = None
    photons_per_pixel: float = 1.0
    scatter: ScatterModel | None = None

    def at(self, pixel_pitch_mm: tuple[float, float]) -> ImagingChain:
        """The same for pixels of so many mm along u and v, see Detector.at."""
        noise = None if self.noise is None else self.noise.at(pixel_pitch_mm)
        return dataclasses.replace(self, detector=self.detector.at(pixel_pitch_mm), noise=noise)
