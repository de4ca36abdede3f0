"""Annotated CTs in memory, and random patches of them, turned, scaled and mirrored."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .augmentation import AIR, BONE, SOFT, Augmentation, Dice, augment
from .gaps import between_bones, coarse, fine

_EXAMPLES = 20_000
_CONTRAST_HU, _MARROW_HU, _GAS_MAX_HU = 180, 200, -500


@dataclass(frozen=True, eq=False)
class Case:
    """One patient on the network's grid, axes along patient superior, anterior, right ([k, j, i]).

    `hu` int16, `labels` uint8 (0 air, 1 soft tissue, 2 bone), `weight` uint8 (0 where the truth is unknown).
    `places` are voxels (n, 3) worth training on, by kind: bone, what looks like bone and is not, marrow, soft tissue
    between bones, in narrow gaps of bone, thin soft tissue, the body, all.
    """

    name: str
    patient: str
    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    places: dict[str, npt.NDArray[np.int32]]


def read_case(path: Path) -> Case:
    """Read an annotated case, .npz with hu, labels, weight (optional), spacing_mm (i, j, k) and patient.

    Raises ValueError for a file that is damaged or none, HU and labels out of range, and arrays that do not belong
    together.
    """
    try:
        with np.load(path) as file:
            hu, labels = _whole(file["hu"], np.int16), _whole(file["labels"], np.uint8)
            weight = _whole(file["weight"], np.uint8) if "weight" in file else np.ones_like(labels)
            i, j, k = (float(s) for s in file["spacing_mm"])
            patient = str(file["patient"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no annotated case ({error}): make it again with annotate.py.") from error
    return make_case(path.stem, patient, hu, labels, weight, (i, j, k))


def _whole(values: npt.NDArray[Any], dtype: type[np.integer[Any]]) -> npt.NDArray[Any]:
    """The values in a type of whole numbers; ValueError for what does not fit."""
    limits = np.iinfo(dtype)
    if values.size and not (np.isfinite(values).all() and limits.min <= values.min() and values.max() <= limits.max):
        raise ValueError(f"values from {values.min()} to {values.max()} where {np.dtype(dtype)} belongs")
    return values.astype(dtype)


def read_cases(folder: Path, hold_out: Sequence[str] = ()) -> list[Case]:
    """The annotated cases of a folder but those named in `hold_out` and all others of the same patients.

    ValueError for a file that is no case, and for a name that is not there.
    """
    cases = [read_case(path) for path in sorted(folder.glob("*.npz")) if not path.name.startswith(".")]
    return without(cases, hold_out)


def without(cases: Sequence[Case], hold_out: Sequence[str]) -> list[Case]:
    """Cases of other patients than those of the named ones; ValueError for a name that is not there.

    A patch of a pack is named CASE:NUMBER, and belongs to CASE.
    """
    names = {case.name.partition(":")[0] for case in cases}
    missing = sorted(set(hold_out) - names)
    if missing:  # a name misspelt would be trained on
        raise ValueError(f"No case {', '.join(missing)} to hold out; there are: {', '.join(sorted(names))}.")
    patients = patients_of(cases, hold_out)
    return [case for case in cases if case.patient not in patients]


def patients_of(cases: Sequence[Case], names: Sequence[str]) -> set[str]:
    """The patients of the named cases."""
    return {case.patient for case in cases if case.name.partition(":")[0] in names}


def make_case(
    name: str,
    patient: str,
    hu: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    weight: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
) -> Case:
    """A case with its places; ValueError for shapes that differ, labels beyond 2, and where no truth is known."""
    if not hu.shape == labels.shape == weight.shape:
        raise ValueError(f"{name}: HU {hu.shape}, labels {labels.shape}, weight {weight.shape}: they must agree.")
    if labels.max(initial=0) > BONE:
        raise ValueError(f"{name}: label {labels.max()}; there are 0 air, 1 soft tissue, 2 bone.")
    if not weight.any():
        raise ValueError(f"{name}: no voxel of known truth, so there is nothing to learn from it. Leave it out.")
    known, marks = weight > 0, torch.from_numpy(labels)
    kinds = {
        "bone": (labels == BONE) & known,
        "bone_like": (labels == SOFT) & (hu > _CONTRAST_HU) & known,
        "marrow": (labels == BONE) & (hu < _MARROW_HU) & known,
        "between_bones": between_bones(marks, 4, 3).numpy() & (labels == SOFT) & known,
        "gaps": between_bones(marks, 2, 2).numpy() & (labels == SOFT) & known,
        "thin": _thin(labels) & known,
        "body": (labels != AIR) & known,
        "all": known,
    }
    rng = np.random.default_rng(0)
    places = {kind: _examples(mask, rng) for kind, mask in kinds.items()}
    return Case(name, patient, hu, labels, weight, spacing_mm, places)


def _thin(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Soft tissue thinner than some 5 mm: vessels and walls in the lung, folds of skin."""
    matter = coarse(torch.from_numpy(labels != AIR), 2)
    opened = functional.max_pool3d(-functional.max_pool3d(-matter, 3, 1, 1), 3, 1, 1)
    return fine(matter > opened, 2, labels.shape).numpy() & (labels == SOFT)


def _examples(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """At most 20 000 of the voxels of a mask, (n, 3) [k, j, i]."""
    where = np.flatnonzero(mask)
    if len(where) > _EXAMPLES:
        where = rng.choice(where, _EXAMPLES, replace=False)
    return np.stack(np.unravel_index(where, mask.shape), 1).astype(np.int32)


@dataclass(frozen=True)
class Sampling:
    """Where patches are taken, and how they are turned."""

    size: tuple[int, int, int] = (96, 96, 96)
    focus: tuple[tuple[str, float], ...] = (
        ("bone", 0.2), ("bone_like", 0.15), ("marrow", 0.12), ("between_bones", 0.1), ("gaps", 0.15), ("thin", 0.1),
        ("body", 0.1), ("all", 0.08),
    )  # fmt: skip
    turned: float = 0.5
    largest_turn_deg: float = 20.0
    smallest_scale: float = 0.75
    largest_scale: float = 1.5


def batch(
    cases: Sequence[Case],
    count: int,
    seed: tuple[int, ...],
    sampling: Sampling,
    augmentation: Augmentation,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    """`count` patches (count, d, h, w) of HU, labels and weight; the same seed gives the same patches."""
    patches = []
    for index in range(count):
        dice = Dice((*seed, index), device)
        patches.append(random_patch(cases, dice, sampling, augmentation))
    hu, labels, weight = (torch.stack(parts) for parts in zip(*patches, strict=True))
    return hu, labels, weight


def random_patch(
    cases: Sequence[Case], dice: Dice, sampling: Sampling, augmentation: Augmentation
) -> tuple[Tensor, Tensor, Tensor]:
    """One patch of one case: float32 HU, uint8 labels and weight, each of the sampling's size."""
    shares = np.cbrt([case.hu.size for case in cases])
    case = cases[int(dice.numbers.choice(len(cases), p=shares / shares.sum()))]
    centre = _centre(case, dice, sampling)
    turn = _turn(case, dice, sampling)
    hu, labels, weight = _cut(case, centre, turn, sampling.size, dice.device)
    hu, labels = augment(hu, labels, dice, augmentation)
    return hu, labels, weight


def _centre(case: Case, dice: Dice, sampling: Sampling) -> npt.NDArray[np.float64]:
    """A voxel of a random kind, moved a little so that its kind is not always in the middle of the patch."""
    kinds = [(kind, share) for kind, share in sampling.focus if len(case.places[kind])]
    shares = np.array([share for _, share in kinds])
    places = case.places[kinds[int(dice.numbers.choice(len(kinds), p=shares / shares.sum()))][0]]
    size = np.array(sampling.size)
    place = places[int(dice.numbers.integers(len(places)))] + dice.numbers.uniform(-0.3, 0.3, 3) * size
    shape = np.array(case.hu.shape)
    # Where the case is large enough, the patch stays inside; whole voxels keep an unturned patch unblurred.
    low = np.minimum(size / 2, shape / 2)
    centre: npt.NDArray[np.float64] = np.rint(np.clip(place, low, np.maximum(shape - low, low))) - 0.5
    return centre


def _turn(case: Case, dice: Dice, sampling: Sampling) -> npt.NDArray[np.float64]:
    """The matrix (3, 3) from voxels of the patch to voxels of the case: mirror, rotate and scale."""
    mirror = np.diag(dice.numbers.choice([-1.0, 1.0], 3))
    if not dice.happens(sampling.turned):
        return mirror
    axis = dice.numbers.standard_normal(3)
    axis /= np.linalg.norm(axis)
    angle = np.radians(dice.between(-1.0, 1.0) * sampling.largest_turn_deg)
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotate = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    stretch = np.exp(dice.numbers.normal(0.0, 0.04, 3))
    stretch *= dice.log_between(sampling.smallest_scale, sampling.largest_scale)
    mm = np.array(case.spacing_mm[::-1])
    turned: npt.NDArray[np.float64] = np.diag(1.0 / mm) @ rotate @ np.diag(stretch) @ np.diag(mm) @ mirror
    return turned


def _cut(
    case: Case,
    centre: npt.NDArray[np.float64],
    turn: npt.NDArray[np.float64],
    size: tuple[int, int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """The patch by trilinear interpolation of HU and the nearest label; the border of the case is continued."""
    half = (np.array(size) - 1.0) / 2.0
    reach = np.abs(turn) @ half
    shape = np.array(case.hu.shape)
    first = np.rint(centre - half).astype(int)
    if np.array_equal(np.abs(turn), np.eye(3)) and np.all(first >= 0) and np.all(first + size <= shape):
        return _whole_voxels(case, first, np.diag(turn), size, device)
    low = np.clip(np.floor(centre - reach).astype(int) - 1, 0, shape - 2)
    high = np.clip(np.ceil(centre + reach).astype(int) + 2, low + 2, shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    hu = torch.from_numpy(np.ascontiguousarray(case.hu[box])).to(device, torch.float32)
    marks = case.labels[box] + np.uint8(4) * (case.weight[box] > 0)
    codes = torch.from_numpy(np.ascontiguousarray(marks)).to(device, torch.float32)
    # grid_sample counts in x, y, z = i, j, k and from -1 to 1 between the outermost voxel centres.
    extent = np.maximum(high - low - 1.0, 1.0)
    scale = np.diag(2.0 / extent)
    linear = scale @ turn @ np.diag(half)
    offset = scale @ (centre - low) - 1.0
    theta = np.concatenate([linear, offset[:, None]], 1)[::-1][:, [2, 1, 0, 3]]
    grid = functional.affine_grid(
        torch.from_numpy(theta.copy())[None].to(device, torch.float32), [1, 1, *size], align_corners=True
    )
    sampled = functional.grid_sample(hu[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    marked = functional.grid_sample(codes[None, None], grid, mode="nearest", padding_mode="border", align_corners=True)[
        0, 0
    ]
    marked = marked.to(torch.uint8)
    return sampled, _with_air_by_hu(sampled, marked & 3), marked >> 2


def _with_air_by_hu(hu: Tensor, labels: Tensor) -> Tensor:
    """Labels of an interpolated patch with the border of air where its HU say: half-way to tissue, as in the cases."""
    beside_soft = functional.max_pool3d((labels == SOFT).to(torch.float32)[None, None], 3, 1, 1)[0, 0] > 0
    labels = torch.where((labels == SOFT) & (hu < _GAS_MAX_HU), AIR, labels)
    return torch.where((labels == AIR) & (hu >= _GAS_MAX_HU) & beside_soft, SOFT, labels)


def _whole_voxels(
    case: Case,
    first: npt.NDArray[np.int_],
    mirror: npt.NDArray[np.float64],
    size: tuple[int, int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """The patch that starts at a voxel, mirrored along the axes where `mirror` is -1; nothing is interpolated."""
    box = tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))
    axes = tuple(int(axis) for axis in np.flatnonzero(mirror < 0))
    hu, labels, weight = (np.flip(array[box], axes).copy() for array in (case.hu, case.labels, case.weight))
    known = torch.from_numpy(weight > 0).to(device, torch.uint8)
    return torch.from_numpy(hu).to(device, torch.float32), torch.from_numpy(labels).to(device), known
