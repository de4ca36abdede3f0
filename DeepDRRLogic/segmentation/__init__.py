"""From a CT to materials: methods by name, and segmentations in files."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any

from ..checks import check_kind
from .cancellation import SegmentationCancelled
from .seg_nrrd import read_segmentation, write_segmentation
from .thresholds import segment_by_thresholds

if TYPE_CHECKING:
    from ..volume import CTVolume, MaterialLabels

__all__ = [
    "SegmentationCancelled",
    "read_segmentation",
    "reports_progress",
    "segment",
    "segment_by_thresholds",
    "segmentation_methods",
    "write_segmentation",
]

_logger = logging.getLogger(__name__)

# Module and function of each method; a module is imported when its method is asked for.
_METHODS = {"vnet": ("inference", "segment_by_vnet"), "threshold": ("thresholds", "segment_by_thresholds")}
_OF_THRESHOLDS = ("air_max_hu", "bone_min_hu")
_OF_BOTH = ("air", "soft", "bone")
_NEEDLESS = ("keep_table", "progress", "cancelled", "device")
"""What thresholds do without: they know no table, and are done at once."""


def segmentation_methods() -> tuple[str, ...]:
    """The names that `segment` knows, besides "auto"."""
    return tuple(_METHODS)


def networks_installed() -> bool:
    """Whether PyTorch and safetensors are there; neither is imported."""
    return find_spec("torch") is not None and find_spec("safetensors") is not None


def reports_progress(method: str) -> bool:
    """Whether the method takes `progress`, being slow enough to need it; False for an unknown one."""
    if method not in _METHODS:
        return False
    module, function = _METHODS[method]
    return "progress" in signature(getattr(import_module(f"{__name__}.{module}"), function)).parameters


def segment(ct: CTVolume, method: str = "auto", **options: Any) -> MaterialLabels:
    """The materials of a CT by the named method and its options; ValueError lists the methods there are.

    "vnet" is segment_by_vnet in inference.py, "threshold" segment_by_thresholds. "auto" is the V-Net, or thresholds
    where thresholds are given and, with a warning, where PyTorch is not installed.
    """
    from ..volume import CTVolume

    check_kind("ct", ct, CTVolume, 'CTVolume.read("chest.nii.gz") or CTVolume.from_array(hu, ras_from_ijk)')
    if method == "auto":
        method, options = _automatic(options)
    if method not in _METHODS:
        raise ValueError(
            f"Segmentation method '{method}' is not available in this version; there are: auto, "
            f"{', '.join(segmentation_methods())}."
        )
    if method == "vnet" and not networks_installed():
        raise ValueError(
            "Segmentation by V-Net needs PyTorch and safetensors, which are not installed: "
            "pip install 'DeepDRRLogic[networks]', or choose the method 'threshold'."
        )
    module, function = _METHODS[method]
    labels: MaterialLabels = getattr(import_module(f"{__name__}.{module}"), function)(ct, **options)
    return labels


def _automatic(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method for these options, and those of them that it has."""
    if any(name in options for name in _OF_THRESHOLDS):
        return "threshold", {name: value for name, value in options.items() if name not in _NEEDLESS}
    if networks_installed():
        return "vnet", options
    if options.get("probabilities") is not None:
        raise ValueError(
            "Probabilities come from the V-Net, for which PyTorch and safetensors are not installed: "
            "pip install 'DeepDRRLogic[networks]'."
        )
    _logger.warning(
        "PyTorch or safetensors is not installed: materials are separated by thresholds, which take contrast medium "
        "for bone and marrow for soft tissue. For the V-Net: pip install 'DeepDRRLogic[networks]'."
    )
    return "threshold", {name: value for name, value in options.items() if name in _OF_BOTH}
