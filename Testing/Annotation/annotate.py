"""Makes reference labels for CTs: python Testing/Annotation/annotate.py CT_FOLDER OUTPUT [--case NAME ...]

For every case of cases.json: OUTPUT/native/NAME.npz on the CT's own voxels (turned to RAS and cut to the body), and
OUTPUT/NAME.npz on voxels of 0.86 × 0.86 × 1.0 mm for training. Both hold `hu` int16 [k, j, i], `labels` uint8 (0 air,
1 soft tissue, 2 bone), `weight` uint8 (0 where the truth is unknown), `metal` bool (also labelled 2), `spacing_mm`
(i, j, k), `ras_from_ijk` and `patient`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bodies import AIR_MAX_HU, body_mask
from bones import BoneRule, find_bones
from contrast import enhanced
from edits import edited
from grids import (
    TRAINING_SPACING_MM,
    Mask,
    Scan,
    box_around,
    nearest,
    read_labels,
    read_scan,
    resampled_shape,
    reshaped,
)
from grids import interpolated as interpolated_on
from implants import implanted
from known_bones import bones_from_labels
from morphology import component_sizes, dilated
from phantoms import phantom_case
from rescans import Rescan
from sheets import write_sheet

from DeepDRRLogic.files import replaced_when_written

CASES = Path(__file__).with_name("cases.json")
METAL_MIN_HU = 2600
IMPLANT_MARGIN_MM = 25.0
AIR, SOFT, BONE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Annotated:
    """A scan with its labels; `body` is what lies within the skin."""

    scan: Scan
    labels: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.uint8]
    metal: Mask
    body: Mask


def annotate(scan: Scan, case: Mapping[str, Any], known: npt.NDArray[np.uint8] | None = None) -> Annotated:
    """Labels of one case by its rule and corrections; `known` are anatomical labels on the scan's grid."""
    edits = case.get("edits", [])
    body = body_mask(scan) & ~edited(scan, edits, "outside")
    box = box_around(body, tuple(int(np.ceil(12.0 / step)) for step in scan.sampling_mm))  # type: ignore[arg-type]
    scan, body = scan.cut(box), body[box]
    unknown = edited(scan, edits, "unknown")
    if known is None:
        rule = replace(BoneRule(), **case.get("rule", {}))
        found = find_bones(scan, body, rule, edited(scan, edits, "not_bone"), edited(scan, edits, "bone"))
        bone, unknown = found.bone, unknown | found.doubtful
    else:
        found = bones_from_labels(scan, known[box], edited(scan, edits, "not_bone"), edited(scan, edits, "bone"))
        bone, unknown = found.bone & body, unknown | found.doubtful
    metal = _metal(scan, body, case) if case.get("metal") else np.zeros_like(body)
    if metal.any():
        streaks_mm = float(case.get("streaks_mm", 8.0))
        unknown |= dilated(metal, streaks_mm, (1e3, *scan.sampling_mm[1:])) & ~metal
    gas = (scan.hu < AIR_MAX_HU) | edited(scan, edits, "air")
    labels = _labels(body, bone | metal, gas)
    labels[edited(scan, edits, "soft")] = SOFT
    if "contrast" in case:
        scan = replace(scan, hu=enhanced(scan, labels, **case["contrast"]))
    done = Annotated(scan, labels, (~unknown).astype(np.uint8), metal, body)
    return _with_implants(done, case) if "implants" in case else done


def _with_implants(plain: Annotated, case: Mapping[str, Any]) -> Annotated:
    """The slices that show the implants of a case, and those near them."""
    made = implanted(plain.scan, plain.labels, case["implants"], Rescan(**case.get("rescan", {})))
    slices, *_ = box_around(made.metal, (int(np.ceil(IMPLANT_MARGIN_MM / plain.scan.spacing_mm[2])), 0, 0))
    _, height, width = made.labels.shape
    box = slices, slice(0, height), slice(0, width)
    weight, metal, body = (values[box] for values in (plain.weight, plain.metal | made.metal, plain.body | made.metal))
    return Annotated(made.scan.cut(box), made.labels[box], weight, metal, body)


def for_training(native: Annotated) -> Annotated:
    """The same on voxels of 0.86 × 0.86 × 1.0 mm: contours interpolated, air decided on the interpolated CT."""
    scan, spacing = native.scan, TRAINING_SPACING_MM
    hu = interpolated_on(scan.hu.astype(np.float32), scan, spacing)
    body = reshaped(native.body, scan, spacing)
    labels = _labels(body, reshaped(native.labels == BONE, scan, spacing), hu < AIR_MAX_HU)
    fine = Scan(np.rint(hu).astype(np.int16), spacing, scan.origin_ras)
    weight = nearest(native.weight, scan, spacing)
    metal = nearest(native.metal.view(np.uint8), scan, spacing).view(np.bool_)
    assert labels.shape == resampled_shape(scan, spacing)
    return Annotated(fine, labels, weight, metal, body)


def read_cases() -> dict[str, dict[str, Any]]:
    """The cases by name; one that is "of" another has all of that, and what it says itself."""
    cases: dict[str, dict[str, Any]] = json.loads(CASES.read_text("utf-8"))["cases"]
    return {name: cases[case["of"]] | case if "of" in case else case for name, case in cases.items()}


def write(annotated: Annotated, path: Path, patient: str) -> None:
    """Write the .npz, whole or not at all."""
    with replaced_when_written(path) as (temporary,), temporary.open("wb") as file:
        np.savez_compressed(
            file,
            hu=annotated.scan.hu,
            labels=annotated.labels,
            weight=annotated.weight,
            metal=annotated.metal,
            spacing_mm=np.array(annotated.scan.spacing_mm),
            ras_from_ijk=annotated.scan.ras_from_ijk,
            patient=np.array(patient),
        )


def _labels(body: Mask, bone: Mask, gas: Mask) -> npt.NDArray[np.uint8]:
    labels = np.where(body & ~gas, np.uint8(SOFT), np.uint8(AIR))
    labels[bone & body & ~gas] = BONE
    return labels


def _metal(scan: Scan, body: Mask, case: Mapping[str, Any]) -> Mask:
    """Saturated voxels that hang together with at least a few others."""
    parts, sizes = component_sizes((scan.hu >= case.get("metal_min_hu", METAL_MIN_HU)) & body)
    return np.asarray((sizes >= 4)[parts])


def _run(name: str, case: Mapping[str, Any], folder: Path, output: Path, *, training: bool) -> None:
    started = time.perf_counter()
    if "phantom" in case:
        native = Annotated(*phantom_case(case["phantom"]))
    else:
        scan = read_scan(folder / case["file"])
        known = read_labels(folder / case["known"], scan) if "known" in case else None
        native = annotate(scan, case, known)
    (output / "native").mkdir(parents=True, exist_ok=True)
    write(native, output / "native" / f"{name}.npz", case["patient"])
    write_sheet(native, output / "sheets" / f"{name}.png")
    if training:
        write(for_training(native), output / f"{name}.npz", case["patient"])
    shares = np.bincount(native.labels[native.body], minlength=3) / native.body.sum()
    print(f"{name}: {native.labels.shape}, air/soft/bone {np.round(shares, 3)}, {time.perf_counter() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct_folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--case", nargs="*", help="only these")
    parser.add_argument("--native-only", action="store_true", help="look first, resample later")
    arguments = parser.parse_args()
    cases = read_cases()
    for name in arguments.case or cases:
        _run(name, cases[name], arguments.ct_folder, arguments.output, training=not arguments.native_only)


if __name__ == "__main__":
    main()
