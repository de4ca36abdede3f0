"""The GPU ray tracer's benchmark: one table in one run, beside nanodrr's fused renderer. See README.md beside it.

Exit status 2 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import report
from gpu_work import Limits, Work, work_of
from scene import attenuation_cm2_g, material_volume, view_of

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.gpu.device import Gpu
from DeepDRRLogic.gpu.errors import DeviceError
from DeepDRRLogic.imaging_chain import ImagingChain
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.projector.cuda.check import trusted_gpu
from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.cuda.texels import BYTES_PER_VOXEL, box_of_matter, pack
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.threads import thread_count
from DeepDRRLogic.volume import CTVolume, MaterialVolume

if TYPE_CHECKING:
    from peers.nanodrr_fused import FusedPeer

SIZES = ("200x200", "620x480", "1024x1024", "1536x1536")
DETECTOR_MM = 300.0
"""Width of the detector, whatever its pixels: every size sees the same."""

PHOTONS = 5e5
COUNTED_RAYS = 2000
NO_DEVICE = 2


@dataclass(frozen=True)
class Times:
    """Milliseconds per view, median: the projection and the whole image on the device, and until it is in memory."""

    projection: float
    formation: float
    signal: float
    everything: float


def main() -> int:
    options = _options()
    try:
        gpu = trusted_gpu()
    except DeviceError as error:
        print(f"No CUDA device: {error}. Nothing is measured.", file=sys.stderr)
        return NO_DEVICE
    ct = CTVolume.read(options.ct)
    volume = material_volume(ct)
    texels = pack(volume, box_of_matter(volume), thread_count(None))
    projector = CudaProjector(volume, gpu=gpu)
    limits = Limits.of()
    i, j, k = volume.shape[::-1]
    binding = getattr(gpu.driver, "__name__", "the driver's library")
    print(
        f"- {gpu.name}, by {binding}: {limits.multiprocessors} multiprocessors at {limits.clock_hz / 1e9:.2f} GHz, "
        f"{limits.bytes_per_s / 1e12:.2f} TB/s"
    )
    print("\n".join(f"- {line}" for line in report.machine(thread_count(None)).splitlines()))
    print(f"- CT {i}×{j}×{k}, {len(volume.materials)} materials, detector {DETECTOR_MM:g} mm wide")
    peer = _peer(volume, options.peer_device)
    rows = []
    for size in options.sizes:
        for count in options.batches:
            cameras = _cameras(volume, size, count)
            work = _work(texels, cameras)
            times = _times(projector, gpu, cameras, options.repetitions)
            peer_ms = _peer_ms(peer, volume, cameras, work, options)
            rows.append(_row(size, cameras, work, times, limits, texels.labels.size, peer_ms))
    print("\n### Milliseconds per view, median\n")
    print(report.table(HEADER, rows))
    print(EXPLANATION)
    return 0


HEADER = (
    "pixels, views per batch", "samples per ray", "fetches per sample", "projection", "% of texture limit",
    "% of memory limit", "whole image on the device", "signal in memory", "all in memory", "ps per sample",
    "nanodrr", "nanodrr ps per sample",
)  # fmt: skip

EXPLANATION = """
Projection: the kernel that yields all materials' area densities, by the device's clock; whole image: projection,
spectrum, detector and noise, by the same. In memory: by the host's clock, copies included; all is signal, photons,
mean energy and area densities. nanodrr: its fused kernel for one line integral, the same rays, as many samples per
ray. Texture limit: fetches counted along the rays, at one nearest or half a trilinear texel per clock in each of four
texture units per multiprocessor. Memory limit: the volume read once and the area densities written once."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ct", help="the CT to project, in any format that DeepDRRLogic reads")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="of the detector in pixels, WIDTHxHEIGHT")
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8), help="views per batch")
    parser.add_argument("--repetitions", type=int, default=30, help="of everything that is timed")
    parser.add_argument("--peer-device", default="cuda", help="where nanodrr renders; cpu is a rehearsal without times")
    return parser.parse_args()


def _cameras(volume: MaterialVolume, size: str, count: int) -> list[Camera]:
    width, height = map(int, size.split("x"))
    arm = CArm(
        isocenter_ras_mm=tuple(volume.center_ras), width=width, height=height, pixel_pitch_mm=DETECTOR_MM / width
    )
    return [arm.with_angles(180.0 * n / count, 10.0).camera() for n in range(count)]


def _work(texels: object, cameras: list[Camera]) -> Work:
    rng = np.random.default_rng(0)
    found = []
    for camera in cameras:
        pixels = rng.integers(0, (camera.width, camera.height), (COUNTED_RAYS // len(cameras), 2))
        found.append(work_of(texels, camera, pixels))
    return Work(*(float(np.mean([getattr(one, name) for one in found])) for name in ("samples", "nearest", "linear")))


def _times(projector: CudaProjector, gpu: Gpu, cameras: list[Camera], repetitions: int) -> Times:
    spectrum, detector = Spectrum.preset("120kV"), Detector.ideal()
    noise = NoiseModel.of(detector)

    def form() -> object:
        return projector.form_on_device(cameras, ImagingChain(spectrum, detector, noise, PHOTONS))

    def signal() -> None:
        form().signal.get()

    def everything() -> None:
        images = form()
        for array in (images.signal, images.photons, images.mean_energy_kev, images.area_densities):
            array.get()

    on_device = [_device_ms(gpu, work, repetitions) for work in (lambda: projector.project_on_device(cameras), form)]
    in_memory = [_host_ms(work, repetitions) for work in (signal, everything)]
    return Times(*(milliseconds / len(cameras) for milliseconds in (*on_device, *in_memory)))


def _device_ms(gpu: Gpu, work: Callable[[], object], repetitions: int) -> float:
    found = []
    for repetition in range(repetitions + 3):
        with gpu.active():
            start, stop = gpu.driver.Event(), gpu.driver.Event()
            start.record()
            work()
            stop.record()
            stop.synchronize()
            if repetition >= 3:
                found.append(start.time_till(stop))
    return statistics.median(found)


def _host_ms(work: Callable[[], object], repetitions: int) -> float:
    found = []
    for repetition in range(repetitions + 3):
        start = time.perf_counter()
        work()
        if repetition >= 3:
            found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found)


def _peer(volume: MaterialVolume, device: str) -> FusedPeer | None:
    try:
        from peers import nanodrr_fused
    except ImportError as error:
        print(f"- nanodrr is not installed ({error}): its columns are empty")
        return None
    per_mm = (0.1 * attenuation_cm2_g(volume)).astype(np.float32)
    attenuation_mm = volume.density_g_cm3 * per_mm[volume.labels]
    peer = nanodrr_fused.FusedPeer(attenuation_mm, volume.spacing_mm, device, "triton" if device == "cuda" else "torch")
    print(f"- nanodrr {nanodrr_fused.VERSION}")
    return peer


def _peer_ms(
    peer: FusedPeer | None, volume: MaterialVolume, cameras: list[Camera], work: Work, options: argparse.Namespace
) -> float | None:
    if peer is None:
        return None
    peer.prepare([view_of(camera, volume) for camera in cameras], max(2, round(work.samples)))
    if peer.device != "cuda":
        peer.render()
        return None
    seconds = [peer.seconds() for _ in range(options.repetitions + 3)][3:]
    return 1e3 * statistics.median(seconds) / len(cameras)


def _row(
    size: str, cameras: list[Camera], work: Work, times: Times, limits: Limits, voxels: int, peer_ms: float | None
) -> list[str]:
    rays = cameras[0].width * cameras[0].height
    nbytes = BYTES_PER_VOXEL * voxels / len(cameras) + 3 * 4 * rays
    picoseconds = 1e9 / (rays * work.samples)
    return [
        f"{size.replace('x', '×')}, {len(cameras)}",
        f"{work.samples:.0f}",
        f"{work.fetches_per_sample:.2f}",
        f"{times.projection:.3f}",
        f"{100 * limits.texture_seconds(work, rays) / (1e-3 * times.projection):.0f} %",
        f"{100 * limits.memory_seconds(nbytes) / (1e-3 * times.projection):.0f} %",
        f"{times.formation:.3f}",
        f"{times.signal:.2f}",
        f"{times.everything:.2f}",
        f"{times.projection * picoseconds:.2f}",
        "–" if peer_ms is None else f"{peer_ms:.3f}",
        "–" if peer_ms is None else f"{peer_ms * picoseconds:.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
