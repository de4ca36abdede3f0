"""Which device projects: the fastest that this machine can run, and why; and what happens when one gives up."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..gpu.errors import DeviceError

_logger = logging.getLogger(__name__)

DEVICES = ("cuda", "torch", "cpu")


@dataclass(frozen=True)
class Choice:
    """A device by name, with the reason for taking it."""

    device: str
    reason: str

    def __str__(self) -> str:
        return f"{self.device}: {self.reason}"


def cuda_device() -> str:
    """The name of the first NVIDIA GPU; DeviceError says what is missing, or why it was lost."""
    from .cuda.check import trusted_gpu

    gpu = trusted_gpu()
    if gpu.lost is not None:
        raise DeviceError(gpu.lost)
    return gpu.name


def torch_device() -> str:
    """The torch device that is not the CPU ("cuda", "mps"); DeviceError where there is none.

    On the CPU torch is slower than our own projector, so there it is used only when asked for.
    """
    if importlib.util.find_spec("torch") is None:
        raise DeviceError("torch is not installed")
    # Importing torch takes seconds: not where it is clear that it will find nothing.
    if "torch" not in sys.modules and not _may_have_gpu():
        raise DeviceError("there is no GPU")
    try:
        import torch
    except (ImportError, OSError) as error:
        raise DeviceError(f"torch cannot be imported ({error})") from error

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    raise DeviceError("torch finds no GPU")


def _may_have_gpu() -> bool:
    """Whether there is an Apple GPU, an NVIDIA driver, or AMD's device file, which torch's ROCm edition needs."""
    if sys.platform == "darwin":
        return True
    from ..gpu.libcuda import library

    try:
        library()
    except OSError:
        return Path("/dev/kfd").exists()
    return True


PROBES: dict[str, Callable[[], str]] = {
    "cuda": cuda_device,
    "torch": lambda: f"torch on {torch_device()!r}",
}
"""What to ask before a device is taken, the fastest first: its full name, or DeviceError. The CPU needs no asking."""


def choose_device(wanted: str = "auto") -> Choice:
    """The device that is wanted, or with "auto" the first that is there, and why the ones before it are not.

    The choice of "auto" is logged as information. ValueError for an unknown name.
    """
    if wanted != "auto":
        if wanted not in DEVICES:
            raise ValueError(f"Unknown device {wanted!r}: choose auto, {', '.join(DEVICES)}.")
        return Choice(wanted, "as asked for")
    passed_over = []
    for device, probe in PROBES.items():
        try:
            name = probe()
        except DeviceError as error:
            passed_over.append(f"not {device}, {error}")
        else:
            return _logged(Choice(device, "; ".join([name, *passed_over])))
    return _logged(Choice("cpu", "; ".join(passed_over)))


def _logged(choice: Choice) -> Choice:
    _logger.info("X-rays are projected on %s.", choice)
    return choice
