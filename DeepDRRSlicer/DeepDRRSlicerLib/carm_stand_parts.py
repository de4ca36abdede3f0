"""The machine that carries the C: carriage, arm, mast, and a chassis on wheels."""

from __future__ import annotations

import vtk

from DeepDRRLogic.affine import rigid

from . import carm_shapes as shapes
from .carm_dimensions import Dimensions
from .carm_part import ACCENT, ENAMEL, GLASS, GRAPHITE, RUBBER, SILVER, Part
from .carm_stand import LIFT_REACH_MM
from .kinematics import about

_MAST_HEAD_MM = 112.0  # from the arm's axis to the lower end of the mast's head


def stand_parts(dimensions: Dimensions) -> dict[str, Part]:
    """All parts of the groups "angular", "wigwag", "lift" and "base", each in its group's frame."""
    return {
        **_carriage(dimensions.arc_radius_mm),
        **_arm(dimensions.arc_radius_mm, dimensions.column_distance_mm),
        **_mast(),
        **_column(dimensions.isocenter_height_mm),
        **_chassis(),
        **_wheels(),
        **_console(),
    }


def _carriage(radius: float) -> dict[str, Part]:
    """The guide the arc slides in; it leaves the arc's inner side free for tube and detector to pass."""
    guide = shapes.box(
        [
            (radius - 22, 196, 130, 26),
            (radius + 4, 214, 150, 34),
            (radius + 66, 214, 150, 34),
            (radius + 104, 150, 130, 56),
        ],
        "x",
        edge=10,
    )
    hub = shapes.round_bar([(radius + 96, 132), (radius + 158, 132)], "x", 6)
    ring = shapes.round_bar([(radius + 120, 135), (radius + 128, 135)], "x", 1.5)
    return {
        "carriage": Part("angular", guide, ENAMEL),
        "hub": Part("angular", hub, GRAPHITE),
        "hub_ring": Part("angular", ring, ACCENT),
    }


def _arm(radius: float, column: float) -> dict[str, Part]:
    arm = shapes.box([(radius + 160, 136, 136, 60), (radius + 196, 122, 122, 34), (column - 60, 122, 122, 34)], "x", 8)
    scale = shapes.box([(radius + 214, 16, 123.5, 7), (column - 110, 16, 123.5, 7)], "x", 1)
    return {"arm": Part("wigwag", arm, ENAMEL), "arm_scale": Part("wigwag", scale, SILVER)}


def _mast() -> dict[str, Part]:
    head = shapes.box(
        [(-_MAST_HEAD_MM, 168, 168, 50), (-_MAST_HEAD_MM + 26, 196, 190, 58), (84, 196, 190, 58), (108, 160, 156, 50)],
        "y",
        edge=12,
    )
    line = shapes.box([(-74, 197.6, 191.6, 58), (-67, 197.6, 191.6, 58)], "y", 1)
    mast = shapes.box([(-610, 116, 116, 26), (-_MAST_HEAD_MM + 4, 116, 116, 26)], "y", 4)
    return {
        "mast_head": Part("lift", head, ENAMEL),
        "mast_line": Part("lift", line, ACCENT),
        "mast": Part("lift", mast, SILVER),
    }


def _column(isocenter_height: float) -> dict[str, Part]:
    top = isocenter_height - _MAST_HEAD_MM - LIFT_REACH_MM - 2
    column = shapes.box([(110, 176, 176, 42), (top, 176, 176, 42)], "y", 8)
    collar = shapes.box([(top - 26, 182, 182, 45), (top + 4, 182, 182, 45)], "y", 4)
    return {"column": Part("base", column, ENAMEL), "collar": Part("base", collar, GRAPHITE)}


def _chassis() -> dict[str, Part]:
    """A cabinet behind the column, on a low tongue that reaches under the table to the front wheels."""
    cabinet = shapes.moved(
        shapes.box([(96, 470, 400, 90), (150, 500, 440, 100), (520, 470, 420, 100), (640, 360, 360, 90)], "y", edge=26),
        x=165,
    )
    skirt = shapes.moved(shapes.box([(66, 500, 430, 96), (120, 508, 446, 102)], "y", 8), x=165)
    tongue = shapes.moved(shapes.box([(62, 700, 200, 60), (118, 660, 160, 60)], "y", 8), x=-260)
    bridge = shapes.moved(shapes.box([(66, 120, 430, 50), (116, 90, 390, 44)], "y", 8), x=-560)
    stripe = shapes.moved(shapes.box([(470, 476.5, 424.5, 100), (478, 475.5, 423.5, 100)], "y", 1), x=165)
    return {
        "cabinet": Part("base", cabinet, ENAMEL),
        "chassis": Part("base", shapes.merged(skirt, tongue, bridge), GRAPHITE),
        "cabinet_line": Part("base", stripe, ACCENT),
    }


def _wheels() -> dict[str, Part]:
    tyres, hubs = [], []
    for x, z, diameter, width in ((300, 222, 190, 46), (-560, 196, 104, 40)):
        for side in (-1, 1):
            wheel = shapes.round_bar([(-width / 2, diameter), (width / 2, diameter)], "z", 12)
            hub = shapes.round_bar([(-width / 2 - 2, 0.56 * diameter), (width / 2 + 2, 0.56 * diameter)], "z", 5)
            tyres.append(shapes.moved(wheel, x, diameter / 2, side * z))
            hubs.append(shapes.moved(hub, x, diameter / 2, side * z))
    return {"wheels": Part("base", shapes.merged(*tyres), RUBBER), "hubs": Part("base", shapes.merged(*hubs), SILVER)}


def _console() -> dict[str, Part]:
    """A touch screen that leans towards who stands behind the machine, and the bar to push it by."""
    frame = _leaning(shapes.box([(-13, 200, 300, 18), (13, 200, 300, 18)], "y", 6))
    screen = _leaning(shapes.box([(8, 176, 276, 8), (14.5, 176, 276, 8)], "y", 1.5))
    foot = shapes.moved(shapes.box([(600, 90, 130, 30), (705, 60, 100, 26)], "y", 6), x=185)
    y = 665.0
    half = [(330, y - 60, -150), (386, y - 8, -165), (408, y + 24, -160), (416, y + 40, -130)]
    bar = shapes.tube([*half, (420, y + 44, 0), *((x, y, -z) for x, y, z in reversed(half))], 26)
    return {
        "console": Part("base", shapes.merged(frame, foot), ENAMEL),
        "screen": Part("base", screen, GLASS),
        "push_bar": Part("base", bar, GRAPHITE),
    }


def _leaning(solid: vtk.vtkPolyData) -> vtk.vtkPolyData:
    return shapes.transformed(solid, rigid(about("z", -48.0), (215.0, 745.0, 0.0)))
