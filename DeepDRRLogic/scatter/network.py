"""Scatter by a small network, trained on our own Monte Carlo: the kernels' estimate, corrected."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from .features import features
from .kernel import KernelScatter
from .known import warn_beyond
from .layers import MARGIN, SIDE
from .superposition import Superposed, superpose

if TYPE_CHECKING:
    from torch import nn

    from ..spectrum import Spectrum
    from .architecture import CorrectionNet
    from .layers import Layers

Float32Array = npt.NDArray[np.float32]

Net = TypeVar("Net", bound="nn.Module")

WEIGHTS = "network.safetensors"
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))


class NetworkScatter(KernelScatter):
    """The kernels' scatter times smooth factors that a network finds, one each for Rayleigh, Compton and multiple.

    The factors are the mean over the four mirror images of the view, so a mirrored view has exactly the mirrored
    scatter. They lie between e^-1.5 and e^1.5, so where nothing scatters there is no scatter. Needs torch and
    safetensors (`pip install DeepDRRLogic[networks]`; ValueError without). What it was trained on and how well it
    does: data/scatter/MODEL_CARD.md.
    """

    name = "network"
    network: CorrectionNet

    def _load(self) -> None:
        self.network = stored_network()

    def superposed(self, layers: Layers, spectrum: Spectrum) -> Superposed:
        """The scatter of layers by kind and energy group, corrected; warns of views that the network does not know."""
        warn_beyond(layers.camera, spectrum)
        first = superpose(layers, spectrum)
        factors = self._factors(features(layers, spectrum, first))
        base = first if self.grid is None else superpose(layers, spectrum, grid=self.grid)
        return replace(base, photons=base.photons * factors[:, None])

    def to_dict(self) -> dict[str, Any]:
        """What the image's metadata say of the model; "weights" is their checksum."""
        return super().to_dict() | {"weights": checksum(WEIGHTS)}

    def _factors(self, pictures: Float32Array) -> Float32Array:
        import torch

        rows, columns = pictures.shape[1:]
        batch = np.zeros((len(_MIRRORS), len(pictures), SIDE + 2 * MARGIN, SIDE + 2 * MARGIN), np.float32)
        v, u = ((SIDE + 2 * MARGIN - n) // 2 for n in (rows, columns))
        for picture, axes in zip(batch, _MIRRORS, strict=True):
            picture[:, v : v + rows, u : u + columns] = np.flip(pictures, axes)
        with torch.inference_mode():
            found = self.network(torch.from_numpy(batch)).numpy()[:, :, v : v + rows, u : u + columns]
        mean = np.mean([np.flip(one, axes) for one, axes in zip(found, _MIRRORS, strict=True)], axis=0)
        factors: Float32Array = np.exp(mean[:, MARGIN:-MARGIN, MARGIN:-MARGIN])
        return factors


@cache
def stored_network() -> CorrectionNet:
    """The network that comes with the package, its weights checked; ValueError if they are damaged."""
    need_torch()
    from .architecture import CorrectionNet

    return with_weights(CorrectionNet(), WEIGHTS)


def need_torch(model: str = "network") -> None:
    """ValueError with the remedy where torch or safetensors is missing, for the scatter model of that name."""
    try:
        import safetensors.torch  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"scatter='{model}' needs torch and safetensors: pip install 'DeepDRRLogic[networks]'; or use 'kernel'."
        ) from error


def with_weights(net: Net, name: str) -> Net:
    """The network, ready for use, with the weights of that file of the package; ValueError if they are damaged."""
    import safetensors.torch
    import torch

    data = (files("DeepDRRLogic") / "data" / "scatter" / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != checksum(name):
        raise ValueError(f"The weights of the scatter network, {name}, are damaged: install DeepDRRLogic again.")
    net.load_state_dict({key: value.to(torch.float32) for key, value in safetensors.torch.load(data).items()})
    net.eval()
    return net


@cache
def checksum(name: str) -> str:
    """SHA-256 of a file of weights, as it was when it came into the package."""
    path = files("DeepDRRLogic") / "data" / "scatter" / name.replace(".safetensors", ".json")
    return str(json.loads(path.read_text("utf-8"))["sha256"])
