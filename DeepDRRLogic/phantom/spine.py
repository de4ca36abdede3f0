"""Vertebrae from C6 to L5: where they stand and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import Array, Shape, Vector
from .shapes import Ellipsoid, Mirrored, Moved, Rod, rotation


@dataclass(frozen=True)
class Vertebra:
    """A vertebra: centre of its body, directions (right, front, up) in columns, and its measures in mm."""

    name: str
    center: Vector
    axes: Vector
    width: float
    depth: float
    height: float
    disc_below: float

    @property
    def is_lumbar(self) -> bool:
        return self.name.startswith("L")

    def at(self, x: float, y: float, z: float) -> Vector:
        """Return the RAS point at local coordinates right, front, up of the body's centre."""
        point: Vector = self.center + self.axes @ np.array([x, y, z])
        return point


def stack(data: dict[str, Any], scoliosis_mm: float) -> list[Vertebra]:
    """Return the vertebrae from L5 upwards, each disc and body placed on the one below.

    `scoliosis_mm` is the lateral amplitude, to the right where positive, of a smooth S-shaped curve.
    """
    top = np.asarray(data["sacral_endplate"], float)
    previous = rotation(x_deg=-38.0)
    vertebrae = []
    for name, tilt, width, depth, height, disc in data["vertebrae"]:
        roll = _scoliosis_slope(float(top[2]) + height / 2, scoliosis_mm)
        axes = rotation(x_deg=-tilt, y_deg=float(np.degrees(np.arctan(roll))))
        middle = (previous[:, 2] + axes[:, 2]) / 2
        center = top + disc * middle / np.linalg.norm(middle) + height / 2 * axes[:, 2]
        vertebrae.append(Vertebra(name, center, axes, width, depth, height, disc))
        top, previous = center + height / 2 * axes[:, 2], axes
    return vertebrae


def _scoliosis_slope(z_mm: float, amplitude_mm: float) -> float:
    """Slope dx/dz of amplitude · sin² over the lumbar and, opposite, over the thoracic spine."""
    length = 230.0
    if not 0.0 < z_mm - 10.0 < 2 * length:
        return 0.0
    phase = (z_mm - 10.0) / length
    sign = 1.0 if phase < 1.0 else -0.7
    return float(sign * amplitude_mm * np.pi / length * np.sin(2 * np.pi * phase))


@dataclass(frozen=True)
class Drum:
    """A vertebral body or disc, centred, axis along z: kidney-shaped, waisted, with concave end plates."""

    width: float
    depth: float
    height: float
    waist: float = 0.0
    concavity: float = 0.0

    def bounds(self) -> tuple[Vector, Vector]:
        half = np.array([self.width, self.depth, self.height]) / 2 + 1.0
        return -half, half

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        a, b, h = (np.float32(v / 2) for v in (self.width, self.depth, self.height))
        # The back of the body is flatter than its front, which makes the cross-section a kidney.
        v = y / b
        v = np.where(v < 0.0, v * np.float32(1.08), v)
        u2, v2 = np.square(x / a), np.square(v)
        radius = np.sqrt(np.sqrt(np.square(u2) + 1.2 * u2 * v2 + np.square(v2)) + np.float32(1e-6))
        level = np.minimum(np.square(z / h), 1.0)
        narrow = 1.0 - np.float32(self.waist) * (1.0 - level)
        side = (radius - narrow) * np.float32(0.5 * (a + b))
        plate = np.abs(z) - h + np.float32(self.concavity) * np.maximum(1.0 - np.square(radius), 0.0)
        rounding = np.float32(1.5)
        p, q = side + rounding, plate + rounding
        outside = np.sqrt(np.square(np.maximum(p, 0.0)) + np.square(np.maximum(q, 0.0)))
        value: Array = outside + np.minimum(np.maximum(p, q), 0.0) - rounding
        return value


def body(v: Vertebra) -> Shape:
    """Return the vertebral body."""
    waist = 0.07
    return Moved(Drum(v.width, v.depth, v.height, waist, 1.7 if v.is_lumbar else 1.2), v.center, v.axes)


def disc(v: Vertebra) -> Shape:
    """Return the disc below the vertebra, filling the hollows of both end plates."""
    thickness = v.disc_below + 5.0
    center = v.at(0.0, 0.0, -(v.height + v.disc_below) / 2)
    return Moved(Drum(0.98 * v.width, 0.98 * v.depth, thickness), center, v.axes)


def canal(v: Vertebra) -> Shape:
    """Return the piece of the spinal canal behind the body."""
    half = 11.5 if v.is_lumbar else 9.0
    y = -v.depth / 2 - 7.5
    reach = (v.height + v.disc_below) / 2
    return Rod(v.at(0, y, -reach), v.at(0, y, reach), (7.5, 7.5), (half, half), v.axes[:, 1])


def arch(v: Vertebra) -> list[Shape]:
    """Return pedicles, laminae, articular, transverse and spinous processes."""
    local = _lumbar_arch(v) if v.is_lumbar else _thoracic_arch(v)
    return [Moved(shape, v.center, v.axes) for shape in local]


def _both(shapes: list[Shape]) -> list[Shape]:
    return [*shapes, *(Mirrored(shape) for shape in shapes)]


def _lumbar_arch(v: Vertebra) -> list[Shape]:
    level = 5 - int(v.name[1])  # 0 at L5, 4 at L1
    back = -v.depth / 2
    pedicle = 4.0 + [3.0, 2.0, 1.0, 0.4, 0.0][level]
    x = [20.5, 18.0, 17.0, 15.8, 15.0][level]
    reach = [46.0, 45.0, 50.0, 46.0, 40.0][level]
    thin = 6.0 if level == 0 else 3.2
    facet = x + 2.5
    half: list[Shape] = [
        Rod((x, back + 3, 5), (x + 0.5, back - 13, 4.5), (pedicle, pedicle), (7.2, 7.2), (1, 0, 0)),
        # Superior articular process, pars and inferior articular process: the Scottie dog's ear, neck, leg.
        Rod((facet, back - 15, 6), (facet + 1, back - 17, 21), (4.6, 3.6), (6.5, 5.5), (1, 0, 0)),
        Rod((facet - 1, back - 16, 5), (x - 1, back - 21, -8), (4.2, 3.8), (6.5, 6.0), (0, 1, 0)),
        Rod((x - 1, back - 21, -8), (x - 1.5, back - 24, -25), (4.8, 3.8), (6.5, 5.0), (1, 0, 0)),
        Rod((x - 3, back - 20, -4), (2, back - 28, -9), (3.0, 3.0), (9.0, 9.0), (0.5, 1, 0)),
        Rod((x + 5, back - 11, 4), (reach, back - 16, 7), (thin, 0.75 * thin), (7.0, 3.4), (0, 1, 0)),
    ]
    length = [-48.0, -54.0, -57.0, -56.0, -53.0][level]
    aside = (0.8, -1.2, 0.4, 1.4, -0.6)[level]
    spine: list[Shape] = [
        Rod((0, back - 22, -6), (aside, back + length, -11), (4.2, 4.2), (10.0, 10.0), (1, 0, 0)),
        Rod((aside, back + length, -17), (aside, back + length, -5), (5.6, 4.4)),
    ]
    return _both(half) + spine


def _thoracic_arch(v: Vertebra) -> list[Shape]:
    # 0 at C6 and C7, 12 at T12: what changes downwards is the slope of the spinous process and the width.
    level = int(v.name[1:]) if v.name.startswith("T") else 0
    back = -v.depth / 2
    pedicle = float(np.interp(level, [0, 1, 4, 8, 12], [3.6, 3.8, 2.6, 3.0, 4.0]))
    x = float(np.interp(level, [0, 1, 4, 8, 12], [13.5, 13.0, 10.5, 11.5, 14.0]))
    tip = float(np.interp(level, [0, 1, 6, 10, 11, 12], [29.0, 36.0, 32.0, 29.0, 24.0, 20.0]))
    fall = float(np.interp(level, [0, 1, 3, 5, 8, 10, 12], [-12, -14, -26, -40, -40, -26, -12]))
    length = float(np.interp(level, [0, 1, 5, 8, 12], [-46, -48, -44, -45, -47]))
    high = float(np.interp(level, [0, 1, 5, 10, 12], [5.0, 5.5, 5.0, 6.0, 8.5]))
    pedicle_height = float(np.interp(level, [0, 1, 6, 12], [3.6, 4.4, 5.4, 7.4]))
    half: list[Shape] = [
        Rod((x, back + 3, 4.5), (x + 0.5, back - 9, 4.5), (pedicle,) * 2, (pedicle_height,) * 2, (1, 0, 0)),
        Rod((x + 1, back - 12, -9), (x + 1, back - 9, 13), (3.0, 2.6), (5.0, 4.4), (0, 1, 0)),
        Rod((x, back - 12, -2), (1, back - 19, -6), (2.6, 2.6), (8.5, 8.5), (0.4, 1, 0)),
        Rod((x + 2, back - 11, 3), (tip, back - 22, 7), (4.2, 4.0), (5.0, 4.6), (0, 1, 0)),
        Ellipsoid((tip, back - 22, 7), (5.2, 4.8, 5.4)),
    ]
    # Spinous processes are seldom quite in the midline.
    aside = 2.2 * float(np.sin(2.4 * level))
    spine: list[Shape] = [
        Rod((0, back - 17, -5), (aside, back + length, fall), (4.0, 3.0), (high, high - 1), (1, 0, 0)),
        Ellipsoid((aside, back + length, fall), (4.4, 4.0, 5.0)),
    ]
    return _both(half) + spine
