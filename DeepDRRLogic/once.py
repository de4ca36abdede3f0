"""Warnings that are given once in a process, however often their cause comes up."""

from __future__ import annotations

import functools
import logging

_logger = logging.getLogger(__name__)


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning the first time that it comes up in this process."""
    _logger.warning("%s", message)
