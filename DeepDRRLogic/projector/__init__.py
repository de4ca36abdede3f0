"""From materials and a camera to area densities.

Every backend takes a `MaterialVolume` once and then answers `project(camera)`. The CPU's is always there; others
register themselves in `BACKENDS` and are imported only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..materials import Material
    from ..volume import MaterialVolume


class Projector(Protocol):
    """What every backend offers; parity tests hold all of them to `reference.project_exactly`."""

    materials: tuple[Material, ...]

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width) in g/cm²."""
        ...


def _cpu(volume: MaterialVolume, threads: int | None) -> Projector:
    from .cpu import CpuProjector

    return CpuProjector(volume, threads)


BACKENDS: dict[str, Callable[[MaterialVolume, int | None], Projector]] = {"cpu": _cpu}
"""Backend by device name, the fastest first: "auto" takes the first that this machine can run."""


def make_projector(volume: MaterialVolume, device: str = "auto", threads: int | None = None) -> Projector:
    """The projector of a volume on "auto", "cpu" or another registered device; ValueError for an unknown one."""
    if device == "auto":
        device = next(iter(BACKENDS))
    if device not in BACKENDS:
        raise ValueError(f"Unknown device {device!r}: choose auto, {', '.join(BACKENDS)}.")
    return BACKENDS[device](volume, threads)


__all__ = ["BACKENDS", "Projector", "make_projector"]
