"""Volumes whose area densities are known exactly, and the cameras that look at them."""

from __future__ import annotations

import numpy as np

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import material
from DeepDRRLogic.volume import MaterialVolume

MATERIALS = (material("air"), material("soft tissue"), material("bone"))


def centred_affine(shape, spacing_mm=(1.0, 1.0, 1.0), center_ras=(0.0, 0.0, 0.0), turn=None):
    """ras_from_ijk of a volume of this [k, j, i] shape around a point; `turn` is a rotation matrix."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing_mm)
    affine[:3, 3] = np.asarray(center_ras) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def volume_of(density, labels, ras_from_ijk):
    return MaterialVolume(
        density_g_cm3=np.asarray(density, np.float32),
        labels=np.asarray(labels, np.uint8),
        materials=MATERIALS,
        ras_from_ijk=ras_from_ijk,
    )


def sphere(radius_mm, center_ras, shape, ras_from_ijk, label=1, density=1.0, fine=4):
    """A ball, its border voxels filled by the part of them that it covers."""
    k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    filled = np.zeros(shape)
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    for dk in steps:
        for dj in steps:
            for di in steps:
                ijk = np.stack([i + di, j + dj, k + dk], axis=-1)
                ras = ijk @ ras_from_ijk[:3, :3].T + ras_from_ijk[:3, 3]
                filled += np.sum((ras - center_ras) ** 2, axis=-1) < radius_mm**2
    filled /= fine**3
    return volume_of(density * filled, np.where(filled > 0, label, 0), ras_from_ijk)


def chord_of_sphere_mm(camera, radius_mm, center_ras):
    """Length of each pixel's ray inside a ball, (height, width)."""
    directions = camera.rays()
    offset = np.asarray(center_ras) - camera.source_ras
    along = directions @ offset
    square = radius_mm**2 - (offset @ offset - along**2)
    return 2 * np.sqrt(np.maximum(square, 0))


def chord_of_box_mm(camera, low, high, box_from_ras=None):
    """Length of each pixel's ray inside an axis-aligned box of the frame `box_from_ras`, (height, width)."""
    frame = np.eye(4) if box_from_ras is None else box_from_ras
    source = frame[:3, :3] @ camera.source_ras + frame[:3, 3]
    directions = camera.rays() @ frame[:3, :3].T
    with np.errstate(divide="ignore"):
        first = (np.asarray(low) - source) / directions
        second = (np.asarray(high) - source) / directions
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    scale = np.linalg.norm(frame[:3, 0])
    return np.maximum(leave - np.maximum(enter, 0), 0) / scale


def view(primary=0.0, secondary=0.0, isocenter=(0.0, 0.0, 0.0), size=(320, 240), pitch=0.75, **changes) -> Camera:
    """A C-arm view with a small detector."""
    return CArm(
        isocenter_ras_mm=isocenter, primary_angle_deg=primary, secondary_angle_deg=secondary,
        source_to_detector_mm=1020.0, source_to_isocenter_mm=530.0,
        width=size[0], height=size[1], pixel_pitch_mm=pitch, **changes,
    ).camera()  # fmt: skip


def away_from_edges(chord_mm, pixels=12):
    """Pixels inside the silhouette and away from where edges of the shape show in it.

    Between two voxels the interpolated volume rounds off every edge; there, and only there, it is not the shape.
    """
    inner = chord_mm > 0
    for axis in (0, 1):
        bend = np.abs(np.roll(chord_mm, 1, axis) + np.roll(chord_mm, -1, axis) - 2 * chord_mm)
        inner &= bend < 0.2
    for axis in (0, 1):
        inner = np.logical_and.reduce([np.roll(inner, shift, axis) for shift in range(-pixels, pixels + 1)])
    return inner
