"""How an exposure is made and shown: plain values, and what they are in the simulator. No scene."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from DeepDRRLogic.collimator import Collimator, parse_collimator
from DeepDRRLogic.detector import detector, detector_names
from DeepDRRLogic.display import DisplaySettings, Polarity, window_presets
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.projector import BACKENDS
from DeepDRRLogic.scatter import SCATTER_MODELS, ScatterModel
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.threads import thread_count

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.geometry import Camera
    from DeepDRRLogic.projector.devices import Choice
    from DeepDRRLogic.simulator import XRaySimulator


SLOW_SCATTER = frozenset(("montecarlo",))
"""Scatter models that take minutes: only a shot has them, the live picture does without."""

NETWORK_SCATTER = frozenset(("network", "network-paper"))
"""Scatter models that need PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Technique:
    """The values of one exposure.

    aluminium_mm: the whole filtration, None for what goes with the voltage. mas: where given, it sets the photons
    instead of photons_per_pixel (N0). scatter: the name of a scatter model, "" for none. grid: an anti-scatter grid
    stands before the detector; without scatter it has nothing to do. collimator: words such as "circle:80mm" or
    "rect:-60,-80,60,80mm", "" for the whole detector. window: a preset's name or "auto".
    """

    kvp: float = 90.0
    aluminium_mm: float | None = None
    copper_mm: float = 0.0
    photons_per_pixel: float = 5e5
    mas: float | None = None
    detector: str = "ideal"
    scatter: str = ""
    grid: bool = False
    noise: bool = True
    seed: int = 0
    log: bool = True
    polarity: Polarity = "bones_bright"
    collimator: str = ""
    window: str = "auto"
    device: str = "auto"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Technique:
        """The technique that `to_json` wrote; ValueError for anything else."""
        try:
            values = json.loads(text)
            return cls(**{key: values[key] for key in values.keys() & {field.name for field in fields(cls)}})
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            raise ValueError(f"These are no exposure settings: {text!r}.") from error


def spectrum(technique: Technique) -> Spectrum:
    """The tube's beam."""
    return Spectrum.for_kvp(technique.kvp, aluminium_mm=technique.aluminium_mm, copper_mm=technique.copper_mm)


def photons_per_pixel(technique: Technique, camera: Camera) -> float:
    """N0 of a pixel of this camera: as given, or from the tube load, the pixel's area and the distance."""
    if technique.mas is None:
        return technique.photons_per_pixel
    return spectrum(technique).photons_per_pixel(technique.mas, camera.pixel_area_mm2, camera.source_to_detector_mm)


def tuned(
    simulator: XRaySimulator,
    technique: Technique,
    photons: float,
    scatter: ScatterModel | None,
    arm: CArm | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> XRaySimulator:
    """The same simulator, its volumes already with the projector, for other exposure settings."""
    its = detector(technique.detector)
    grid = AntiScatterGrid() if technique.grid and scatter is not None else None
    return simulator.with_exposure(
        spectrum=spectrum(technique),
        detector=its,
        noise=NoiseModel.of(its) if technique.noise else None,
        photons_per_pixel=photons,
        scatter=scatter,
        collimator=collimator(technique, arm),
        grid=grid,
        metadata=metadata,
    )


def display_settings(technique: Technique, arm: CArm | None = None) -> DisplaySettings:
    """How it is shown; without a collimator of its own the picture has the field of the C-arm's detector."""
    return DisplaySettings(
        log=technique.log,
        window=technique.window,
        polarity=technique.polarity,
        collimator=collimator(technique, arm),
    )


def collimator(technique: Technique, arm: CArm | None = None) -> Collimator | None:
    """The opening that is left for the beam, None for the whole detector.

    With an arm it is in mm: pictures on the move have fewer pixels.
    """
    if technique.collimator:
        opening = parse_collimator(technique.collimator)
        return opening if arm is None else opening.in_mm(arm.camera())
    return None if arm is None else arm.field_collimator()


def detector_choices() -> tuple[str, ...]:
    return detector_names()


def window_choices() -> tuple[str, ...]:
    return window_presets()


def device_choices() -> tuple[str, ...]:
    """ "auto" and every device that a projector is registered for."""
    return ("auto", *BACKENDS)


def scatter_choices() -> tuple[str, ...]:
    """ "" for none, and every scatter model that is registered."""
    return ("", *SCATTER_MODELS)


def device_report(choice: Choice) -> tuple[str, str]:
    """A device in a word or two, and why that one, in a sentence."""
    if choice.device == "torch":
        return "PyTorch", str(choice)
    found = f"CPU, {thread_count(None)} threads" if choice.device == "cpu" else f"GPU ({choice.device})"
    return found, str(choice)
