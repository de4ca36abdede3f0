"""How many pixels a moving picture may have, learned from how long the last ones took."""

from __future__ import annotations

WIDTHS = (128, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
FRAME_S = 0.09
"""All that happens in a frame included: what keeps ten frames per second though one is late now and then."""

_OTHERS_AT_MOST_S = 0.06
_ROOM_TO_GROW = 0.7
_PATIENCE = 3


class PreviewSize:
    """The width of previews: shrinks when frames are late, grows after a few that had time to spare.

    What others need between our frames, above all the 3D view, is left to them, up to 60 ms. One late frame among
    punctual ones is no reason: it is the mean of the last few that counts.
    """

    def __init__(self, width: int = 320) -> None:
        self._step = max(n for n, w in enumerate(WIDTHS) if w <= width)
        self._spare = 0
        self._own_s: float | None = None

    @property
    def width(self) -> int:
        return WIDTHS[self._step]

    def record(self, own_s: float, interval_s: float | None = None) -> None:
        """Learn from a frame: what we took, and the time since the frame before where the motion is going on."""
        others_s = 0.0 if interval_s is None else min(max(interval_s - own_s, 0.0), _OTHERS_AT_MOST_S)
        allowed_s = FRAME_S - others_s
        own_s = own_s if self._own_s is None else 0.5 * (own_s + self._own_s)
        self._own_s = own_s
        if own_s > allowed_s:
            # Work grows at least with the width: two steps down where one cannot be enough.
            self._to(self._step - (2 if own_s > 1.6 * allowed_s else 1))
        elif own_s < _ROOM_TO_GROW * allowed_s:
            self._spare += 1
            if self._spare >= _PATIENCE:
                self._to(self._step + 1)
        else:
            self._spare = 0

    def _to(self, step: int) -> None:
        """Another width: what was learned of the one before says little of it."""
        step = min(max(step, 0), len(WIDTHS) - 1)
        if step != self._step:
            self._step, self._own_s = step, None
        self._spare = 0
