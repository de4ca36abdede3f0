"""Named points of the phantom."""

from __future__ import annotations

import numpy as np

from .canvas import Vector
from .skeleton import Skeleton


def of(bones: Skeleton) -> dict[str, Vector]:
    """Return the landmarks in canonical RAS mm: vertebral centres, pelvic and thoracic points, organs."""
    data = bones.data
    # The neck's vertebrae are there for the picture only: the volume ends among them.
    points = {v.name: v.center for v in bones.vertebrae if v.name[0] in "LT"}
    points["sacral_promontory"] = bones.sacrum.at(0.0, 0.0, -16.5)
    points["symphysis"] = np.array([0.0, 27.0, -124.0])
    points["sternal_notch"] = np.array(data["cage"]["sternum"]["manubrium"][0][:3], float)
    points["carina"] = np.array(data["lungs"]["trachea"][-1][:3], float)
    points["liver"] = np.array(data["organs"][0]["parts"][0]["center"], float)
    points["heart"] = np.array(data["heart"][0]["center"], float)
    pairs = {
        "femoral_head": data["femur"]["head"]["center"],
        "asis": data["pelvis"]["ilium_rim"][0][:3],
        "humeral_head": data["shoulder"]["humeral_head"]["center"],
        "greater_trochanter": data["femur"]["greater_trochanter"][-1][:3],
    }
    for name, point in pairs.items():
        points[f"{name}_right"] = np.array(point, float)
        points[f"{name}_left"] = np.array(point, float) * [-1.0, 1.0, 1.0]
    return points
