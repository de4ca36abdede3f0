"""Sacrum, hip bones and upper femora."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import Array, Solid, Vector, smooth_cut, smooth_union
from .plate import Plate
from .shapes import Ellipsoid, Moved, Rod, ribbon, rotation, tube
from .spine import Drum


@dataclass(frozen=True)
class Sacrum:
    """Five fused segments bent along a circle in the sagittal plane, with wings, foramina and canal."""

    endplate: Vector
    radius: float
    slope_deg: float
    length: float

    @property
    def _circle(self) -> tuple[float, float]:
        a = np.radians(self.slope_deg)
        return (
            float(self.endplate[1] + self.radius * np.cos(a)),
            float(self.endplate[2] - self.radius * np.sin(a)),
        )

    def at(self, x: float, along: float, behind: float) -> Vector:
        """Return the RAS point at `along` mm down the curve and `behind` mm behind it."""
        y0, z0 = self._circle
        angle = np.radians(self.slope_deg) - along / self.radius
        r = self.radius + behind
        return np.array([x + self.endplate[0], y0 - r * np.cos(angle), z0 + r * np.sin(angle)])

    def bounds(self) -> tuple[Vector, Vector]:
        corners = np.array([self.at(60.0 * s, a, n) for s in (-1, 1) for a in (-6, 0, 55, 112) for n in (-20, 34)])
        return corners.min(axis=0), corners.max(axis=0)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        y0, z0 = self._circle
        x = np.abs(x - np.float32(self.endplate[0]))
        r = np.sqrt(np.square(y - np.float32(y0)) + np.square(z - np.float32(z0)))
        angle = np.arctan2(z - np.float32(z0), np.float32(y0) - y)
        s = (np.float32(np.radians(self.slope_deg)) - angle) * np.float32(self.radius)
        n = r - np.float32(self.radius)
        share = np.clip(s / np.float32(self.length), 0.0, 1.0)
        # Wings: wide above, narrow below, wedge-shaped so that the sacroiliac joints converge to the back.
        width = np.interp(share, [0, 0.08, 0.22, 0.36, 0.5, 0.62, 0.8, 1.0], [57, 58, 57, 53, 44, 36, 26, 13]).astype(
            np.float32
        )
        side = x - (width - np.maximum(n + 6.0, 0.0) * np.float32(0.42))
        front = np.interp(share, [0, 0.3, 1], [13, 11, 6]).astype(np.float32)
        behind = np.interp(share, [0, 0.25, 0.6, 1], [17, 17, 13, 6]).astype(np.float32)
        hollow = np.maximum(x - 22.0, 0.0) * np.float32(0.10)
        top = np.maximum(x - 24.0, 0.0) * np.float32(0.36) - s
        thickness = np.maximum(-n - front + hollow, n - behind)
        ends = np.maximum(top, s - np.float32(self.length))
        solid = -smooth_union(-np.maximum(side, thickness), -ends, 5.0)
        canal_width = 12.0 - 7.0 * share
        canal = np.square(x / canal_width) + np.square((n - behind + 8.0) / (6.0 - 3.0 * share))
        solid = smooth_cut(solid, (np.sqrt(canal) - 1.0) * 5.0, 4.0)
        for along, across, hole in ((27, 21.5, 6.2), (50, 18.5, 5.6), (71, 15.5, 4.8), (90, 12.5, 4.0)):
            # The holes open outwards to the front.
            center = np.float32(across) - (n - 4.0) * np.float32(0.35)
            # Funnels: wide towards the front, where the nerve leaves, with a soft rim.
            wide = np.float32(hole) + np.clip(-n, -4.0, 10.0) * np.float32(0.28)
            level = s - np.float32(along) - n * np.float32(0.35)
            ring = np.sqrt(np.square((x - center) * 0.85) + np.square(level * 1.2)) - wide
            solid = smooth_cut(solid, ring, 6.0)
        value: Array = solid
        return value


def sacrum(data: dict[str, Any], endplate: Vector) -> tuple[Sacrum, list[Solid]]:
    """Return the sacrum and all its parts: wings and segments, first body, articular processes, coccyx."""
    measures = data["sacrum"]
    base = Sacrum(endplate, measures["radius"], measures["slope_deg"], measures["length"])
    first = Moved(Drum(52, 33, 28, 0.06, 1.5), base.at(0, 13.5, -1.0), rotation(x_deg=-measures["slope_deg"] + 8.0))
    parts: list[Solid] = [base, first]
    for side in (-1.0, 1.0):
        parts.append(Rod(base.at(21 * side, 4, 22), base.at(23 * side, -10, 20), (4, 3.4), (7, 6), (0, 1, 0.6)))
    # The median crest: one spinous tubercle for each of the upper four segments.
    for index, along in enumerate((12.0, 36.0, 58.0, 78.0)):
        behind = np.interp(along, [0, 28, 67, 112], [17, 17, 13, 6]) + 2.0
        parts.append(Ellipsoid(base.at(0, along, behind), (4.5, 8.0 - index, 9.5)))
    coccyx = [[*base.at(0, a, 0), r] for a, r in ((114, 6.5), (124, 5.5), (133, 4.5), (142, 3.5))]
    return base, [*parts, tube(coccyx, 8.0)]


@dataclass(frozen=True)
class Acetabulum:
    """The socket: a hemispherical shell about the centre of the femoral head, open to the side."""

    center: Vector
    outer: float
    inner: float
    opening: Vector
    depth: float

    def bounds(self) -> tuple[Vector, Vector]:
        return self.center - self.outer, self.center + self.outer

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        px, py, pz = (v - np.float32(c) for v, c in zip((x, y, z), self.center, strict=True))
        r = np.sqrt(px * px + py * py + pz * pz)
        a, b, c = (np.float32(v) for v in self.opening / np.linalg.norm(self.opening))
        shell = np.maximum(r - np.float32(self.outer), np.float32(self.inner) - r)
        rim = a * px + b * py + c * pz - np.float32(self.depth)
        # The notch below, where the rim is missing.
        notch = np.float32(9.0) - np.sqrt(np.square(py + 2.0 - 0.25 * pz) + np.square(px + 12.0))
        value: Array = np.maximum(shell, np.maximum(rim, np.where(pz < -10.0, notch, -9.0)))
        return value


@dataclass(frozen=True)
class HipBone:
    """The right hip bone: wing, columns, rami, and the socket hollowed out for the femoral head."""

    wing: Plate
    solids: list[Solid]
    socket: Acetabulum
    gap: float

    def hollowed(self, distance: Array, x: Array, y: Array, z: Array) -> Array:
        """Return the distance of the union of `solids` with socket and symphysis cut out."""
        px, py, pz = (v - np.float32(c) for v, c in zip((x, y, z), self.socket.center, strict=True))
        r = np.sqrt(px * px + py * py + pz * pz)
        a, b, c = (np.float32(v) for v in self.socket.opening / np.linalg.norm(self.socket.opening))
        # Ball and the mouth of the socket: nothing of the hip bone lies lateral of the rim.
        mouth = np.maximum(-(a * px + b * py + c * pz) + np.float32(self.socket.depth), r - 43.0)
        cut = smooth_cut(distance, np.minimum(r - np.float32(self.socket.inner), mouth), 2.0)
        value: Array = np.maximum(cut, np.float32(self.gap) - x)
        return value


def hip_bone(data: dict[str, Any], head_center: Vector) -> HipBone:
    """Return the right hip bone around the centre of the femoral head."""
    cup = data["acetabulum"]
    socket = Acetabulum(head_center, cup["outer"], cup["inner"], np.asarray(cup["opening"], float), cup["depth"])
    tubercle = data["pubic_tubercle"]
    wing = Plate(data["ilium_rim"], data["ilium_inner"])
    solids: list[Solid] = [
        wing,
        socket,
        tube(data["posterior_column"], 8.0),
        tube(data["ischial_spine"], 8.0),
        tube(data["arcuate_line"], 6.0),
        tube(data["inferior_ramus"], 6.0),
        tube(data["superior_ramus"], 6.0),
        Ellipsoid(tubercle["center"], tubercle["radii"]),
    ]
    return HipBone(wing, solids, socket, data["pubic_gap_half_width"])


def femur(data: dict[str, Any]) -> list[Solid]:
    """Return the upper half of the right femur."""
    head = data["head"]
    return [
        Ellipsoid(head["center"], [head["radius"]] * 3),
        ribbon(data["neck"], (0.6, -0.1, 0.75), 8.0),
        tube(data["greater_trochanter"], 6.0),
        tube(data["lesser_trochanter"], 6.0),
        tube(data["crest"], 6.0),
        tube(data["shaft"], 10.0),
    ]
