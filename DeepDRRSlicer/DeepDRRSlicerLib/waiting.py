"""An exposure that takes long: a thread makes it, while whoever waits shows how far it is and may call it off."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from . import exposing

if TYPE_CHECKING:
    from DeepDRRLogic.image import XRayImage

    from .exposing import Exposure

TURN_S = 0.03
"""So long a look at the thread waits for it: an idle Slicer keeps Python's lock, and threads would hardly ever run."""


class Watch:
    """What the thread tells and what it is told: `fraction` of the work that is done, and whether to stop."""

    def __init__(self) -> None:
        self.fraction = 0.0
        self.stopped = False

    def progress(self, done: int, total: int) -> None:
        self.fraction = max(self.fraction, done / total)

    def cancelled(self) -> bool:
        return self.stopped


def exposed(
    exposure: Exposure,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool] = lambda: False,
    width: int | None = None,
) -> XRayImage | None:
    """The exposure in full quality, None where cancelled() turned true; `width` as in `exposing.expose`.

    progress(fraction from 0 to 1) is called some thirty times a second by the thread that waits; it may process events.
    """
    watch, called_off = Watch(), False
    with ThreadPoolExecutor(1, thread_name_prefix="DeepDRR") as worker:
        future = worker.submit(exposing.expose, exposure, "full", width, watch=watch)
        try:
            while not future.done() and not called_off:
                wait([future], TURN_S)
                progress(watch.fraction)
                called_off = cancelled()
        finally:
            watch.stopped = True  # also where progress raises: nobody waits any more
    return None if called_off else future.result()
