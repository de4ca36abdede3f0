"""Markups points on the X-ray: which pixels they fall on, and markers there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from slicer.util import NodeModify

from DeepDRRLogic.affine import FloatArray, apply

from .xray_nodes import camera_of

if TYPE_CHECKING:
    from .carm_nodes import CArmNodes

POINTS_ROLE = "DeepDRR.points"
_ON_PLANE_MM = 0.5


def points_ras(points: Any) -> FloatArray:
    """The points (n, 3) in RAS mm of a markups node, its transforms applied, or of an array."""
    if not hasattr(points, "GetNumberOfControlPoints"):
        return np.asarray(points, np.float64).reshape(-1, 3)
    count = points.GetNumberOfControlPoints()
    found = np.empty((count, 3))
    for n in range(count):
        points.GetNthControlPointPositionWorld(n, found[n])
    return found


def in_depth(place_ras: tuple[float, ...], carm: CArmNodes) -> tuple[float, ...]:
    """A place, RAS mm; from one on the C-arm's X-ray along its ray back to as far from the source as the isocentre."""
    image = carm.image_node()
    if image is None or image.GetImageData() is None:
        return place_ras
    camera, arm = camera_of(image), carm.arm()
    x, y, depth = apply(camera.camera_from_ras, place_ras)
    if abs(depth - camera.source_to_detector_mm) > _ON_PLANE_MM:
        return place_ras
    part = arm.source_to_isocenter_mm / depth
    a, b, c = apply(camera.ras_from_camera, [part * x, part * y, part * depth]).tolist()
    return a, b, c


def show_points(markups: Any, image_node: Any, markers: Any | None = None, view_node_ids: Sequence[str] = ()) -> Any:
    """Markers on the detector plane where the points' shadows fall; those that have none are left out.

    `markers` is reused; `view_node_ids` are the views that show them, all if none is named.
    """
    camera = camera_of(image_node)
    if markers is None:
        markers = markups.GetScene().AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{markups.GetName()} on X-ray")
        markers.CreateDefaultDisplayNodes()
        markers.SetLocked(True)
        markers.SetNodeReferenceID(POINTS_ROLE, markups.GetID())
    ras = points_ras(markups)
    pixels = camera.project(ras)
    with NodeModify(markers):
        markers.RemoveAllControlPoints()
        for n in np.flatnonzero(_on_detector(pixels, camera.width, camera.height)):
            u, v = pixels[n]
            place = apply(camera.ras_from_pixel, [u, v, 0.0])
            markers.AddControlPoint(place.tolist(), markups.GetNthControlPointLabel(int(n)))
    display = markers.GetDisplayNode()
    if display is not None:
        with NodeModify(display):
            display.RemoveAllViewNodeIDs()
            for view in view_node_ids:
                display.AddViewNodeID(view)
    return markers


def _on_detector(pixels: FloatArray, width: int, height: int) -> npt.NDArray[np.bool_]:
    u, v = pixels.T
    inside: npt.NDArray[np.bool_] = (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
    return inside
