"""Who carries a Monte Carlo run out: a GPU where there is one, else the CPU's cores."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..gpu.errors import DeviceError
from ..once import warn_once
from ..threads import in_slabs
from .run import Batch, Cancelled, Progress, Run
from .tallies import COMPONENTS, LEDGER

if TYPE_CHECKING:
    from ..gpu.device import Gpu
    from .transport import Body

_logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str) -> str:
    """The name itself; ValueError for an unknown one."""
    if device not in DEVICES:
        raise ValueError(f"Photons cannot be followed on {device!r}: choose {', '.join(DEVICES)}.")
    return device


def carry_out(run: Run, device: str, threads: int, progress: Progress | None, cancelled: Cancelled) -> list[Batch]:
    """The batches of a run that were done before cancelled() turned true; those without photons are left out."""
    done: list[Batch] | None = None
    gpu = _gpu(device)
    if gpu is not None:
        from .cuda.host import run_on_gpu

        try:
            done = run_on_gpu(run, gpu, progress, cancelled)
        except DeviceError as error:
            _warn(error)
    if done is None:
        done = run_on_cpu(run, threads, progress, cancelled)
    return [batch for batch in done if batch.photons > 0]


def _gpu(device: str) -> Gpu | None:
    if device == "cpu":
        return None
    from ..projector.cuda.check import trusted_gpu

    try:
        return trusted_gpu()
    except DeviceError as error:
        if device == "cuda":
            _warn(error)
        else:
            _logger.debug("Photons are followed on the CPU: %s.", error)
        return None


def _warn(error: DeviceError) -> None:
    warn_once(f"Photons are followed on the CPU instead of the GPU: {error}.")


def run_on_cpu(run: Run, threads: int, progress: Progress | None, cancelled: Cancelled) -> list[Batch]:
    """Follow the photons of a run by numba, every batch with random numbers of its own; progress counts batches."""
    from .transport import run_batch

    body = _weighed(run, threads) if run.forced else run.body
    share = np.full(run.batches, run.photons // run.batches)
    share[: run.photons % run.batches] += 1
    streams = np.random.SeedSequence(run.seed).spawn(run.batches)
    results: dict[int, Batch] = {}

    def work(start: int, stop: int) -> None:
        for number in range(start, stop):
            if cancelled():
                return
            found = np.zeros((len(COMPONENTS) - 1, *run.shape))
            ledger = np.zeros(len(LEDGER) + len(body.peak))
            state = streams[number].generate_state(4, np.uint64)
            run_batch(
                body, run.physics, run.panel, run.energies, run.cumulative, share[number], run.forced, state, found,
                ledger,
            )  # fmt: skip
            results[number] = Batch(found, ledger, int(share[number]))
            if progress is not None:
                progress(len(results), run.batches)

    in_slabs(work, run.batches, threads, slab=1)
    return [results[number] for number in sorted(results)]


def _weighed(run: Run, threads: int) -> Body:
    from .transport import transmissions

    mu = run.physics.attenuation[:, run.mean_node].copy()
    found = np.empty_like(run.body.density)
    in_slabs(lambda k0, k1: transmissions(run.body, run.panel, mu, k0, k1, found), len(found), threads)
    return run.weighed(found)
