"""A run on an NVIDIA GPU: uploads it, launches it in pieces that no display notices, and brings the sums back."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from ...gpu.errors import DeviceError
from ..run import Batch, Cancelled, Progress, Run
from ..tallies import COMPONENTS, LEDGER
from .scene import DeviceScene

if TYPE_CHECKING:
    from ...gpu.device import Gpu

PTX = resources.files(__package__).joinpath("transport.ptx")
BLOCK = (128, 1, 1)

FIRST_LAUNCH, LARGEST_LAUNCH = 1 << 14, 1 << 28
LAUNCH_SECONDS = 0.25
"""A launch that takes as long as this is neither noticed on the screen nor broken off by a driver that watches it."""

MOST_LOST = 1e-3
"""The part of the energy that rounding in float may lose or find."""


def run_on_gpu(run: Run, gpu: Gpu, progress: Progress | None, cancelled: Cancelled) -> list[Batch]:
    """Follow the photons of a run; where cancelled() turns true, those that were followed count. DeviceError.

    progress(done, total) counts photons. The same seed follows the same photons on any GPU, in launches of any size;
    sums of float64 depend on their order in the last digits. The energy must be conserved, or the GPU is not believed.
    """
    with gpu.active():
        scene = DeviceScene(gpu, run)
        tally = gpu.zeros((run.batches, len(COMPONENTS) - 1, *run.shape[1:], run.shape[0]), np.float64)
        ledger = gpu.zeros((run.batches, len(LEDGER) + len(run.body.peak)), np.float64)
    if run.forced:
        weigh(gpu, scene, run)
    seed = np.random.SeedSequence(run.seed).generate_state(1, np.uint64)[0]

    def follow(first: int, count: int) -> None:
        arguments = seed, np.uint64(first), np.uint32(count), tally.pointer, ledger.pointer
        gpu.launch(PTX, "follow", (count, 1, 1), BLOCK, scene.numbers, *arguments)

    done = in_launches(gpu, run.photons, follow, progress, cancelled)
    counted, energies = tally.get(), ledger.get()
    _check_energy(gpu, energies.sum(axis=0))
    return [
        Batch(np.moveaxis(found, -1, 1), kept, len(range(number, done, run.batches)))
        for number, (found, kept) in enumerate(zip(counted, energies, strict=True))
    ]


def weigh(gpu: Gpu, scene: DeviceScene, run: Run) -> None:
    """Give the voxels of a scene their worth; see Run.weighed."""
    with gpu.active():
        worth = gpu.zeros(run.body.density.shape)
    mean_kev = np.float32(run.physics.first_kev + run.mean_node / run.physics.per_kev)

    def transmissions(first: int, count: int) -> None:
        arguments = mean_kev, np.uint64(first), np.uint32(count), worth.pointer
        gpu.launch(PTX, "transmissions", (count, 1, 1), BLOCK, scene.numbers, *arguments)

    in_launches(gpu, run.body.density.size, transmissions)
    shares = run.weighed(worth.get()).worth
    with gpu.active():
        scene.set_worth(shares)


def in_launches(
    gpu: Gpu,
    total: int,
    launch: Callable[[int, int], None],
    progress: Progress | None = None,
    cancelled: Cancelled = lambda: False,
) -> int:
    """Call launch(first, count) over 0…total in pieces of about LAUNCH_SECONDS; returns how many were done."""
    done, size = 0, FIRST_LAUNCH
    while done < total and not cancelled():
        count = min(size, total - done)
        start = time.perf_counter()
        with gpu.active():
            launch(done, count)
            gpu.context.synchronize()
        size = next_size(count, time.perf_counter() - start)
        done += count
        if progress is not None:
            progress(done, total)
    return done


def next_size(count: int, seconds: float) -> int:
    """How much to launch after a launch of `count` took so long; it grows fourfold at most, as times may mislead."""
    fitting = int(count * min(LAUNCH_SECONDS / max(seconds, 1e-6), 4.0))
    return min(max(fitting, BLOCK[0]), LARGEST_LAUNCH)


def _check_energy(gpu: Gpu, ledger: np.ndarray) -> None:
    emitted = float(ledger[0])
    lost = abs(emitted - float(ledger[1 : len(LEDGER)].sum()))
    if not lost <= MOST_LOST * emitted:
        raise DeviceError(f"{gpu.name} loses {lost:g} of {emitted:g} keV of photon energy, and is not trusted")
