"""The whole image formation on one page."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ._version import __version__
from .aim import is_inside, may_hit
from .checks import check_kind, check_seed
from .collimator import Collimator
from .crosstalk import kernel_at, spread, widened
from .detector import Detector
from .exposure import expose, unattenuated
from .geometry import Camera
from .image import XRayImage
from .imaging_chain import ImagingChain
from .memory import require_image_memory
from .noise import MAX_PHOTONS_PER_PIXEL, NoiseModel
from .projector import FormedImage, ImageFormer, choose_device, make_projector
from .scatter import CollimatedScatter, GriddedScatter, RandomScatter, make_scatter
from .scatter.antiscatter import AntiScatterGrid
from .spectrum import Spectrum
from .threads import thread_count
from .volume import MaterialVolume

if TYPE_CHECKING:
    from .collimator import Field
    from .materials import Material
    from .projector import Projector
    from .projector.devices import Choice
    from .scatter import ScatterModel

_logger = logging.getLogger(__name__)

_FEWEST, _MOST = 1e-6, MAX_PHOTONS_PER_PIXEL
LOOK_AHEAD = 64
"""The most views of a series that a device is offered at once."""


class XRaySimulator:
    """Makes X-ray images of one or several material volumes: `image = XRaySimulator(volume)(camera)`.

    Volumes that overlap add up; where one should displace the other, as an implant displaces bone, carve the place out
    first with `MaterialVolume.replaced_by`. `photons_per_pixel` is N0, the photons that reach a pixel with nothing in
    the beam. `scatter` is a model or its name (scatter.SCATTER_MODELS), or None. `noise` is by default what the
    detector declares; None makes a noiseless image. `collimator` is the opening that the shutters leave: scatter is
    that of the beam which passes it. Beside it the primary is computed as ever: pictures hide it, numbers hold it
    (`collimator.field_mask(camera)` is the opening). `grid` stands before the detector and acts on scatter. `device`
    and `threads` are for the projector, and for a Monte Carlo that is asked for by name.
    """

    def __init__(
        self,
        volumes: MaterialVolume | Sequence[MaterialVolume],
        *,
        spectrum: Spectrum | None = None,
        detector: Detector | None = None,
        photons_per_pixel: float = 5e5,
        scatter: ScatterModel | str | None = None,
        noise: NoiseModel | Literal["detector"] | None = "detector",
        collimator: Collimator | None = None,
        grid: AntiScatterGrid | None = None,
        device: str = "auto",
        threads: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.volumes = tuple(volumes) if isinstance(volumes, Iterable) else (volumes,)
        if not self.volumes:
            raise ValueError("No volume to look through: give at least one MaterialVolume.")
        for volume in self.volumes:
            check_kind("volumes", volume, MaterialVolume, "MaterialVolume.from_ct(ct, segment(ct))")
        self.materials = _all_materials(self.volumes)
        self.device = device
        self.threads = thread_count(threads)
        self._choice = choose_device(device)
        self._set(
            spectrum=spectrum, detector=detector, photons_per_pixel=photons_per_pixel, scatter=scatter, noise=noise,
            collimator=collimator, grid=grid, metadata=metadata,
        )  # fmt: skip
        self._projectors: list[Projector] = [make_projector(v, self._choice.device, self.threads) for v in self.volumes]

    def _set(
        self,
        *,
        spectrum: Spectrum | None,
        detector: Detector | None,
        photons_per_pixel: float,
        scatter: ScatterModel | str | None,
        noise: NoiseModel | Literal["detector"] | None,
        collimator: Collimator | None,
        grid: AntiScatterGrid | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        """Take the settings of an exposure over, checked."""
        check_kind("spectrum", spectrum, (Spectrum, type(None)), 'Spectrum.preset("120kV")')
        check_kind("detector", detector, (Detector, type(None)), "Detector.csi_flat_panel()")
        if not isinstance(photons_per_pixel, (int, float, np.number)) or not _FEWEST <= photons_per_pixel <= _MOST:
            raise ValueError(
                f"photons_per_pixel = {photons_per_pixel!s:.40}: give a number from {_FEWEST:g} to {_MOST:g}, "
                "such as 5e5."
            )
        self.spectrum = spectrum or Spectrum.preset("90kV")
        self.detector = detector or Detector.ideal()
        self.photons_per_pixel = float(photons_per_pixel)
        self.noise = NoiseModel.of(self.detector) if isinstance(noise, str) and noise == "detector" else noise
        check_kind("noise", self.noise, (NoiseModel, type(None)), "NoiseModel.of(detector), or None")
        unattenuated(self.spectrum, self.detector)  # a ValueError now rather than with the first image
        self.scatter = make_scatter(scatter, self.volumes, self.threads, self.device)
        self.grid, self._arriving = grid, _behind(grid, self.scatter)
        check_kind("collimator", collimator, (*get_args(Collimator), type(None)), 'parse_collimator("circle:80mm")')
        self.collimator = collimator
        self.metadata = dict(metadata or {})

    def with_exposure(self, **settings: Any) -> XRaySimulator:
        """The same volumes, already with the projector, for other settings of the exposure.

        `settings` are any of spectrum, detector, photons_per_pixel, scatter, noise, collimator, grid and metadata, as
        the constructor takes them; those that are left out stay, but noise that the detector declared is the new one's.
        TypeError for any other.
        """
        if unknown := sorted(settings.keys() - self._settings.keys()):
            raise TypeError(f"An exposure has no {', '.join(unknown)}; it has {', '.join(self._settings)}.")
        if "detector" in settings and self.noise == NoiseModel.of(self.detector):
            settings = {"noise": "detector"} | settings
        its = copy.copy(self)
        its._set(**(self._settings | settings))
        return its

    @property
    def _settings(self) -> dict[str, Any]:
        names = ("spectrum", "detector", "photons_per_pixel", "scatter", "noise", "collimator", "grid", "metadata")
        return {name: getattr(self, name) for name in names}

    def __call__(self, camera: Camera, seed: int = 0, metadata: Mapping[str, Any] | None = None) -> XRayImage:
        """The image that `camera` takes; the same seed draws the same noise."""
        return self._first_of([camera], seed, metadata or {})[0]

    def render_many(
        self,
        cameras: Iterable[Camera],
        seed: int = 0,
        progress: Callable[[int, int | None], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[XRayImage]:
        """One image per camera, as they are asked for; image n is that of `seed + n`, whichever came before.

        A GPU makes the images of a list of cameras some at a time, those of any other iterable one by one.
        progress(done, total) is called after each image (total None where `cameras` has no length); where
        cancelled() turns true, no further image is made.
        """
        check_seed(seed)
        total = len(cameras) if isinstance(cameras, Sequence) else None
        ready: deque[XRayImage] = deque()
        for index, camera in enumerate(cameras):
            if cancelled():
                return
            if not ready:
                # Only those of a list may be looked at before their turn.
                following = cameras[index : index + LOOK_AHEAD] if isinstance(cameras, Sequence) else [camera]
                ready.extend(self._first_of(following, seed + index, {}))
            image = ready.popleft()
            if progress is not None:
                progress(index + 1, total)
            yield image

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width) of all volumes together, g/cm², in the order of `materials`."""
        check_kind("camera", camera, Camera, "CArm().camera()")
        require_image_memory(camera.width, camera.height, len(self.materials), len(self.detector.channels))
        self._warn_of_odd_geometry(camera)
        first = self._projectors[0].project(camera)
        if len(self.volumes) == 1:
            return first
        total = np.zeros((len(self.materials), camera.height, camera.width), np.float32)
        for projector in self._projectors:
            densities = first if projector is self._projectors[0] else projector.project(camera)
            for material, density in zip(projector.materials, densities, strict=True):
                total[self.materials.index(material)] += density
        return total

    @property
    def projects_on(self) -> Choice:
        """The device that projects now, and why that one."""
        failures = filter(None, (getattr(projector, "gave_up", None) for projector in self._projectors))
        reason = next(failures, None)
        return dataclasses.replace(self._choice, device="cpu", reason=reason) if reason else self._choice

    def _first_of(self, cameras: Sequence[Camera], seed: int, metadata: Mapping[str, Any]) -> list[XRayImage]:
        """The first images, at least one, of a series of views."""
        check_kind("camera", cameras[0], Camera, "CArm().camera()")
        check_seed(seed)
        formed = self._form_on_device(cameras, seed) or [self._form(cameras[0], seed)]
        blank = unattenuated(self.spectrum, self.detector)
        return [
            XRayImage(
                signal=one.signal,
                unattenuated_signal=tuple((blank.signal[:, 0, 0] * self.photons_per_pixel).tolist()),
                photons=one.photons,
                mean_energy_kev=one.mean_energy_kev,
                area_densities=one.area_densities,
                material_names=tuple(material.name for material in self.materials),
                camera=camera,
                metadata=self._metadata(camera, seed + n) | dict(metadata),
            )
            for n, (one, camera) in enumerate(zip(formed, cameras, strict=False))
        ]

    def _form(self, camera: Camera, seed: int) -> FormedImage:
        area_densities = self.project(camera)
        exposure = expose(area_densities, self.materials, self.spectrum, self.detector, self.threads)
        if (model := self._scatter_of(camera, seed)) is not None:
            exposure += model.estimate(area_densities, self.materials, camera, self.spectrum, self.detector)
        if self.noise is None:
            expected = exposure.signal * np.float32(self.photons_per_pixel)
            crosstalk = kernel_at(self.detector.crosstalk, camera.pixel_pitch_mm)
            signal = spread(widened(expected, crosstalk), crosstalk, self.threads)
        else:
            signal = self.noise.at(camera.pixel_pitch_mm).apply(exposure, self.photons_per_pixel, seed, self.threads)
        photons = exposure.photons.sum(axis=0) * np.float32(self.photons_per_pixel)
        return FormedImage(signal, photons, exposure.mean_energy_kev, area_densities)

    def _form_on_device(self, cameras: Sequence[Camera], seed: int) -> list[FormedImage] | None:
        """The first images of a series, where one device can do everything that it takes; else None."""
        first, *others = self._projectors
        if not isinstance(first, ImageFormer):
            return None
        scatter, field = self._scatter_of(cameras[0], seed), self._field_of(cameras[0])
        cameras = list(takewhile(lambda camera: self._field_of(camera) == field, cameras))
        chain = ImagingChain(self.spectrum, self.detector, self.noise, self.photons_per_pixel, scatter)
        formed = first.form_batch(cameras, chain, seed, others)
        for camera in cameras[: len(formed or ())]:
            self._warn_of_odd_geometry(camera)
        return formed

    def _field_of(self, camera: Camera) -> Field | None:
        """What the collimator leaves of this camera's detector, None without one."""
        return None if self.collimator is None else self.collimator.field(camera)

    def _scatter_of(self, camera: Camera, seed: int) -> ScatterModel | None:
        """The scatter model in the beam of this camera, for the image of this seed."""
        field, model = self._field_of(camera), self._arriving
        if field is not None and isinstance(model, CollimatedScatter):
            model = model.in_field(field)
        return model.drawn(seed) if isinstance(model, RandomScatter) else model

    def preview(self, factor: int = 2) -> XRaySimulator:
        """The same simulator on volumes coarser by `factor`: some factor³ less work, for views on the move."""
        return XRaySimulator(
            [volume.downsampled(factor) for volume in self.volumes],
            device=self.device,
            threads=self.threads,
            **(self._settings | {"metadata": self.metadata | {"preview_factor": factor}}),
        )

    def _warn_of_odd_geometry(self, camera: Camera) -> None:
        for _ in filter(lambda volume: is_inside(camera.source_ras, volume), self.volumes):
            _logger.warning(
                "The source is inside the volume, at RAS %s mm: what lies behind it is left out. "
                "Increase the source-to-isocentre distance.",
                np.round(camera.source_ras, 1).tolist(),
            )
        if not any(may_hit(camera, volume) for volume in self.volumes):
            _logger.warning(
                "No ray meets the volume: the exposure is blank. Move the isocentre to the CT's centre, RAS %s mm, "
                "between source and detector, which are %.0f mm apart.",
                np.round(self.volumes[0].center_ras, 1).tolist(),
                camera.source_to_detector_mm,
            )

    def _metadata(self, camera: Camera, seed: int) -> dict[str, Any]:
        scatter = self._scatter_of(camera, seed)
        return self.metadata | {
            "software": f"DeepDRRLogic {__version__}",
            "seed": seed,
            "photons_per_pixel": self.photons_per_pixel,
            "spectrum": dataclasses.asdict(self.spectrum),
            "detector": dataclasses.asdict(self.detector),
            "noise": None if self.noise is None else dataclasses.asdict(self.noise),
            "scatter": None if scatter is None else scatter.to_dict(),
            "collimator": None if self.collimator is None else self.collimator.words,
            "device": self.projects_on.device,
            "volumes": [
                {
                    "name": volume.name,
                    "size_ijk": list(volume.shape[::-1]),
                    "ras_from_ijk": volume.ras_from_ijk,
                    "materials": [material.name for material in volume.materials],
                }
                for volume in self.volumes
            ],
        }


def _behind(grid: AntiScatterGrid | None, scatter: ScatterModel | None) -> ScatterModel | None:
    """What of a scatter model arrives behind a grid; ValueError where there is nothing for the grid to act on."""
    if grid is None:
        return scatter
    check_kind("grid", grid, AntiScatterGrid, "AntiScatterGrid(ratio=10)")
    if not isinstance(scatter, GriddedScatter):
        raise ValueError(
            f"grid = {grid}, but " + ("there is no scatter" if scatter is None else f"{scatter!r:.60} knows no grid")
            + ": give scatter='network', 'kernel' or 'montecarlo' with it, or leave the grid out."
        )  # fmt: skip
    return scatter.behind(grid)


def _all_materials(volumes: Sequence[MaterialVolume]) -> tuple[Material, ...]:
    """The materials of all volumes, each once, in the order they appear; ValueError for two of one name."""
    by_name: dict[str, Material] = {}
    for material in (material for volume in volumes for material in volume.materials):
        known = by_name.setdefault(material.name, material)
        if material != known:
            raise ValueError(
                f"Two materials are called '{material.name}' and differ in composition or density "
                f"({known.density_g_cm3:g} and {material.density_g_cm3:g} g/cm³): the image tells materials apart by "
                "their names. Rename one with dataclasses.replace(material, name=...)."
            )
    return tuple(by_name.values())
