"""Lungs between cage, mediastinum and diaphragm, with vessels, fissures and airways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .canvas import (
    AIR,
    FAR_MM,
    SOFT_TISSUE,
    Array,
    Block,
    Canvas,
    Shape,
    Solid,
    Vector,
    smooth_cut,
    smooth_union,
    union_near,
)
from .shapes import Ellipsoid, Rod, tube
from .spine import Vertebra
from .texture import Texture
from .thorax import Profile

LUNG_HU, VESSEL_HU, GAS_HU, WALL_HU = -865.0, 35.0, -995.0, 20.0


@dataclass(frozen=True)
class Lungs:
    """The air-filled part of the chest: inside the cage, above the diaphragm, beside the mediastinum.

    `reflection` holds (y, z) of the lowest pleura at the back and in front; `middle` holds the diaphragm's
    domes and all that lies between the lungs.
    """

    cage: Profile
    wall_mm: float
    reflection: dict[str, tuple[float, float]]
    middle: list[Solid]

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Return the signed distance to the pleura, negative in the lungs."""
        chest = self.cage.distance(x, y, z) + np.float32(self.wall_mm)
        # Apices end below the neck; the pleura turns back deep behind and high in front.
        (y0, z0), (y1, z1) = self.reflection["back"], self.reflection["front"]
        lowest = np.float32(z0) + (y - np.float32(y0)) * np.float32((z1 - z0) / (y1 - y0))
        chest = smooth_cut(np.maximum(chest, z - 478.0), (z - lowest) * np.float32(0.9), 4.0)
        middle = np.full((1, 1, 1), FAR_MM, np.float32)
        for solid in self.middle:
            shapes = solid if isinstance(solid, Sequence) else [solid]
            # Rods of one tube join as they are: rounding each of their joints would swell it.
            middle = smooth_union(middle, union_near(shapes, x, y, z, smooth_mm=0.0), 8.0)
        # Where both pleurae meet, before and behind the heart.
        middle = smooth_union(middle, np.abs(x + 3.0) - np.float32(2.5), 6.0)
        return smooth_cut(chest, middle, 3.0)


def build(data: dict[str, Any], cage: Profile, vertebrae: list[Vertebra], central: list[Solid]) -> Lungs:
    """Return the lungs around spine, heart and great vessels (`central`)."""
    lungs = data["lungs"]
    spine = [(*v.at(0, -4.0, 0), 0.5 * v.width + 4.0) for v in vertebrae if not v.is_lumbar]
    # Behind the vertebrae, between the transverse processes, lie the muscles of the back.
    back = [(*v.at(0, -0.5 * v.depth - 22.0, 0), 22.0) for v in vertebrae if not v.is_lumbar]
    column: list[Solid] = [tube(spine, 30.0), tube(back, 30.0)]
    parts: list[Solid] = [Ellipsoid(part["center"], part["radii"]) for part in lungs["mediastinum"]]
    domes: list[Solid] = [Ellipsoid(dome["center"], dome["radii"]) for dome in lungs["domes"]]
    return Lungs(cage, lungs["wall_mm"], lungs["reflection"], [*domes, *column, *parts, *central])


def paint(lungs: Lungs, data: dict[str, Any], canvas: Canvas, fine: Texture, rng: np.random.Generator) -> None:
    """Paint parenchyma, fissures, vessels and airways."""
    block = canvas.block([-150, -135, 120], [150, 95, 482])
    if block is None:
        return
    pleura = canvas.coarse(block, lungs.distance, 4.5)
    # Blood settles to the back of a supine patient: its lung is denser there.
    settled = LUNG_HU + np.float32(0.45) * np.clip(0.0 - block.y, -60.0, 120.0)
    canvas.paint_block(block, pleura, settled + 22.0 * fine.on(block), SOFT_TISSUE)
    for origin in data["lungs"]["hila"]:
        _paint_vessels(_tree(np.asarray(origin, float), _Depth(block, pleura), rng), canvas)
    _paint_airways(data["lungs"], canvas)


def _paint_vessels(tree: Vector, canvas: Canvas) -> None:
    for x0, y0, z0, x1, y1, z1, radius in tree[tree[:, 6] > 0.3 * canvas.voxel_mm]:
        found = canvas.field([Rod((x0, y0, z0), (x1, y1, z1), (radius, 0.94 * radius))])
        if found is None:
            continue
        block, distance = found
        # A vessel thinner than a voxel fills it in proportion to its cross-section.
        share = min(1.0, np.pi * (radius / canvas.voxel_mm) ** 2)
        alpha = canvas.fraction(distance) if share == 1.0 else share * (distance < 0.5 * canvas.voxel_mm)
        # Vessels only ever add to the lung: what is denser already stays.
        below = canvas.hu[block.slices]
        below += alpha * np.maximum(VESSEL_HU - below, 0.0)


class _Depth:
    """Looks up how deep in the lung points lie."""

    def __init__(self, block: Block, pleura: Array) -> None:
        self._pleura = pleura
        axes = [axis.ravel().astype(float) for axis in (block.z, block.y, block.x)]
        self._low = np.array([axis[0] for axis in axes])
        self._per_mm = np.array([(len(axis) - 1) / max(axis[-1] - axis[0], 1e-9) for axis in axes])
        self._last = np.array(pleura.shape) - 1

    def __call__(self, points: Vector) -> Array:
        """Return the depth in mm, (n,), of points (n, 3); points beyond the block count as outside."""
        index = np.rint((points[:, ::-1] - self._low) * self._per_mm).astype(int)
        within = np.all((index >= 0) & (index <= self._last), axis=1)
        k, j, i = np.clip(index, 0, self._last).T
        depth: Array = np.where(within, -self._pleura[k, j, i], -FAR_MM)
        return depth


def _tree(origin: Vector, depth_mm: _Depth, rng: np.random.Generator) -> Vector:
    """Grow vessels from the hilum: rows of start, end (RAS mm) and radius, (n, 7).

    Radii follow Murray's law: a parent's r³ is the sum of its children's. Each generation grows at once.
    """
    count = 18
    # Evenly spread over the sphere (golden angle), the half towards the midline folded outwards.
    up = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    turn = 2.39996 * np.arange(count) + rng.uniform(-0.3, 0.3, count)
    flat = np.sqrt(1.0 - up * up)
    direction = np.column_stack([np.sign(origin[0]) * np.abs(flat * np.cos(turn)), flat * np.sin(turn), up])
    start, radius = np.tile(origin, (count, 1)), rng.uniform(3.2, 5.6, count)
    segments = []
    for generation in range(13):
        end, alive = _grown(start, direction, radius, depth_mm if generation > 1 else None, rng)
        start, end, radius = start[alive], end[alive], radius[alive]
        segments.append(np.column_stack([start, end, radius]))
        thick = radius >= 0.5
        start, way, radius = end[thick], (end - start)[thick], radius[thick]
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        sideways = np.cross(way, rng.standard_normal(way.shape))
        sideways /= np.linalg.norm(sideways, axis=1, keepdims=True)
        major = rng.uniform(0.6, 0.93, len(radius))
        minor = (1.0 - major**3) ** (1 / 3)
        # The thinner a branch, the more it turns aside.
        direction = np.vstack(
            [way + (1.05 - 0.8 * major[:, None]) * sideways, way - (1.05 - 0.8 * minor[:, None]) * sideways]
        )
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        start, radius = np.vstack([start, start]), 0.94 * np.concatenate([radius * major, radius * minor])
    return np.vstack(segments)


def _grown(
    start: Vector, direction: Vector, radius: Vector, depth_mm: _Depth | None, rng: np.random.Generator
) -> tuple[Vector, npt.NDArray[np.bool_]]:
    """Return where vessels end, in the lung after at most four tries, and which of them found room."""
    end, alive = start.copy(), np.zeros(len(start), bool)
    for attempt in range(4):
        bent = direction + (0.12 + 0.25 * attempt) * rng.standard_normal(start.shape)
        length = radius * rng.uniform(3.0, 6.0, len(radius)) + 5.0
        tried = start + length[:, None] * bent / np.linalg.norm(bent, axis=1, keepdims=True)
        fits = ~alive & (np.ones(len(start), bool) if depth_mm is None else depth_mm(tried) > 2.5)
        end[fits] = tried[fits]
        alive |= fits
    return end, alive


def _paint_airways(data: dict[str, Any], canvas: Canvas) -> None:
    for label, hu, extra in ((SOFT_TISSUE, WALL_HU, 1.6), (AIR, GAS_HU, 0.0)):
        for path in (data["trachea"], *data["bronchi"]):
            widened = np.asarray(path, float) + np.array([0, 0, 0, extra])
            found = canvas.field(tube(widened, 8.0))
            if found is not None:
                canvas.paint(canvas.touched(*found), hu, label)


def aorta(data: dict[str, Any], vertebrae: list[Vertebra]) -> list[Shape]:
    """Return the aorta from the heart along the arch and down the front of the spine to L4."""
    arch = data["aorta"]["arch"]
    names = ("T8", "T10", "T12", "L2", "L4")
    radii = np.linspace(data["aorta"]["radii"][0], data["aorta"]["radii"][1], len(names))
    found = {v.name: v for v in vertebrae}
    down = []
    for name, radius, aside in zip(names, radii, (-20.0, -16.0, -8.0, -7.0, -5.0), strict=True):
        v = found[name]
        down.append([*v.at(aside, 0.5 * v.depth * (0.2 if aside < -15 else 1.0) + 0.9 * radius, 0.0), radius])
    return tube([*arch, *down], 12.0)
