"""Implicit solids: ellipsoids, tapered rods, tubes along curves and curved plates, by signed distance.

All coordinates and lengths are mm. Distances are exact or first-order near the surface, which is where
partial volumes and cortical shells need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .canvas import Array, Shape, Solid, Vector

Points = npt.ArrayLike


def rotation(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> Vector:
    """Return the matrix (3, 3) that turns about x, then y, then z, right-handed."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians([x_deg, y_deg, z_deg])):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def curve(points: Points, step_mm: float) -> Vector:
    """Return points (n, c) about every `step_mm` along the Catmull-Rom curve through `points`.

    The first three columns are positions; further ones (radii, ...) are interpolated with them. Source:
    Catmull & Rom 1974.
    """
    p = np.asarray(points, float)
    padded = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    pieces = []
    for a, b, c, d in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        count = max(1, round(float(np.linalg.norm((c - b)[:3])) / step_mm))
        t = (np.arange(count) / count)[:, None]
        pieces.append(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return np.vstack([*pieces, p[-1:]])


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; `axes` (3, 3) holds its principal directions in columns."""

    center: Points
    radii: Points
    axes: Vector = field(default_factory=lambda: np.eye(3))

    def bounds(self) -> tuple[Vector, Vector]:
        reach = np.sqrt((np.square(self.axes) * np.square(np.asarray(self.radii))).sum(axis=1))
        return np.asarray(self.center) - reach, np.asarray(self.center) + reach

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        c = np.asarray(self.center, float)
        radii = np.asarray(self.radii, float)
        near: Any = np.float32(1e-6)
        slope: Any = np.float32(1e-9)
        for axis, r in zip(self.axes.T, radii, strict=True):
            u = np.square(_linear(axis, c, x, y, z))
            near, slope = near + u * np.float32(1 / r**2), slope + u * np.float32(1 / r**4)
        value: Array = (near - np.sqrt(near)) / np.sqrt(slope)
        return value


@dataclass(frozen=True)
class Rod:
    """A straight tapered rod with round ends from `a` to `b`, elliptic where `wide` differs from `thin`.

    `thin` holds the half thicknesses at both ends along `normal`, `wide` those across it (default: round).
    """

    a: Points
    b: Points
    thin: tuple[float, float]
    wide: tuple[float, float] | None = None
    normal: Points = (0.0, 1.0, 0.0)

    def bounds(self) -> tuple[Vector, Vector]:
        a, b = np.asarray(self.a, float), np.asarray(self.b, float)
        reach = max(*self.thin, *(self.wide or (0.0,)))
        return np.minimum(a, b) - reach, np.maximum(a, b) + reach

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        a = np.asarray(self.a, float)
        along = np.asarray(self.b, float) - a
        length = max(float(np.linalg.norm(along)), 1e-6)
        along = along / length
        position = _linear(along, a, x, y, z)
        t = np.clip(position, 0.0, np.float32(length))
        excess = position - t
        t *= np.float32(1 / length)
        thin = np.float32(self.thin[0]) + t * np.float32(self.thin[1] - self.thin[0])
        if self.wide is None:
            q = np.square(x - np.float32(a[0])) + np.square(y - np.float32(a[1]))
            q = q + np.square(z - np.float32(a[2]))
            q -= np.square(position) - np.square(excess)
            round_distance: Array = np.sqrt(np.maximum(q, 0.0)) - thin
            return round_distance
        wide = np.float32(self.wide[0]) + t * np.float32(self.wide[1] - self.wide[0])
        n = np.asarray(self.normal, float)
        n = n - (n @ along) * along
        n /= max(float(np.linalg.norm(n)), 1e-6)
        u = np.square(_linear(n, a, x, y, z))
        v = np.square(_linear(np.cross(along, n), a, x, y, z))
        v += np.square(excess)
        iu, iv = 1 / np.square(thin), 1 / np.square(wide)
        u, v = u * iu, v * iv
        near = u + v + np.float32(1e-6)
        value: Array = (near - np.sqrt(near)) / np.sqrt(u * iu + v * iv + np.float32(1e-9))
        return value


def tube(points: Points, step_mm: float = 8.0) -> list[Shape]:
    """Return round rods along the curve through `points` (n, 4): x, y, z, radius."""
    p = curve(points, step_mm)
    return [Rod(a[:3], b[:3], (a[3], b[3])) for a, b in pairwise(p)]


def ribbon(points: Points, normals: Points, step_mm: float = 6.0) -> list[Shape]:
    """Return elliptic rods along the curve through `points` (n, 5): x, y, z, half thickness, half width.

    `normals` (n, 3) are the directions of the thickness; one (3,) serves all.
    """
    p = np.asarray(points, float)
    directions = np.broadcast_to(np.asarray(normals, float), (len(p), 3))
    q = curve(np.hstack([p, directions]), step_mm)
    return [Rod(a[:3], b[:3], (a[3], b[3]), (a[4], b[4]), a[5:] + b[5:]) for a, b in pairwise(q)]


@dataclass(frozen=True)
class Mirrored:
    """A solid reflected in the sagittal plane x = 0."""

    shape: Shape

    def bounds(self) -> tuple[Vector, Vector]:
        lo, hi = self.shape.bounds()
        return np.array([-hi[0], lo[1], lo[2]]), np.array([-lo[0], hi[1], hi[2]])

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        return self.shape.distance(-x, y, z)


def mirrored(solids: Sequence[Solid]) -> list[Solid]:
    """Return the same solids on the other side of the body."""
    return [
        [Mirrored(shape) for shape in solid] if isinstance(solid, Sequence) else Mirrored(solid) for solid in solids
    ]


@dataclass(frozen=True)
class Moved:
    """A solid given in a local frame; `axes` (3, 3) holds that frame's directions in columns."""

    shape: Shape
    center: Points
    axes: Vector

    def bounds(self) -> tuple[Vector, Vector]:
        lo, hi = self.shape.bounds()
        middle = np.asarray(self.center) + self.axes @ ((lo + hi) / 2)
        reach = np.abs(self.axes) @ ((hi - lo) / 2)
        return middle - reach, middle + reach

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        c = np.asarray(self.center, float)
        u, v, w = (_linear(axis, c, x, y, z) for axis in self.axes.T)
        return self.shape.distance(u, v, w)


def _linear(axis: Vector, center: Vector, x: Array, y: Array, z: Array) -> Array:
    """Return the coordinate along `axis` of points relative to `center`."""
    a, b, c = (np.float32(value) for value in axis)
    value: Array = a * x + (b * y + (c * z - np.float32(axis @ center)))
    return value
