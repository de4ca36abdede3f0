"""Curved plates (iliac wing, scapula): a height over a plane, within an outline, of varying thickness."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from .canvas import Array, Vector
from .shapes import curve

LIP, LIP_MM = 0.5, 5.0
# Thinner plates than this would alias between the voxels of the default grid.
MIN_HALF_MM = 1.9


class Plate:
    """A thin curved bone through control points.

    `rim` (n, 4) runs once around the edge: x, y, z, half thickness; `inner` (m, 4) are points between. The
    middle surface and the thickness interpolate all of them (thin-plate splines, Duchon 1977) over the
    points' own plane; the edge is rounded.
    """

    def __init__(self, rim: npt.ArrayLike, inner: npt.ArrayLike, *, cell_mm: float = 3.0) -> None:
        self._rim, inner = np.asarray(rim, float), np.asarray(inner, float).reshape(-1, 4)
        points = np.vstack([self._rim, inner])
        self._center = points[:, :3].mean(axis=0)
        _, _, axes = np.linalg.svd(points[:, :3] - self._center)
        self._axes = axes
        local = (points[:, :3] - self._center) @ axes.T
        self._cell = cell_mm
        self._reach = 2.0 * float(points[:, 3].max()) + 6.0
        edge = local[: len(self._rim), :2]
        self._low = edge.min(axis=0) - self._reach
        count = np.ceil((edge.max(axis=0) + self._reach - self._low) / cell_mm).astype(int) + 1
        u, v = (self._low[a] + cell_mm * np.arange(count[a]) for a in range(2))
        grid = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1)
        height = _thin_plate(local[:, :2], local[:, 2], grid)
        self._height = height.astype(np.float32)
        du, dv = np.gradient(height, cell_mm)
        self._cosine = (1.0 / np.sqrt(1.0 + du**2 + dv**2)).astype(np.float32)
        self._outline = _outline_distance(edge, grid).astype(np.float32)
        # A lip along the edge: towards the inside, the plate thins out within a few mm.
        lip = LIP + (1.0 - LIP) * np.exp(np.minimum(self._outline, 0.0) / LIP_MM)
        cells = np.round((local[:, :2] - self._low) / cell_mm).astype(int)
        half = lip * _thin_plate(local[:, :2], points[:, 3] / lip[cells[:, 0], cells[:, 1]], grid)
        self._half = np.maximum(half, MIN_HALF_MM).astype(np.float32)

    @cached_property
    def _box(self) -> tuple[Vector, Vector]:
        inside = self._outline < self._cell
        a, b = np.nonzero(inside)
        low = self._low
        local = np.stack([low[0] + self._cell * a, low[1] + self._cell * b, self._height[inside]], axis=-1)
        world = self._center + local @ self._axes
        half = float(self._half[inside].max())
        return world.min(axis=0) - half, world.max(axis=0) + half

    def bounds(self) -> tuple[Vector, Vector]:
        return self._box

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        c = self._center
        u, v, w = (
            np.float32(a[0]) * (x - np.float32(c[0]))
            + np.float32(a[1]) * (y - np.float32(c[1]))
            + np.float32(a[2]) * (z - np.float32(c[2]))
            for a in self._axes
        )
        p = np.clip((u - self._low[0]) / self._cell, 0.0, self._height.shape[0] - 1.001).astype(np.float32)
        q = np.clip((v - self._low[1]) / self._cell, 0.0, self._height.shape[1] - 1.001).astype(np.float32)
        row, col = p.astype(np.int32), q.astype(np.int32)
        p, q = p - row, q - col
        at = row * self._height.shape[1] + col
        corners = [(at, (1 - p) * (1 - q)), (at + 1, (1 - p) * q)]
        below = at + self._height.shape[1]
        corners += [(below, p * (1 - q)), (below + 1, p * q)]

        def look_up(table: Array) -> Array:
            flat = table.ravel()
            value: Array = sum(flat[index] * weight for index, weight in corners)  # type: ignore[assignment]
            return value

        half = look_up(self._half)
        across = np.abs(w - look_up(self._height)) * look_up(self._cosine) - half
        edge = look_up(self._outline)
        # Rounding the rim by its own half thickness: the distance to a rectangle with rounded corners.
        rounding = np.minimum(half, 4.0)
        a, b = across + rounding, edge + rounding
        outside = np.sqrt(np.square(np.maximum(a, 0.0)) + np.square(np.maximum(b, 0.0)))
        value: Array = outside + np.minimum(np.maximum(a, b), 0.0) - rounding
        return value


def _thin_plate(points: Vector, values: Vector, grid: Vector) -> Vector:
    def kernel(squared: Vector) -> Vector:
        result: Vector = 0.5 * squared * np.log(np.maximum(squared, 1e-9))
        return result

    n = len(points)
    affine = np.hstack([np.ones((n, 1)), points])
    squared = np.square(points[:, None] - points[None]).sum(axis=-1)
    system = np.block([[kernel(squared), affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros(3)]))
    result: Vector = weights[n] + grid @ weights[n + 1 :]
    for point, weight in zip(points, weights[:n], strict=True):
        result += weight * kernel(np.square(grid - point).sum(axis=-1))
    return result


def _outline_distance(corners: Vector, grid: Vector) -> Vector:
    """Return the signed distance [u, v] to the closed smooth curve through `corners`, negative inside."""
    lap = np.vstack([corners[-1:], corners, corners[:2]])
    dense = curve(np.hstack([lap, np.zeros((len(lap), 1))]), 2.5)[:, :2]
    first = int(np.argmin(np.square(dense - corners[0]).sum(axis=1)))
    last = len(dense) - 1 - int(np.argmin(np.square(dense - corners[0]).sum(axis=1)[::-1]))
    loop = dense[first:last]
    a, b = loop, np.roll(loop, -1, axis=0)
    nearest = np.full(grid.shape[:2], np.inf)
    inside = np.zeros(grid.shape[:2], bool)
    for p, q in zip(a, b, strict=True):
        along = q - p
        t = np.clip(((grid - p) @ along) / max(float(along @ along), 1e-9), 0.0, 1.0)
        nearest = np.minimum(nearest, np.square(grid - p - t[..., None] * along).sum(axis=-1))
        straddles = (p[1] > grid[..., 1]) != (q[1] > grid[..., 1])
        if p[1] != q[1]:
            crossing = p[0] + (grid[..., 1] - p[1]) * along[0] / along[1]
            inside ^= straddles & (grid[..., 0] < crossing)
    distance: Vector = np.where(inside, -1.0, 1.0) * np.sqrt(nearest)
    return distance
