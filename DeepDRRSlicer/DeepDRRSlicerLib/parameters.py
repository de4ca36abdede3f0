"""What the panel remembers: the module's parameter node. Needs Slicer's parameterNodeWrapper; the module imports it.

The C-arm's values are not here: they live in the C-arm's own transforms, of which a scene may have several.
"""

from typing import Annotated, Any

from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper, parameterPack

from DeepDRRLogic.segmentation import segmentation_methods
from DeepDRRLogic.segmentation.thresholds import AIR_MAX_HU, BONE_MIN_HU

from . import technique as plain

PHOTONS, MAS = "photons per pixel", "mAs"
NO_SCATTER = "none"

_CHOICES = {
    "detector": list(plain.detector_choices()),
    "scatter": [name or NO_SCATTER for name in plain.scatter_choices()],
    "window": list(plain.window_choices()),
    "device": list(plain.device_choices()),
}
_USUAL = {"detector": "ideal", "scatter": NO_SCATTER, "window": "auto", "device": "auto"}
_USUAL_METHOD = "auto"
_METHODS = [_USUAL_METHOD, *segmentation_methods()]
SWEEPS = {"LAO/RAO": "primary", "CRAN/CAUD": "secondary", "Roll": "roll"}
"""What a sweep turns, as the panel says it, and the joint."""


@parameterPack
class TechniqueParameters:
    """How an exposure is made and shown; see technique.Technique."""

    kvp: Annotated[float, WithinRange(40, 150), Default(90)]
    filtrationAuto: Annotated[bool, Default(True)]
    aluminiumMm: Annotated[float, WithinRange(0, 50), Default(4)]
    copperMm: Annotated[float, WithinRange(0, 10), Default(0)]
    dose: Annotated[str, Choice([PHOTONS, MAS]), Default(PHOTONS)]
    photonsPerPixel: Annotated[float, WithinRange(1, 1e9), Default(5e5)]
    mas: Annotated[float, WithinRange(0.001, 10000), Default(2)]
    detector: Annotated[str, Choice(_CHOICES["detector"]), Default(_USUAL["detector"])]
    scatter: Annotated[str, Choice(_CHOICES["scatter"]), Default(_USUAL["scatter"])]
    grid: Annotated[bool, Default(False)]
    noise: Annotated[bool, Default(True)]
    seed: Annotated[int, WithinRange(0, 2**31 - 1), Default(0)]
    log: Annotated[bool, Default(True)]
    bonesDark: Annotated[bool, Default(False)]
    collimator: Annotated[str, Default("")]
    window: Annotated[str, Choice(_CHOICES["window"]), Default(_USUAL["window"])]
    device: Annotated[str, Choice(_CHOICES["device"]), Default(_USUAL["device"])]


@parameterNodeWrapper
class DeepDRRSlicerParameterNode:
    """The panel's choices; `carm` is the root transform of the C-arm at work."""

    ctVolume: vtkMRMLScalarVolumeNode | None
    segmentation: vtkMRMLSegmentationNode | None
    carm: vtkMRMLLinearTransformNode | None
    xrayImage: vtkMRMLScalarVolumeNode | None
    landmarks: vtkMRMLMarkupsFiducialNode | None
    method: Annotated[str, Choice(_METHODS), Default(_USUAL_METHOD)]
    airMaxHu: Annotated[float, WithinRange(-1024, 0), Default(AIR_MAX_HU)]
    boneMinHu: Annotated[float, WithinRange(0, 2000), Default(BONE_MIN_HU)]
    tissues: Annotated[bool, Default(False)]
    technique: TechniqueParameters
    live: Annotated[bool, Default(True)]
    showPatient: Annotated[bool, Default(True)]
    showPoints: Annotated[bool, Default(False)]
    sweepJoint: Annotated[str, Choice(list(SWEEPS)), Default("LAO/RAO")]
    sweepStartDeg: Annotated[float, WithinRange(-360, 360), Default(-90)]
    sweepStopDeg: Annotated[float, WithinRange(-360, 360), Default(90)]
    sweepFrames: Annotated[int, WithinRange(2, 721), Default(37)]


def technique_of(parameters: DeepDRRSlicerParameterNode) -> plain.Technique:
    """The exposure that the panel describes."""
    its = parameters.technique
    return plain.Technique(
        kvp=its.kvp,
        aluminium_mm=None if its.filtrationAuto else its.aluminiumMm,
        copper_mm=its.copperMm,
        photons_per_pixel=its.photonsPerPixel,
        mas=its.mas if its.dose == MAS else None,
        detector=its.detector,
        scatter="" if its.scatter == NO_SCATTER else its.scatter,
        grid=its.grid and its.scatter != NO_SCATTER,
        noise=its.noise,
        seed=its.seed,
        log=its.log,
        polarity="bones_dark" if its.bonesDark else "bones_bright",
        collimator=its.collimator.strip(),
        window=its.window,
        device=its.device,
    )


def forget_unknown_choices(node: Any) -> list[str]:
    """Replace choices that this computer does not offer, such as a saved scene's GPU, by the usual ones; their names.

    To be called with the bare parameter node before it is wrapped: the wrapper refuses what is no choice.
    """
    offered = {f"technique.{name}": (choices, _USUAL[name]) for name, choices in _CHOICES.items()}
    offered["method"] = (_METHODS, _USUAL_METHOD)
    unknown = [n for n, (choices, _) in offered.items() if (text := node.GetParameter(n)) and text not in choices]
    for name in unknown:
        node.SetParameter(name, offered[name][1])
    return unknown
