"""The C-arm as it stands in the 3D view: every part's mesh, drawn from the machine's dimensions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
    """The beam from the focal spot to the detector's edge, its edges, and the central ray; group "orbital"."""
    source = np.array([0.0, dimensions.source_y, 0.0])
    rim = _field_rim(dimensions)
    edges = (
        [] if dimensions.field_diameter_mm else [shapes.tube([source, corner], 2.0) for corner in _corners(dimensions)]
    )
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


def _corners(d: Dimensions) -> npt.NDArray[np.float64]:
    x, z = d.detector_offset_mm
    half = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * [d.detector_width_mm / 2, d.detector_height_mm / 2]
    return np.column_stack((half[:, 0] + x, np.full(4, d.detector_y), half[:, 1] + z))


def _field_rim(d: Dimensions) -> npt.NDArray[np.float64]:
    if d.field_diameter_mm is None:
        return _corners(d)
    x, z = d.detector_offset_mm
    angles = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)
    radius = d.field_diameter_mm / 2
    return np.column_stack((x + radius * np.cos(angles), np.full(72, d.detector_y), z + radius * np.sin(angles)))
