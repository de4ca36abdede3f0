"""The fast scatter models on a GPU, by torch: from the cameras of a batch to planes that never leave the device."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..once import warn_once
from .kernel import responses
from .known import warn_beyond
from .layers import FINER, LAYERS, MARGIN, SIDE, STEPS, Sight, sight
from .matter import body_box
from .tallies import cubic_weights
from .torch_superposition import Tables, Views, features, superpose, uploaded

if TYPE_CHECKING:
    from ..detector import Detector
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum
    from .kernel import KernelScatter

VIEWS_AT_A_TIME = 8
"""Bounds the memory that the estimate takes to some 600 MB."""

_MIRRORS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


class DeviceScatter:
    """What KernelScatter and NetworkScatter compute, for batches of views on one torch device.

    The network runs in `precision`, by default float16 on a GPU, all else in float32.
    """

    def __init__(self, model: KernelScatter, device: torch.device, precision: torch.dtype | None = None) -> None:
        volume = model.volume
        self.device = device
        self.precision = precision or precision_of(device)
        self._volume, self._field, self._grid, self._kinds = volume, model.field, model.grid, model.kinds
        self._box, self._corners = body_box(volume)
        density, labels = volume.density_g_cm3[self._box], volume.labels[self._box]
        self._shape = density.shape
        self._density = uploaded(density, device).ravel()
        self._labels = torch.from_numpy(np.ascontiguousarray(labels)).to(device).ravel()
        self._net = None
        if model.network is not None:
            self._net = copy.deepcopy(model.network).to(device, self.precision).eval()

    def planes(self, cameras: Sequence[Camera], spectrum: Spectrum, detector: Detector) -> Tensor:
        """Scattered exposure (views, 3 · channels + 1, height, width), float32, on the device; see cuda.imaging."""
        with torch.inference_mode(), self._on_the_common_stream():
            parts = []
            for start in range(0, len(cameras), VIEWS_AT_A_TIME):
                sights = [
                    sight(self._volume, self._box, self._corners, camera, self._field)
                    for camera in cameras[start : start + VIEWS_AT_A_TIME]
                ]
                for _, alike in groupby(sights, lambda one: one.beam.shape):
                    parts.append(self._upsampled(self._detected(list(alike), spectrum, detector), cameras[0]))
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _detected(self, sights: Sequence[Sight], spectrum: Spectrum, detector: Detector) -> Tensor:
        """What the detector makes of scatter, (view, quantity, rows, columns)."""
        tables = _tables(spectrum, self._volume.materials, self.device)
        views, around = Views.of(sights, self.device), self._around(sights)
        scatter = superpose(around, views, tables, self._grid)
        photons = scatter.photons
        if self._net is not None:
            warn_beyond(sights[0].camera, spectrum)
            # The network knows of no grid.
            first = scatter if self._grid is None else superpose(around, views, tables)
            photons = photons * self._factors(features(around, views, tables, first))[:, :, None]
        every = _responses(spectrum, self._volume.materials, detector, self.device)
        return torch.einsum("kqg,vkgrc->vqrc", every[: self._kinds], photons[:, : self._kinds])

    def _around(self, sights: Sequence[Sight]) -> Tensor:
        """Layers (view, layer, material, rows + 2 MARGIN, columns + 2 MARGIN) in g/cm², as layers.cut."""
        wide = _widest(self.device)
        rows, columns = sights[0].lengths_cm.shape
        sub = np.arange(FINER * FINER)
        v, u = np.mgrid[:rows, :columns]
        corners = u[..., None] + (sub % FINER + 0.5) / FINER, v[..., None] + (sub // FINER + 0.5) / FINER
        steps = [one.near + (np.arange(LAYERS * STEPS) + 0.5) * one.step for one in sights]
        a, b, depth, origin, along_u, along_v, source = (
            uploaded(values, self.device, wide)
            for values in (
                *corners, steps,
                *([getattr(one, name) for one in sights] for name in ("origin", "along_u", "along_v", "source")),
            )
        )  # fmt: skip
        # (view, layer, step, rows, columns, finer²)
        depth = depth.reshape(-1, LAYERS, STEPS, 1, 1, 1)
        index, inside = torch.zeros((), dtype=torch.int64, device=self.device), torch.ones_like(depth, dtype=torch.bool)
        for axis, size in enumerate(reversed(self._shape)):
            first, right, down, start = (
                part[:, axis].reshape(-1, 1, 1, 1, 1, 1) for part in (origin, along_u, along_v, source)
            )
            voxel = torch.floor(start + depth * (first + a * right + b * down) + 0.5).long()
            inside = inside & (voxel >= 0) & (voxel < size)
            index = index + voxel.clamp(0, size - 1) * int(np.prod(self._shape[3 - axis :], dtype=np.int64))
        found = torch.where(inside, self._density[index], 0.0)
        label = self._labels[index]
        lengths = uploaded([one.lengths_cm * one.step / FINER**2 for one in sights], self.device)[:, None]
        layers = [
            torch.where(label == m, found, 0.0).sum(dim=(2, 5)) * lengths for m in range(len(self._volume.materials))
        ]
        return torch.stack(layers, dim=2)

    def _factors(self, pictures: Tensor) -> Tensor:
        """The network's factors (view, kind, rows, columns): the mean over the four mirror images, as network.py's."""
        side = SIDE + 2 * MARGIN
        rows, columns = pictures.shape[2:]
        v, u = (side - rows) // 2, (side - columns) // 2
        batch = torch.zeros((len(_MIRRORS), *pictures.shape[:2], side, side), dtype=self.precision, device=self.device)
        for one, axes in zip(batch, _MIRRORS, strict=True):
            one[..., v : v + rows, u : u + columns] = torch.flip(pictures, axes)
        assert self._net is not None
        found = self._net(batch.flatten(0, 1)).float().unflatten(0, batch.shape[:2])[..., v : v + rows, u : u + columns]
        mean = torch.stack([torch.flip(one, axes) for one, axes in zip(found, _MIRRORS, strict=True)]).mean(dim=0)
        return torch.exp(mean[..., MARGIN:-MARGIN, MARGIN:-MARGIN])

    def _upsampled(self, quantities: Tensor, camera: Camera) -> Tensor:
        """At the camera's pixels, as tallies.upsampled_exposure."""
        rows = _weights(quantities.shape[2], camera.height, self.device)
        columns = _weights(quantities.shape[3], camera.width, self.device)
        return (rows @ quantities @ columns.T).clamp_min_(0.0).contiguous()

    def _on_the_common_stream(self) -> contextlib.AbstractContextManager[object]:
        """Our kernels run on the default stream: there this work waits for them, and they for it."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        stream: contextlib.AbstractContextManager[object] = torch.cuda.stream(torch.cuda.default_stream(self.device))
        return stream


_known: WeakKeyDictionary[KernelScatter, DeviceScatter | None] = WeakKeyDictionary()


def planes_on_gpu(
    model: KernelScatter, cameras: Sequence[Camera], spectrum: Spectrum, detector: Detector
) -> Tensor | None:
    """A model's planes on the GPU, or None where torch cannot compute them: then the host has to.

    What goes wrong in torch is warned of once, and not tried again for this model.
    """
    try:
        if model not in _known:
            device = gpu_of_torch()
            _known[model] = None if device is None else DeviceScatter(model, device)
        scatter = _known[model]
        return None if scatter is None else scatter.planes(cameras, spectrum, detector)
    except RuntimeError as error:
        _known[model] = None
        warn_once(f"Scatter is estimated on the CPU instead of the GPU: torch gave up ({error}).")
        return None


def gpu_of_torch() -> torch.device | None:
    """The GPU that the projector uses, as torch knows it; None where this torch knows no CUDA."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else None


def precision_of(device: torch.device) -> torch.dtype:
    """Half precision for the network on a GPU."""
    return torch.float32 if device.type == "cpu" else torch.float16


def _widest(device: torch.device) -> type[np.floating[Any]]:
    """In what it is decided where a ray enters the next voxel: as on the host, where the device can."""
    return np.float32 if device.type == "mps" else np.float64


@lru_cache(maxsize=16)
def _tables(spectrum: Spectrum, materials: tuple[Material, ...], device: torch.device) -> Tables:
    return Tables.of(spectrum, materials, device)


@lru_cache(maxsize=16)
def _responses(spectrum: Spectrum, materials: tuple[Material, ...], detector: Detector, device: torch.device) -> Tensor:
    return uploaded(responses(_tables(spectrum, materials, device).energies_kev, spectrum, detector), device)


@lru_cache(maxsize=16)
def _weights(coarse: int, fine: int, device: torch.device) -> Tensor:
    return uploaded(cubic_weights(coarse, fine), device)
