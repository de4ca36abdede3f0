"""The reference projector: slow, exact and short enough to be checked by eye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..volume import MaterialVolume

FloatArray = npt.NDArray[np.float64]

GAUSS_POINTS = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3.0)
RAYS_AT_A_TIME = 512


def project_exactly(
    volume: MaterialVolume,
    camera: Camera,
    pixels: npt.ArrayLike | None = None,
    interpolation: Literal["linear", "nearest"] = "linear",
) -> FloatArray:
    """Area densities by exact integration along each ray, in float64.

    "nearest" sums density × length over the voxels that the ray crosses (Siddon 1985). "linear" integrates the
    trilinear interpolation of the partial densities: between two planes of voxel centres it is a cubic along the ray,
    for which two Gauss points are exact. The volume ends at its extent, [-½, n-½]; rays run from the source to the
    detector.

    pixels (n, 2) as (u, v), by default all; returns (n_materials, n) or (n_materials, height, width), in g/cm².
    """
    everything = pixels is None
    if everything:
        v, u = np.mgrid[: camera.height, : camera.width]
        pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    at = np.asarray(pixels, np.float64)
    ends_ras = camera.ras_from_pixel[:3, :2] @ at.T + camera.ras_from_pixel[:3, 3:]
    ijk_from_ras = np.linalg.inv(volume.ras_from_ijk)
    source = ijk_from_ras[:3, :3] @ camera.source_ras + ijk_from_ras[:3, 3]
    rays = (ijk_from_ras[:3, :3] @ ends_ras + ijk_from_ras[:3, 3:]).T - source
    lengths_cm = 0.1 * np.linalg.norm(ends_ras.T - camera.source_ras, axis=1)

    partial = [
        np.where(volume.labels == m, volume.density_g_cm3, 0.0).astype(np.float64) for m in range(len(volume.materials))
    ]
    out = np.empty((len(partial), len(at)))
    for first in range(0, len(at), RAYS_AT_A_TIME):
        part = slice(first, first + RAYS_AT_A_TIME)
        out[:, part] = _integrate(partial, source, rays[part], interpolation) * lengths_cm[part]
    return out.reshape(-1, camera.height, camera.width) if everything else out


def _integrate(partial: list[FloatArray], source: FloatArray, rays: FloatArray, interpolation: str) -> FloatArray:
    """∫ρ dt over t in [0, 1] for rays source + t·ray, in voxels; (n_materials, n_rays)."""
    size = np.array(partial[0].shape[::-1])
    t = _crossings(source, rays, size, interpolation)
    start, step = t[:, :-1], np.diff(t, axis=1)
    points = GAUSS_POINTS if interpolation == "linear" else np.array([0.5])
    total = np.zeros((len(partial), len(rays)))
    for point in points:
        at = source + (start + point * step)[..., None] * rays[:, None, :]
        inside = np.all((at > -0.5) & (at < size - 0.5), axis=-1) & (step > 0)
        weight = np.where(inside, step, 0.0) / len(points)
        for m, values in enumerate(_sample(partial, at, size, interpolation)):
            total[m] += np.sum(values * weight, axis=1)
    return total


def _crossings(source: FloatArray, rays: FloatArray, size: npt.NDArray[np.int_], interpolation: str) -> FloatArray:
    """All t in [0, 1], in order, at which a ray crosses a plane between two cells or the volume's boundary."""
    crossings = [np.zeros((len(rays), 1)), np.ones((len(rays), 1))]
    for axis in range(3):
        boundary = np.array([-0.5, size[axis] - 0.5])
        planes = np.arange(size[axis]) if interpolation == "linear" else np.arange(size[axis] + 1) - 0.5
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (np.concatenate([planes, boundary]) - source[axis]) / rays[:, axis : axis + 1]
        crossings.append(np.nan_to_num(t, nan=0.0, posinf=0.0, neginf=0.0))
    return np.sort(np.clip(np.concatenate(crossings, axis=1), 0.0, 1.0), axis=1)


def _sample(
    partial: list[FloatArray], at: FloatArray, size: npt.NDArray[np.int_], interpolation: str
) -> list[FloatArray]:
    if interpolation == "nearest":
        i, j, k = np.moveaxis(np.clip(np.rint(at).astype(int), 0, size - 1), -1, 0)
        return [density[k, j, i] for density in partial]
    at = np.clip(at, 0, size - 1)
    low = np.minimum(at.astype(int), np.maximum(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    fraction = at - low
    values = [np.zeros(at.shape[:-1]) for _ in partial]
    for corner in np.ndindex(2, 2, 2):
        index = np.where(corner, high, low)
        weight = np.prod(np.where(corner, fraction, 1 - fraction), axis=-1)
        i, j, k = np.moveaxis(index, -1, 0)
        for total, density in zip(values, partial, strict=True):
            total += weight * density[k, j, i]
    return values
