"""Scatter by the ten-layer network of the DeepDRR paper, trained on our own Monte Carlo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .features import features
from .kernel import KernelScatter
from .layers import MARGIN, SIDE
from .network import checksum, need_torch, with_weights
from .superposition import Superposed, superpose

if TYPE_CHECKING:
    from ..detector import Detector
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum
    from .convnet import ConvNet
    from .layers import Layers

Float32Array = npt.NDArray[np.float32]

WEIGHTS = "network_paper.safetensors"
_LEAST = 1e-9
"""Of the open beam: less scatter than that is none."""


class PaperNetworkScatter(KernelScatter):
    """The scatter that the ten-layer network of Unberath et al. (MICCAI 2018) finds, with inputs in physical units.

    It is there to compare with: `NetworkScatter` is nearer to the Monte Carlo, see data/scatter/MODEL_CARD.md. The
    network tells the energy of Rayleigh and of all other scatter; how it is spread over photon energies, and what a
    grid takes of it, is that of the kernels. Needs torch and safetensors (ValueError without).
    """

    name = "network-paper"

    def _load(self) -> None:
        self._net = stored_paper_network()

    def superposed(self, layers: Layers, spectrum: Spectrum) -> Superposed:
        """The scatter of layers by kind and energy group."""
        first = superpose(layers, spectrum)
        energy = first.energy_kev / np.float32(spectrum.mean_energy_kev)
        kernels = np.stack([energy[0], energy[1] + energy[2]])
        found = self._found(features(layers, spectrum, first))
        rayleigh, other = np.where(kernels > _LEAST, found / np.maximum(kernels, _LEAST), np.float32(0.0))
        base = first if self.grid is None else superpose(layers, spectrum, grid=self.grid)
        return replace(base, photons=base.photons * np.stack([rayleigh, other, other])[:, None])

    def estimate_on_device(
        self,
        area_densities: Any,
        materials: Sequence[Material],
        cameras: Sequence[Camera],
        spectrum: Spectrum,
        detector: Detector,
    ) -> None:
        """Nothing: this network runs on the CPU only."""

    def to_dict(self) -> dict[str, Any]:
        """What the image's metadata say of the model; "weights" is their checksum."""
        return super().to_dict() | {"weights": checksum(WEIGHTS)}

    def _found(self, pictures: Float32Array) -> Float32Array:
        """Energy of Rayleigh and of all other scatter in units of the open beam's, (2, rows, columns)."""
        import torch

        whole = SIDE + 2 * MARGIN
        v, u = ((whole - n) // 2 for n in pictures.shape[1:])
        rows, columns = (n - 2 * MARGIN for n in pictures.shape[1:])
        square = np.zeros((1, len(pictures), whole, whole), np.float32)
        square[0, :, v : v + pictures.shape[1], u : u + pictures.shape[2]] = pictures
        with torch.inference_mode():
            found: Float32Array = self._net(torch.from_numpy(square)).numpy()[0, :, v : v + rows, u : u + columns]
        return found


@cache
def stored_paper_network() -> ConvNet:
    """The paper's network that comes with the package, its weights checked; ValueError if they are damaged."""
    need_torch(PaperNetworkScatter.name)
    from .convnet import ConvNet

    return with_weights(ConvNet(), WEIGHTS)
