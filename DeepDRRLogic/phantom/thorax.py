"""The rib cage: the surface that ribs lie on, ribs, costal cartilages and sternum; clavicle and scapula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .canvas import Array, Shape, Solid, Vector
from .plate import Plate
from .shapes import Ellipsoid, curve, ribbon, tube
from .spine import Vertebra


class Profile:
    """A stack of superelliptic cross-sections: rows (z, half width, y back, y front), smooth in z.

    The signed distance is taken along rays from the section's centre, to first order.
    """

    def __init__(self, rows: npt.ArrayLike, exponent: float) -> None:
        table = np.asarray(rows, float)
        table = table[np.argsort(table[:, 0])]
        # The smooth curve must stay a function of z: it runs over the row number, and z goes along with it.
        dense = curve(np.hstack([table, np.zeros_like(table)]), 8.0)[:, :4]
        self._table = dense[np.argsort(dense[:, 0])]
        self.exponent = exponent

    def section(self, z: npt.ArrayLike) -> tuple[Vector, Vector, Vector]:
        """Return half width, y of the centre and half depth at heights z."""
        levels = np.asarray(z, float)
        width, back, front = (np.interp(levels, self._table[:, 0], column) for column in self._table.T[1:])
        return width, (back + front) / 2, (front - back) / 2

    def point(self, angle_deg: float, z: float) -> Vector:
        """Return the surface point at an angle from the back's midline towards the right (+x)."""
        width, center, depth = self.section(z)
        power = 2.0 / self.exponent
        s, c = np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
        x = width * np.sign(s) * np.abs(s) ** power
        y = center - depth * np.sign(c) * np.abs(c) ** power
        return np.array([x, y, z], dtype=float)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        a, center, b = (value.astype(np.float32) for value in self.section(z))
        dy = y - center
        power = np.float32(self.exponent)
        level = (np.abs(x / a) ** power + np.abs(dy / b) ** power + np.float32(1e-6)) ** (1 / power)
        # |p| (1 - 1/level) is the distance along the ray; it is as negative as the section is small inside.
        value: Array = np.sqrt(x * x + dy * dy) * (1 - 1 / np.maximum(level, 0.2))
        return np.where(level < 0.2, -0.8 * np.minimum(a, b), value)


@dataclass(frozen=True)
class Rib:
    """One rib of the right side (+x): its bone, its cartilage (None where floating) and its front end."""

    bone: list[Shape]
    cartilage: list[Shape]
    end_ras: Vector


def ribs(cage: Profile, data: dict[str, Any], thoracic: list[Vertebra], slope: float) -> list[Rib]:
    """Return ribs 1 to 12 of the right side, hung on the vertebrae T1 to T12.

    `slope` scales how far each front end lies below its head.
    """
    result: list[Rib] = []
    for index, (row, vertebra) in enumerate(zip(data["ribs"]["rows"], thoracic, strict=True)):
        drop, end_deg, thin, wide = row
        path, normals = _rib_path(cage, vertebra, slope * drop, end_deg)
        sizes = np.column_stack([np.full(len(path), thin), np.full(len(path), wide)])
        sizes[:2] = [3.0, 4.5]
        sizes[-1] *= [1.15, 1.05]
        if index == 0:
            normals = np.broadcast_to([0.0, 0.45, 0.9], normals.shape)
        bone = ribbon(np.hstack([path, sizes]), normals)
        end = path[-1]
        result.append(Rib(bone, _cartilage(index, end, path[-2], result, data["sternal_ends"]), end))
    return result


def _rib_path(cage: Profile, v: Vertebra, drop: float, end_deg: float) -> tuple[Vector, Vector]:
    back = -v.depth / 2
    tip = float(np.interp(int(v.name[1:]), [1, 6, 10, 12], [34.0, 31.0, 28.0, 26.0]))
    head = v.at(0.46 * v.width, back + 3, 0.42 * v.height)
    tubercle = v.at(tip, back - 14, 0.25 * v.height)
    start_deg = 24.0 if v.name not in ("T1", "T2") else 42.0
    count = max(6, round((end_deg - start_deg) / 10.0))
    angles = np.linspace(start_deg, end_deg, count)
    # The rib sinks in proportion to the way along it, which is known only once its points are: two passes.
    z = head[2] - drop * np.linspace(0.15, 1.0, count)
    for _ in range(2):
        points = np.array([head, tubercle, *(cage.point(a, b) for a, b in zip(angles, z, strict=True))])
        way = np.cumsum(np.hypot(*np.diff(points[:, :2], axis=0).T))[1:]
        z = head[2] - drop * (way / way[-1]) ** 1.1
    width, center, depth = cage.section(z)
    outward = np.column_stack([points[2:, 0] / width**2, (points[2:, 1] - center) / depth**2, 0.0 * z])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    # The spine's sideways bend fades out along the rib.
    points[2:, 0] += v.center[0] * (1.0 - way / way[-1])
    return points, np.vstack([[[0.6, -0.8, 0.0]] * 2, outward])


def _cartilage(
    index: int, end: Vector, before: Vector, above: list[Rib], sternal_ends: list[list[float]]
) -> list[Shape]:
    """Return the cartilage of rib `index` + 1: to the sternum, to the rib above, or none."""
    if index >= 10:
        return []
    true_rib = index < len(sternal_ends)
    target = np.array(sternal_ends[index]) if true_rib else above[index - 1].end_ras + np.array([-8, 4, 4])
    onward = (end - before) / np.linalg.norm(end - before)
    onward[2] *= 0.5
    sag = np.array([0.0, 4.0, -4.0 - 2.0 * min(index, 7)])
    middle = 0.5 * (end + target) + onward * (14.0 if true_rib else 6.0) + sag
    radii = np.full((3, 1), 5.8 if true_rib else 4.6)
    return tube(np.hstack([[end, middle, target], radii]), 8.0)


def sternum(data: dict[str, Any]) -> list[Solid]:
    """Return manubrium, body and xiphoid process."""
    facing = (0.0, 0.92, 0.38)
    parts = [data["sternum"][name] for name in ("manubrium", "body", "xiphoid")]
    return [ribbon(part, facing, 10.0) for part in parts]


def clavicle(data: dict[str, Any]) -> list[Solid]:
    """Return the right clavicle."""
    return [tube(data["clavicle"], 6.0)]


def scapula(data: dict[str, Any]) -> list[Solid]:
    """Return the right scapula with spine, acromion, coracoid and glenoid, the arm being raised."""
    return [
        Plate(data["scapula_rim"], data["scapula_inner"]),
        ribbon(data["scapular_spine"], (0.55, -0.35, -0.75), 6.0),
        tube(data["coracoid"], 6.0),
        Ellipsoid(data["glenoid"]["center"], data["glenoid"]["radii"]),
    ]


def humerus(data: dict[str, Any]) -> list[Solid]:
    """Return the upper end of the right humerus."""
    head = data["humeral_head"]
    return [Ellipsoid(head["center"], [head["radius"]] * 3), tube(data["humerus"], 8.0)]
