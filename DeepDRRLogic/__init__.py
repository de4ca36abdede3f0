"""DeepDRR for 3D Slicer: realistic X-ray images from CT, without Slicer.

    from DeepDRRLogic import CArm, CTVolume, MaterialVolume, Spectrum, XRaySimulator, segment

    ct = CTVolume.read("chest.nii.gz")
    simulator = XRaySimulator(MaterialVolume.from_ct(ct, segment(ct)), spectrum=Spectrum.preset("120kV"))
    image = simulator(CArm.preset("radiography_room", isocenter_ras_mm=ct.center_ras).view("pa").camera())
    image.save("chest.png")

The names are imported from their modules when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .carm import CArm
    from .detector import Detector
    from .display import DisplaySettings
    from .geometry import Camera
    from .image import XRayImage
    from .materials import Material, material
    from .noise import NoiseModel
    from .segmentation import segment
    from .simulator import XRaySimulator
    from .spectrum import Spectrum
    from .volume import CTVolume, MaterialLabels, MaterialVolume

_HOMES = {
    "CArm": "carm",
    "CTVolume": "volume",
    "Camera": "geometry",
    "Detector": "detector",
    "DisplaySettings": "display",
    "Material": "materials",
    "MaterialLabels": "volume",
    "MaterialVolume": "volume",
    "NoiseModel": "noise",
    "Spectrum": "spectrum",
    "XRayImage": "image",
    "XRaySimulator": "simulator",
    "material": "materials",
    "segment": "segmentation",
}

__all__ = [
    "CArm",
    "CTVolume",
    "Camera",
    "Detector",
    "DisplaySettings",
    "Material",
    "MaterialLabels",
    "MaterialVolume",
    "NoiseModel",
    "Spectrum",
    "XRayImage",
    "XRaySimulator",
    "__version__",
    "material",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
