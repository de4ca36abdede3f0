"""Scatter in milliseconds without a network: kernels, superposed layer by layer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..collimator import WHOLE_DETECTOR, check_field
from ..cross_sections import MAX_ENERGY_KEV, MIN_ENERGY_KEV
from ..once import warn_once
from ..threads import thread_count
from .layers import cut
from .matter import joined
from .superposition import Superposed, group_weights, superpose
from .tallies import upsampled_exposure

if TYPE_CHECKING:
    from ..collimator import Field
    from ..detector import Detector
    from ..exposure import Exposure
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum
    from ..volume import MaterialVolume
    from .antiscatter import AntiScatterGrid
    from .architecture import CorrectionNet
    from .layers import Layers

VOXEL_MM = 4.0


class KernelScatter:
    """The scatter model of `superposition.superpose`, in the units of the primary.

    `field` (u0, v0, u1, v1) is the part of the detector in the collimated beam, in fractions of its width and height;
    `grid` an anti-scatter grid. `rayleigh_only` leaves out all but single Rayleigh scatter, as the DeepDRR paper does.
    Voxels below 4 mm are joined first, several volumes on one grid.
    """

    name = "kernel"
    network: CorrectionNet | None = None
    """What corrects the estimate, if anything."""

    def __init__(
        self,
        volumes: MaterialVolume | Sequence[MaterialVolume],
        *,
        field: Field = WHOLE_DETECTOR,
        grid: AntiScatterGrid | None = None,
        rayleigh_only: bool = False,
        threads: int | None = None,
    ) -> None:
        self.volume = joined(volumes, VOXEL_MM)
        self.field, self.grid, self.threads = check_field(field), grid, thread_count(threads)
        self.rayleigh_only = rayleigh_only
        self._narrowed: Self | None = None
        self._gridded: Self | None = None
        self._load()

    def _load(self) -> None:
        """Kernels need nothing more; networks take their weights here."""

    def in_field(self, field: Field) -> Self:
        """The same model in another beam; asked again it is the same object, for which a GPU has all at hand."""
        if field == self.field:
            return self
        if self._narrowed is None or self._narrowed.field != field:
            its = copy.copy(self)
            its.field, its._narrowed, its._gridded = check_field(field), None, None
            self._narrowed = its
        return self._narrowed

    def behind(self, grid: AntiScatterGrid) -> Self:
        """The same model behind a grid; asked again it is the same object."""
        if grid == self.grid:
            return self
        if self._gridded is None or self._gridded.grid != grid:
            its = copy.copy(self)
            its.grid, its._narrowed, its._gridded = grid, None, None
            self._gridded = its
        return self._gridded

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
        scatter = self.superposed(cut(self.volume, camera, self.threads, self.field), spectrum)
        kinds = slice(self.kinds)
        scatter = replace(scatter, photons=scatter.photons[kinds], energies_kev=scatter.energies_kev[kinds])
        return upsampled_exposure(detected(scatter, spectrum, detector), camera)

    def estimate_on_device(
        self,
        area_densities: Any,
        materials: Sequence[Material],
        cameras: Sequence[Camera],
        spectrum: Spectrum,
        detector: Detector,
    ) -> Any | None:
        """The same for a batch of views on the GPU by torch, see cuda.imaging.scatter_planes; None where it cannot be.

        It can where torch with CUDA is installed.
        """
        del area_densities, materials
        if find_spec("torch") is None:
            return None
        try:
            from .on_device import planes_on_gpu
        except (ImportError, OSError) as error:
            warn_once(f"Scatter is estimated on the CPU instead of the GPU: torch cannot be imported ({error}).")
            return None
        return planes_on_gpu(self, cameras, spectrum, detector)

    @property
    def kinds(self) -> int:
        """How many of single Rayleigh, single Compton and multiple scatter count."""
        return 1 if self.rayleigh_only else 3

    def superposed(self, layers: Layers, spectrum: Spectrum) -> Superposed:
        """The scatter of layers by kind and energy group, on the pixels of their camera."""
        return superpose(layers, spectrum, grid=self.grid)

    def to_dict(self) -> dict[str, Any]:
        """What the image's metadata say of the model."""
        return {
            "model": self.name,
            "field": list(self.field),
            "grid": None if self.grid is None else dataclasses.asdict(self.grid),
            "rayleigh_only": self.rayleigh_only,
        }


def detected(scatter: Superposed, spectrum: Spectrum, detector: Detector) -> npt.NDArray[np.float32]:
    """What a detector makes of scatter: photons, signal, squared signal of every channel, and energy, of each pixel."""
    every = responses(scatter.energies_kev, spectrum, detector).astype(np.float32)
    pictures = [np.tensordot(one, photons, (1, 0)) for one, photons in zip(every, scatter.photons, strict=True)]
    return np.asarray(sum(pictures[1:], start=pictures[0]), np.float32)


def responses(energies_kev: npt.NDArray[np.float64], spectrum: Spectrum, detector: Detector) -> npt.NDArray[np.float64]:
    """What a detector makes of one photon of a kind and group, (kind, 3 · channels + 1, group).

    Within a group the photons have the energies of the spectrum, lowered by what scattering took, which `energies_kev`
    (kind, group, shift) tells.
    """
    weights = group_weights(spectrum)
    weights /= weights.sum(axis=1, keepdims=True)
    kept = energies_kev / (weights @ spectrum.energies_kev)[:, None]
    at = np.clip(kept[..., None] * spectrum.energies_kev, MIN_ENERGY_KEV, MAX_ENERGY_KEV)
    worth = detector.responses(at.ravel()).reshape(-1, *at.shape)
    return np.asarray(np.einsum("qkgse,ge->kqg", worth, weights) / at.shape[2])
