"""Compiled functions that are kept on disk where there is a place for them, and work where there is none."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from numba import njit

_logger = logging.getLogger(__name__)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(nogil=True)` with the cache on; without it, said once, where no folder can be written.

    That is a package installed for all users, started by one without a home, as services and containers do.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # numba found no place for its cache
            _say_that_nothing_is_kept()
            return njit(nogil=True, **options)(function)

    return decorate


@functools.cache
def _say_that_nothing_is_kept() -> None:
    _logger.warning(
        "Compiled code cannot be kept: there is no folder to write it to, and every start compiles it again. "
        "Set NUMBA_CACHE_DIR to a folder that can be written."
    )
