"""Draw the figure of Resources/Documentation/geometry.md.

Sources, detectors and pixels are placed by the code they explain, so the figure cannot tell another story.
Run from the repository root: python Testing/Figures/geometry_figure.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from figure_options import figure_options
from matplotlib.axes import Axes
from matplotlib.patches import Arc, Circle, Ellipse, Polygon, Rectangle
from sketch import (
    BEAM,
    BODY,
    DETECTOR,
    FROM_THE_FEET,
    FROM_THE_LEFT,
    INK,
    PALE,
    QUIET,
    SOURCE,
    arrow,
    detector_edge,
    dimension,
    draw_axial_body,
    draw_exposure,
    draw_sagittal_body,
    flat,
    label,
    prepare,
)

from DeepDRRLogic.affine import apply
from DeepDRRLogic.carm import CArm

FOLDER = Path(__file__).parents[2] / "Resources" / "Documentation"


def panel_distances(ax: Axes) -> None:
    prepare(ax, "A   Distances", (-640, 640, -640, 640))
    arm = CArm(detector_shift_mm=(70, 0))
    draw_axial_body(ax)
    draw_exposure(ax, arm, FROM_THE_FEET, across="u")
    ax.plot([0, 0], [-530, 490], color=INK, lw=1.1, zorder=4)
    ax.add_patch(Circle((0, 0), 9, color=INK, zorder=6))
    for y in (-530, 0, 490):
        ax.plot([-395, -20], [y, y], color=PALE, lw=0.8, zorder=1)
    dimension(ax, -250, -530, 0, "source_to_isocenter_mm")
    dimension(ax, -375, -530, 490, "source_to_detector_mm")
    ax.annotate(
        "",
        (0, 560),
        (70, 560),
        arrowprops={"arrowstyle": "<->", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0},
    )
    for x in (0, 70):
        ax.plot([x, x], [497, 575], color=QUIET, lw=0.8)
    label(ax, (88, 560), "detector_shift_mm", ha="left", fontsize=9)
    label(ax, (30, -535), "source (focal spot)", SOURCE, ha="left")
    label(ax, (-14, 24), "isocentre", ha="right", fontsize=8.5)
    label(ax, (245, 490), "detector", DETECTOR, ha="left")
    label(ax, (95, -290), "central ray,\ncamera z", ha="left", fontsize=9)
    ax.plot([3, 90], [-290, -290], color=PALE, lw=0.8)
    label(ax, (0, -615), "magnification = source_to_detector_mm / source_to_isocenter_mm", QUIET, fontsize=8.5)


def panel_primary(ax: Axes) -> None:
    prepare(ax, "B   Primary angle α, seen from the patient's feet", (-640, 640, -640, 640))
    draw_axial_body(ax)
    draw_exposure(ax, CArm(), FROM_THE_FEET, across="u", strength=0.35)
    draw_exposure(ax, CArm(primary_angle_deg=40), FROM_THE_FEET, across="u")
    ax.add_patch(Arc((0, 0), 700, 700, theta1=50, theta2=90, color=INK, lw=1.2))
    label(ax, (72, 390), "α = +40°", fontsize=10)
    label(ax, (360, 565), "LAO (+)  →", DETECTOR, fontweight="bold", fontsize=11)
    label(ax, (-360, 565), "←  RAO (−)", QUIET, fontweight="bold", fontsize=11)
    label(ax, (0, 535), "α = 0", QUIET)
    label(ax, (-130, 0), "R", fontweight="bold")
    label(ax, (130, 0), "L", fontweight="bold")
    label(ax, (-62, 78), "A", fontweight="bold")
    label(ax, (62, -78), "P", fontweight="bold")
    label(
        ax,
        (0, -615),
        "±90°: laterals, detector at the left or right      180°: tube over the table",
        QUIET,
        fontsize=8.5,
    )


def panel_secondary(ax: Axes) -> None:
    prepare(ax, "C   Secondary angle β, seen from the patient's left", (-640, 640, -640, 640))
    draw_sagittal_body(ax)
    draw_exposure(ax, CArm(), FROM_THE_LEFT, across="v", strength=0.35)
    draw_exposure(ax, CArm(secondary_angle_deg=35), FROM_THE_LEFT, across="v")
    ax.add_patch(Arc((0, 0), 700, 700, theta1=90, theta2=125, color=INK, lw=1.2))
    label(ax, (-72, 390), "β = +35°", fontsize=10)
    label(ax, (-360, 565), "←  CRAN (+)", DETECTOR, fontweight="bold", fontsize=11)
    label(ax, (360, 565), "CAUD (−)  →", QUIET, fontweight="bold", fontsize=11)
    label(ax, (0, 535), "β = 0", QUIET)
    for at, letter in (((-258, 0), "S"), ((285, 0), "I"), ((95, 60), "A"), ((95, -62), "P")):
        label(ax, at, letter, fontweight="bold")
    label(
        ax,
        (0, -615),
        "d = cos α cos β A + sin α cos β L + sin β S      up = ∂d/∂β",
        QUIET,
        fontsize=9,
    )


def panel_reading(ax: Axes) -> None:
    prepare(ax, "D   Camera frame and side of reading", (-640, 640, -640, 560))
    for middle, arm, name in (
        (-330, CArm(), "tube under the table (PA)\nread from the detector: fx < 0"),
        (330, CArm().view("ap"), "tube over the table (AP)\nread from the source: fx > 0"),
    ):
        camera = arm.camera()
        scale, offset = 0.82, np.array([middle, 75])

        def place(point: np.ndarray, scale: float = scale, offset: np.ndarray = offset) -> np.ndarray:
            return scale * flat(point, FROM_THE_FEET) + offset

        source, edge = place(camera.source_ras), place(detector_edge(camera, across="u"))
        ax.add_patch(Ellipse(tuple(offset), 279, 180, fc=BODY, ec=QUIET, lw=1))
        ax.add_patch(Rectangle((middle - 172, 75 - 108), 344, 12, fc=PALE, lw=0))
        ax.add_patch(Polygon([source, *edge], closed=True, color=BEAM, alpha=0.16, lw=0))
        ax.plot(*edge.T, color=DETECTOR, lw=5, solid_capstyle="butt", zorder=4)
        ax.add_patch(Circle(source, 15, color=SOURCE, zorder=5))
        for row, letter in ((0, "x"), (2, "z")):
            axis = camera.camera_from_ras[row, :3]
            tip = place(camera.source_ras + 190 * axis)
            arrow(ax, source, tip, SOURCE)
            label(
                ax,
                tuple(place(camera.source_ras + 232 * axis)),
                letter,
                SOURCE,
                fontsize=10,
                fontstyle="italic",
            )
        first = apply(camera.ras_from_pixel, [camera.width * 0.18, camera.height / 2, 0])
        last = apply(camera.ras_from_pixel, [camera.width * 0.95, camera.height / 2, 0])
        off = np.array([0, 26 if place(first)[1] > source[1] else -26])
        arrow(ax, place(first) + off, place(last) + off, DETECTOR)
        label(ax, tuple(place(last) + off + [24, 0]), "u", DETECTOR, fontsize=10, fontstyle="italic")
        label(ax, (middle - 106, 75), "R", fontweight="bold")
        label(ax, (middle + 106, 75), "L", fontweight="bold")
        label(ax, (middle, -505), name, fontsize=10)
    label(
        ax,
        (0, -615),
        "x, y, z: right-handed, z along the beam; y and v lead to the feet (towards you)",
        QUIET,
        fontsize=8.5,
    )


def panel_pixels(ax: Axes) -> None:
    columns, rows = 8, 6
    prepare(ax, "E   The picture: pixels", (-1.5, columns + 1.1, rows + 1.35, -1.4))
    for u in range(columns):
        for v in range(rows):
            ax.add_patch(Rectangle((u - 0.5, v - 0.5), 1, 1, fc="white", ec=PALE, lw=0.9))
            ax.plot(u, v, ".", color=PALE, ms=4)
    ax.add_patch(Rectangle((-0.5, -0.5), columns, rows, fc="none", ec=DETECTOR, lw=2.2))
    arrow(ax, np.array([-0.5, -0.95]), np.array([2.2, -0.95]), DETECTOR)
    arrow(ax, np.array([-0.95, -0.5]), np.array([-0.95, 2.2]), DETECTOR)
    label(ax, (2.5, -0.95), "u", DETECTOR, fontstyle="italic", fontsize=11)
    label(ax, (-0.95, 2.5), "v", DETECTOR, fontstyle="italic", fontsize=11)
    for u, v, text in ((0, 0, "(0, 0)"), (columns - 1, rows - 1, "(W−1, H−1)")):
        ax.plot(u, v, "o", color=INK, ms=5)
        label(ax, (u - (0.1 if u else -0.12), v + 0.31), text, fontsize=8.5, ha="right" if u else "left")
    center_u, center_v = (columns - 1) / 2, (rows - 1) / 2
    ax.plot(center_u, center_v, "+", color=INK, ms=13, mew=1.8)
    label(ax, (center_u + 0.2, center_v + 0.42), "((W−1)/2, (H−1)/2)", fontsize=8.5, ha="left")
    ax.plot(center_u - 1.6, center_v, "x", color=SOURCE, ms=8, mew=2)
    label(ax, (center_u - 1.6, center_v - 0.4), "principal point", SOURCE, fontsize=8.5)
    arrow(ax, np.array([center_u - 1.45, center_v]), np.array([center_u - 0.15, center_v]), SOURCE, 1.2)
    label(ax, (center_u - 0.75, center_v + 0.3), "shift / pitch", SOURCE, fontsize=8.5)
    label(ax, (-0.5, rows + 0.0), "−0.5", QUIET, fontsize=8.5)
    label(ax, (columns - 0.5, rows + 0.0), "W − 0.5", QUIET, fontsize=8.5)
    label(ax, (columns - 0.15, -0.5), "−0.5", QUIET, fontsize=8.5, ha="left")
    label(ax, (columns - 0.15, rows - 0.5), "H − 0.5", QUIET, fontsize=8.5, ha="left")
    label(
        ax,
        ((columns - 1) / 2, rows + 0.85),
        "pixel centres at integers; the isocentre appears at the principal point",
        QUIET,
        fontsize=8.5,
    )


LANDMARKS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}


def draw_picture(ax: Axes, corner: tuple[float, float], arm: CArm, title: str) -> None:
    """One little picture with the six landmark points, 60 mm from the isocentre, where they are seen."""
    ax.add_patch(Rectangle(corner, 1, 1, fc="#243b53", lw=0))
    camera = arm.camera()
    place = {
        letter: camera.project(60 * np.array(ras)) / [camera.width, camera.height] for letter, ras in LANDMARKS.items()
    }
    towards_reader = camera.principal_axis_ras * (1 if camera.is_mirrored else -1)
    shown: list[np.ndarray] = []
    for letter in sorted(LANDMARKS, key=lambda letter: -float(towards_reader @ LANDMARKS[letter])):
        if any(np.linalg.norm(place[letter] - other) < 0.05 for other in shown):
            continue
        shown.append(place[letter])
        u, v = place[letter]
        label(ax, (corner[0] + u, corner[1] + v), letter, "white", fontsize=11, fontweight="bold")
    label(ax, (corner[0] + 0.5, corner[1] + 1.11), title, fontsize=8.5)


def panel_pictures(ax: Axes) -> None:
    prepare(ax, "F   What the viewer sees", (-0.1, 4.6, 3.3, -0.15))
    arm = CArm()
    for index, (title, one) in enumerate(
        (
            ("pa", arm.view("pa")),
            ("ap", arm.view("ap")),
            ("lateral_left", arm.view("lateral_left")),
            ("lateral_right", arm.view("lateral_right")),
            ("LAO 30", arm.with_angles(30, 0)),
            ("RAO 30", arm.with_angles(-30, 0)),
            ("CRAN 25", arm.with_angles(0, 25)),
            ("pa, roll 30°", arm.with_angles(0, 0, 30)),
        )
    ):
        draw_picture(ax, (1.16 * (index % 4), 1.42 * (index // 4)), one, title)
    label(
        ax,
        (2.24, 2.98),
        "Points 60 mm right, left, front (A), back (P), head (S), feet (I) of the isocentre\n"
        "projected by the code; of two that coincide, the one on the reader's side.\n"
        "roll > 0 turns the content clockwise",
        QUIET,
        fontsize=8.5,
    )


def main() -> None:
    folder = figure_options(__doc__, FOLDER).parse_args().output
    figure, axes = plt.subplots(2, 3, figsize=(16.5, 11.2), height_ratios=(1, 0.9))
    figure.subplots_adjust(left=0.02, right=0.985, bottom=0.01, top=0.95, wspace=0.05, hspace=0.09)
    panels = (panel_distances, panel_primary, panel_secondary, panel_reading, panel_pixels, panel_pictures)
    for draw, ax in zip(panels, axes.flat, strict=True):
        draw(ax)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "geometry.png", dpi=110, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    main()
