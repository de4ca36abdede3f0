"""From materials and a camera to area densities.

Every backend takes a `MaterialVolume` once and then answers `project(camera)`. The CPU's is always there; others
are imported only when they are asked for. See protocols.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..gpu.errors import DeviceError
from .devices import choose_device
from .fallback import FallbackProjector
from .protocols import FormedImage, ImageFormer, Projector

if TYPE_CHECKING:
    from ..volume import MaterialVolume


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
