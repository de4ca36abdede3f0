"""Annotated patches in one small file: enough to train on another machine, where whole CTs are too much to carry.

A pack is a zip of NNNN.npy.xz, uint8 (2, d, h, w): levels of HU, and labels with 4 added where the truth is known; and
of pack.json: the name, patient and spacing of each, the HU of the levels, and which cases and patients were held out.
There are 256 levels: steps of 4 HU from -250 to 450 HU, where soft tissue, marrow and contrast medium differ, and
coarser ones beyond; finer than the noise of most CTs.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import replaced_when_written
from .patches import Case, Sampling, make_case

_HU_OF_LEVEL = np.rint(np.interp(np.arange(256), [0, 32, 207, 255], [-1024, -250, 450, 3071])).astype(np.int16)
_MIDDLES = (_HU_OF_LEVEL[1:].astype(np.float64) + _HU_OF_LEVEL[:-1]) / 2
_LEVEL_OF_HU = np.searchsorted(_MIDDLES, np.arange(-1024, 3072)).astype(np.uint8)
_KNOWN = np.uint8(4)
_TRIES = 40
_ENTRY_BYTES = 400  # of the zip's own, and of pack.json, for each patch: names are short


@dataclass(frozen=True)
class Pack:
    """What to train on, patches or whole cases, and the names and patients of the cases held out from it."""

    patches: list[Case]
    held_out: list[str]
    held_out_patients: frozenset[str]


def levels_of(hu: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """The nearest of the 256 levels of Hounsfield units, beyond -1024 and 3071 HU the last."""
    levels: npt.NDArray[np.uint8] = _LEVEL_OF_HU[np.clip(hu, -1024, 3071).astype(np.int32) + 1024]
    return levels


def hu_of(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """The Hounsfield units of levels."""
    hu: npt.NDArray[np.int16] = _HU_OF_LEVEL[levels]
    return hu


def write_pack(
    cases: Sequence[Case],
    path: str | os.PathLike[str],
    *,
    largest_mib: float = 50.0,
    size: int = 128,
    seed: int = 2018,
    held_out: Sequence[str] = (),
    held_out_patients: Collection[str] = (),
) -> int:
    """Write patches of at most `size` voxels along each axis until the next would not fit; returns their number.

    They are cut around places that training looks for, away from one another, one of every case before a second of
    any. The same cases, size and seed give the same patches. `held_out` are names that are not among the cases, and
    `held_out_patients` whose they are, for whoever trains on the pack to know. Raises ValueError for no cases, for one
    of a patient who is held out, and where not one patch fits.
    """
    if not cases:
        raise ValueError("No cases to pack: give at least one annotated CT.")
    both = sorted({case.name for case in cases if case.name in held_out or case.patient in held_out_patients})
    if both:
        raise ValueError(f"{', '.join(both)}: to be packed, and of a patient held out. Leave out one of the two.")
    left = int(largest_mib * 2**20) - _ENTRY_BYTES
    about: list[dict[str, Any]] = []
    with replaced_when_written(path) as (temporary,):
        with zipfile.ZipFile(temporary, "w") as archive:
            for case, box in _boxes(cases, size, seed):
                content = _compressed(case, box)
                left -= len(content) + _ENTRY_BYTES
                if left < 0:
                    break
                archive.writestr(f"{len(about):04d}.npy.xz", content)
                about.append({"name": case.name, "patient": case.patient, "spacing_mm": case.spacing_mm})
            whom = {"held_out": list(held_out), "held_out_patients": sorted(held_out_patients)}
            head = {"levels": _HU_OF_LEVEL.tolist(), **whom, "patches": about}
            archive.writestr("pack.json", json.dumps(head))
        if not about:
            raise ValueError(
                f"Not one patch of {size}³ voxels fits into {largest_mib} MiB: give more, or a smaller size."
            )
    return len(about)


def read_pack(path: str | os.PathLike[str]) -> Pack:
    """Read a pack; ValueError for a file that is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("pack.json"))
            if head["levels"] != _HU_OF_LEVEL.tolist():
                raise KeyError("levels of another version")
            patches = [_case(archive, number, each) for number, each in enumerate(head["patches"])]
            return Pack(patches, head["held_out"], frozenset(head["held_out_patients"]))
    except (OSError, KeyError, TypeError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise ValueError(
            f"{path} is no pack of patches ({error}): write one with Utilities/pack_patches.py."
        ) from error


def _case(archive: zipfile.ZipFile, number: int, about: dict[str, Any]) -> Case:
    content = lzma.decompress(archive.read(f"{number:04d}.npy.xz"))
    levels, marks = np.load(io.BytesIO(content), allow_pickle=False)
    i, j, k = about["spacing_mm"]
    name = f"{about['name']}:{number:04d}"
    return make_case(name, about["patient"], hu_of(levels), marks & 3, (marks >> 2).astype(np.uint8), (i, j, k))


def _compressed(case: Case, box: tuple[slice, ...]) -> bytes:
    marks = case.labels[box] + _KNOWN * (case.weight[box] > 0)
    content = io.BytesIO()
    np.save(content, np.stack([levels_of(case.hu[box]), marks]))
    return lzma.compress(content.getvalue(), preset=6)


def _boxes(cases: Sequence[Case], size: int, seed: int) -> Iterator[tuple[Case, tuple[slice, ...]]]:
    """Boxes of the cases in turn, endlessly as long as any case has places left far enough from those before."""
    rng = np.random.default_rng(seed)
    before: dict[int, list[npt.NDArray[np.int_]]] = {index: [] for index in range(len(cases))}
    open_cases = list(before)
    while open_cases:
        for index in list(open_cases):
            first = _new_place(cases[index], before[index], size, rng)
            if first is None:
                open_cases.remove(index)
                continue
            before[index].append(first)
            yield cases[index], tuple(slice(int(a), int(a) + size) for a in first)


def _new_place(
    case: Case, before: Sequence[npt.NDArray[np.int_]], size: int, rng: np.random.Generator
) -> npt.NDArray[np.int_] | None:
    """The first voxel of a box around a place worth training on, half a box and more from those before, or None."""
    kinds = [(kind, share) for kind, share in Sampling().focus if len(case.places[kind])]
    shares = np.array([share for _, share in kinds])
    last = np.maximum(np.array(case.hu.shape) - size, 0)
    for _ in range(_TRIES if kinds else 0):
        places = case.places[kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))][0]]
        first: npt.NDArray[np.int_] = np.clip(places[int(rng.integers(len(places)))] - size // 2, 0, last)
        if all(np.abs(first - other).max() >= size // 2 for other in before):
            return first
    return None
