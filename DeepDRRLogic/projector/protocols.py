"""What a projector is, and what one can do besides whose device forms images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..imaging_chain import ImagingChain
    from ..materials import Material


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


@runtime_checkable
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
