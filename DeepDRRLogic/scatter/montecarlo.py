"""Scatter by Monte Carlo: the truth that faster models are held to.

Photons start at the focal spot, are followed by Woodcock tracking through piecewise constant voxels, and are absorbed
or scattered (Rayleigh with form factors, Compton with incoherent scattering functions) as often as it happens.
Secondary electrons stay where they are made; fluorescence and Doppler broadening are left out. Every collision of an
absorption-weighted history sends its expected contribution to points on the detector (forced detection), which gives
a scatter picture thousands of times sooner than waiting for photons to arrive; `forced=0` waits. The photons are
followed by transport.py on the CPU, by cuda/transport.cu on an NVIDIA GPU.

Units. The source is isotropic within the field. What arrives in a pixel is divided by what the same source sends there
with nothing in the beam, n(u) ∝ cos³α, pixel by pixel. That is a flat-fielded picture, and the unit of
`exposure.expose`, whose primary is exp(-∫µ dl) in every pixel: primary and scatter add as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import check_positive, check_range
from ..collimator import WHOLE_DETECTOR, check_field
from ..threads import thread_count
from .antiscatter import AntiScatterGrid
from .interactions import Interactions
from .matter import coarsened, joined
from .run import Batch, Run
from .running import carry_out, check_device
from .setup import body_of, field_solid_angle, panel_of, physics_of
from .tallies import COMPONENTS, Tallies

if TYPE_CHECKING:
    from ..collimator import Field
    from ..detector import Detector
    from ..exposure import Exposure
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum
    from ..volume import MaterialVolume

_logger = logging.getLogger(__name__)

PHOTONS = 1_000_000
BATCHES = 40
"""Independent parts of a run: their spread tells a pixel's standard error to 1 / √(2·39) = 11 %."""
VOXEL_MM = 4.0
TALLY_PIXELS = 32
FORCED = 8


class CancelledError(Exception):
    """The caller asked to stop before anything was counted."""


def simulate(
    volume: MaterialVolume,
    camera: Camera,
    spectrum: Spectrum,
    detector: Detector,
    *,
    photons: float = PHOTONS,
    seed: int = 0,
    tally: tuple[int, int] | int = TALLY_PIXELS,
    forced: int = FORCED,
    grid: AntiScatterGrid | None = None,
    field: Field = WHOLE_DETECTOR,
    voxel_mm: float | None = VOXEL_MM,
    batches: int = BATCHES,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    interactions: Interactions | None = None,
) -> Tallies:
    """Follow `photons` from the source through `volume` and return what arrives at the detector, with uncertainties.

    `tally` (columns, rows), or the number along the longer side, are the pixels that count, on the camera's field;
    `forced` is the number of detector points each collision contributes to, 0 for analogue transport. `field`
    (u0, v0, u1, v1) is the part of the detector in the collimated beam, in fractions of its width and height. Voxels
    below `voxel_mm` are joined first (None: never). `device` is "cpu", "cuda", or "auto" for an NVIDIA GPU where there
    is one; what a GPU cannot do the CPU does, with one warning. The same seed gives the same result for any number of
    threads; on a GPU other photons than on the CPU, and the last digits may differ. progress(done, total) counts
    batches, on a GPU photons, and may be called from several threads at once; where cancelled() turns true, what has
    been done so far is returned, and CancelledError is raised if that is nothing. `interactions` replaces the cross
    sections of the volume's materials.
    """
    check_range("photons", photons, 1, 1e15)
    if forced < 0 or batches < 2:
        raise ValueError(f"forced = {forced}, batches = {batches}: give forced from 0 and at least 2 batches.")
    check_field(field)
    check_device(device)
    counting = camera.resampled(*_tally_size(camera, tally))
    body, cm_from_ras = body_of(coarsened(volume, voxel_mm), counting)
    shining = spectrum.photons > 0.0
    energies, cumulative = spectrum.energies_kev[shining], np.cumsum(spectrum.photons[shining])
    tables = interactions or Interactions.of(volume.materials, float(energies[-1]))
    panel = panel_of(counting, cm_from_ras, spectrum, detector, grid, field, tables.attenuation.shape[1])
    run = Run(
        body, physics_of(tables), panel, energies, cumulative / cumulative[-1], spectrum.mean_energy_kev,
        (len(panel.response), counting.height, counting.width), int(photons), batches, forced, seed,
    )  # fmt: skip
    done = carry_out(run, device, thread_count(threads), progress, cancelled)
    if not done:
        raise CancelledError("Cancelled before the first batch of photons was done.")
    settings = _settings(volume, spectrum, detector, grid, field, voxel_mm, interactions)
    return _summed(done, counting, field_solid_angle(panel), seed, settings)


def _settings(
    volume: MaterialVolume,
    spectrum: Spectrum,
    detector: Detector,
    grid: AntiScatterGrid | None,
    field: Field,
    voxel_mm: float | None,
    interactions: Interactions | None,
) -> str:
    """What two runs must have in common for their tallies to add up, besides the camera."""
    beam = [spectrum.energies_kev.tolist(), spectrum.photons.tolist(), dataclasses.asdict(detector)]
    physics = [repr(material) for material in volume.materials]
    if interactions is not None:
        physics.append(hashlib.sha256(np.ascontiguousarray(interactions.attenuation).tobytes()).hexdigest())
    return json.dumps(
        {
            "spectrum": spectrum.description, "detector": detector.name, "beam": _digest(repr(beam)),
            "materials": [material.name for material in volume.materials], "physics": _digest(repr(physics)),
            "voxel_mm": voxel_mm, "field": list(field),
            "grid": None if grid is None else dataclasses.asdict(grid), "shape": volume.shape,
            "mass_g": round(volume.mass_g, 3), "ras_from_ijk": volume.ras_from_ijk.tolist(),
        }
    )  # fmt: skip


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _summed(done: Sequence[Batch], camera: Camera, field_sr: float, seed: int, settings: str) -> Tallies:
    """Batches added in their order, so that rounding does not depend on which thread was first."""
    shape = done[0].found.shape
    sums, squares = np.zeros((len(COMPONENTS), *shape[1:])), np.zeros((len(COMPONENTS), *shape[1:]))
    ledger = np.zeros_like(done[0].ledger)
    for found, energies, photons in done:
        every = np.concatenate([found, found[1:].sum(axis=0, keepdims=True)])
        sums += every
        squares += every**2 / photons
        ledger += energies
    photons = sum(batch.photons for batch in done)
    return Tallies(sums, squares, ledger, photons, len(done), camera, field_sr, (seed,), settings)


def _tally_size(camera: Camera, tally: tuple[int, int] | int) -> tuple[int, int]:
    if not isinstance(tally, int):
        return tally
    check_positive("tally", tally)
    pitch_u, pitch_v = camera.pixel_pitch_mm
    width, height = camera.width * pitch_u, camera.height * pitch_v
    longer = max(width, height)
    return max(1, round(tally * width / longer)), max(1, round(tally * height / longer))


class MonteCarloScatter:
    """The scatter model that asks `simulate`: exact, and slow. The arguments are those that `simulate` has.

    Several volumes are joined on one grid of `voxel_mm`. `seed` is of the photons; None is that of the image, so that
    the images of a series do not share their photons. `simulate` itself returns the uncertainty as well.
    """

    def __init__(
        self,
        volumes: MaterialVolume | Sequence[MaterialVolume],
        *,
        photons: float = PHOTONS,
        seed: int | None = None,
        grid: AntiScatterGrid | None = None,
        field: Field = WHOLE_DETECTOR,
        tally: tuple[int, int] | int = TALLY_PIXELS,
        forced: int = FORCED,
        voxel_mm: float = VOXEL_MM,
        device: str = "auto",
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        check_positive("voxel_mm", voxel_mm)
        self.device = check_device(device)
        self.volume = joined(volumes, voxel_mm)
        self.photons, self.seed, self.grid, self.tally, self.forced = photons, seed, grid, tally, forced
        self.field = check_field(field)
        self.voxel_mm, self.threads, self.progress, self.cancelled = voxel_mm, threads, progress, cancelled

    def in_field(self, field: Field) -> MonteCarloScatter:
        """The same in a narrower beam."""
        its = copy.copy(self)
        its.field = check_field(field)
        return its

    def behind(self, grid: AntiScatterGrid) -> MonteCarloScatter:
        """The same behind a grid."""
        its = copy.copy(self)
        its.grid = grid
        return its

    def drawn(self, seed: int) -> MonteCarloScatter:
        """The same with the photons of this seed, unless it has one of its own."""
        its = copy.copy(self)
        its.seed = seed if self.seed is None else self.seed
        return its

    def watched(
        self, progress: Callable[[int, int], None], cancelled: Callable[[], bool] = lambda: False
    ) -> MonteCarloScatter:
        """The same with another progress and another reason to end; what `simulate` says of them holds."""
        its = copy.copy(self)
        its.progress, its.cancelled = progress, cancelled
        return its

    def estimate(
        self,
        area_densities: npt.NDArray[np.float32],
        materials: Sequence[Material],
        camera: Camera,
        spectrum: Spectrum,
        detector: Detector,
    ) -> Exposure:
        """The scattered exposure at the camera's pixels, interpolated from the tally's; see `ScatterModel`."""
        del area_densities, materials  # the volume itself is asked
        tallies = simulate(
            self.volume, camera, spectrum, detector, photons=self.photons, seed=self.seed or 0, tally=self.tally,
            forced=self.forced, grid=self.grid, field=self.field, voxel_mm=None, device=self.device,
            threads=self.threads, progress=self.progress, cancelled=self.cancelled,
        )  # fmt: skip
        _logger.info("Scatter: median uncertainty %.1f %%.", 100.0 * tallies.median_uncertainty())
        return tallies.upsampled(camera)

    def to_dict(self) -> dict[str, Any]:
        """What the image's metadata say of the model."""
        return {
            "model": "montecarlo",
            "photons": self.photons,
            "seed": self.seed,
            "tally": self.tally,
            "forced": self.forced,
            "voxel_mm": self.voxel_mm,
            "device": self.device,
            "field": list(self.field),
            "grid": None if self.grid is None else dataclasses.asdict(self.grid),
        }
