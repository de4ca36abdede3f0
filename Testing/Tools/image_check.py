"""What device_check.py measures of images: parity, memory, series of views, scatter on the device, segmentation."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import report

from DeepDRRLogic import CArm, MaterialVolume, XRaySimulator
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.imaging_chain import ImagingChain
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import CTVolume

SIZES = ((200, 200), (620, 480), (1024, 1024), (1536, 1536))
DETECTOR_MM = 300.0
TIMED_SIZES = ((620, 480), (1536, 1536))
BATCHES = (1, 8)
VIEWS = 24
REPETITIONS = 15
SEGMENTED_SHAPE = (275, 512, 512)
SEGMENTED_SECONDS = 5.0
MOST_OTHER_LABELS = 1e-3
MOST_SCATTER_DIFFERENCE = {"kernel": 1e-4, "network": 3e-3}
PARITY_SIZE = (620, 480)
ANGLES = ((0.0, 0.0), (90.0, 0.0), (35.0, 20.0))
MOST_DIFFERENCE = 0.005
MOST_MEMORY = 1.5


def check_parity(cts: Sequence[Path], most_seconds: float) -> bool | None:
    """Line integrals at 60 keV of every CT and view against the CPU's: relative difference of the mean square.

    None where no CT was compared; those that the time does not suffice for are left out.
    """
    from scene import attenuation_cm2_g, material_volume

    from DeepDRRLogic.projector.cpu import CpuProjector
    from DeepDRRLogic.projector.cuda.host import CudaProjector

    if not cts:
        print("no CT given (--ct)")
        return None
    worst, done, end = 0.0, 0, time.monotonic() + most_seconds
    for path in cts:
        if time.monotonic() > end:
            break
        volume = material_volume(CTVolume.read(path))
        mu = attenuation_cm2_g(volume)
        width, height = PARITY_SIZE
        arm = CArm(isocenter_ras_mm=tuple(volume.center_ras), width=width, height=height, pixel_pitch_mm=382.0 / width)
        on_gpu, on_cpu = CudaProjector(volume), CpuProjector(volume)
        for angles in ANGLES:
            camera = arm.with_angles(*angles).camera()
            one, other = (np.tensordot(mu, projector.project(camera), 1) for projector in (on_gpu, on_cpu))
            difference = float(np.linalg.norm(one - other) / np.linalg.norm(other))
            worst = max(worst, difference)
            print(f"{path.name} {angles}: {100 * difference:.3f} %", flush=True)
        on_gpu.close()
        done += 1
    print(f"worst of {done} of {len(cts)} CTs: {100 * worst:.3f} % (at most {100 * MOST_DIFFERENCE:g} %)")
    return worst <= MOST_DIFFERENCE if done else None


def check_memory(cube: int) -> bool:
    """What a full cube takes on the device, against its float16 size."""
    from DeepDRRLogic.materials import material
    from DeepDRRLogic.projector.cuda.check import trusted_gpu
    from DeepDRRLogic.projector.cuda.host import CudaProjector

    shape = (cube,) * 3
    labels = np.zeros(shape, np.uint8)
    labels[:, :, ::7] = 1
    materials = material("soft_tissue"), material("bone")
    volume = MaterialVolume(np.ones(shape, np.float32), labels, materials, np.eye(4))
    gpu = trusted_gpu()
    with gpu.active():
        before = gpu.driver.mem_get_info()[0]
    projector = CudaProjector(volume, gpu=gpu)
    with gpu.active():
        taken = before - gpu.driver.mem_get_info()[0]
    projector.close()
    times = taken / (2 * cube**3)
    print(f"{cube}³: {taken / 1e6:.1f} MB, {times:.3f} × its float16 size (at most {MOST_MEMORY})")
    return round(times, 2) <= MOST_MEMORY


def check_series() -> bool:
    """render_many against the same views one by one: equal, to the bit, and how long both take per view."""
    simulator = XRaySimulator(_torso(), device="cuda")
    rows, equal = [], True
    for size in SIZES:
        cameras = _cameras(simulator.volumes[0], size, VIEWS)
        list(simulator.render_many(cameras[:2]))
        series, together = _timed(lambda cameras=cameras: list(simulator.render_many(cameras, seed=3)))
        singles, alone = _timed(lambda cameras=cameras: [simulator(one, 3 + n) for n, one in enumerate(cameras)])
        equal &= all(np.array_equal(one.signal, other.signal) for one, other in zip(series, singles, strict=True))
        rows.append([f"{size[0]}×{size[1]}", *(f"{1e3 * seconds / VIEWS:.2f}" for seconds in (together, alone))])
    print(report.table(["pixels", "ms per view, in series", "one by one"], rows))
    on_gpu = simulator.projects_on.device == "cuda"
    print(f"{simulator.projects_on}; images of a series are those of single views: {equal}")
    return equal and on_gpu


def check_fast_scatter() -> bool | None:
    """Scatter in torch on the GPU against the host's, from a stream of its own as well, and what it costs.

    None where torch knows no CUDA.
    """
    import torch

    from DeepDRRLogic.projector.cuda.check import trusted_gpu
    from DeepDRRLogic.scatter import make_scatter
    from DeepDRRLogic.scatter.on_device import gpu_of_torch

    if gpu_of_torch() is None:
        print(f"torch {torch.__version__} knows no CUDA: scatter is estimated by the host")
        return None
    volume, spectrum, detector = _torso(), Spectrum.preset("90kV"), Detector.csi_flat_panel()
    passed, rows = True, []
    for name, allowed in MOST_SCATTER_DIFFERENCE.items():
        model = make_scatter(name, (volume,))
        cameras = _cameras(volume, (62, 48), 6)
        planes = model.estimate_on_device(None, (), cameras, spectrum, detector).cpu().numpy()
        with torch.cuda.stream(torch.cuda.Stream()):
            again = model.estimate_on_device(None, (), cameras, spectrum, detector)
        torch.cuda.synchronize()
        passed &= bool(np.allclose(again.cpu().numpy(), planes, rtol=1e-5))
        host = [model.estimate(None, (), camera, spectrum, detector).signal for camera in cameras]
        error = float(np.abs(planes[:, 1:2] / np.stack(host) - 1.0).max())
        print(f"{name}: differs from the host by {error:.2e} at most ({allowed:g} allowed)", flush=True)
        passed &= error < allowed
        rows += _scatter_times(trusted_gpu(), volume, name)
    print(report.table(["scatter, pixels, views per batch", "whole image on the device", "without scatter"], rows))
    print("Milliseconds per view, median, by the device's clock.")
    return passed


def _scatter_times(gpu: object, volume: MaterialVolume, name: str) -> list[list[str]]:
    rows = []
    for size in TIMED_SIZES:
        for count in BATCHES:
            found = []
            for scatter in (name, None):
                simulator = XRaySimulator(volume, scatter=scatter, device="cuda")
                projector = simulator._projectors[0]._projector
                cameras = _cameras(volume, size, count)

                chain = ImagingChain(simulator.spectrum, simulator.detector, simulator.noise, 5e5, simulator.scatter)

                def form(projector=projector, cameras=cameras, chain=chain) -> object:
                    return projector.form_on_device(cameras, chain)

                found.append(_device_ms(gpu, form) / count)
            rows.append([f"{name}, {size[0]}×{size[1]}, {count}", *(f"{one:.3f}" for one in found)])
    return rows


def check_segmentation(ct: Path | None) -> bool | None:
    """A CT of 512×512×275 by the V-Net: seconds, memory, and the labels in half and in single precision.

    None where torch knows no CUDA.
    """
    import torch

    from DeepDRRLogic.segmentation import running
    from DeepDRRLogic.segmentation.inference import segment_by_vnet

    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} knows no CUDA: the V-Net runs on the processor")
        return None
    volume = _resampled(CTVolume.read(ct) if ct else phantom(spacing_mm=2.0).ct, SEGMENTED_SHAPE)
    half = segment_by_vnet(volume, device="cuda")
    seconds = []
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        half, taken = _timed(lambda: segment_by_vnet(volume, device="cuda"))
        seconds.append(taken)
    memory = torch.cuda.max_memory_allocated() / 1e9
    precision = running.precision_of(torch.device("cuda"))
    with _precision(torch.float32):
        single = segment_by_vnet(volume, device="cuda")
    other = float((half.labels != single.labels).sum() / (single.labels > 0).sum())
    print(
        f"512×512×275 in {precision}: {min(seconds):.2f} s (at most {SEGMENTED_SECONDS:g}), {memory:.2f} GB of the "
        f"GPU's memory; {other:.2e} of the body's labels differ from those in float32"
    )
    return min(seconds) <= SEGMENTED_SECONDS and other < MOST_OTHER_LABELS


@contextlib.contextmanager
def _precision(wanted: object):  # type: ignore[no-untyped-def]
    from DeepDRRLogic.segmentation import running

    usual, running.precision_of = running.precision_of, lambda device: wanted
    running._from_file.cache_clear()
    try:
        yield
    finally:
        running.precision_of = usual
        running._from_file.cache_clear()


def _resampled(ct: CTVolume, shape: tuple[int, int, int]) -> CTVolume:
    """Nearest voxels of the same extent on another grid."""
    scale = np.array(ct.shape) / shape
    index = np.ix_(*(((np.arange(n) + 0.5) * s).astype(int) for n, s in zip(shape, scale, strict=True)))
    ras_from_ijk = np.array(ct.ras_from_ijk)
    ras_from_ijk[:3, 3] += ras_from_ijk[:3, :3] @ (0.5 * scale[::-1] - 0.5)
    ras_from_ijk[:3, :3] *= scale[::-1]
    return CTVolume(np.ascontiguousarray(ct.hu[index]), ras_from_ijk)


def _torso() -> MaterialVolume:
    torso = phantom(spacing_mm=2.0)
    return MaterialVolume.from_ct(torso.ct, torso.labels)


def _cameras(volume: MaterialVolume, size: tuple[int, int], count: int) -> list[Camera]:
    x, y, z = volume.center_ras.tolist()
    arm = CArm(isocenter_ras_mm=(x, y, z), width=size[0], height=size[1], pixel_pitch_mm=DETECTOR_MM / size[0])
    return [arm.with_angles(180.0 * n / count - 90.0, 10.0).camera() for n in range(count)]


def _timed(work: Callable[[], object]):  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _device_ms(gpu, work: Callable[[], object]) -> float:  # type: ignore[no-untyped-def]
    found = []
    for repetition in range(REPETITIONS + 3):
        with gpu.active():
            start, stop = gpu.driver.Event(), gpu.driver.Event()
            start.record()
            work()
            stop.record()
            stop.synchronize()
            if repetition >= 3:
                found.append(start.time_till(stop))
    return statistics.median(found)
