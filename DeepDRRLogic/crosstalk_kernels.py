"""The compiled loop of crosstalk.spread; it works on some rows, so that threads can share a picture."""

from __future__ import annotations

from .compiled import compiled


@compiled(fastmath=True)
def share_rows(planes, weights, first, last, out):  # type: ignore[no-untyped-def]
    """Rows `first` to `last` of `out` (C, H, W): each pixel the sum of what lies under the kernel in wider planes."""
    width = out.shape[2]
    for plane in range(out.shape[0]):
        for row in range(first, last):
            line = out[plane, row]
            line[:] = 0.0
            for dv in range(weights.shape[0]):
                source = planes[plane, row + dv]
                for du in range(weights.shape[1]):
                    weight = weights[dv, du]
                    for u in range(width):
                        line[u] += weight * source[u + du]
