"""Where the 3D view looks from when a C-arm is added: all of it in the picture, the patient feet towards the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

from DeepDRRLogic.affine import FloatArray

from .carm_nodes import CArmNodes

_FROM_RAS = np.array([0.75, 0.75, 0.45])
_ROOM = 1.7


def look_at_carm(carm: CArmNodes) -> None:
    """Turn the cameras of all 3D views to a C-arm, from the patient's front, right and above."""
    for camera in _cameras():
        _look(camera, carm)


@contextmanager
def kept_in_view(carm: CArmNodes) -> Iterator[None]:
    """Turn those cameras to a C-arm that saw it from tube to detector before what is done here, and do not after."""
    seeing = [camera for camera in _cameras() if sees(camera, carm)]
    yield
    for camera in seeing:
        if not sees(camera, carm):
            _look(camera, carm)


def sees(camera_node: Any, carm: CArmNodes) -> bool:
    """Whether a 3D view has a C-arm's source and its detector's corners in the picture."""
    matrix = camera_node.GetCamera().GetCompositeProjectionTransformMatrix(_aspect(camera_node), -1.0, 1.0)
    x, y, _, depth = slicer.util.arrayFromVTKMatrix(matrix) @ _extremes(carm).T
    return bool(np.all(depth > 0.0) and np.all(np.abs(x) < depth) and np.all(np.abs(y) < depth))


def _extremes(carm: CArmNodes) -> FloatArray:
    """Source and corners of the detector, (5, 4): homogeneous, RAS mm."""
    exposure = carm.camera()
    right, bottom = exposure.width - 0.5, exposure.height - 0.5
    corners = [(u, v, 0.0, 1.0) for u in (-0.5, right) for v in (-0.5, bottom)]
    return np.vstack([[*exposure.source_ras, 1.0], np.array(corners) @ exposure.ras_from_pixel.T])


def _aspect(camera_node: Any) -> float:
    """Width by height of the view that a camera belongs to, 1 where it is not laid out."""
    manager = slicer.app.layoutManager()
    for n in range(manager.threeDViewCount if manager is not None else 0):
        widget = manager.threeDWidget(n)  # by name it would be the view node's, View1 where the layout's is 1
        if widget.mrmlViewNode().GetLayoutName() == camera_node.GetLayoutName():
            width, height = widget.threeDView().renderWindow().GetSize()
            return float(width / height) if width and height else 1.0
    return 1.0


def _cameras() -> list[Any]:
    """Those of views; scripts may have added others."""
    return [camera for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode") if camera.GetLayoutName()]


def _look(node: Any, carm: CArmNodes) -> None:
    arm = carm.arm()
    center = np.array(arm.isocenter_ras_mm)
    reach_mm = _ROOM * max(arm.source_to_isocenter_mm, arm.source_to_detector_mm - arm.source_to_isocenter_mm)
    reach_mm /= min(1.0, _aspect(node))
    half_angle = np.radians(node.GetCamera().GetViewAngle() / 2)
    distance = reach_mm / np.tan(half_angle)
    direction = _FROM_RAS / np.linalg.norm(_FROM_RAS)
    was = node.StartModify()
    node.SetFocalPoint(*center)
    node.SetPosition(*(center + distance * direction))
    node.SetViewUp(0.0, 0.0, 1.0)
    node.SetParallelScale(reach_mm)  # for views without perspective
    node.EndModify(was)
    node.ResetClippingRange()
