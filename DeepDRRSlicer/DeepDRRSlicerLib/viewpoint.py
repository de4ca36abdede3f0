"""Where the 3D view looks from when a C-arm is added: all of it in the picture, the patient feet towards the viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from .carm_nodes import CArmNodes

_FROM_RAS = np.array([0.75, 0.75, 0.45])
_ROOM = 1.7


def look_at_carm(carm: CArmNodes) -> None:
    """Turn the cameras of all 3D views to a C-arm, from the patient's front, right and above."""
    arm = carm.arm()
    center = np.array(arm.isocenter_ras_mm)
    reach = _ROOM * max(arm.source_to_isocenter_mm, arm.source_to_detector_mm - arm.source_to_isocenter_mm)
    cameras = slicer.mrmlScene.GetNodesByClass("vtkMRMLCameraNode")
    cameras.UnRegister(None)
    for n in range(cameras.GetNumberOfItems()):
        _look(cameras.GetItemAsObject(n), center, reach)


def _look(node: Any, center: np.ndarray, reach_mm: float) -> None:
    half_angle = np.radians(node.GetCamera().GetViewAngle() / 2)
    distance = reach_mm / np.tan(half_angle)
    direction = _FROM_RAS / np.linalg.norm(_FROM_RAS)
    was = node.StartModify()
    node.SetFocalPoint(*center)
    node.SetPosition(*(center + distance * direction))
    node.SetViewUp(0.0, 0.0, 1.0)
    node.EndModify(was)
    node.ResetClippingRange()
