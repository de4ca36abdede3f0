"""How a segmentation ends that nobody waits for any more."""

from __future__ import annotations


class SegmentationCancelled(Exception):  # noqa: N818 - no error: someone asked for it
    """Raised where `cancelled()` turned true: there is no result."""
