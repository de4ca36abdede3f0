"""What sketches of a C-arm are made of: the patient, exposures, dimension lines, lettering."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Ellipse, FancyBboxPatch, Polygon, Rectangle

from DeepDRRLogic.affine import apply
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.geometry import Camera

INK, QUIET, PALE = "#1f2933", "#7b8794", "#cbd2d9"
SOURCE, DETECTOR, BEAM, BODY = "#c2410c", "#1d4ed8", "#f59e0b", "#e4e7eb"

# (horizontal, vertical) RAS axis of a sketch, each with a sign: which way the reader looks at the patient.
FROM_THE_FEET = ((0, -1.0), (1, 1.0))
FROM_THE_LEFT = ((2, -1.0), (1, 1.0))
View = tuple[tuple[int, float], tuple[int, float]]


def flat(points_ras: np.ndarray, view: View) -> np.ndarray:
    """Points (..., 3) in RAS as (..., 2) on the paper."""
    return np.stack([sign * np.asarray(points_ras)[..., axis] for axis, sign in view], axis=-1)


def detector_edge(camera: Camera, *, across: str) -> np.ndarray:
    """The two ends (2, 3) in RAS of the detector's middle row or column."""
    u, v = (camera.width - 1) / 2, (camera.height - 1) / 2
    ends = [[-0.5, v, 0], [camera.width - 0.5, v, 0]] if across == "u" else [[u, -0.5, 0], [u, camera.height - 0.5, 0]]
    return apply(camera.ras_from_pixel, ends)


def draw_exposure(ax: Axes, arm: CArm, view: View, *, across: str, strength: float = 1.0) -> None:
    camera = arm.camera()
    source, center = flat(camera.source_ras, view), flat(camera.detector_center_ras, view)
    edge = flat(detector_edge(camera, across=across), view)
    ax.add_patch(Polygon([source, *edge], closed=True, color=BEAM, alpha=0.16 * strength, lw=0))
    ax.plot(*np.stack((source, center)).T, color=QUIET, lw=0.9, ls=(0, (6, 3)), alpha=strength, zorder=3)
    ax.plot(*edge.T, color=DETECTOR, lw=5, solid_capstyle="butt", alpha=strength, zorder=4)
    ax.add_patch(Circle(source, 17, color=SOURCE, alpha=strength, lw=0, zorder=5))


def draw_axial_body(ax: Axes) -> None:
    ax.add_patch(Ellipse((0, 0), 340, 220, fc=BODY, ec=QUIET, lw=1))
    ax.add_patch(Ellipse((0, -62), 62, 50, fc="white", ec=PALE, lw=1))
    ax.add_patch(Rectangle((-210, -131), 420, 14, fc=PALE, lw=0))


def draw_sagittal_body(ax: Axes) -> None:
    ax.add_patch(FancyBboxPatch((-175, -88), 500, 172, boxstyle="round,rounding_size=70", fc=BODY, ec=QUIET, lw=1))
    ax.add_patch(Ellipse((-258, 2), 165, 150, fc=BODY, ec=QUIET, lw=1))
    ax.add_patch(Polygon([(-275, 72), (-256, 96), (-243, 72)], fc=BODY, ec=QUIET, lw=1))
    ax.add_patch(Rectangle((-360, -110), 720, 14, fc=PALE, lw=0))


def label(ax: Axes, at: tuple[float, float], text: str, color: str = INK, **options: object) -> None:
    settings = {"ha": "center", "va": "center", "fontsize": 9.5, "color": color, "zorder": 8} | options
    ax.text(*at, text, **settings)


def dimension(ax: Axes, x: float, low: float, high: float, text: str) -> None:
    """A vertical dimension line with its text beside it."""
    ax.annotate(
        "",
        (x, low),
        (x, high),
        arrowprops={"arrowstyle": "<->", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0},
    )
    label(ax, (x - 14, (low + high) / 2), text, rotation=90, ha="right", fontsize=9)


def arrow(ax: Axes, start: np.ndarray, end: np.ndarray, color: str, width: float = 1.6) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "lw": width,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 12,
    }
    ax.annotate("", tuple(end), tuple(start), arrowprops=style, zorder=7)


def prepare(ax: Axes, title: str, limits: tuple[float, float, float, float]) -> None:
    """Empty paper with a title at the corner of the cell, whatever the aspect makes of the axes."""
    cell = ax.get_position()
    ax.figure.text(cell.x0, cell.y1 + 0.012, title, fontsize=12.5, fontweight="bold", color=INK, va="bottom")
    ax.set_xlim(limits[0], limits[1])
    ax.set_ylim(limits[2], limits[3])
    ax.set_aspect("equal")
    ax.axis("off")
