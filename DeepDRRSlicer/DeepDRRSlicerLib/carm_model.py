"""The C-arm as it stands in the 3D view: every part's mesh, drawn from the machine's dimensions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from DeepDRRLogic.affine import FloatArray
from DeepDRRLogic.collimator import CircularCollimator, RectangularCollimator

from . import carm_shapes as shapes
from .carm_dimensions import Dimensions
from .carm_gantry_parts import gantry_parts
from .carm_part import BEAM, RAY, Part
from .carm_stand import group_matrices as _group_matrices
from .carm_stand_parts import stand_parts


def build_parts(dimensions: Dimensions) -> dict[str, Part]:
    """Every part of the machine and its beam, by name; some 10 ms."""
    parts = gantry_parts(dimensions)
    if dimensions.has_stand:
        parts.update(stand_parts(dimensions))
    parts.update(beam_parts(dimensions))
    return parts


def beam_parts(dimensions: Dimensions) -> dict[str, Part]:
    """The beam from the focal spot to the edge of its field on the detector, and the central ray; group "orbital"."""
    source = np.array([0.0, dimensions.source_y, 0.0])
    rim = _field_rim(dimensions)
    edges = [shapes.tube([source, corner], 2.0) for corner in rim] if len(rim) == 4 else []
    edges.append(shapes.tube(rim, 2.0, closed=True))
    ray = shapes.tube([source, np.array([0.0, dimensions.detector_y, 0.0])], 3.0)
    return {
        "beam": Part("orbital", shapes.pyramid(source, rim), BEAM),
        "beam_edges": Part("orbital", shapes.merged(*edges), RAY),
        "central_ray": Part("orbital", ray, RAY),
    }


def group_matrices(
    dimensions: Dimensions, ras_from_gantry: npt.ArrayLike, rest_height_ras_mm: float | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """`ras_from_group` (4, 4) of every group of parts, by name; see `carm_stand.group_matrices`."""
    return _group_matrices(
        ras_from_gantry,
        dimensions.stand,
        dimensions.column_distance_mm,
        dimensions.isocenter_height_mm,
        rest_height_ras_mm,
    )


def _field_rim(d: Dimensions) -> FloatArray:
    """Where the beam meets the image plane: what the shutters leave of the detector, (n, 3)."""
    half = np.array([d.detector_width_mm, d.detector_height_mm]) / 2
    corners = half * [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    shutters = d.shutters
    if isinstance(shutters, RectangularCollimator):
        low, high = (shutters.u0, shutters.v0), (shutters.u1, shutters.v1)
        opening = np.array([high, (low[0], high[1]), low, (high[0], low[1])])
    elif isinstance(shutters, CircularCollimator):
        opening = _circle(shutters.radius, shutters.center or (0.0, 0.0))
    else:
        opening = corners if d.field_diameter_mm is None else _circle(d.field_diameter_mm / 2)
    rim = _within(opening, half)
    if len(rim) < 3:  # closed: the X-ray says so, and the beam is drawn as if it were open
        rim = corners
    x, z = (rim + d.detector_offset_mm).T
    return np.column_stack((x, np.full(len(rim), d.detector_y), z))


def _circle(radius_mm: float, center_mm: tuple[float, float] = (0.0, 0.0)) -> FloatArray:
    angles = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)
    return np.column_stack((np.cos(angles), np.sin(angles))) * radius_mm + center_mm


def _within(polygon: FloatArray, half: FloatArray) -> FloatArray:
    """The part of a convex polygon (n, 2) that lies in |x|, |z| ≤ half, cut edge by edge.

    Sutherland and Hodgman, Reentrant polygon clipping, Communications of the ACM 17 (1974).
    """
    for axis, sign in ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)):
        kept: list[FloatArray] = []
        beyond = sign * polygon[:, axis] - half[axis] if len(polygon) else polygon
        for n, point in enumerate(polygon):
            before = n - 1
            if (beyond[before] > 0) != (beyond[n] > 0):
                part = beyond[before] / (beyond[before] - beyond[n])
                kept.append(polygon[before] + part * (point - polygon[before]))
            if beyond[n] <= 0:
                kept.append(point)
        polygon = np.array(kept).reshape(-1, 2)
    return polygon
