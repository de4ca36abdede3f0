"""How much the GPU has to do for a view, counted: what the kernel reads, and what a device could read at best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from DeepDRRLogic.affine import apply
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.gpu.libcuda import Device
from DeepDRRLogic.projector.cuda.texel_kernels import LABEL_BITS
from DeepDRRLogic.projector.cuda.texels import Texels

STEEP = 0.35
OFFSET = 6.0**-0.5

# CUdevice_attribute
CLOCK_RATE, MULTIPROCESSORS, MEMORY_CLOCK_RATE, BUS_WIDTH = 13, 16, 36, 37

TEXELS_PER_CLOCK = 4
"""Of one multiprocessor, from Turing to Hopper: four texture units, each a bilinear or nearest texel per clock."""

CLOCKS_PER_TRILINEAR = 2


@dataclass(frozen=True)
class Work:
    """Of an average ray: samples, and texels fetched by point and with trilinear interpolation."""

    samples: float
    nearest: float
    linear: float

    @property
    def fetches_per_sample(self) -> float:
        return (self.nearest + self.linear) / self.samples if self.samples else 0.0


@dataclass(frozen=True)
class Limits:
    """What a device can do at best, by its own account of clocks and widths."""

    multiprocessors: int
    clock_hz: float
    bytes_per_s: float

    @staticmethod
    def of(number: int = 0) -> Limits:
        device = Device(number)
        # Two transfers per clock of the memory; clocks in kHz, width in bits.
        bandwidth = 2e3 * device.get_attribute(MEMORY_CLOCK_RATE) * device.get_attribute(BUS_WIDTH) / 8
        return Limits(device.get_attribute(MULTIPROCESSORS), 1e3 * device.get_attribute(CLOCK_RATE), bandwidth)

    def texture_seconds(self, work: Work, rays: int) -> float:
        """The least time for the fetches of so many rays, were nothing else to wait for."""
        clocks = rays * (work.nearest + CLOCKS_PER_TRILINEAR * work.linear)
        return clocks / (TEXELS_PER_CLOCK * self.multiprocessors * self.clock_hz)

    def memory_seconds(self, nbytes: float) -> float:
        """The least time to move so many bytes."""
        return nbytes / self.bytes_per_s


def work_of(texels: Texels, camera: Camera, pixels: npt.NDArray[np.intp] | None = None) -> Work:
    """What project() of projection.cuh does per ray, by the same rules; of `pixels` (n, 2) as (u, v), or of all."""
    if pixels is None:
        v, u = np.mgrid[: camera.height, : camera.width]
        pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    ijk_from_ras = np.linalg.inv(texels.ras_from_ijk)
    source = apply(ijk_from_ras, camera.source_ras)
    ends = camera.ras_from_pixel[:3, :2] @ pixels.T + camera.ras_from_pixel[:3, 3:]
    rays = apply(ijk_from_ras, ends.T) - source
    size = np.array(texels.labels.shape[::-1])
    samples = mixed = 0
    for ray in rays:
        points, axis = _points(source, ray, size)
        samples += len(points)
        i, j, k = np.clip(np.floor(points), 0, size - 1).astype(int).T
        mixed += int(np.count_nonzero(texels.labels[k, j, i] >> (LABEL_BITS + axis) & 1))
    # A sample reads its label and its density; where materials meet, four of each more.
    each = (samples + 4 * mixed) / len(rays)
    return Work(samples / len(rays), each, each)


def _points(
    source: npt.NDArray[np.float64], ray: npt.NDArray[np.float64], size: npt.NDArray[np.int_]
) -> tuple[npt.NDArray[np.float64], int]:
    """Where a ray samples the volume, (n, 3) in voxels, and the axis that it follows."""
    axis = int(np.argmax(np.abs(ray)))
    slope = ray / ray[axis]
    w0, w1 = sorted((source[axis], source[axis] + ray[axis]))
    for other in range(3):
        low, high = -0.5 - source[other], size[other] - 0.5 - source[other]
        if abs(slope[other]) < 1e-9:
            if low > 0 or high < 0:
                return np.empty((0, 3)), axis
            continue
        ends = sorted((source[axis] + low / slope[other], source[axis] + high / slope[other]))
        w0, w1 = max(w0, ends[0]), min(w1, ends[1])
    if w1 <= w0:
        return np.empty((0, 3)), axis
    slices = np.arange(max(int(np.floor(w0 + 0.5)), 0), min(int(np.ceil(w1 - 0.5)), size[axis] - 1) + 1)
    low, high = np.maximum(w0, slices - 0.5), np.minimum(w1, slices + 0.5)
    steep = np.abs(np.delete(slope, axis)).max() > STEEP
    offsets = np.array([-OFFSET, OFFSET]) if steep else np.zeros(1)
    height = 0.5 * (low + high)[:, None] + offsets * (high - low)[:, None] - source[axis]
    points = source + slope * height.reshape(-1, 1)
    points[:, axis] = np.repeat(slices, len(offsets))
    return points, axis
