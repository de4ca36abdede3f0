"""Grids of every orientation, and a body in Hounsfield units."""

from __future__ import annotations

import numpy as np

from DeepDRRLogic.affine import rotation


def affine_of(axes, spacing, origin=(-231.123456, 412.98765, -1201.55555)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(axes, float) * spacing
    matrix[:3, 3] = origin
    return matrix


OBLIQUE = rotation([1, -2, 0.5], 37) @ np.diag([-1, -1, 1])
GRIDS = {
    "LPS": affine_of(np.diag([-1, -1, 1]), (0.7, 0.8, 2.5)),
    "left-handed LAS": affine_of(np.diag([-1, 1, 1]), (0.703125, 0.703125, 2.5)),
    "sagittal": affine_of([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (0.9, 0.9, 3.0)),
    "oblique": affine_of(OBLIQUE, (0.703125, 0.8333333, 2.5123456)),
    "oblique left-handed": affine_of(OBLIQUE @ np.diag([1, 1, -1]), (0.703125, 0.8333333, 2.5123456)),
}


def body_like_hu(offset=0, noise=20.0):
    """Room air around a soft-tissue body with a lung and a bone, with noise."""
    hu = np.full((24, 40, 40), -1000.0)
    hu[:, 8:32, 5:35] = 40
    hu[:, 7, 5:35] = -480  # the skin, partly air
    hu[:, 12:20, 10:18] = -850
    hu[:, 25:29, 18:22] = 1200
    return np.rint(hu + np.random.default_rng(1).normal(0, noise, hu.shape) + offset).astype(np.int16)
