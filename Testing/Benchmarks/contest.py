"""The contestants, and the race: turn by turn, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scene import attenuation_cm2_g

from DeepDRRLogic._version import __version__
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.volume import MaterialVolume

Picture = npt.NDArray[np.float32]

PEERS = {
    "rtk_joseph": ("itk-rtk", "Joseph, C++ threads"),
    "plastimatch_exact": ("plastimatch", "exact, C++ OpenMP"),
    "nanodrr_torch": ("nanodrr", "500 samples per ray, PyTorch"),
}
"""Module in peers/: name and technique."""

FEWEST_REPETITIONS = 3


class Contestant(Protocol):
    name: str
    version: str
    technique: str
    line_integrals: int

    def project(self, view: str) -> float:
        """Projects the volume it holds into memory; the seconds that took."""

    def picture(self) -> Picture:
        """The last projection as the line integral of the attenuation, (height, width)."""


class Ours:
    """All materials at once."""

    name = "DeepDRRLogic"
    version = __version__
    technique = "shear-warp Joseph, numba threads"

    def __init__(self, volume: MaterialVolume, cameras: dict[str, Camera], threads: int) -> None:
        self._projector = CpuProjector(volume, threads)
        self._cameras = cameras
        self._attenuation = attenuation_cm2_g(volume).astype(np.float32)
        self.line_integrals = len(volume.materials)
        self._area_densities = np.zeros((self.line_integrals, 1, 1), np.float32)

    def project(self, view: str) -> float:
        start = time.perf_counter()
        self._area_densities = self._projector.project(self._cameras[view])
        return time.perf_counter() - start

    def picture(self) -> Picture:
        return np.tensordot(self._attenuation, self._area_densities, axes=1)

    def area_densities(self, view: str) -> Picture:
        """Those of all materials, (n_materials, height, width), in g/cm²."""
        return self._projector.project(self._cameras[view])


class Peer:
    """One peer in a process of its own; `missing` says why it does not take part."""

    line_integrals = 1

    def __init__(self, module: str, python: str, folder: Path, threads: int) -> None:
        self.name, self.technique = PEERS[module]
        self._picture = folder / f"{module}.npy"
        self._errors = folder / f"{module}.log"
        environment = os.environ | {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
        worker = Path(__file__).with_name("peer_worker.py")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [python, str(worker), module, str(folder), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        hello = self._answer()
        self.missing: str | None = hello.get("missing")
        self.version = str(hello.get("version"))

    def project(self, view: str) -> float:
        if self._process.stdin is None:
            raise RuntimeError(f"{self.name} was started without a standard input.")
        print(view, file=self._process.stdin, flush=True)
        return float(self._answer()["seconds"])

    def picture(self) -> Picture:
        picture: Picture = np.load(self._picture)
        return picture

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._process.wait()
            raise RuntimeError(f"{self.name} stopped: {self._errors.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Result:
    """Seconds of every repetition and the picture, by view."""

    seconds: dict[str, list[float]]
    pictures: dict[str, Picture]


def race(contestants: Sequence[Contestant], views: Sequence[str], repetitions: int, budget_s: float) -> list[Result]:
    """Warms up, then lets all project every view in turns.

    `repetitions` each, or as many as fit into `budget_s` seconds per view, but at least three.
    """
    results = [Result({}, {}) for _ in contestants]
    for view in views:
        turns = []
        for contestant, result in zip(contestants, results, strict=True):
            contestant.project(view)  # compiles, allocates, fills the caches
            seconds = contestant.project(view)
            result.pictures[view] = contestant.picture()
            result.seconds[view] = []
            turns.append(min(repetitions, max(FEWEST_REPETITIONS, int(budget_s / seconds))))
        for turn in range(max(turns)):
            for contestant, result, count in zip(contestants, results, turns, strict=True):
                if turn < count:
                    result.seconds[view].append(contestant.project(view))
    return results
