"""The Monte Carlo on the GPU against the CPU's: totals, pixels, and how many photons it follows in a second."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.scatter.tallies import COMPONENTS, Tallies
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

MODES: dict[str, tuple[int, dict[str, Any]]] = {
    "forced": (400_000, {}),
    "behind a grid": (400_000, {"grid": AntiScatterGrid()}),
    "analogue": (4_000_000, {"forced": 0}),
}
"""Photons and settings of what is compared."""

MOST_DEVIATION = 4.0
"""Of a total, in standard errors."""

MOST_PULL = 1.5
"""Of the pixels: the root mean square of their deviations in standard errors."""

LONGEST_LAUNCH = 1.0


def check(share: float) -> bool:
    """Print totals, pixels and speed; whether GPU and CPU agree and no launch is too long. `share` of the photons."""
    good = all([_agree(mode, photons * share, settings) for mode, (photons, settings) in MODES.items()])
    per_second, longest = speed(20_000_000 * share)
    print(f"{per_second:.3g} photons per second in 128 × 128 pixels, the longest launch {longest:.2f} s")
    return good and longest < LONGEST_LAUNCH


def _agree(mode: str, photons: float, settings: dict[str, Any]) -> bool:
    # One pixel tells the error of the total, as pixels of one batch are not independent.
    total, pixels = (
        [run(device, seed, tally=size, photons=photons, **settings) for seed, device in enumerate(("cpu", "cuda"))]
        for size in (1, 8)
    )
    good = True
    for component in COMPONENTS[:-1]:
        (one, error), (two, other) = ((r.signal(component).item(), r.signal_error(component).item()) for r in total)
        spread = math.hypot(error, other)
        pull = _pull(*pixels, component)
        good &= abs(two - one) < MOST_DEVIATION * spread and pull < MOST_PULL
        print(f"{mode}, {component}: {two / one:.4f} ± {spread / one:.4f} of the CPU's, its pixels off by {pull:.2f} σ")
    return good


def _pull(one: Tallies, two: Tallies, component: str) -> float:
    error = np.hypot(one.signal_error(component), two.signal_error(component))
    # Behind much matter hardly a primary photon is counted, and its error is not known.
    seen = one.signal(component) > 0.02 * one.signal(component).max()
    pulls = (one.signal(component) - two.signal(component))[seen] / error[seen]
    return float(np.sqrt(np.mean(pulls**2)))


def speed(photons: float) -> tuple[float, float]:
    """Photons per second with forced detection, and the longest time between two reports of progress in s."""
    run("cuda", 4, tally=128, photons=10_000)
    start, reports = time.perf_counter(), []
    run("cuda", 5, tally=128, photons=photons, progress=lambda done, of: reports.append(time.perf_counter()))
    return photons / (reports[-1] - start), float(np.diff([start, *reports]).max())


def run(device: str, seed: int, **settings: Any) -> Tallies:
    """Photons through the phantom; RuntimeError where the CPU had to take over from the GPU."""
    torso = phantom(spacing_mm=5.0)
    volume = MaterialVolume.from_ct(torso.ct, torso.labels)
    arm = CArm(isocenter_ras_mm=tuple(volume.center_ras), width=310, height=240, pixel_pitch_mm=1.2)
    arguments = volume, arm.with_angles(20.0, 10.0).camera(), Spectrum.preset("100kV"), Detector.csi_flat_panel()
    with warnings_as_errors():
        return simulate(*arguments, device=device, seed=seed, voxel_mm=5.0, **settings)


@contextlib.contextmanager
def warnings_as_errors() -> Iterator[None]:
    """A warning of the package's becomes a RuntimeError."""

    def refuse(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            raise RuntimeError(record.getMessage())
        return True

    logger = logging.getLogger("DeepDRRLogic.once")
    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)
