"""How well labels agree with a reference, also where thresholds fail: figures as pure functions of arrays.

Labels are 0 air, 1 soft tissue, 2 bone, [k, j, i]; `weight` 0 marks voxels whose truth is unknown, which count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Sampling = tuple[float, float, float]

AIR, SOFT, BONE = 0, 1, 2
CONTRAST_MIN_HU = 180
BRIM_MM = 2.0


@dataclass(frozen=True, eq=False)
class Reference:
    """A CT with its reference labels and where it is interesting; make it with `reference`.

    `body`: labelled tissue and all it encloses in an axial slice, weight not 0. `contrast`: soft tissue at or above
    CONTRAST_MIN_HU further than BRIM_MM from bone, so that blurred cortex is none. `inner`: bone
    further than BRIM_MM from anything else, which is spongy bone and marrow but for the thickest cortex. `metal`: that
    of implants and fillings, labelled bone.
    """

    hu: npt.NDArray[np.int16]
    labels: Labels
    known: Mask
    body: Mask
    contrast: Mask
    inner: Mask
    metal: Mask
    sampling_mm: Sampling


@dataclass(frozen=True)
class Counts:
    """Voxels of one or several cases, which add up: `confusion` [truth, found] in the body, and the hard regions.

    `air_volume` are the voxels of air in the whole volume: of the truth, found, and both. `bone_surface` are those on
    the surface of bone, of the truth and found together, and how many of them lie within BRIM_MM of the other one.
    """

    confusion: tuple[tuple[int, ...], ...]
    air_volume: tuple[int, int, int]
    contrast: int
    contrast_as_bone: int
    inner: int
    inner_missed: int
    metal: int = 0
    metal_missed: int = 0
    bone_surface: tuple[int, int] = (0, 0)

    def __add__(self, other: Counts) -> Counts:
        confusion = np.array(self.confusion) + np.array(other.confusion)
        return Counts(
            tuple(tuple(int(n) for n in row) for row in confusion),
            tuple(n + m for n, m in zip(self.air_volume, other.air_volume, strict=True)),  # type: ignore[arg-type]
            self.contrast + other.contrast,
            self.contrast_as_bone + other.contrast_as_bone,
            self.inner + other.inner,
            self.inner_missed + other.inner_missed,
            self.metal + other.metal,
            self.metal_missed + other.metal_missed,
            (self.bone_surface[0] + other.bone_surface[0], self.bone_surface[1] + other.bone_surface[1]),
        )

    @property
    def error(self) -> float:
        """Share of the body's voxels with a wrong label, the paper's misclassification rate."""
        confusion = np.array(self.confusion)
        return _share(int(confusion.sum() - np.trace(confusion)), int(confusion.sum()))

    @property
    def bone_error(self) -> float:
        """Share of the body's voxels wrongly called bone or wrongly not: independent of where lung ends."""
        confusion = np.array(self.confusion)
        wrong = confusion[BONE].sum() + confusion[:, BONE].sum() - 2 * confusion[BONE, BONE]
        return _share(int(wrong), int(confusion.sum()))

    def dice(self, label: int) -> float:
        """Dice's coefficient of a label in the body; NaN where neither has it."""
        confusion = np.array(self.confusion)
        return _share(2 * int(confusion[label, label]), int(confusion[label].sum() + confusion[:, label].sum()))

    @property
    def bone_surface_dice(self) -> float:
        """Share of both surfaces of bone, true and found, within BRIM_MM of each other (Nikolov et al. 2021).

        Dice's coefficient of ribs depends on half a voxel; this tells whether they are found where they are.
        """
        return _share(self.bone_surface[1], self.bone_surface[0])

    @property
    def air_dice(self) -> float:
        """Dice's coefficient of air in the whole volume, room included."""
        truth, found, both = self.air_volume
        return _share(2 * both, truth + found)

    @property
    def contrast_error(self) -> float:
        """Share of dense contrast called bone; NaN where there is none."""
        return _share(self.contrast_as_bone, self.contrast)

    @property
    def inner_error(self) -> float:
        """Share of inner bone, spongy bone and marrow, not called bone; NaN where there is none."""
        return _share(self.inner_missed, self.inner)

    @property
    def metal_error(self) -> float:
        """Share of metal not called bone; NaN where there is none."""
        return _share(self.metal_missed, self.metal)


def reference(
    hu: npt.NDArray[np.int16], labels: Labels, weight: Labels, sampling_mm: Sampling, metal: Mask | None = None
) -> Reference:
    """The reference with its regions; `sampling_mm` is the spacing along k, j, i."""
    known = weight > 0
    tissue = labels != AIR
    body = np.empty_like(tissue)
    for k, plane in enumerate(tissue):
        body[k] = ndimage.binary_fill_holes(plane)
    bone = labels == BONE
    contrast = (labels == SOFT) & (hu >= CONTRAST_MIN_HU) & known
    contrast &= ndimage.binary_opening(contrast)  # grains of noise are no contrast
    if contrast.any() and bone.any():
        box = _box_around(contrast, BRIM_MM, sampling_mm)
        contrast[box] &= _further_than(~bone[box], BRIM_MM, sampling_mm)
    inner = bone & known
    if inner.any():
        box = _box_around(inner, BRIM_MM, sampling_mm)
        inner[box] &= _further_than(bone[box], BRIM_MM, sampling_mm)
    hard = np.zeros_like(bone) if metal is None else bone & metal & known
    return Reference(hu, labels, known, body & known, contrast, inner, hard, sampling_mm)


def compare(found: Labels, truth: Reference) -> Counts:
    """The counts of one case; ValueError where the labels are on another grid or are not 0, 1, 2."""
    if found.shape != truth.labels.shape:
        raise ValueError(f"Labels of shape {found.shape} against a reference of {truth.labels.shape}: resample them.")
    if found.max(initial=0) > BONE:
        raise ValueError(f"Labels up to {found.max()}: give 0 air, 1 soft tissue, 2 bone.")
    pairs = truth.labels[truth.body] * np.uint8(3) + found[truth.body]
    air, found_air = truth.labels == AIR, found == AIR
    confusion = np.bincount(pairs, minlength=9).reshape(3, 3)
    return Counts(
        tuple(tuple(int(n) for n in row) for row in confusion),
        (
            int((air & truth.known).sum()),
            int((found_air & truth.known).sum()),
            int((air & found_air & truth.known).sum()),
        ),
        int(truth.contrast.sum()),
        int((found[truth.contrast] == BONE).sum()),
        int(truth.inner.sum()),
        int((found[truth.inner] != BONE).sum()),
        int(truth.metal.sum()),
        int((found[truth.metal] != BONE).sum()),
        _surfaces(np.where(truth.known, found, truth.labels) == BONE, truth),
    )


def _surfaces(found: Mask, truth: Reference) -> tuple[int, int]:
    """Voxels on the surfaces of bone, true and found, and those within BRIM_MM of the other one; known ones alone."""
    bone = truth.labels == BONE
    either = bone | found
    if not either.any():
        return 0, 0
    box = _box_around(either, BRIM_MM, truth.sampling_mm)
    its, other = (mask[box] & ~ndimage.binary_erosion(mask[box], border_value=1) for mask in (bone, found))
    known, ball = truth.known[box], _ball(BRIM_MM, truth.sampling_mm)
    pairs = ((its & known, other), (other & known, its))
    near = (int((one & ndimage.binary_dilation(another, ball)).sum()) for one, another in pairs)
    return sum(int(one.sum()) for one, _ in pairs), sum(near)


def intensity_error(found: npt.NDArray[np.floating], best: npt.NDArray[np.floating], blank: float) -> float:
    """Mean of |I - I_best| / I_best over the pixels behind the body, those that absorb at least one per cent."""
    behind = best < 0.99 * blank
    if not behind.any():
        return float("nan")
    return float(np.mean(np.abs(found[behind] - best[behind]) / best[behind]))


def _box_around(mask: Mask, margin_mm: float, sampling_mm: Sampling) -> tuple[slice, ...]:
    """The smallest box that holds the mask with a margin."""
    margins = [int(np.ceil(margin_mm / step)) + 1 for step in sampling_mm]
    found = ndimage.find_objects(mask.view(np.uint8))[0]
    return tuple(slice(max(axis.start - m, 0), axis.stop + m) for axis, m in zip(found, margins, strict=True))


def _further_than(mask: Mask, distance_mm: float, sampling_mm: Sampling) -> Mask:
    """Voxels of the mask further than that from what is outside it; beyond the volume nothing is outside."""
    return np.asarray(ndimage.binary_erosion(mask, _ball(distance_mm, sampling_mm), border_value=1))


def _ball(radius_mm: float, sampling_mm: Sampling) -> Mask:
    """The voxels within that distance of one, which is in the middle."""
    reach = [int(radius_mm / step) for step in sampling_mm]
    k, j, i = (np.arange(-n, n + 1) * step for n, step in zip(reach, sampling_mm, strict=True))
    return np.asarray(k[:, None, None] ** 2 + j[:, None] ** 2 + i**2 <= radius_mm**2)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
