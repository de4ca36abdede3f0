"""Figures of our own: image formation, preview, start-up, memory, and accuracy against exact integration."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scene import attenuation_cm2_g

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.display import render_display
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.reference import project_exactly
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

PREVIEW_SIZE = 310, 240
REPOSITORY = Path(__file__).resolve().parents[2]

SMALLEST_INTEGRAL = 0.05
"""Of the line integral; below lies air, where a relative error says nothing."""


def timed(work: Callable[[], object], repetitions: int) -> list[float]:
    """Seconds of every repetition, after one that does not count."""
    work()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def image_formation(
    volume: MaterialVolume, cameras: dict[str, Camera], threads: int, repetitions: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds by what is made and view: projection, spectrum, detector and noise; its display; its preview."""
    found: dict[str, dict[str, list[float]]] = {}
    for detector in (Detector.ideal(), Detector.csi_flat_panel()):
        simulator = XRaySimulator(volume, spectrum=Spectrum.preset("120kV"), detector=detector, threads=threads)
        found[f"X-ray image, {detector.name}"] = {
            view: timed(partial(simulator, camera), repetitions) for view, camera in cameras.items()
        }
    found["its display (8 bit)"] = {}
    for view, camera in cameras.items():
        image = simulator(camera)
        found["its display (8 bit)"][view] = timed(partial(render_display, image), repetitions)
    preview = simulator.preview(2)

    def show(camera: Camera) -> None:
        render_display(preview(camera.resampled(*PREVIEW_SIZE)))

    found["preview, {}×{}, display included".format(*PREVIEW_SIZE)] = {
        view: timed(partial(show, camera), repetitions) for view, camera in cameras.items()
    }
    return found


def preparation(volume: MaterialVolume, threads: int, repetitions: int) -> dict[str, list[float]]:
    """Seconds to make a projector, and a simulator for previews, of a volume in memory."""
    simulator = XRaySimulator(volume, threads=threads)
    return {
        "`CpuProjector(volume)`": timed(lambda: CpuProjector(volume, threads), repetitions),
        "`simulator.preview(2)`": timed(lambda: simulator.preview(2), repetitions),
    }


def first_image(path: str, preset: str, threads: int, repetitions: int) -> dict[str, float]:
    """Median seconds from the start of a process to its first image, by stage; the kernels are compiled already."""
    program = Path(__file__).with_name("first_image.py")
    runs = []
    for _ in range(repetitions + 1):
        run = subprocess.run(
            [sys.executable, str(program), path, preset, str(threads), repr(time.time())],
            env=_environment(),
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise RuntimeError(f"{program.name} failed: {run.stderr[-2000:]}")
        runs.append(json.loads(run.stdout.splitlines()[-1]))
    return {stage: statistics.median(run[stage] for run in runs[1:]) for stage in runs[0]}


def _environment() -> dict[str, str]:
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def memory_bytes(volume: MaterialVolume, camera: Camera, threads: int) -> dict[str, int]:
    """Bytes of the volume, of the projector, and the peaks of both its construction and a projection."""
    tracemalloc.start()
    projector = CpuProjector(volume, threads)
    held, building = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    projector.project(camera)
    _, projecting = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    volume_bytes = volume.density_g_cm3.nbytes + volume.labels.nbytes
    return {"volume": volume_bytes, "held": held, "peak": max(building, projecting)}


class Truth:
    """Exact integrals of the trilinear partial densities, at some pixels of every view."""

    def __init__(self, volume: MaterialVolume, cameras: dict[str, Camera], pixels: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._attenuation = attenuation_cm2_g(volume)
        self._pixels: dict[str, npt.NDArray[np.int64]] = {}
        self._areas: dict[str, npt.NDArray[np.float64]] = {}
        for view, camera in cameras.items():
            at = np.stack([rng.integers(camera.width, size=pixels), rng.integers(camera.height, size=pixels)], 1)
            self._pixels[view] = at
            self._areas[view] = project_exactly(volume, camera, at)

    def errors(self, view: str, picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Relative errors of a line integral, (height, width), where there is something to see."""
        u, v = self._pixels[view].T
        exact = self._attenuation @ self._areas[view]
        seen = exact > SMALLEST_INTEGRAL
        errors: npt.NDArray[np.float64] = np.abs(picture[v, u] / np.where(seen, exact, 1.0) - 1.0)[seen]
        return errors

    def distances(self, view: str, area_densities: npt.NDArray[np.float32]) -> list[float]:
        """Relative L2 difference of the area density of every material."""
        u, v = self._pixels[view].T
        exact = self._areas[view]
        difference = area_densities[:, v, u] - exact
        distances: list[float] = (np.linalg.norm(difference, axis=1) / np.linalg.norm(exact, axis=1)).tolist()
        return distances
