"""A run as transport.cu reads it: one structure of numbers and of arrays on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...gpu.errors import DeviceError
from .. import transport
from ..run import Run

if TYPE_CHECKING:
    from ...gpu.device import DeviceArray, Gpu

MAX_MATERIALS = 16

_BY_ENERGY = ("attenuation", "rayleigh", "compton", "rayleigh_norm", "compton_norm")
_BY_TRANSFER = ("form_square", "form_cumulative", "bound")
_ARRAYS = ("density", "labels", "worth", "by_energy", "by_transfer", "response", "strip_mu", "spectrum")
_COUNTS = ("materials", "energies", "transfers", "lines", "quantities", "rows", "columns", "batches", "points")
_VECTORS = (
    "step_cm", "per_cm", "source", "corner", "along_u", "along_v", "across_u", "across_v", "normal", "along_lines",
    "across_lines",
)  # fmt: skip
_NUMBERS = (
    "first_kev", "per_kev", "largest_transfer", "electron_mass_kev", "kev_angstrom", "towards_rayleigh",
    "towards_compton", "lightest", "deepest", "least_worth",
)  # fmt: skip

SCENE = np.dtype(
    [
        *((name, np.uint64) for name in _ARRAYS),
        ("size", np.int32, 3),
        *((name, np.int32) for name in _COUNTS),
        *((name, np.float32, 3) for name in _VECTORS),
        ("distance", np.float32), ("area", np.float32), ("field", np.float32, 4), ("strips", np.float32, 4),
        ("peak", np.float32, MAX_MATERIALS),
        *((name, np.float32) for name in _NUMBERS),
    ],
    align=True,
)  # fmt: skip
"""The struct Scene of scene.cuh."""


class DeviceScene:
    """A run on the device: its `numbers` (SCENE) for the kernels, and the arrays that they point to.

    Make it while the GPU is active; DeviceError for more materials than the kernels take.
    """

    def __init__(self, gpu: Gpu, run: Run) -> None:
        if len(run.body.peak) > MAX_MATERIALS:
            raise DeviceError(f"the GPU takes {MAX_MATERIALS} materials, not {len(run.body.peak)}")
        numbers = np.zeros((), SCENE)
        self._arrays: dict[str, DeviceArray] = {}
        for name, values in _arrays_of(run).items():
            self._arrays[name] = gpu.upload(values)
            numbers[name] = self._arrays[name].pointer
        for name, value in _numbers_of(run).items():
            numbers[name] = value
        self._numbers = numbers
        self._gpu = gpu

    @property
    def numbers(self) -> Any:
        """The structure by value, as kernels take it."""
        return self._numbers[()]

    def set_worth(self, worth: npt.NDArray[np.float32]) -> None:
        """Replace how much collisions in each voxel are worth. Call it while the GPU is active."""
        self._arrays["worth"] = self._gpu.upload(worth)
        self._numbers["worth"] = self._arrays["worth"].pointer


def _arrays_of(run: Run) -> dict[str, npt.NDArray[Any]]:
    body, physics, panel = run.body, run.physics, run.panel
    by_energy = [getattr(physics, name) for name in _BY_ENERGY]
    by_transfer = [getattr(physics, name) for name in _BY_TRANSFER]
    floats = {
        "density": body.density,
        "worth": body.worth,
        "by_energy": np.stack(by_energy, axis=-1),
        "by_transfer": np.stack(by_transfer, axis=-1),
        "response": panel.response.T,
        "strip_mu": panel.strip_mu.T,
        "spectrum": np.stack([run.energies, run.cumulative], axis=-1),
    }
    arrays: dict[str, npt.NDArray[Any]] = {name: np.asarray(values, np.float32) for name, values in floats.items()}
    return arrays | {"labels": body.labels}


def _numbers_of(run: Run) -> dict[str, Any]:
    body, physics, panel = run.body, run.physics, run.panel
    materials, energies = physics.attenuation.shape
    quantities, rows, columns = run.shape
    same = ("source", "corner", "along_u", "along_v", "across_u", "across_v", "normal", "distance", "area", "field")
    return {
        **{name: getattr(panel, name) for name in (*same, "strips")},
        **{name: getattr(physics, name) for name in ("first_kev", "per_kev", "largest_transfer")},
        **{name: getattr(transport, name.upper()) for name in _NUMBERS[3:]},
        "size": body.density.shape[::-1],
        "step_cm": body.step_cm, "per_cm": 1.0 / body.step_cm,
        "peak": np.pad(body.peak, (0, MAX_MATERIALS - materials)),
        "along_lines": panel.lines[0], "across_lines": panel.lines[1],
        "materials": materials, "energies": energies, "transfers": physics.bound.shape[1], "lines": len(run.energies),
        "quantities": quantities, "rows": rows, "columns": columns, "batches": run.batches, "points": run.forced,
    }  # fmt: skip
