"""A network ready to run: where, in which precision, and loaded once; and what to do where that fails."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from .vnet import VNet, features
from .weights import folded, load_weights

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


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


def network_on(
    weights: str | os.PathLike[str] | VNet | None, device: torch.device, precision: torch.dtype | None = None
) -> ReadyNetwork:
    """The network itself, or that of a file, or that of the package; the last two read are kept until written anew."""
    if isinstance(weights, VNet):
        return ready(weights, device, precision)
    path = None if weights is None else Path(weights)
    written = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
    return _from_file(path, written, device, precision)


@lru_cache(maxsize=2)
def _from_file(path: Path | None, _written: int, device: torch.device, precision: torch.dtype | None) -> ReadyNetwork:
    return ready(load_weights(path), device, precision)


def ready(network: VNet, device: torch.device, precision: torch.dtype | None = None) -> ReadyNetwork:
    """The network folded, on its device, in its precision: a function of HU (d, h, w) to probabilities (3, d, h, w)."""
    precision = precision or precision_of(device)
    lean = folded(network).to(device, precision, memory_format=torch.channels_last_3d)
    return ReadyNetwork(lean, device, precision)


def precision_of(device: torch.device) -> torch.dtype:
    """Half precision where the device is faster in it: GPUs, and processors with a unit for bfloat16.

    Intel's have instructions for it besides, of which two do what one does in full precision: 0.60 s for a patch of
    128³ where full precision takes 0.43 (a Xeon whose unit, AMX, a virtual machine hid). AMD's gain by theirs.
    """
    if device.type == "cuda":
        return torch.float16
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    instructions = found.get("avx512_bf16") and "Intel" not in str(found.get("cpu_name", ""))
    return torch.bfloat16 if found.get("amx_bf16") or instructions else torch.float32


def on_what_works(work: Callable[[torch.device, torch.dtype | None], _T], device: str) -> _T:
    """What `work` makes on the device of a name and in its precision, None, or else in another.

    FloatingPointError in half precision is answered by full precision. Where the GPU's memory is too small the
    processor goes on, and also where a GPU fails otherwise that "auto" chose: a driver may show one that torch was not
    built for.
    """
    place = device_of(device)
    try:
        return _in_what_precision_works(work, place)
    except RuntimeError as error:
        if place.type == "cpu":
            raise
        if isinstance(error, torch.OutOfMemoryError):
            _logger.warning("The GPU has not enough memory for the V-Net: the processor goes on.")
        elif device == "auto":
            _logger.warning("The GPU fails at the V-Net, and the processor goes on: %s", error)
        else:
            raise
    return _in_what_precision_works(work, torch.device("cpu"))


def _in_what_precision_works(work: Callable[[torch.device, torch.dtype | None], _T], place: torch.device) -> _T:
    try:
        return work(place, None)
    except FloatingPointError:
        if precision_of(place) == torch.float32:
            raise
        _logger.warning("The V-Net answers with NaN in half precision: it is asked again in full precision.")
    return work(place, torch.float32)
