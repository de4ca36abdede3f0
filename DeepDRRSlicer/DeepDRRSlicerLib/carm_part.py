"""A part of the C-arm: a mesh, the group it moves with, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import vtk

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Finish:
    """How a surface looks: colour, opacity, and the strength and sharpness of its highlight."""

    color: Color
    opacity: float = 1.0
    specular: float = 0.25
    power: float = 24.0
    ambient: float = 0.06


ENAMEL = Finish((0.91, 0.925, 0.935), specular=0.22, power=28)
SILVER = Finish((0.70, 0.73, 0.76), specular=0.45, power=36)
GRAPHITE = Finish((0.19, 0.205, 0.225), specular=0.3, power=20)
RUBBER = Finish((0.10, 0.105, 0.115), specular=0.08, power=8)
GLASS = Finish((0.055, 0.075, 0.11), specular=0.9, power=60)
ACCENT = Finish((0.0, 0.50, 0.56), specular=0.3, power=24, ambient=0.15)
BEAM = Finish((1.0, 0.80, 0.22), opacity=0.18, specular=0.0, ambient=0.85)
RAY = Finish((1.0, 0.52, 0.08), specular=0.0, ambient=0.6)


@dataclass(frozen=True, eq=False)
class Part:
    """A mesh in the frame of its `group` (see carm_stand.group_matrices), mm."""

    group: str
    poly_data: vtk.vtkPolyData
    finish: Finish
