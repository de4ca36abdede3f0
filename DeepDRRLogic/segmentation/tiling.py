"""How a CT becomes patches on the network's grid, and probabilities go back: axes, sample positions, patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..affine import orientation

SPACING_MM = (1.0, 0.86, 0.86)
"""The network's voxels along superior, anterior, right: Unberath et al., MICCAI 2018, section 2.1."""

NEAR = 1.25
"""By which factor they may be larger or smaller to lie on the CT's own; the network was trained on 0.75 to 1.5."""

_T = TypeVar("_T", bound=np.generic)
_AXIS = {"S": 0, "I": 0, "A": 1, "P": 1, "R": 2, "L": 2}


@dataclass(frozen=True)
class Axes:
    """How an array [k, j, i] is seen as superior, anterior, right, whichever way it is stored."""

    order: tuple[int, int, int]
    mirrored: tuple[bool, bool, bool]

    @classmethod
    def of(cls, ras_from_ijk: npt.ArrayLike) -> Axes:
        """The axes of an affine (4, 4); an oblique volume keeps its own axes and gets the nearest names."""
        letters = orientation(ras_from_ijk)[::-1]
        s, a, r = (next(n for n, letter in enumerate(letters) if _AXIS[letter] == axis) for axis in range(3))
        return cls((s, a, r), (letters[s] == "I", letters[a] == "P", letters[r] == "L"))

    def view(self, array: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """The last three axes of an array turned to superior, anterior, right; nothing is copied."""
        first = array.ndim - 3
        turned = array.transpose(*range(first), *(first + n for n in self.order))
        s, a, r = (slice(None, None, -1 if mirror else 1) for mirror in self.mirrored)
        return turned[..., s, a, r]


def aligned_spacing(steps_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """The network's voxels for a CT's of `steps_mm`: its own, or a whole part of them, where that is near SPACING_MM.

    Nothing is lost between two grids then. In the axial plane they are as near to SPACING_MM as NEAR says, along it
    to the shape of its voxels: a body that is large in the plane is not to be short beside. Elsewhere SPACING_MM.
    """
    superior, anterior, right = SPACING_MM
    j, i = _whole_part(steps_mm[1], anterior, anterior), _whole_part(steps_mm[2], right, right)
    return _whole_part(steps_mm[0], superior * math.sqrt(j / anterior * i / right), superior), j, i


def _whole_part(step_mm: float, wanted_mm: float, otherwise_mm: float) -> float:
    part = step_mm / max(1, round(step_mm / wanted_mm))
    return part if wanted_mm / NEAR <= part <= wanted_mm * NEAR else otherwise_mm


@dataclass(frozen=True)
class Line:
    """One axis of a CT of `count` voxels of `step_mm`, and the network's samples of `sample_mm` along it.

    Sample 0 … samples - 1 lie within the CT, centred; samples beyond repeat its border. Every voxel has a sample of its
    own where samples are a whole part of a voxel.
    """

    count: int
    step_mm: float
    sample_mm: float

    @property
    def samples(self) -> int:
        parts = self.step_mm / self.sample_mm
        if parts > 1.5 and abs(parts - round(parts)) < 1e-6 and round(parts) % 2 == 0:
            return self.count * round(parts) - 1  # an odd number, for one of them to be at each voxel's centre
        return max(1, math.ceil(self.count * parts - 1e-6))

    def voxel_of(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where samples lie, in voxels of the CT."""
        centred = (samples - (self.samples - 1) / 2) * self.sample_mm
        return centred / self.step_mm + (self.count - 1) / 2

    def sample_of(self, voxels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where voxels of the CT lie, in samples."""
        centred = (voxels - (self.count - 1) / 2) * self.step_mm
        return centred / self.sample_mm + (self.samples - 1) / 2

    def weights(self, start: int, stop: int) -> tuple[slice, npt.NDArray[np.float32]]:
        """What samples start … stop - 1 are made of: the voxels, and weights (samples, voxels) whose rows sum to 1.

        Linear interpolation; where voxels are smaller than samples the triangle is as wide as a sample, so that fine
        structures are averaged rather than missed.
        """
        where = self.voxel_of(np.arange(start, stop, dtype=np.float64)).clip(0.0, self.count - 1.0)
        reach = max(1.0, self.sample_mm / self.step_mm)
        low = max(0, math.floor(where.min() - reach))
        high = min(self.count, math.ceil(where.max() + reach) + 1)
        distance = np.abs(where[:, None] - np.arange(low, high))
        weights = (1.0 - distance / reach).clip(0.0)
        return slice(low, high), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Tiles:
    """Patches along one axis: each starts at `starts` and is `size` long; of patch n, samples bounds[n] … bounds[n + 1]
    are kept."""

    size: int
    starts: tuple[int, ...]
    bounds: tuple[int, ...]

    @classmethod
    def over(cls, start: int, stop: int, patch: int, margin: int, multiple: int) -> Tiles:
        """The fewest patches of at most `patch` over samples start … stop - 1, at least `margin` given up between two.

        Each is as small as their number allows, a multiple of what the network needs. They are spread evenly, and what
        neighbours both see is halved between them.
        """
        length = stop - start
        if patch % multiple or not 0 <= 2 * margin < patch:
            raise ValueError(
                f"patch {patch}, margin {margin}: give a multiple of {multiple}, and less than half of it as margin."
            )
        count = max(1, math.ceil((length - 2 * margin) / (patch - 2 * margin)))
        needed = (length + (count - 1) * 2 * margin) / count
        size = min(patch, max(2, math.ceil(needed / multiple)) * multiple)
        if count == 1:
            return cls(size, (start - (size - length) // 2,), (start, stop))
        starts = tuple(start + round(n * (length - size) / (count - 1)) for n in range(count))
        inner = ((before + size + after) // 2 for before, after in pairwise(starts))
        return cls(size, starts, (start, *inner, stop))

    def __len__(self) -> int:
        return len(self.starts)


def box_of_matter(hu: npt.NDArray[np.generic], lowest_hu: float) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds every voxel above `lowest_hu`, or None where there is none; slice by slice."""
    slices_and_rows = np.zeros(hu.shape[:2], np.bool_)
    columns = np.zeros(hu.shape[2], np.bool_)
    for n, plane in enumerate(hu):
        matter = plane > lowest_hu
        slices_and_rows[n] = matter.any(axis=1)
        columns |= matter.any(axis=0)
    if not columns.any():
        return None
    k, j, i = (_extent(along) for along in (slices_and_rows.any(axis=1), slices_and_rows.any(axis=0), columns))
    return k, j, i


def _extent(along: npt.ArrayLike) -> slice:
    where = np.flatnonzero(along)
    return slice(int(where[0]), int(where[-1]) + 1)
