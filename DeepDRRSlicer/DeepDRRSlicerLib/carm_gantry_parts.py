"""The C and what turns with it: arc, tube with collimator, flat panel or image intensifier."""

from __future__ import annotations

import numpy as np
import vtk

from DeepDRRLogic.affine import rigid

from . import carm_shapes as shapes
from .carm_dimensions import ARC_THICKNESS_MM, ARC_WIDTH_MM, TUBE_DEPTH_MM, Dimensions
from .carm_part import ACCENT, ENAMEL, GLASS, GRAPHITE, SILVER, Finish, Part
from .carm_stand import ARC_HALF_ANGLE_DEG, STANDS
from .kinematics import about

Solids = dict[str, tuple[vtk.vtkPolyData, Finish]]

_FACE_GAP_MM = 2.5  # the cover stands behind the image plane, so that a picture shown there is not hidden


def gantry_parts(dimensions: Dimensions) -> dict[str, Part]:
    """All parts of the group "orbital", in the gantry frame."""
    detector = _image_intensifier if dimensions.field_diameter_mm else _flat_panel
    solids = {**_tube(dimensions), **detector(dimensions)}
    if dimensions.has_stand:
        solids |= {**_arc(dimensions), **_mounts(dimensions)}
    return {name: Part("orbital", poly_data, finish) for name, (poly_data, finish) in solids.items()}


def _arc(d: Dimensions) -> Solids:
    bar = shapes.arc(d.arc_radius_mm, ARC_HALF_ANGLE_DEG, ARC_THICKNESS_MM, ARC_WIDTH_MM, corner=18.0, edge=26.0)
    rail = shapes.arc(
        d.arc_radius_mm, ARC_HALF_ANGLE_DEG - 4.0, ARC_THICKNESS_MM * 0.36, ARC_WIDTH_MM + 3.0, corner=6.0, edge=10.0
    )
    return {"arc": (_to_stand(bar, d), ENAMEL), "arc_rail": (_to_stand(rail, d), GRAPHITE)}


def _mounts(d: Dimensions) -> Solids:
    """What joins tube and detector to the arc's inner side; a far arc reaches the detector with a telescope."""
    inner = d.arc_radius_mm - ARC_THICKNESS_MM / 2
    back = d.detector_y + d.detector_depth_mm
    solids = [shapes.box([(-inner - 12, 150, 84, 14), (d.source_y - TUBE_DEPTH_MM + 10, 170, 120, 20)], "y", 3)]
    middle = (back + inner) / 2
    if inner - back > 120.0:
        solids.append(shapes.box([(back - 10, 112, 112, 26), (middle + 20, 112, 112, 26)], "y", 4))
        sleeve = shapes.box([(middle, 150, 136, 34), (inner + 12, 150, 84, 20)], "y", 8)
        return {"mount": (_to_stand(shapes.merged(*solids), d), SILVER), "sleeve": (_to_stand(sleeve, d), ENAMEL)}
    solids.append(shapes.box([(back - 10, 190, 150, 30), (inner + 12, 150, 84, 14)], "y", 3))
    return {"mount": (_to_stand(shapes.merged(*solids), d), SILVER)}


def _tube(d: Dimensions) -> Solids:
    y = d.source_y
    housing = shapes.box(
        [
            (y - TUBE_DEPTH_MM, 196, 232, 48),
            (y - TUBE_DEPTH_MM + 30, 250, 288, 62),
            (y + 34, 250, 288, 62),
            (y + 58, 206, 236, 50),
        ],
        "y",
        edge=12,
    )
    seam = shapes.box([(y - 26, 251.6, 289.6, 62), (y - 20, 251.6, 289.6, 62)], "y", 1)
    collimator = shapes.box([(y + 50, 168, 168, 26), (y + 84, 168, 168, 26), (y + 102, 138, 138, 20)], "y", 6)
    window = shapes.box([(y + 98, 104, 104, 8), (y + 104, 104, 104, 8)], "y", 1.5)
    ring = shapes.box([(y + 56, 178, 178, 28), (y + 62, 178, 178, 28)], "y", 2)
    return {
        "source": (housing, ENAMEL),
        "source_seam": (seam, SILVER),
        "collimator": (collimator, GRAPHITE),
        "collimator_window": (window, GLASS),
        "collimator_ring": (ring, ACCENT),
    }


def _flat_panel(d: Dimensions) -> Solids:
    x, z = d.detector_offset_mm
    y, width, height = d.detector_y + _FACE_GAP_MM, d.detector_width_mm, d.detector_height_mm
    depth = d.detector_depth_mm - _FACE_GAP_MM
    outer_w, outer_h = width + 58.0, height + 58.0
    housing = shapes.box(
        [
            (y + 3, outer_w - 10, outer_h - 10, 30),
            (y + 14, outer_w, outer_h, 36),
            (y + 46, outer_w, outer_h, 36),
            (y + depth, outer_w - 84, outer_h - 84, 40),
        ],
        "y",
        edge=9,
    )
    face = shapes.box([(y, width + 10, height + 10, 12), (y + 8, width + 10, height + 10, 12)], "y", 1.5)
    line = shapes.box([(y + 27, outer_w + 1.6, outer_h + 1.6, 36), (y + 33, outer_w + 1.6, outer_h + 1.6, 36)], "y", 1)
    grips = shapes.merged(*(_grip(sign * outer_h / 2, y + 30) for sign in (-1.0, 1.0)))
    return _shifted(
        {
            "detector": (housing, ENAMEL),
            "detector_face": (face, GLASS),
            "detector_line": (line, ACCENT),
            "detector_grips": (grips, GRAPHITE),
        },
        x,
        z,
    )


def _image_intensifier(d: Dimensions) -> Solids:
    x, z = d.detector_offset_mm
    y, depth = d.detector_y + _FACE_GAP_MM, d.detector_depth_mm - _FACE_GAP_MM
    field = d.field_diameter_mm or 0.0
    housing = shapes.round_bar(
        [
            (y + 3, field + 46),
            (y + 12, field + 56),
            (y + 78, field + 56),
            (y + 112, field + 20),
            (y + 150, 0.86 * field),
            (y + depth, 0.80 * field),
        ],
        "y",
        edge=10,
    )
    face = shapes.round_bar([(y, field + 8), (y + 8, field + 8)], "y", 1.5)
    line = shapes.round_bar([(y + 40, field + 57.6), (y + 46, field + 57.6)], "y", 1)
    grips = shapes.merged(*(_grip(sign * (field / 2 + 24), y + 44) for sign in (-1.0, 1.0)))
    return _shifted(
        {
            "detector": (housing, ENAMEL),
            "detector_face": (face, GLASS),
            "detector_line": (line, ACCENT),
            "detector_grips": (grips, GRAPHITE),
        },
        x,
        z,
    )


def _grip(z: float, y: float) -> vtk.vtkPolyData:
    """A handle on the side of the detector at z: a bar bent to a flat U, whose ends are in the housing."""
    reach, half_length, bend = 34.0, 74.0, 18.0
    turn_angles = np.linspace(0.0, np.pi / 2, 7)
    corner = np.column_stack((bend * (1 - np.cos(turn_angles)), bend * np.sin(turn_angles)))
    left = np.vstack(([[0.0, -4.0]], corner + np.array([0.0, reach - bend]))) - [half_length, 0.0]
    path = np.vstack((left, left[::-1] * [-1.0, 1.0]))
    return shapes.tube(np.column_stack((path[:, 0], np.full(len(path), y), z + np.sign(z) * path[:, 1])), 17.0)


def _to_stand(solid: vtk.vtkPolyData, d: Dimensions) -> vtk.vtkPolyData:
    return shapes.transformed(solid, rigid(about("y", STANDS[d.stand])))


def _shifted(solids: Solids, x: float, z: float) -> Solids:
    return {name: (shapes.moved(solid, x=x, z=z), finish) for name, (solid, finish) in solids.items()}
