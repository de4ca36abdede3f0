"""From a CT to materials: methods by name, and segmentations in files."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from .seg_nrrd import read_segmentation, write_segmentation
from .thresholds import segment_by_thresholds

if TYPE_CHECKING:
    from ..volume import CTVolume, MaterialLabels

__all__ = [
    "read_segmentation",
    "reports_progress",
    "segment",
    "segment_by_thresholds",
    "segmentation_methods",
    "write_segmentation",
]

# Module and function of each method; a module is imported when its method is asked for.
_METHODS = {"threshold": ("thresholds", "segment_by_thresholds")}


def segmentation_methods() -> tuple[str, ...]:
    """The names that `segment` knows."""
    return tuple(_METHODS)


def reports_progress(method: str) -> bool:
    """Whether the method takes `progress`, being slow enough to need it; False for an unknown one."""
    if method not in _METHODS:
        return False
    module, function = _METHODS[method]
    return "progress" in signature(getattr(import_module(f"{__name__}.{module}"), function)).parameters


def segment(ct: CTVolume, method: str = "threshold", **options: Any) -> MaterialLabels:
    """The materials of a CT by the named method and its options; ValueError lists the methods there are."""
    if method not in _METHODS:
        raise ValueError(
            f"Segmentation method '{method}' is not available in this version; there are: "
            f"{', '.join(segmentation_methods())}."
        )
    module, function = _METHODS[method]
    labels: MaterialLabels = getattr(import_module(f"{__name__}.{module}"), function)(ct, **options)
    return labels
