"""From options to the objects of the simulator: patient, camera, X-ray source and presentation."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..checks import check_positive, chosen
from .options import (
    ExposureOptions,
    PatientOptions,
    PictureOptions,
    RunOptions,
)

if TYPE_CHECKING:
    from ..collimator import Collimator
    from ..display import DisplaySettings
    from ..geometry import Camera
    from ..phantom import Phantom
    from ..simulator import XRaySimulator
    from ..spectrum import Spectrum
    from ..volume import CTVolume, MaterialLabels, MaterialVolume
    from .console import Console
    from .position import Position

PHANTOM = "phantom"
DEFAULT_PHOTONS = 5e5
_SLOW_S = 20.0
_MOST_VALUES = 1 << 16


class VolumeOptions(Protocol):
    """The options that say how a CT is read."""

    @property
    def series(self) -> str | None: ...
    @property
    def hu_offset(self) -> float | None: ...
    @property
    def correct_tilt(self) -> bool: ...
    @property
    def phantom_spacing(self) -> float: ...


@dataclass(frozen=True)
class OpenedCt:
    """A CT, and the materials it was made with if it is the phantom."""

    ct: CTVolume
    known: MaterialLabels | None


@dataclass(frozen=True)
class Patient:
    """The volume to be X-rayed, and where it came from."""

    volume: MaterialVolume
    origin: dict[str, Any]


def read_ct(ct: str, options: VolumeOptions) -> tuple[CTVolume, MaterialLabels | None]:
    """The CT at a path, or the phantom with its materials; a file of that name is "./phantom"."""
    if is_phantom(ct):
        refuse("The phantom is no file", series=options.series, hu_offset=options.hu_offset)
        body = _phantom(ct.split(":")[1:], options.phantom_spacing)
        return body.ct, body.labels
    from ..volume import CTVolume

    return CTVolume.read(ct, options.series, hu_offset=options.hu_offset, correct_tilt=options.correct_tilt), None


def _phantom(words: Sequence[str], spacing_mm: float) -> Phantom:
    """The phantom of "phantom:REGION:SEED", each part optional."""
    from ..phantom import REGIONS, phantom

    regions, seeds = ([word for word in words if (word in REGIONS) is region] for region in (True, False))
    for word in seeds:
        if not word.isdecimal():
            raise ValueError(
                f"phantom:{':'.join(words)}: {word!r} is neither a region ({', '.join(REGIONS)}) nor a seed, a whole "
                "number from 0."
            )
    if len(regions) > 1 or len(seeds) > 1:
        raise ValueError(f"phantom:{':'.join(words)} says the same twice; give phantom:REGION:SEED.")
    return phantom(int(seeds[0]) if seeds else 0, spacing_mm, region=regions[0] if regions else "torso")


def refuse(why: str, **options: object) -> None:
    """Raise ValueError for options that were given where they would do nothing."""
    given = [name.replace("_", "-") for name, value in options.items() if value is not None and value is not False]
    if given:
        raise ValueError(f"{why}: leave out {' and '.join('--' + name for name in given)}.")


def is_phantom(ct: str) -> bool:
    """Whether the word stands for the embedded phantom."""
    return ct.split(":")[0] == PHANTOM


def label_of(ct: str) -> str:
    """A word for file names: the CT's own without its suffixes."""
    if is_phantom(ct):
        return ct.replace(":", "_")
    name = Path(ct).resolve().name
    for suffix in (".gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm"):
        name = name.removesuffix(suffix)
    return name


def open_ct(options: PatientOptions, console: Console) -> OpenedCt:
    """Read the CT; what had to be done to it is logged by the reader."""
    with console.busy("Reading the CT"):
        return OpenedCt(*read_ct(options.ct, options))


def patient(opened: OpenedCt, options: PatientOptions, console: Console) -> Patient:
    """Decompose a CT into materials, which may take long: check everything else before."""
    from ..tissues import with_tissues
    from ..volume import MaterialVolume

    ct = opened.ct
    labels, found_by = _labels(ct, opened.known, options, console)
    if options.tissues:
        labels = with_tissues(ct, labels)
    with console.busy("Weighing materials"):
        energy = {} if options.ct_energy_kev is None else {"ct_effective_energy_kev": options.ct_energy_kev}
        volume = MaterialVolume.from_ct(ct, labels, **energy)
    source = options.ct if is_phantom(options.ct) else str(Path(options.ct).resolve())
    origin = {
        "source": source,
        "name": ct.name,
        "shape_kji": list(ct.shape),
        "ras_from_ijk": ct.ras_from_ijk.tolist(),
        "notes": list(ct.notes),
        "segmentation": found_by,
        "options": {name: value and str(value) for name, value in asdict(options).items()},
    }
    return Patient(volume, origin)


def _labels(
    ct: CTVolume, known: MaterialLabels | None, options: PatientOptions, console: Console
) -> tuple[MaterialLabels, dict[str, str]]:
    """From a file, by the method asked for, or, of the phantom, those it was made with; and which of them it was."""
    if options.segmentation is not None:
        from ..segmentation import read_segmentation

        refuse(
            "Materials are read from --segmentation",
            method=None if options.method == "auto" else options.method,
            air_max_hu=options.air_max_hu,
            bone_min_hu=options.bone_min_hu,
            keep_table=options.keep_table,
        )
        materials = None if options.materials is None else parse_materials(options.materials)
        labels = read_segmentation(options.segmentation, materials).resampled(ct)
        return labels, {"method": "file", "file": str(options.segmentation.resolve())}
    if options.materials is not None:
        raise ValueError("--materials says what is in a --segmentation: give that, too.")
    limits = thresholds(options.air_max_hu, options.bone_min_hu)
    if known is not None and not limits and options.method == "auto":
        return known, {"method": "phantom"}
    started = time.perf_counter()
    labels = segmented(ct, options.method, limits, console, keep_table=options.keep_table)
    if (seconds := time.perf_counter() - started) > _SLOW_S:
        command, file = _segment_command(options), shlex.quote(f"{label_of(options.ct)}.seg.nrrd")
        console.remark(f"Materials took {seconds:.0f} s. To find them but once: {command}, then --segmentation {file}")
    return labels, _method_used(options.method, limits)


def _segment_command(options: PatientOptions) -> str:
    """The `deepdrr segment` that finds the materials of these options."""
    from .segment import SegmentOptions

    words = ["deepdrr", "segment", options.ct]
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name != "ct" and hasattr(SegmentOptions, field.name) and value != field.default:
            option = f"--{field.name.replace('_', '-')}"
            words.append(option if value is True else f"{option}={value}")
    return shlex.join(words)


def parse_materials(text: str) -> dict[Any, str]:
    """Materials by the values of a label map, as in "1=soft_tissue,25-50=bone", or by names of segments.

    Where ranges overlap the later wins; ValueError for the same key twice.
    """
    found: dict[Any, str] = {}
    said: list[object] = []
    for part in _items(text):
        key, _, name = (word.strip() for word in part.rpartition("="))
        numbers = re.fullmatch(r"(-?\d+)(?:-(\d+))?", key)
        values = range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1) if numbers else range(1)
        is_key = numbers or re.search(r"[^\d\s,-]", key)  # "7,8" is none
        if not (is_key and name and 1 <= len(values) <= _MOST_VALUES):
            raise ValueError(f"--materials says {part!r}; give such as 1=soft_tissue,25-50=bone.")
        said.append(values if numbers else key.lower())
        if said[-1] in said[:-1]:
            raise ValueError(f"--materials says twice what {key} is: say it once.")
        found |= dict.fromkeys(values, name) if numbers else {key: name}
    return found


def _items(text: str) -> list[str]:
    """The parts between commas, but one without "=" is the beginning of the next: names of segments may have commas."""
    items = text.split(",")
    for n in reversed(range(len(items) - 1)):
        if items[n].strip() and "=" not in items[n]:
            items[n : n + 2] = [f"{items[n]},{items[n + 1]}"]
    return items


def _method_used(method: str, limits: dict[str, Any]) -> dict[str, str]:
    """What "auto" came to, and for the V-Net by which weights."""
    from ..segmentation import method_for

    method = method_for(method, limits)
    if method != "vnet":
        return {"method": method}
    card = resources.files("DeepDRRLogic").joinpath("data", "vnet.json").read_text("utf-8")
    return {"method": method, "sha256": json.loads(card)["sha256"]}


def thresholds(air_max_hu: float | None, bone_min_hu: float | None) -> dict[str, Any]:
    """The thresholds that were given, by the names that the segmentation has for them."""
    given = {"air_max_hu": air_max_hu, "bone_min_hu": bone_min_hu}
    return {name: value for name, value in given.items() if value is not None}


def segmented(
    ct: CTVolume, method: str, limits: dict[str, Any], console: Console, **options_of_vnet: Any
) -> MaterialLabels:
    """The materials by a method, with a bar where the V-Net is at work; thresholds are an answer to "auto"."""
    from ..segmentation import segment

    if method == "threshold" or (limits and method == "auto"):
        if options_of_vnet.get("probabilities") is not None:
            raise ValueError("Thresholds know no probabilities: leave out --probabilities, or use --method vnet.")
        with console.busy("Separating materials"):
            return segment(ct, "threshold", **limits)
    if limits:
        raise ValueError(f"Thresholds were given, but --method is {method}: leave one of them out.")
    with console.progress("Separating materials", None) as bar:
        return segment(ct, method, progress=bar, **options_of_vnet)


def technique(exposure: ExposureOptions, run: RunOptions, camera: Camera) -> dict[str, Any]:
    """What a simulator is made with besides the patient, checked; the camera is where --mas is turned into photons."""
    from ..detector import detector
    from ..exposure import unattenuated
    from ..projector import choose_device
    from ..scatter import SCATTER_MODELS
    from ..scatter.antiscatter import AntiScatterGrid
    from ..spectrum import Spectrum

    choose_device(run.device)
    found_by = detector(exposure.detector)
    scatter = None if exposure.scatter is None else chosen("scatter model", exposure.scatter, SCATTER_MODELS)
    if exposure.grid is not None and scatter is None:
        raise ValueError("--grid acts on scatter: choose --scatter, too.")
    spectrum = Spectrum.for_kvp(exposure.kv, aluminium_mm=exposure.filter_mm, copper_mm=exposure.copper_mm)
    unattenuated(spectrum, found_by)  # a ValueError now rather than after the segmentation
    return {
        "spectrum": spectrum,
        "detector": found_by,
        "photons_per_pixel": photons_per_pixel(exposure, spectrum, camera),
        "scatter": scatter,
        "grid": None if exposure.grid is None else AntiScatterGrid(ratio=exposure.grid),
        "noise": "detector" if exposure.noise else None,
        "device": run.device,
        "threads": run.threads,
    }


def require_room(camera: Camera, technique: dict[str, Any], options: PatientOptions) -> None:
    """Raise ValueError for an image that memory cannot hold, of the materials that are yet to be found."""
    from ..memory import require_image_memory

    materials = 5 if options.tissues else 3
    require_image_memory(camera.width, camera.height, materials, len(technique["detector"].channels))


def simulator(who: Patient, technique: dict[str, Any], collimator: Collimator | None = None) -> XRaySimulator:
    """The simulator of this patient with that technique; scatter is that of the beam which the collimator leaves."""
    from ..simulator import XRaySimulator

    return XRaySimulator(who.volume, **technique, collimator=collimator, metadata={"patient": who.origin})


def photons_per_pixel(exposure: ExposureOptions, spectrum: Spectrum, camera: Camera) -> float:
    """N0 as given, or from the tube load, the pixel's area and the distance."""
    if exposure.mas is None:
        photons = DEFAULT_PHOTONS if exposure.photons is None else exposure.photons
        check_positive("--photons", photons)
        return photons
    if exposure.photons is not None:
        raise ValueError("--photons and --mas both set the photon number; give one of them.")
    check_positive("--mas", exposure.mas)
    return spectrum.photons_per_pixel(exposure.mas, camera.pixel_area_mm2, camera.source_to_detector_mm)


def display_settings(options: PictureOptions, where: Position | None) -> DisplaySettings:
    """The presentation; without a collimator of its own the picture has the field of the detector, once that stands.

    ValueError for a collimator that would leave nothing of it open.
    """
    from ..collimator import parse_collimator
    from ..display import DisplaySettings, Polarity

    collimator = None if options.collimator is None else parse_collimator(options.collimator)
    if where is not None:
        collimator = collimator or where.collimator
        if collimator is not None:
            collimator.field_mask(where.camera)
            collimator = collimator.in_mm(where.camera)  # a preview has fewer pixels
    polarity: Polarity = options.polarity  # type: ignore[assignment]  # checked by DisplaySettings
    return DisplaySettings(
        log=options.log,
        window=_window(options.window),
        polarity=polarity,
        flip_horizontal=options.flip_horizontal,
        flip_vertical=options.flip_vertical,
        collimator=collimator,
    )


def _window(text: str) -> tuple[float, float] | str:
    center, comma, width = text.partition(",")
    if not comma:
        return text
    try:
        return float(center), float(width)
    except ValueError as error:
        raise ValueError(f"--window is {text!r}; give a name, or CENTER,WIDTH as in 4,8.") from error
