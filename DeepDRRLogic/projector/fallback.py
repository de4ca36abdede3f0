"""A projector that does not stop when its device does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .cuda.texels import MAX_MATERIALS
from .devices import DeviceError, DeviceMemoryError, warn_once

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..imaging_chain import ImagingChain
    from ..volume import MaterialVolume
    from . import FormedImage, Projector


class FallbackProjector:
    """Projects on a device until that fails, then on the CPU for good: one warning, and the same area densities.

    `build` makes the device's projector, or raises DeviceError: then it is the CPU from the start. `device` says which
    one works now, `gave_up` why the first one does not.
    """

    def __init__(
        self, volume: MaterialVolume, threads: int | None, device: str, build: Callable[[], Projector]
    ) -> None:
        self.materials = volume.materials
        self.device = device
        self.gave_up: str | None = None
        self._volume = volume
        self._threads = threads
        self._projector: Projector
        try:
            self._projector = build()
        except DeviceError as error:
            self._give_up(error)

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width), float32, in g/cm²."""
        try:
            return self._projector.project(camera)
        except DeviceError as error:
            self._give_up(error)
            return self._projector.project(camera)

    def form_batch(
        self,
        cameras: Sequence[Camera],
        chain: ImagingChain,
        seed: int,
        others: Sequence[Projector] = (),
    ) -> list[FormedImage] | None:
        """The first images of a series, of this volume and others, or None where not one device can do it all."""
        form = getattr(self._projector, "form_batch", None)
        beside = [getattr(other, "_projector", None) for other in others]
        materials = {material for projector in (self, *others) for material in projector.materials}
        if form is None or len(materials) > MAX_MATERIALS or any(type(p) is not type(self._projector) for p in beside):
            return None

        def formed(some: Sequence[Camera]) -> list[FormedImage]:
            images: list[FormedImage] = form(some, chain, seed, beside)
            return images

        try:
            # Somebody else may have taken the memory that a batch was planned for; what it did take is free again
            # only when its error is forgotten.
            with contextlib.suppress(DeviceMemoryError):
                return formed(cameras)
            return formed(cameras[:1])
        except DeviceError as error:
            self._give_up(error)
            return None

    def _give_up(self, error: DeviceError) -> None:
        from .cpu import CpuProjector

        warn_once(f"X-rays are projected on the CPU instead of {self.device}: {error}.")
        self.device, self.gave_up = "cpu", f"not {self.device}, {error}"
        self._projector = CpuProjector(self._volume, self._threads)
