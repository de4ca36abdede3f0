"""CTs on grids whose axes lead right, anterior and superior, cut to the body, and resampled for training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from DeepDRRLogic.volume import CTVolume

Mask = npt.NDArray[np.bool_]
FloatVolume = npt.NDArray[np.float32]

TRAINING_SPACING_MM = (0.86, 0.86, 1.0)
"""Along i, j, k: the voxels that the network sees (Unberath et al., MICCAI 2018)."""

_NEAR_MM = 6.0


@dataclass(frozen=True, eq=False)
class Scan:
    """`hu` int16 [k, j, i] with i to the right, j to the front, k to the head; `origin_ras` is voxel (0, 0, 0)."""

    hu: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    origin_ras: tuple[float, float, float]

    @property
    def sampling_mm(self) -> tuple[float, float, float]:
        """The spacing in the order of the array's axes, k, j, i."""
        i, j, k = self.spacing_mm
        return k, j, i

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def ras_from_ijk(self) -> npt.NDArray[np.float64]:
        matrix = np.diag([*self.spacing_mm, 1.0])
        matrix[:3, 3] = self.origin_ras
        return matrix

    def axes_ras(self) -> tuple[FloatVolume, FloatVolume, FloatVolume]:
        """R, A and S of the voxel centres, shaped to broadcast over [k, j, i]."""
        k, j, i = self.hu.shape
        r, a, s = (
            (start + step * np.arange(n)).astype(np.float32)
            for start, step, n in zip(self.origin_ras, self.spacing_mm, (i, j, k), strict=True)
        )
        return r[None, None, :], a[None, :, None], s[:, None, None]

    def cut(self, box: tuple[slice, slice, slice]) -> Scan:
        """The part in a box of array slices."""
        first = [axis.start for axis in box][::-1]
        origin = tuple(o + n * step for o, n, step in zip(self.origin_ras, first, self.spacing_mm, strict=True))
        return replace(self, hu=np.ascontiguousarray(self.hu[box]), origin_ras=origin)


def flips_to_ras(ras_from_ijk: npt.NDArray[np.float64]) -> tuple[slice, slice, slice]:
    """What turns [k, j, i] of a volume along the anatomical axes into RAS; ValueError for an oblique one."""
    steps = ras_from_ijk[:3, :3]
    if not np.allclose(steps, np.diag(np.diag(steps)), atol=1e-3):
        raise ValueError(f"The axes are permuted or oblique, {steps.tolist()}: resample the CT along R, A and S first.")
    i, j, k = (slice(None, None, -1 if step < 0 else 1) for step in np.diag(steps))
    return k, j, i


def read_scan(path: Path) -> Scan:
    """The CT in a file, turned to RAS."""
    ct = CTVolume.read(path)
    flips = flips_to_ras(ct.ras_from_ijk)
    i, j, k = ct.spacing_mm
    # The voxel that comes to lie first is the one furthest left, back and down.
    origin = ct.corners_ras.min(axis=0) + 0.5 * np.array(ct.spacing_mm)
    r, a, s = (float(x) for x in origin)
    return Scan(np.ascontiguousarray(ct.hu[flips].astype(np.int16)), (i, j, k), (r, a, s))


def box_around(mask: Mask, margin: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The smallest box that holds the mask with some voxels around it; the whole volume where it is empty."""
    found = ndimage.find_objects(mask.view(np.uint8))
    if not found:
        return tuple(slice(0, n) for n in mask.shape)  # type: ignore[return-value]
    k, j, i = (
        slice(max(axis.start - m, 0), min(axis.stop + m, n))
        for axis, m, n in zip(found[0], margin, mask.shape, strict=True)
    )
    return k, j, i


def slices_between(
    scan: Scan, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> tuple[slice, slice, slice]:
    """The voxels with centres between two corners in RAS."""
    size, step = np.array(scan.hu.shape[::-1]), np.array(scan.spacing_mm)
    first = np.clip(np.ceil((low - scan.origin_ras) / step), 0, size).astype(int)
    last = np.clip(np.floor((high - scan.origin_ras) / step) + 1, first, size).astype(int)
    i, j, k = (slice(int(n), int(m)) for n, m in zip(first, last, strict=True))
    return k, j, i


def squared_distance(
    axes: tuple[FloatVolume, ...], start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64]
) -> tuple[FloatVolume, FloatVolume]:
    """Squared distance in mm² of every voxel to a line from `start` to `stop`, and how far along it, 0 to 1."""
    way = stop - start
    length2 = float(way @ way)
    apart = [axis - np.float32(origin) for axis, origin in zip(axes, start, strict=True)]
    along = sum(x * np.float32(w) for x, w in zip(apart, way, strict=True)) / np.float32(max(length2, 1e-6))
    along = np.clip(along, 0.0, 1.0)
    squared = sum((x - along * np.float32(w)) ** 2 for x, w in zip(apart, way, strict=True))
    return squared, along


def resampled_shape(scan: Scan, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Voxels [k, j, i] of another spacing between the first and the last voxel centre."""
    i, j, k = (
        int(np.floor((n - 1) * old / new + 1e-6)) + 1
        for n, old, new in zip(scan.hu.shape[::-1], scan.spacing_mm, spacing_mm, strict=True)
    )
    return k, j, i


def interpolated(values: FloatVolume, scan: Scan, spacing_mm: tuple[float, float, float]) -> FloatVolume:
    """`values` on the scan's grid, linearly interpolated to another spacing."""
    for axis, (n, new) in enumerate(zip(resampled_shape(scan, spacing_mm), spacing_mm[::-1], strict=True)):
        at = np.arange(n) * (new / scan.sampling_mm[axis])
        low = np.minimum(at.astype(int), max(values.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        below = np.take(values, low, axis)
        above = np.take(values, np.minimum(low + 1, values.shape[axis] - 1), axis)
        above -= below
        above *= share
        below += above
        values = below
    return values


def reshaped(mask: Mask, scan: Scan, spacing_mm: tuple[float, float, float]) -> Mask:
    """A mask on another spacing, its contours interpolated between slices.

    Shape-based interpolation (Raya and Udupa, IEEE Trans. Med. Imaging 1990): linear interpolation of the signed
    distance to the contour within each slice, so that a contour moves evenly from one slice to the next.
    """
    return np.asarray(interpolated(signed_distances(mask, scan.sampling_mm[1:]), scan, spacing_mm) > 0.0)


def nearest(values: npt.NDArray[np.uint8], scan: Scan, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    """Values on the scan's grid taken from the nearest voxel of another spacing."""
    for axis, (n, new) in enumerate(zip(resampled_shape(scan, spacing_mm), spacing_mm[::-1], strict=True)):
        at = np.rint(np.arange(n) * (new / scan.sampling_mm[axis])).astype(int)
        values = np.take(values, np.minimum(at, values.shape[axis] - 1), axis)
    return values


def signed_distances(mask: Mask, sampling_mm: tuple[float, float]) -> FloatVolume:
    """Distance in mm to the contour in each slice, positive inside, cut off where it no longer matters."""
    distances = np.full(mask.shape, -_NEAR_MM, np.float32)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        box = box_around(mask[k][None], (0, 8, 8))[1:]
        part = mask[k][box]
        inside = ndimage.distance_transform_edt(part, sampling_mm) if not part.all() else np.full(part.shape, _NEAR_MM)
        outside = ndimage.distance_transform_edt(~part, sampling_mm)
        half = 0.5 * min(sampling_mm)  # the contour runs between voxels, not through the first one inside
        signed = np.where(part, inside - half, half - outside)
        distances[k][box] = np.clip(signed, -_NEAR_MM, _NEAR_MM)
    return distances


def read_labels(path: Path, scan: Scan) -> npt.NDArray[np.uint8]:
    """Whole numbers from 0 to 255 from a file, turned to RAS like `read_scan` turns a CT.

    ValueError where they do not lie where the scan does.
    """
    import SimpleITK as sitk

    from DeepDRRLogic.volume_io import ras_from_ijk_of

    image = sitk.ReadImage(str(path))
    values, affine = sitk.GetArrayFromImage(image), ras_from_ijk_of(image)
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"{path} has labels from {values.min()} to {values.max()}; give 0 to 255.")
    turned = np.ascontiguousarray(values[flips_to_ras(affine)].astype(np.uint8))
    spacing = np.abs(np.diag(affine)[:3])
    last = affine[:3, :3] @ (np.array(values.shape[::-1]) - 1)
    origin = np.minimum(affine[:3, 3], affine[:3, 3] + last)
    there = np.allclose(spacing, scan.spacing_mm, atol=1e-3) and np.allclose(origin, scan.origin_ras, atol=0.1)
    if turned.shape != scan.hu.shape or not there:
        raise ValueError(f"{path} lies elsewhere than its CT: {turned.shape} from {origin.round(1).tolist()} mm RAS.")
    return turned
