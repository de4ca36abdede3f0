"""The voxel grid that anatomy is painted on: distances in, partial-volume HU and exact labels out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
Distance = Callable[[Array, Array, Array], Array]

AIR, SOFT_TISSUE, BONE = 0, 1, 2
FAR_MM = 1000.0


class Shape(Protocol):
    """A solid: a box that encloses it and the signed distance to its surface, negative inside, in mm."""

    def bounds(self) -> tuple[Vector, Vector]: ...

    def distance(self, x: Array, y: Array, z: Array) -> Array: ...


Solid = Shape | Sequence[Shape]


@dataclass(frozen=True)
class Block:
    """A box of voxels: slices [k, j, i] and coordinates x (1,1,n), y (1,n,1), z (n,1,1) in mm."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    x: Array
    y: Array
    z: Array

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        k, j, i = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    @property
    def shape(self) -> tuple[int, int, int]:
        k, j, i = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return k, j, i

    def within(self, block: Block) -> tuple[slice, slice, slice]:
        """Return the slices of this block in an array that covers a larger one."""
        limits = zip(self.start, self.stop, block.start, strict=True)
        k, j, i = (slice(a - s, b - s) for a, b, s in limits)
        return k, j, i


@dataclass(frozen=True)
class Spot:
    """The voxels of a block that a stroke touches: their indices and coordinates, each (n,)."""

    k: npt.NDArray[np.intp]
    j: npt.NDArray[np.intp]
    i: npt.NDArray[np.intp]
    x: Array
    y: Array
    z: Array
    distance: Array


class Canvas:
    """HU and labels on an axis-aligned grid, both [k, j, i], with painting by signed distance.

    `origin_mm` is the centre of voxel (0, 0, 0) and `spacing_mm` the voxel size, both x, y, z. Edges are
    partial volumes: a voxel takes the fraction of the paint that lies inside it (to first order), and takes
    the label when that is at least half.
    """

    def __init__(self, origin_mm: Vector, spacing_mm: Vector, shape: tuple[int, int, int]) -> None:
        self.hu = np.full(shape, -1000.0, np.float32)
        self.labels = np.full(shape, AIR, np.uint8)
        self.voxel_mm = float(np.mean(spacing_mm))
        self._origin, self._spacing = origin_mm, spacing_mm
        self._axes = [(origin_mm[a] + spacing_mm[a] * np.arange(shape[2 - a])).astype(np.float32) for a in range(3)]

    def block(self, lo: npt.ArrayLike, hi: npt.ArrayLike, margin_mm: float = 0.0) -> Block | None:
        """Return the voxels whose centres lie in the box, or None where the box misses the grid."""
        low = (np.asarray(lo) - margin_mm - self._origin) / self._spacing
        high = (np.asarray(hi) + margin_mm - self._origin) / self._spacing
        start = np.maximum(np.ceil(low), 0).astype(int)[::-1]
        stop = np.minimum(np.floor(high).astype(int)[::-1] + 1, self.hu.shape)
        if np.any(stop <= start):
            return None
        (k0, j0, i0), (k1, j1, i1) = start.tolist(), stop.tolist()
        x, y, z = self._axes
        return Block((k0, j0, i0), (k1, j1, i1), x[None, None, i0:i1], y[None, j0:j1, None], z[k0:k1, None, None])

    def slabs(self, step_mm: float) -> Iterator[Block]:
        """Yield the whole grid in thin slabs, each beginning on a node of fields sampled at `step_mm`."""
        k, j, i = self.hu.shape
        x, y, z = self._axes
        step = 2 * max(1, round(step_mm / self._spacing[2]))
        for low in range(0, k, step):
            high = min(low + step, k)
            yield Block((low, 0, 0), (high, j, i), x[None, None, :], y[None, :, None], z[low:high, None, None])

    def field(
        self, solids: Sequence[Solid], *, smooth_mm: float = 0.0, margin_mm: float = 0.0
    ) -> tuple[Block, Array] | None:
        """Return the block around a union of solids and its signed distance there, capped at FAR_MM.

        A solid is a shape or a list of shapes that join as they are (the rods of a tube); each is evaluated
        in its own box only. `smooth_mm` rounds the inner corners where solids meet. Returns None where all of
        it lies outside the grid.
        """
        margin = margin_mm + 1.5 * self.voxel_mm
        boxes = [bounds(solid) for solid in solids]
        block = self.block(np.min([lo for lo, _ in boxes], axis=0), np.max([hi for _, hi in boxes], axis=0), margin)
        if block is None:
            return None
        total = np.full(block.shape, FAR_MM, np.float32)
        for solid, (lo, hi) in zip(solids, boxes, strict=True):
            if isinstance(solid, Sequence):
                found = self.field(solid, margin_mm=margin_mm + smooth_mm)
            else:
                part = self.block(lo, hi, margin + smooth_mm)
                found = None if part is None else (part, solid.distance(part.x, part.y, part.z))
            if found is None:
                continue
            part, distance = found
            common = self.inside(part, block)
            if common is None:
                continue
            view = total[common.within(block)]
            view[...] = smooth_union(view, distance[common.within(part)], smooth_mm)
        return block, total

    def coarse(self, block: Block, distance: Distance, step_mm: float = 6.0) -> Array:
        """Return a smooth field on the block, evaluated every `step_mm` and interpolated linearly between."""
        steps = [max(1, round(step_mm / self._spacing[a])) for a in (2, 1, 0)]
        nodes = [-(-(n - 1) // m) + 1 for n, m in zip(block.shape, steps, strict=True)]
        z, y, x = (
            (self._origin[a] + self._spacing[a] * (block.start[2 - a] + m * np.arange(n))).astype(np.float32)
            for a, m, n in zip((2, 1, 0), steps, nodes, strict=True)
        )
        values = np.broadcast_to(distance(x[None, None, :], y[None, :, None], z[:, None, None]), tuple(nodes)).astype(
            np.float32
        )
        for axis in (2, 1, 0):
            values = _stretched(values, axis, steps[axis], block.shape[axis])
        return values

    def touched(self, block: Block, distance: Array) -> Spot:
        """Return the voxels of the block that lie inside the shape, wholly or in part."""
        flat = np.flatnonzero(distance < 0.5 * self.voxel_mm)
        k, j, i = np.unravel_index(flat, block.shape)
        return Spot(
            k + block.start[0],
            j + block.start[1],
            i + block.start[2],
            block.x.ravel()[i],
            block.y.ravel()[j],
            block.z.ravel()[k],
            distance.ravel()[flat],
        )

    def fraction(self, distance: Array) -> Array:
        """Return the fraction of a voxel that lies inside, from the distance of its centre."""
        inside: Array = np.clip(0.5 - distance / np.float32(self.voxel_mm), 0.0, 1.0)
        return inside

    def paint(self, spot: Spot, hu: float | Array, label: int) -> None:
        """Paint a homogeneous (or, with an array, a textured) solid over what is there."""
        at = (spot.k, spot.j, spot.i)
        alpha = self.fraction(spot.distance)
        below = self.hu[at]
        self.hu[at] = below + alpha * (hu - below)
        self.labels[tuple(index[alpha >= 0.5] for index in at)] = label

    def paint_block(self, block: Block, distance: Array, hu: Array, label: int) -> None:
        """Paint as `paint` does, for solids that fill most of their block."""
        alpha = self.fraction(distance)
        below = self.hu[block.slices]
        hu = hu - below
        hu *= alpha
        below += hu
        self.labels[block.slices][alpha >= 0.5] = label

    def paint_shell(
        self, spot: Spot, thickness_mm: float | Array, shell_hu: float | Array, core_hu: float | Array
    ) -> None:
        """Paint a bone: a cortical shell of exact thickness, however thin, around a trabecular core."""
        at = (spot.k, spot.j, spot.i)
        outer = self.fraction(spot.distance)
        core = self.fraction(spot.distance + thickness_mm)
        self.hu[at] = (1.0 - outer) * self.hu[at] + (outer - core) * shell_hu + core * core_hu
        self.labels[tuple(index[outer >= 0.5] for index in at)] = BONE

    @staticmethod
    def inside(part: Block, block: Block) -> Block | None:
        """Return the part of one block that lies inside another, None where they are apart."""
        start = tuple(max(a, b) for a, b in zip(part.start, block.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(part.stop, block.stop, strict=True))
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return None
        (k0, j0, i0), (k1, j1, i1) = start, stop
        k, j, i = (a - b for a, b in zip(start, part.start, strict=True))
        return Block(
            (k0, j0, i0),
            (k1, j1, i1),
            part.x[:, :, i : i + i1 - i0],
            part.y[:, j : j + j1 - j0],
            part.z[k : k + k1 - k0],
        )


def bounds(solid: Solid) -> tuple[Vector, Vector]:
    """Return the corners of the box around a shape or a list of shapes."""
    if not isinstance(solid, Sequence):
        return solid.bounds()
    boxes = [shape.bounds() for shape in solid]
    return np.min([lo for lo, _ in boxes], axis=0), np.max([hi for _, hi in boxes], axis=0)


def smooth_union(a: Array, b: Array, radius_mm: float) -> Array:
    """Return the distance to the union of two solids, its inner corner rounded over `radius_mm`.

    Source: the polynomial smooth minimum of Quilez, which lies at most radius/4 below min(a, b).
    """
    if radius_mm <= 0.0:
        return np.minimum(a, b)
    overlap = np.maximum(radius_mm - np.abs(a - b), 0.0)
    union: Array = np.minimum(a, b) - overlap * overlap * np.float32(0.25 / radius_mm)
    return union


def union_near(shapes: Sequence[Shape], x: Array, y: Array, z: Array, *, smooth_mm: float) -> Array:
    """Return the distance to a union on a grid of separate axes, exact within 15 mm, FAR_MM further out.

    Each shape is evaluated near itself only, which is what makes unions of many shapes cheap.
    """
    total = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), FAR_MM, np.float32)
    for shape in shapes:
        low, high = (corner + sign * (15.0 + smooth_mm) for corner, sign in zip(shape.bounds(), (-1, 1), strict=True))
        i, j, k = (
            slice(*np.searchsorted(axis.ravel(), (a, b))) for axis, a, b in zip((x, y, z), low, high, strict=True)
        )
        near = total[k, j, i]
        if near.size:
            near[...] = smooth_union(near, shape.distance(x[:, :, i], y[:, j], z[k]), smooth_mm)
    return total


def smooth_cut(a: Array, b: Array, radius_mm: float) -> Array:
    """Return the distance to solid a without solid b, the edge rounded over `radius_mm`."""
    return -smooth_union(-a, b, radius_mm)


def _stretched(values: Array, axis: int, step: int, length: int) -> Array:
    position = np.arange(length)
    weight = ((position % step) / step).astype(np.float32)
    weight = weight.reshape([-1 if a == axis else 1 for a in range(3)])
    left = position // step
    low: Array = np.take(values, left, axis=axis)
    high: Array = np.take(values, np.minimum(left + 1, values.shape[axis] - 1), axis=axis)
    high -= low
    high *= weight
    high += low
    return high
