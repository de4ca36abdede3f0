"""From materials and a camera to area densities.

Every backend takes a `MaterialVolume` once and then answers `project(camera)`. The CPU's is always there; others
register themselves in `BACKENDS` and are imported only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from .devices import DeviceError, choose_device
from .fallback import FallbackProjector

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..imaging_chain import ImagingChain
    from ..materials import Material
    from ..volume import MaterialVolume


class Projector(Protocol):
    """What every backend offers; parity tests hold all of them to `reference.project_exactly`."""

    materials: tuple[Material, ...]

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width) in g/cm²."""
        ...


@dataclass(frozen=True, eq=False)
class FormedImage:
    """A finished image in the units of image.XRayImage.

    signal (channels, H, W); photons (H, W) detected per pixel; mean_energy_kev (H, W); area_densities
    (n_materials, H, W) in g/cm². All float32.
    """

    signal: npt.NDArray[np.float32]
    photons: npt.NDArray[np.float32]
    mean_energy_kev: npt.NDArray[np.float32]
    area_densities: npt.NDArray[np.float32]


class ImageFormer(Projector, Protocol):
    """A projector whose device can also expose the detector and draw its noise."""

    def form_batch(
        self,
        cameras: Sequence[Camera],
        chain: ImagingChain,
        seed: int,
        others: Sequence[Projector] = (),
    ) -> list[FormedImage] | None:
        """The first images, at least one, of a series of views, or None where the caller has to make them.

        They show this volume and others together; image n draws the noise of `seed + n`.
        """
        ...


def _cuda(volume: MaterialVolume, threads: int | None) -> Projector:
    def build() -> Projector:
        from .cuda.host import CudaProjector

        return CudaProjector(volume, threads)

    return FallbackProjector(volume, threads, "cuda", build)


def _torch(volume: MaterialVolume, threads: int | None) -> Projector:
    def build() -> Projector:
        try:
            from .torch_backend import TorchProjector
        except (ImportError, OSError) as error:
            raise DeviceError(f"torch cannot be imported ({error})") from error

        return TorchProjector(volume)

    return FallbackProjector(volume, threads, "torch", build)


def _cpu(volume: MaterialVolume, threads: int | None) -> Projector:
    from .cpu import CpuProjector

    return CpuProjector(volume, threads)


BACKENDS: dict[str, Callable[[MaterialVolume, int | None], Projector]] = {"cuda": _cuda, "torch": _torch, "cpu": _cpu}
"""Backend by device name."""


def make_projector(volume: MaterialVolume, device: str = "auto", threads: int | None = None) -> Projector:
    """The projector of a volume on "auto", "cuda", "torch" or "cpu"; ValueError for another.

    "auto" is what `choose_device` chooses. A device that cannot be used, or gives up later, is replaced by the CPU
    with one warning.
    """
    return BACKENDS[choose_device(device).device](volume, threads)


__all__ = ["BACKENDS", "FormedImage", "ImageFormer", "Projector", "choose_device", "make_projector"]
