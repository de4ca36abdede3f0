"""How accurate segmentation methods are: python Testing/Benchmarks/segmentation_accuracy.py LABELS OUTPUT [options]

LABELS is a folder of reference labels as Testing/Annotation/annotate.py writes them (OUTPUT/native there): the CT's own
voxels. Methods are `threshold`, `vnet`, either with options (`threshold:air_max_hu=-500,bone_min_hu=200`), or a folder
of labels found elsewhere (`files:FOLDER`, one NAME.npz with `labels` per case). With --folds the V-Net sees each
patient with weights trained without that patient, and cases of patients without such weights are left out. --folds is
a folder of runs, one a fold:

    python Utilities/train_vnet.py CASES RUNS/fold_1 --hold-out CASE_A CASE_B
    python Utilities/train_vnet.py CASES RUNS/fold_2 --hold-out CASE_C ...
    python Testing/Benchmarks/segmentation_accuracy.py CASES/native OUTPUT --folds RUNS

or a JSON file that maps patients to files of weights. Written to OUTPUT: accuracy.md, accuracy.json,
overlays/NAME.png, xray/NAME.png.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from segmentation_pictures import write_overlay, write_xrays
from segmentation_scores import AIR, BONE, Counts, Labels, Reference, compare, intensity_error, reference

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.materials import material
from DeepDRRLogic.segmentation import segment
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume

VIEWS = ("pa", "lateral_left")
THIN_SLICE_MM = 1.6
DENSE_SHARE = 0.01  # of the body's voxels; less is calcified specks and grains of noise
Method = Callable[[CTVolume, str, str], Labels]


@dataclass
class Result:
    """One case by one method."""

    case: str
    patient: str
    slice_mm: float
    counts: Counts
    seconds: float
    intensity_errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Case:
    """A CT with its reference on its own voxels."""

    name: str
    patient: str
    ct: CTVolume
    truth: Reference

    @classmethod
    def read(cls, path: Path) -> Case:
        with np.load(path) as data:
            hu, labels, weight = data["hu"], data["labels"], data["weight"]
            metal = data.get("metal")
            ct = CTVolume(hu, data["ras_from_ijk"], path.stem)
            patient = str(data["patient"])
        return cls(path.stem, patient, ct, reference(hu, labels, weight, ct.spacing_mm[::-1], metal))


def method_of(text: str, folds: Mapping[str, str]) -> Method:
    """The method that a word on the command line names."""
    name, _, rest = text.partition(":")
    if name == "files":

        def from_files(ct: CTVolume, case: str, patient: str) -> Labels:
            with np.load(Path(rest) / f"{case}.npz") as data:
                labels: Labels = data["labels"]
            return labels

        return from_files
    options = {key: _value(value) for key, value in (part.split("=", 1) for part in rest.split(",") if part)}

    def by_segment(ct: CTVolume, case: str, patient: str) -> Labels:
        weights = {"weights": folds[patient]} if name == "vnet" and folds else {}
        return segment(ct, name, **(options | weights)).labels

    return by_segment


def folds_of(source: Path, cases: Sequence[Path]) -> dict[str, str]:
    """Weights for each patient, trained without it: of a JSON file, or of the runs in a folder that held it out.

    Raises ValueError for a run that trained on another case of a patient it held out, for a patient that two runs
    held out, and where there are no such weights.
    """
    if source.is_file():
        named = json.loads(source.read_text("utf-8"))
        return {patient: str((source.parent / path).resolve()) for patient, path in named.items()}
    patients = {path.stem: _patient(path) for path in cases}
    folds: dict[str, str] = {}
    for card in sorted(source.glob("*/vnet.json")):
        run = json.loads(card.read_text("utf-8"))
        held_out = {patients[name] for name in run["held_out"] if name in patients}
        seen = held_out & {patients.get(name, "") for name in run["cases"]}
        if seen or held_out & folds.keys():
            fault = f"trained on {', '.join(sorted(seen))}, held out too" if seen else "holds out whom another run does"
            raise ValueError(f"{card} {fault}: train each fold with cases of its own held out.")
        folds |= dict.fromkeys(held_out, str(card.with_suffix(".safetensors").resolve()))
    if not folds:
        raise ValueError(f"{source} has no finished run, RUN/vnet.json, that held any of these patients out.")
    return folds


def _patient(path: Path) -> str:
    with np.load(path) as data:
        return str(data["patient"])


def evaluate(case: Case, methods: Mapping[str, Method], output: Path, *, xrays: bool) -> dict[str, Result]:
    """Every method's result on a case, with the pictures written."""
    results, found = {}, {}
    for name, method in methods.items():
        started = time.perf_counter()
        labels = method(case.ct, case.name, case.patient)
        seconds = time.perf_counter() - started
        found[name] = labels
        results[name] = Result(case.name, case.patient, case.ct.spacing_mm[2], compare(labels, case.truth), seconds)
    write_overlay(found, case.truth, case.ct.spacing_mm[::-1], output / "overlays" / f"{case.name}.png")
    if xrays:
        images = {name: _xrays(case, labels) for name, labels in {"reference": case.truth.labels, **found}.items()}
        for name in found:
            for view, (image, blank) in images[name].items():
                results[name].intensity_errors[view] = intensity_error(image, images["reference"][view][0], blank)
        write_xrays(images, output / "xray" / f"{case.name}.png")
    return results


def _xrays(case: Case, labels: Labels) -> dict[str, tuple[npt.NDArray[np.float32], float]]:
    """Noiseless images of the case with these labels, and the detector's signal without a patient.

    Where the truth is unknown every method gets the reference's label, so that only known differences show; what lies
    outside the body is left out for all.
    """
    shown = np.where(case.truth.known, labels, case.truth.labels)
    shown[(case.truth.labels == AIR) & ~case.truth.body] = AIR
    hu = np.where((case.truth.labels == AIR) & ~case.truth.body, np.int16(-1000), case.ct.hu)
    materials = tuple(material(name) for name in ("air", "soft_tissue", "bone"))
    ct = CTVolume(hu, case.ct.ras_from_ijk)
    volume = MaterialVolume.from_ct(ct, MaterialLabels(shown, materials, case.ct.ras_from_ijk))
    simulator = XRaySimulator(volume, spectrum=Spectrum.preset("90kV"), noise=None)
    r, a, s = (float(x) for x in ct.center_ras)
    arm = CArm.preset("radiography_room", isocenter_ras_mm=(r, a, s), width=512, height=512, pixel_pitch_mm=0.84)
    images = {}
    for view in VIEWS:
        image = simulator(arm.view(view).camera())
        images[view] = image.signal.reshape(-1, *image.signal.shape[-2:])[0], float(image.unattenuated_signal[0])
    return images


def table(results: Mapping[str, list[Result]]) -> str:
    """Markdown: all cases together by method, groups of cases, then every case."""
    columns = "method|cases|body %|bone %|Dice bone|its surface, 2 mm|Dice air|Dice air, room too|contrast as bone %"
    columns += "|inner bone missed %|metal missed %|X-ray PA %|X-ray lateral %"
    head = f"| {columns.replace('|', ' | ')} |\n{'|---' * (columns.count('|') + 1)}|\n"
    groups = {
        "All cases": lambda r: True,
        f"Thin slices (≤ {THIN_SLICE_MM} mm)": lambda r: r.slice_mm <= THIN_SLICE_MM,
        f"Thick slices (> {THIN_SLICE_MM} mm)": lambda r: r.slice_mm > THIN_SLICE_MM,
        "Dense contrast": lambda r: r.counts.contrast > DENSE_SHARE * np.sum(r.counts.confusion),
    }
    parts = []
    for title, wanted in groups.items():
        rows = [_row(name, [r for r in of if wanted(r)]) for name, of in results.items()]
        parts.append(f"## {title}\n\n{head}" + "\n".join(row for row in rows if row))
    for case in dict.fromkeys(r.case for of in results.values() for r in of):
        rows = [_row(name, [r for r in of if r.case == case]) for name, of in results.items()]
        parts.append(f"### {case}\n\n{head}" + "\n".join(row for row in rows if row))
    return "\n\n".join(parts) + "\n"


def _row(name: str, of: list[Result]) -> str:
    """One line: rates of cases as mean ± standard deviation, hard regions over all their voxels."""
    if not of:
        return ""
    total = of[0].counts
    for result in of[1:]:
        total = total + result.counts
    each = [r.counts for r in of]
    cells = [
        name,
        str(len(of)),
        _spread([100 * c.error for c in each]),
        _spread([100 * c.bone_error for c in each]),
        _spread([c.dice(BONE) for c in each], 3),
        _spread([c.bone_surface_dice for c in each], 3),
        _spread([c.dice(AIR) for c in each if c.confusion[AIR][AIR] > 0.01 * np.sum(c.confusion)], 3),
        _spread([c.air_dice for c in each], 4),
        f"{100 * total.contrast_error:.2f}",
        f"{100 * total.inner_error:.2f}",
        f"{100 * total.metal_error:.2f}" if total.metal else "–",
        *(_spread([100 * r.intensity_errors[view] for r in of if view in r.intensity_errors]) for view in VIEWS),
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(values: list[float], digits: int = 2) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    mean = f"{np.mean(finite):.{digits}f}"
    return mean if len(finite) == 1 else f"{mean} ± {np.std(finite, ddof=1):.{digits}f}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--method", nargs="+", default=["vnet", "threshold"])
    parser.add_argument("--case", nargs="*", help="only these")
    parser.add_argument("--folds", type=Path, help="folder of runs of train_vnet.py, or JSON: patient to weights")
    parser.add_argument("--no-xrays", action="store_true")
    arguments = parser.parse_args()
    paths = sorted(arguments.labels.glob("*.npz"))
    missing = set(arguments.case or ()) - {path.stem for path in paths}
    if missing or not paths:
        parser.error(f"{arguments.labels} has no labels of {', '.join(sorted(missing)) or 'any case'}")
    folds = folds_of(arguments.folds, paths) if arguments.folds else {}
    methods = {text: method_of(text, folds) for text in arguments.method}
    results: dict[str, list[Result]] = {name: [] for name in methods}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if arguments.case and path.stem not in arguments.case:
            continue
        case = Case.read(path)
        if folds and case.patient not in folds:
            continue
        for name, result in evaluate(case, methods, arguments.output, xrays=not arguments.no_xrays).items():
            results[name].append(result)
            print(f"{case.name}, {result.seconds:.1f} s: {_row(name, [result])}", flush=True)
        (arguments.output / "accuracy.md").write_text(table(results), encoding="utf-8")
        record = {name: [asdict(result) for result in of] for name, of in results.items()}
        (arguments.output / "accuracy.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
