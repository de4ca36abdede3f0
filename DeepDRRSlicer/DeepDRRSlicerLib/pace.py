"""How pictures follow each other: how soon the next may come, of how many pixels, and when all is at rest."""

from __future__ import annotations

from collections import deque

from .preview_size import PreviewSize

GAP_S = 0.008
"""Between two frames the event loop gets this long at least, to take in what the mouse did."""
REST_S = 0.12
_MOTION_S = 0.4


class Pace:
    """Is told of each frame, and knows how the next should be; times are a clock's, in seconds."""

    def __init__(self) -> None:
        self.size = PreviewSize()
        self._last_start = -1e9
        self._last_end = -1e9
        self._intervals: deque[float] = deque(maxlen=20)

    @property
    def frames_per_second(self) -> float:
        """Of the last motion, the time of everything between the frames included; 0 before any."""
        return len(self._intervals) / sum(self._intervals) if self._intervals else 0.0

    def record(self, started: float, ended: float) -> None:
        """A frame was made."""
        interval = started - self._last_start
        moving = interval < _MOTION_S
        if moving:
            self._intervals.append(interval)
        else:
            self._intervals.clear()
        self.size.record(ended - started, interval if moving else None)
        self._last_start, self._last_end = started, ended

    def is_too_soon(self, now: float) -> bool:
        """Whether the event loop has not had its time since the last frame."""
        return now - self._last_end < GAP_S

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing has moved for so long that full quality is worth its time."""
        return now - self._last_end >= REST_S
