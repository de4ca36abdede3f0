"""A projector that does not stop when its device does."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from ..gpu.errors import DeviceError, DeviceMemoryError
from ..once import warn_once
from .cuda.texels import MAX_MATERIALS
from .protocols import ImageFormer

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..imaging_chain import ImagingChain
    from ..volume import MaterialVolume
    from .protocols import FormedImage, Projector

Result = TypeVar("Result")


_logger = logging.getLogger(__name__)


class FallbackProjector:
    """Projects on a device until that fails, then on the CPU for good: one warning, and the same area densities.

    Where the device only lacks memory the CPU makes that one view, and the next is the device's again. `build` makes
    the device's projector, or raises DeviceError: then it is the CPU from the start. `device` says which one made the
    last view, `gave_up` why that was not the first one.
    """

    def __init__(
        self, volume: MaterialVolume, threads: int | None, device: str, build: Callable[[], Projector]
    ) -> None:
        self.materials = volume.materials
        self.device = self._wanted = device
        self.gave_up: str | None = None
        self._volume = volume
        self._threads = threads
        self._projector: Projector
        self._substitute: Projector | None = None
        try:
            self._projector = build()
        except DeviceError as error:
            self._give_up(error)

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width), float32, in g/cm²."""
        try:
            return self._recovered(self._projector.project(camera))
        except DeviceMemoryError as error:
            self._step_aside(error)
        except DeviceError as error:
            self._give_up(error)
        return self._on_cpu().project(camera)

    def form_batch(
        self,
        cameras: Sequence[Camera],
        chain: ImagingChain,
        seed: int,
        others: Sequence[Projector] = (),
    ) -> list[FormedImage] | None:
        """The first images of a series, of this volume and others, or None where not one device can do it all."""
        former = self._projector
        beside = [other._projector if isinstance(other, FallbackProjector) else other for other in others]
        materials = {material for projector in (self, *others) for material in projector.materials}
        if not isinstance(former, ImageFormer) or len(materials) > MAX_MATERIALS:
            return None
        if any(type(other) is not type(former) for other in beside):
            return None

        def formed(some: Sequence[Camera]) -> list[FormedImage] | None:
            return former.form_batch(some, chain, seed, beside)

        try:
            # Somebody else may have taken the memory that a batch was planned for; what it did take is free again
            # only when its error is forgotten.
            with contextlib.suppress(DeviceMemoryError):
                return self._recovered(formed(cameras))
            return self._recovered(formed(cameras[:1]))
        except DeviceMemoryError as error:
            self._step_aside(error)
        except DeviceError as error:
            self._give_up(error)
        return None

    def _on_cpu(self) -> Projector:
        from .cpu import CpuProjector

        if self._substitute is None:
            self._substitute = CpuProjector(self._volume, self._threads)
        return self._substitute

    def _step_aside(self, error: DeviceMemoryError) -> None:
        """Somebody else has the memory, and may give it back: said when it begins, not for every view."""
        if self.gave_up is None:
            _logger.warning("X-rays are projected on the CPU until %s has memory again: %s.", self._wanted, str(error))
        self.device, self.gave_up = "cpu", f"not {self._wanted} for now, {error}"

    def _recovered(self, result: Result) -> Result:
        """`result`, which the device made: if it had stepped aside, it is back."""
        if self._projector is not self._substitute:
            self.device, self.gave_up = self._wanted, None
        return result

    def _give_up(self, error: DeviceError) -> None:
        warn_once(f"X-rays are projected on the CPU instead of {self._wanted}: {error}.")
        self.device, self.gave_up = "cpu", f"not {self._wanted}, {error}"
        self._projector = self._on_cpu()
