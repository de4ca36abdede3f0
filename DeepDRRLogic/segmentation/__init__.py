"""From a CT to materials: methods by name, and segmentations in files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_kind
from ..tissues import with_tissues
from .cancellation import SegmentationCancelled
from .seg_nrrd import read_segmentation, write_segmentation
from .thresholds import segment_by_thresholds

if TYPE_CHECKING:
    from ..volume import CTVolume, MaterialLabels

__all__ = [
    "SegmentationCancelled",
    "method_for",
    "read_segmentation",
    "reports_progress",
    "segment",
    "segment_by_thresholds",
    "segmentation_methods",
    "write_segmentation",
]

_logger = logging.getLogger(__name__)

Method = Literal["vnet", "threshold"]

# Module and function of each method; a module is imported when its method is asked for.
_METHODS: dict[Method, tuple[str, str]] = {
    "vnet": ("inference", "segment_by_vnet"),
    "threshold": ("thresholds", "segment_by_thresholds"),
}
_OF_THRESHOLDS = ("air_max_hu", "bone_min_hu")
_OF_NETWORK = ("weights", "patch", "margin", "grid", "mirrored")
_NEEDLESS = ("keep_table", "progress", "cancelled", "device")
"""What thresholds do without: they know no table, and are done at once."""


def segmentation_methods() -> tuple[str, ...]:
    """The names that `segment` knows, besides "auto"."""
    return tuple(_METHODS)


def networks_installed() -> bool:
    """Whether PyTorch and safetensors are there and have not failed to be imported; neither is imported here."""
    return not _known_fault() and all(find_spec(name) is not None for name in ("torch", "safetensors"))


def method_for(method: str, options: Mapping[str, Any]) -> Method:
    """The method that `segment` uses where it is asked for this one with these options; nothing is imported.

    "auto" is the V-Net, or thresholds where some are given and where PyTorch is not installed, or is known to be broken
    since a segmentation tried to import it. ValueError lists the methods there are.
    """
    if method == "auto":
        return "vnet" if networks_installed() and not _limits(options) else "threshold"
    if method not in _METHODS:
        raise ValueError(
            f"Segmentation method '{method}' is not available in this version; there are: auto, "
            f"{', '.join(segmentation_methods())}."
        )
    return method


def reports_progress(method: str) -> bool:
    """Whether the method takes `progress`, being slow enough to need it; False for one that is not there."""
    if method not in _METHODS:
        return False
    try:
        return "progress" in signature(_function(method)).parameters
    except (ImportError, OSError):  # PyTorch is missing or broken, of which `segment` tells more
        return False


def segment(ct: CTVolume, method: str = "auto", *, tissues: bool = False, **options: Any) -> MaterialLabels:
    """The materials of a CT by the named method and its options; ValueError lists the methods there are.

    "vnet" is segment_by_vnet in inference.py, "threshold" segment_by_thresholds. "auto" is the V-Net, or thresholds
    where thresholds are given and, with a warning, where PyTorch is not installed or cannot be imported. With `tissues`
    bone and soft tissue are split further, into spongy bone and fat besides, see `with_tissues`. An option that
    is None has its default; thresholds do without keep_table, progress, cancelled and device. ValueError also for
    thresholds given to "vnet", probabilities asked of thresholds, and "vnet" without PyTorch.
    """
    from ..volume import CTVolume

    check_kind("ct", ct, CTVolume, 'CTVolume.read("chest.nii.gz") or CTVolume.from_array(hu, ras_from_ijk)')
    given = {name: value for name, value in options.items() if value is not None}
    trouble = _trouble() if method in ("auto", "vnet") and not _limits(given) else ""
    chosen = method_for(method, given)  # knows by now whether PyTorch can be imported
    if chosen == "vnet":
        _require_network(given, trouble)
    else:
        given = _of_thresholds(given, trouble)
    labels: MaterialLabels = _function(chosen)(ct, **given)
    return with_tissues(ct, labels) if tissues else labels


def _require_network(given: Mapping[str, Any], trouble: str) -> None:
    if limits := _limits(given):
        raise ValueError(f"{' and '.join(limits)} given, but the method is vnet: leave one of them out.")
    if trouble:
        raise ValueError(
            f"Segmentation by V-Net needs PyTorch and safetensors, which {trouble}, or choose the method 'threshold'."
        )


def _of_thresholds(given: Mapping[str, Any], trouble: str) -> dict[str, Any]:
    """The options that thresholds take, which may stand in for a V-Net in trouble; ValueError for probabilities."""
    if "probabilities" in given and trouble:
        raise ValueError(f"Probabilities come from the V-Net, which needs PyTorch and safetensors. They {trouble}.")
    if "probabilities" in given:
        raise ValueError("Thresholds know no probabilities: leave out probabilities, or use the method vnet.")
    if trouble:
        _logger.warning(
            "Materials are separated by thresholds, which take contrast medium for bone and marrow for soft tissue: "
            "the V-Net needs PyTorch and safetensors, which %s.",
            trouble,
        )
    needless = (*_NEEDLESS, *_OF_NETWORK) if trouble else _NEEDLESS
    return {name: value for name, value in given.items() if name not in needless}


def _limits(options: Mapping[str, Any]) -> list[str]:
    """The thresholds that are given."""
    return [name for name in _OF_THRESHOLDS if options.get(name) is not None]


def _function(method: Method) -> Callable[..., MaterialLabels]:
    module, function = _METHODS[method]
    found: Callable[..., MaterialLabels] = getattr(import_module(f"{__name__}.{module}"), function)
    return found


def _trouble() -> str:
    """Why there can be no V-Net, and the remedy; "" where there can be one, with PyTorch imported."""
    if networks_installed() or _known_fault():
        return (fault := _import_fault()) and f"cannot be imported ({fault}): install them again"
    return "are not installed: pip install 'DeepDRRLogic[networks]'"


@cache
def _import_fault() -> str:
    """What happens where PyTorch and safetensors are imported: "", or an error in words."""
    try:
        import_module("torch")
        import_module("safetensors")
    except (ImportError, OSError) as error:  # OSError where a library that they need is missing or of another system
        return f"{type(error).__name__}: {error}"
    return ""


def _known_fault() -> str:
    """The same as far as it was tried."""
    return _import_fault() if _import_fault.cache_info().currsize else ""
