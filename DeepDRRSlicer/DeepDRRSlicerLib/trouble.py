"""What cannot be done, in words: every error that is told to the user without a traceback."""

from __future__ import annotations

CANNOT = (ValueError, OSError, MemoryError, RuntimeError, ImportError)
"""What is said instead of raised."""


def words(error: BaseException) -> str:
    """An error as a person reads it."""
    if isinstance(error, MemoryError):
        reason = f" ({error})" if str(error) else ""
        return f"There is not enough memory{reason}: delete volumes you do not need, or crop or resample the CT."
    return str(error) or type(error).__name__
