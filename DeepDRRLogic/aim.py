"""Whether a view sees a volume at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .affine import apply

if TYPE_CHECKING:
    from .geometry import Camera
    from .grid import OnGrid


def is_inside(point_ras_mm: npt.ArrayLike, grid: OnGrid) -> bool:
    """Whether a point (3,) lies within the extent of a volume's voxels."""
    ijk = apply(grid.ijk_from_ras, point_ras_mm)
    return bool(np.all((ijk > -0.5) & (ijk < np.array(grid.shape[::-1]) - 0.5)))


def may_hit(camera: Camera, grid: OnGrid) -> bool:
    """False where all corners of a volume lie outside one and the same side of the beam, or behind the detector."""
    x, y, depth = camera.intrinsics @ apply(camera.camera_from_ras, grid.corners_ras).T
    outside = (
        depth <= 0,
        depth > camera.source_to_detector_mm,
        x < -0.5 * depth,
        x > (camera.width - 0.5) * depth,
        y < -0.5 * depth,
        y > (camera.height - 0.5) * depth,
    )
    return is_inside(camera.source_ras, grid) or not any(np.all(side) for side in outside)
