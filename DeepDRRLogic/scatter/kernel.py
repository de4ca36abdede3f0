"""Scatter in milliseconds without a network: kernels, superposed layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..threads import thread_count
from .layers import cut
from .setup import WHOLE_DETECTOR, Field, check_field, joined
from .superposition import Superposed, superpose
from .tallies import upsampled_exposure

if TYPE_CHECKING:
    from ..detector import Detector
    from ..exposure import Exposure
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum
    from ..volume import MaterialVolume
    from .antiscatter import AntiScatterGrid
    from .layers import Layers

VOXEL_MM = 4.0


class KernelScatter:
    """The scatter model of `superposition.superpose`, in the units of the primary.

    `field` (u0, v0, u1, v1) is the part of the detector in the collimated beam, in fractions of its width and height;
    `grid` an anti-scatter grid. Voxels below 4 mm are joined first, several volumes on one grid.
    """

    name = "kernel"

    def __init__(
        self,
        volumes: MaterialVolume | Sequence[MaterialVolume],
        *,
        field: Field = WHOLE_DETECTOR,
        grid: AntiScatterGrid | None = None,
        threads: int | None = None,
    ) -> None:
        self.volume = joined(volumes, VOXEL_MM)
        self.field, self.grid, self.threads = check_field(field), grid, thread_count(threads)

    def estimate(
        self,
        area_densities: npt.NDArray[np.float32],
        materials: Sequence[Material],
        camera: Camera,
        spectrum: Spectrum,
        detector: Detector,
    ) -> Exposure:
        """The scattered exposure at the camera's pixels, interpolated from some 32 × 32; see `ScatterModel`."""
        del area_densities, materials  # depth decides, which the volume knows
        return exposure_of(
            self.superposed(cut(self.volume, camera, self.threads, self.field), spectrum), camera, detector
        )

    def superposed(self, layers: Layers, spectrum: Spectrum) -> Superposed:
        """The scatter of layers by kind and energy group, on the pixels of their camera."""
        return superpose(layers, spectrum, grid=self.grid)

    def to_dict(self) -> dict[str, Any]:
        """What the image's metadata say of the model."""
        return {
            "model": self.name,
            "field": list(self.field),
            "grid": None if self.grid is None else dataclasses.asdict(self.grid),
        }


def exposure_of(scatter: Superposed, camera: Camera, detector: Detector) -> Exposure:
    """What a detector makes of scatter in energy groups, at a camera's pixels."""
    energies = scatter.energies_kev.ravel()
    detected, gain = detector.detected_fraction(energies), detector.signal_per_photon(energies)
    every = np.concatenate([detected, detected * gain, detected * gain**2, (detected * energies).sum(axis=0)[None]])
    photons = scatter.photons.reshape(energies.size, *scatter.photons.shape[2:])
    return upsampled_exposure(np.tensordot(every.astype(np.float32), photons, (1, 0)), camera)
