"""From area densities to a noisy signal on the GPU: what exposure.py and noise.py do, by the kernels of kernels.cu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...crosstalk import Crosstalk, checked_kernel
from ...exposure import detection_weights
from ...gpu.device import DeviceArray, Gpu
from ...noise import MAX_PHOTONS_PER_PIXEL
from . import PTX

if TYPE_CHECKING:
    from ...detector import Detector, ReadoutNoise
    from ...geometry import Camera
    from ...materials import Material
    from ...noise import NoiseModel
    from ...scatter import ScatterModel
    from ...spectrum import Spectrum

LINE = (256, 1, 1)
ROWS_AT_A_TIME = 4
FORGOTTEN = 1e-4
"""Correlation from which on two pixels of a row count as independent: where a segment's recursion starts."""


@dataclass(frozen=True, eq=False)
class Beam:
    """A spectrum on a detector behind materials, as tables on the GPU.

    minus_mu (energies, columns): -(µ/ρ)·log₂e in cm²/g, the columns beyond the materials 0. weights (rows, energies)
    and row_of (3 · channels + 1): what exposure.expose sums up, and which sum is which; plane_of (rows): the first sum
    that a row is. crosstalk: the detector's own, where no noise model has another.
    """

    minus_mu: DeviceArray
    weights: DeviceArray
    row_of: DeviceArray
    plane_of: DeviceArray
    channels: int
    crosstalk: Crosstalk

    @staticmethod
    def upload(gpu: Gpu, materials: Sequence[Material], columns: int, spectrum: Spectrum, detector: Detector) -> Beam:
        """Call it while the GPU is active; ValueError as in exposure.expose."""
        energies, rows, row_of = detection_weights(spectrum, detector)
        minus_mu = np.zeros((energies.size, columns), np.float32)
        for m, material in enumerate(materials):
            minus_mu[:, m] = -material.mass_attenuation_cm2_g(energies) * math.log2(math.e)
        return Beam(
            gpu.upload(minus_mu),
            gpu.upload(rows),
            gpu.upload(np.array(row_of, np.int32)),
            gpu.upload(np.array([row_of.index(row) for row in range(len(rows))], np.int32)),
            len(detector.channels),
            detector.crosstalk,
        )


@dataclass(frozen=True, eq=False)
class DeviceImages:
    """A batch of finished images on the GPU, in the units of image.XRayImage.

    signal (views, channels, H, W), photons (views, H, W) per pixel, mean_energy_kev (views, H, W), area_densities
    (views, n_materials, H, W).
    """

    signal: DeviceArray
    photons: DeviceArray
    mean_energy_kev: DeviceArray
    area_densities: DeviceArray


def planes_of_view(channels: int, noise: bool, scatter: bool) -> int:
    """The most pictures, of 4 bytes per pixel, that forming a view takes beside its area densities."""
    sums = 3 * channels + 1
    return sums + channels + 2 + (channels if noise else 0) + (2 * sums if scatter else 0)


def develop(
    gpu: Gpu,
    area_densities: DeviceArray,
    beam: Beam,
    noise: NoiseModel | None,
    photons_per_pixel: float,
    seed: int,
    scatter: Any = None,
) -> DeviceImages:
    """Area densities (views, n_materials, H, W), and scatter_planes, to images. Call it while the GPU is active."""
    if not 0.0 < photons_per_pixel <= MAX_PHOTONS_PER_PIXEL:
        raise ValueError(f"photons_per_pixel = {photons_per_pixel:g}: give a positive number up to 1e12, such as 5e5.")
    views, materials, height, width = area_densities.shape
    rows, energies = beam.weights.shape
    columns, pixels = beam.minus_mu.shape[1], height * width
    crosstalk = checked_kernel(noise.crosstalk if noise else beam.crosstalk)
    margin_v, margin_u = (size // 2 for size in crosstalk.shape)
    padded = (height + 2 * margin_v) * (width + 2 * margin_u)

    sums = DeviceArray(gpu, (views, rows, height, width))
    gpu.launch(
        PTX, f"expose_{columns}", (pixels, views, -(-rows // ROWS_AT_A_TIME)), LINE,
        area_densities.pointer, np.int32(materials), np.int32(pixels), beam.minus_mu.pointer, beam.weights.pointer,
        np.int32(energies), np.int32(rows), sums.pointer,
    )  # fmt: skip
    if scatter is not None:
        gpu.launch(
            PTX, "add_scatter", (pixels, rows, views), LINE,
            _address(scatter), beam.plane_of.pointer, np.int32(3 * beam.channels + 1), np.int32(rows), np.int32(pixels),
            sums.pointer,
        )  # fmt: skip
    frame = (sums.pointer, beam.row_of.pointer, *map(np.int32, (beam.channels, rows, width, height)))
    margins = np.int32(margin_u), np.int32(margin_v)
    n0 = np.float32(photons_per_pixel)
    drawn = None
    if noise is not None:
        drawn = DeviceArray(gpu, (views, beam.channels, padded))
        gpu.launch(
            PTX, "quantum_noise", (padded, beam.channels, views), LINE,
            *frame, *margins, n0, np.float32(noise.information), np.int32(noise.quantum == "compound"), _seed(seed),
            drawn.pointer,
        )  # fmt: skip
    kernel = gpu.constant(crosstalk)
    images = DeviceImages(
        DeviceArray(gpu, (views, beam.channels, height, width)),
        DeviceArray(gpu, (views, height, width)),
        DeviceArray(gpu, (views, height, width)),
        area_densities,
    )
    gpu.launch(
        PTX, "finish", (pixels, views, 1), LINE,
        *frame, drawn.pointer if drawn else np.uint64(0), kernel.pointer, *margins, n0,
        images.signal.pointer, images.photons.pointer, images.mean_energy_kev.pointer,
    )  # fmt: skip
    if noise is not None and noise.readout.std_signal > 0.0:
        _add_readout(gpu, images.signal, noise.readout, seed)
    return images


def scatter_planes(
    gpu: Gpu,
    model: ScatterModel,
    area_densities: DeviceArray,
    materials: Sequence[Material],
    cameras: Sequence[Camera],
    spectrum: Spectrum,
    detector: Detector,
) -> Any:
    """The scattered exposure of a batch on the GPU, (views, 3 · channels + 1, H, W) float32, by its address.

    The planes are photons, signal and squared signal of every channel, then the energy, as in exposure.Exposure. A
    model's `estimate_on_device(area_densities, materials, cameras, spectrum, detector)` is given an array with
    `__cuda_array_interface__`, which torch takes without a copy, and returns one of that shape, such as a tensor;
    where it returns None, `estimate` is asked. ValueError for another shape.
    """
    views, _, height, width = area_densities.shape
    shape = views, 3 * len(detector.channels) + 1, height, width
    on_device = getattr(model, "estimate_on_device", None)
    planes = None if on_device is None else on_device(area_densities, materials, cameras, spectrum, detector)
    if planes is not None:
        there = planes.__cuda_array_interface__
        if tuple(there["shape"]) != shape or there["typestr"] != "<f4" or there.get("strides") is not None:
            raise ValueError(f"The scatter model returns {there['shape']} {there['typestr']}: give {shape} float32.")
        return planes
    exposures = [
        model.estimate(areas, materials, camera, spectrum, detector)
        for areas, camera in zip(area_densities.get(), cameras, strict=True)
    ]
    with gpu.active():
        return gpu.upload(np.stack([exposure.planes for exposure in exposures]).astype(np.float32, copy=False))


def _address(array: Any) -> np.uint64:
    """What a kernel takes for an array of ours, or of another library's."""
    if isinstance(array, DeviceArray):
        return array.pointer
    return np.uint64(array.__cuda_array_interface__["data"][0])


def _add_readout(gpu: Gpu, signal: DeviceArray, readout: ReadoutNoise, seed: int) -> None:
    views, channels, height, width = signal.shape
    reach = readout.correlation_px * -math.log(FORGOTTEN)
    warm_up = 4 * math.ceil(min(reach, width) / 4)
    segment = max(warm_up, 32)
    gpu.launch(
        PTX, "readout_noise", (-(-width // segment), channels * height, views), (32, 1, 1),
        signal.pointer, np.int32(width), np.int32(channels * height), np.float32(readout.std_signal),
        np.float32(readout.neighbour_correlation), np.int32(segment), np.int32(warm_up), _seed(seed),
    )  # fmt: skip


def _seed(seed: int) -> np.uint64:
    return np.uint64(seed % 2**64)
