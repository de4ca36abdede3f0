"""What a peer is told: a view in the frame of the volume, so that nobody's world convention matters.

The frame has its origin in the middle of the volume and its axes along i, j, k, in mm. It is an isometry of the
patient, a reflection where the volume is left-handed, so every line integral stays what it is. Voxel (i, j, k) is
centred at spacing · ((i, j, k) - (n - 1)/2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """The source, the centre of pixel (0, 0), and the steps of one pixel along u and v, (3,) each, in mm."""

    source_mm: Vector
    pixel_00_mm: Vector
    step_u_mm: Vector
    step_v_mm: Vector
    width: int
    height: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> View:
        fields: dict[str, Any] = {name: np.array(value) if np.ndim(value) else value for name, value in values.items()}
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        return {name: value.tolist() if np.ndim(value) else value for name, value in vars(self).items()}

    @property
    def pitch_mm(self) -> tuple[float, float]:
        return float(np.linalg.norm(self.step_u_mm)), float(np.linalg.norm(self.step_v_mm))

    @property
    def directions(self) -> tuple[Vector, Vector, Vector]:
        """Unit vectors along u and v, and the detector's normal towards the source."""
        u, v = self.step_u_mm / self.pitch_mm[0], self.step_v_mm / self.pitch_mm[1]
        normal = np.cross(u, v)
        return u, v, normal * np.sign(normal @ (self.source_mm - self.pixel_00_mm))

    @property
    def source_to_detector_mm(self) -> float:
        return float(self.directions[2] @ (self.source_mm - self.pixel_00_mm))

    @property
    def principal_point(self) -> tuple[float, float]:
        """The pixel (u, v) at the foot of the perpendicular from the source."""
        u, v, _ = self.directions
        from_pixel_00 = self.source_mm - self.pixel_00_mm
        return float(u @ from_pixel_00) / self.pitch_mm[0], float(v @ from_pixel_00) / self.pitch_mm[1]

    @property
    def seen_from_source(self) -> bool:
        """Whether v is 90° clockwise of u for an eye at the source; else the picture is its mirror image."""
        u, v, to_source = self.directions
        return bool(np.cross(u, v) @ to_source < 0)


def voxel_000_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> Vector:
    """Where the first voxel of an array [k, j, i] is centred."""
    first: Vector = -0.5 * (np.array(shape[::-1]) - 1) * spacing_mm
    return first
