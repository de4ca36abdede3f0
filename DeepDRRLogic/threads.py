"""Work shared among threads: compiled loops and NumPy release the interpreter lock, so plain threads are enough."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral


def thread_count(threads: int | None) -> int:
    """The number asked for, or one per core this process may use; ValueError for none, or for part of one."""
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not isinstance(threads, Integral) or threads < 1:
        raise ValueError(f"threads = {threads!r:.60}: give a whole number from 1, or None for one per core.")
    return int(threads)


def in_slabs(work: Callable[[int, int], None], count: int, threads: int, slab: int | None = None) -> None:
    """Calls work(start, stop) over 0…count in slabs, by several threads; the first exception is raised here."""
    size = slab or max(1, -(-count // (4 * threads)))
    starts = range(0, count, size)
    if threads == 1 or len(starts) == 1:
        for start in starts:
            work(start, min(start + size, count))
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in [pool.submit(work, start, min(start + size, count)) for start in starts]:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun never does
            raise
