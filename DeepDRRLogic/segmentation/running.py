"""A network ready to run: where, in which precision, and loaded once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .vnet import VNet, features
from .weights import folded, load_weights


@dataclass(frozen=True, eq=False)
class ReadyNetwork:
    """A network ready to run: folded, on its device, in its precision."""

    network: VNet
    device: torch.device
    precision: torch.dtype

    def __call__(self, hu: Tensor) -> Tensor:
        """Class probabilities (3, d, h, w), float32, of a patch of HU (d, h, w)."""
        seen = features(hu[None], self.network.layout.input_kind, self.precision)
        logits = self.network(seen.contiguous(memory_format=torch.channels_last_3d))
        return torch.softmax(logits[0].to(torch.float32), 0)


def device_of(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one. ValueError for one that is unknown or not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"Device '{name}' is unknown to torch: give auto, cpu, cuda, cuda:1, ...") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"Device '{name}': torch finds no GPU with CUDA here. Give auto or cpu.")
    return device


def network_on(weights: str | os.PathLike[str] | VNet | None, device: torch.device) -> ReadyNetwork:
    """The network itself, or that of a file, or that of the package; the last two read are kept until written anew."""
    if isinstance(weights, VNet):
        return ready(weights, device)
    path = None if weights is None else Path(weights)
    written = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
    return _from_file(path, written, device)


@lru_cache(maxsize=2)
def _from_file(path: Path | None, _written: int, device: torch.device) -> ReadyNetwork:
    return ready(load_weights(path), device)


def ready(network: VNet, device: torch.device) -> ReadyNetwork:
    """The network folded, on its device, in its precision: a function of HU (d, h, w) to probabilities (3, d, h, w)."""
    precision = precision_of(device)
    lean = folded(network).to(device, precision, memory_format=torch.channels_last_3d)
    return ReadyNetwork(lean, device, precision)


def precision_of(device: torch.device) -> torch.dtype:
    """Half precision where the device multiplies in it: GPUs, and processors with bfloat16 instructions."""
    if device.type == "cuda":
        return torch.float16
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16")):
        return torch.bfloat16
    return torch.float32
