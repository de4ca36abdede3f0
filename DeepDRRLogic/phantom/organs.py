"""Solid organs, muscles along the spine, stomach and bowel with their gas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import AIR, SOFT_TISSUE, Array, Canvas, Shape, Solid, Spot, Vector
from .shapes import Ellipsoid, Rod, curve, mirrored, rotation, tube
from .texture import Texture

BLOOD_HU, GAS_HU, WALL_HU, STOOL_HU, CHYME_HU = 45.0, -985.0, 38.0, 30.0, 25.0
COLON_WALL_MM = 2.6


def ellipsoids(parts: list[dict[str, Any]]) -> list[Solid]:
    """Return the ellipsoids of a list of {center, radii, turn_deg}."""
    return [Ellipsoid(p["center"], p["radii"], rotation(*p.get("turn_deg", (0, 0, 0)))) for p in parts]


def paint_muscles(data: dict[str, Any], canvas: Canvas, grain: Texture) -> None:
    """Paint psoas, iliacus and quadratus lumborum, whose edges in fat are seen on every abdominal film."""
    for path in data["muscles"].values():
        muscle = [tube(path, 12.0)]
        for side in (muscle, mirrored(muscle)):
            _paint_soft(side, 52.0, canvas, grain, 8.0)


def paint_organs(data: dict[str, Any], canvas: Canvas, grain: Texture) -> None:
    """Paint the solid organs of abdomen and pelvis."""
    for organ in data["organs"]:
        _paint_soft(ellipsoids(organ["parts"]), organ["hu"], canvas, grain, organ["smooth"])


def paint_vessels(vessels: Sequence[Solid], heart: Sequence[Solid], canvas: Canvas, grain: Texture) -> None:
    """Paint heart and aorta."""
    _paint_soft(heart, BLOOD_HU, canvas, grain, 10.0)
    _paint_soft(vessels, BLOOD_HU, canvas, grain, 0.0)


def paint_stomach(data: dict[str, Any], canvas: Canvas, grain: Texture, *, gas: float) -> None:
    """Paint the stomach; its gas rises to the front of the supine patient, above a level of fluid."""
    stomach = data["stomach"]
    found = canvas.field([tube(stomach["path"], 8.0)])
    if found is None:
        return
    block, distance = found
    spot = canvas.touched(block, distance)
    canvas.paint(spot, WALL_HU + 5.0 * grain.at(spot), SOFT_TISSUE)
    lumen = canvas.touched(block, distance + np.float32(stomach["wall_mm"]))
    canvas.paint(lumen, CHYME_HU + 10.0 * grain.at(lumen), SOFT_TISSUE)
    level = np.float32(stomach["gas_level_y"] - 22.0 * (gas - 1.0))
    air = np.maximum(distance + np.float32(stomach["wall_mm"]), level - block.y)
    canvas.paint(canvas.touched(block, air), GAS_HU, AIR)


def paint_colon(data: dict[str, Any], canvas: Canvas, stool: Texture, rng: np.random.Generator, *, gas: float) -> None:
    """Paint the colon: haustra, stool with bubbles, and gas in front of it."""
    for part in data["colon"]:
        rods = _haustra(np.asarray(part["path"], float), rng)
        amount = float(np.clip(part["gas"] * gas, 0.0, 1.0))
        pockets = _pockets(np.asarray(part["path"], float), rods, amount, rng)
        found = canvas.field([rods])
        if found is None:
            continue
        block, distance = found
        canvas.paint(canvas.touched(block, distance), WALL_HU, SOFT_TISSUE)
        _paint_stool(canvas.touched(block, distance + np.float32(COLON_WALL_MM)), canvas, stool)
        air = canvas.field(pockets, smooth_mm=2.0) if pockets else None
        if air is not None:
            canvas.paint(canvas.touched(*air), GAS_HU, AIR)


def paint_small_bowel(
    data: dict[str, Any], canvas: Canvas, grain: Texture, rng: np.random.Generator, *, gas: float
) -> None:
    """Paint loops of small bowel, mostly of fluid, few with a little gas."""
    bowel = data["small_bowel"]
    center, reach = np.asarray(bowel["center"], float), np.asarray(bowel["reach"], float)
    for _ in range(int(bowel["loops"])):
        middle = center + reach * _inside_ball(rng)
        heading = rng.uniform(0, 2 * np.pi)
        bend = np.array([np.cos(heading), rng.uniform(-0.4, 0.4), np.sin(heading)])
        across = np.array([-np.sin(heading), 0.0, np.cos(heading)]) * rng.uniform(8, 20)
        radius = float(rng.uniform(*bowel["radius"]))
        path = [
            middle - 26 * bend - across,
            middle - 10 * bend,
            middle + 10 * bend,
            middle + 26 * bend - across,
        ]
        shapes = tube([[*point, radius] for point in path], 10.0)
        _paint_soft(shapes, 35.0, canvas, grain, 0.0)
        if rng.uniform() < 0.22 * gas:
            rod = shapes[int(rng.integers(len(shapes)))]
            pocket = canvas.field([_Pocket(rod, 2.0, float(middle[1] + radius * rng.uniform(-0.6, 0.4)))])
            if pocket is not None:
                canvas.paint(canvas.touched(*pocket), GAS_HU, AIR)


def _paint_soft(solids: Sequence[Solid], hu: float, canvas: Canvas, grain: Texture, smooth_mm: float) -> None:
    found = canvas.field(solids, smooth_mm=smooth_mm)
    if found is not None:
        spot = canvas.touched(*found)
        canvas.paint(spot, hu + 6.0 * grain.at(spot), SOFT_TISSUE)


def _paint_stool(lumen: Spot, canvas: Canvas, stool: Texture) -> None:
    texture = stool.at(lumen)
    bubbles = np.clip(texture - 0.5, 0.0, 1.0)
    canvas.paint(lumen, STOOL_HU + 15.0 * texture - 620.0 * bubbles, SOFT_TISSUE)


@dataclass(frozen=True)
class _Pocket:
    """Gas in a piece of bowel: what lies inside its wall and in front of the level of its contents."""

    bowel: Shape
    wall_mm: float
    level_y: float

    def bounds(self) -> tuple[Vector, Vector]:
        return self.bowel.bounds()

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        inside = self.bowel.distance(x, y, z) + np.float32(self.wall_mm)
        lumen: Array = np.maximum(inside, np.float32(self.level_y) - y)
        return lumen


def _haustra(path: Vector, rng: np.random.Generator) -> list[Shape]:
    """Return short rods whose radii swell and shrink: sacculations about as long as they are wide."""
    points = curve(path, 4.0)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points[:, :3], axis=0), axis=1))])
    knots = np.cumsum(rng.uniform(0.9, 1.5, 60) * path[:, 3].mean())
    phase = np.interp(way, np.concatenate([[0.0], knots]), np.arange(61.0))
    swelling = 0.72 + 0.34 * np.abs(np.sin(np.pi * phase)) ** 0.6
    # Folds come from alternating sides: the axis of the lumen weaves a little.
    points[:, 0] += 2.0 * np.sin(np.pi * phase)
    points[:, 2] += 2.0 * np.cos(np.pi * phase)
    radii = points[:, 3] * swelling
    return [
        Rod(a[:3], b[:3], (float(r), float(s)))
        for a, b, r, s in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    ]


def _pockets(path: Vector, rods: list[Shape], amount: float, rng: np.random.Generator) -> list[Shape]:
    """Return the gas along a piece of colon: some lengths full, some empty, `amount` (0 to 1) on average."""
    points = curve(path, 4.0)
    pockets: list[Shape] = []
    start = 0
    while start < len(rods):
        # Fluid is flat: one level from fold to fold, in the plane of gravity (y), not along the bowel.
        stop = start + int(rng.integers(10, 20))
        fill = float(np.clip(amount + rng.uniform(-0.5, 0.5), 0.0, 1.0))
        height, radius = points[start:stop, 1], path[:, 3].mean()
        level = float(height.max() + radius - fill * (np.ptp(height) + 2.0 * radius))
        if fill > 0.12:
            pockets += [_Pocket(rod, COLON_WALL_MM, level) for rod in rods[start:stop]]
        start = stop
    return pockets


def _inside_ball(rng: np.random.Generator) -> Vector:
    direction = rng.standard_normal(3)
    point: Vector = direction / np.linalg.norm(direction) * rng.uniform() ** (1 / 3)
    return point
