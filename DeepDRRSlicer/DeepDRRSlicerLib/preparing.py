"""The first run on a computer compiles the projector for a quarter of a minute: a thread does it beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.projector import choose_device
from DeepDRRLogic.segmentation import segment_by_thresholds
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.volume import CTVolume, MaterialVolume

from .technique import Technique, tuned
from .waiting import TURN_S

_LONG_S = 1.0
"""Longer than it takes where everything is compiled already: then there is something to say."""
_POLL_MS = 20


class Preparation:
    """Compiles what previews need in a thread, once; `on_change` is called when `takes_long` or `is_done` changes.

    It compiles nothing for a GPU, whose kernels come compiled.
    """

    def __init__(self, call_later: Callable[[int, Callable[[], None]], None], on_change: Callable[[], None]) -> None:
        self._call_later = call_later
        self._on_change = on_change
        self._future: Future[None] | None = None
        self._started = 0.0
        self.takes_long = False

    @property
    def is_done(self) -> bool:
        """Whether nothing is being compiled."""
        return self._future is None or self._future.done()  # where it failed the X-ray will, and says why

    def start(self, technique: Technique) -> None:
        """Begin, unless that was done before or this exposure's device needs none; the device may change."""
        if self._future is not None or choose_device(technique.device).device != "cpu":
            return
        worker = ThreadPoolExecutor(1, thread_name_prefix="DeepDRR")
        self._future, self._started = worker.submit(expose_once, technique), time.perf_counter()
        worker.shutdown(wait=False)
        self._look()

    def close(self) -> None:
        """Tell nobody any more."""
        self._on_change = lambda: None
        self._future = None

    def _look(self) -> None:
        if self._future is None:
            return
        wait([self._future], TURN_S)
        before, done = self.takes_long, self._future.done()
        self.takes_long = not done and time.perf_counter() - self._started > _LONG_S
        if not done:
            self._call_later(_POLL_MS, self._look)
        if done or self.takes_long != before:
            self._on_change()


def expose_once(technique: Technique) -> None:
    """An X-ray of next to nothing, by all that previews go through; touches no scene."""
    ct = CTVolume(np.zeros((8, 8, 8), np.float32), np.eye(4), "nothing")
    volume = MaterialVolume.from_ct(ct, segment_by_thresholds(ct)).downsampled((2, 2, 2))
    arm = CArm(isocenter_ras_mm=(4.0, 4.0, 4.0), width=16, height=16, pixel_pitch_mm=1.0)
    whole = replace(technique, collimator="")  # words that make no sense are said by the X-ray
    tuned(XRaySimulator(volume, device="cpu"), whole, 1e5, None, arm)(arm.camera(), technique.seed)
