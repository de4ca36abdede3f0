"""A body cut into layers parallel to the detector: what a fast scatter model needs to know of depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..affine import apply
from ..collimator import WHOLE_DETECTOR
from ..threads import in_slabs
from .matter import body_box

if TYPE_CHECKING:
    from ..collimator import Field
    from ..geometry import Camera
    from ..materials import Material
    from ..volume import MaterialVolume

Float32Array = npt.NDArray[np.float32]

SIDE = 32
"""Pixels along the longer side of the detector: scatter is smooth."""
LAYERS = 12
MARGIN = 4
STEPS, FINER = 4, 2


@dataclass(frozen=True, eq=False)
class Layers:
    """Area densities by depth, on pixels that are about square.

    `around_g_cm2` (layers, materials, rows + 2 MARGIN, columns + 2 MARGIN): MARGIN pixels on every side show what lies
    just beside the field. `gaps_mm` (layers,) is the distance from the middle of each layer to the detector, falling;
    `camera` has the pixels without margin; `beam` (rows, columns) is the part of each that the collimated beam covers.
    """

    around_g_cm2: Float32Array
    gaps_mm: npt.NDArray[np.float64]
    camera: Camera
    beam: Float32Array
    materials: tuple[Material, ...]

    @property
    def areal_g_cm2(self) -> Float32Array:
        """The area densities without margin."""
        return self.around_g_cm2[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]


def coarse_camera(camera: Camera, side: int = SIDE) -> Camera:
    """The camera with `side` about square pixels along the longer side of its detector."""
    width, height = (n * pitch for n, pitch in zip((camera.width, camera.height), camera.pixel_pitch_mm, strict=True))
    longer = max(width, height)
    return camera.resampled(max(1, round(side * width / longer)), max(1, round(side * height / longer)))


@dataclass(frozen=True, eq=False)
class Sight:
    """How rays run through a body, layer by layer: what filling the layers takes.

    In voxels (i, j, k) of the body's box: the place at `depth` mm from the source on the ray through the corner (u, v)
    of the coarse pixels, counted from that of the margin, is source + depth · (origin + u · along_u + v · along_v).
    Layer n has STEPS steps of `step` mm from near + n · STEPS · step on, and each pixel FINER² rays; `lengths_cm` (rows
    + 2 MARGIN, columns + 2 MARGIN) is the length of a ray per mm of depth.
    """

    camera: Camera
    source: npt.NDArray[np.float64]
    origin: npt.NDArray[np.float64]
    along_u: npt.NDArray[np.float64]
    along_v: npt.NDArray[np.float64]
    lengths_cm: npt.NDArray[np.float64]
    near: float
    step: float
    gaps_mm: npt.NDArray[np.float64]
    beam: Float32Array


def sight(
    volume: MaterialVolume,
    box: tuple[slice, slice, slice],
    corners_ras: npt.NDArray[np.float64],
    camera: Camera,
    field: Field = WHOLE_DETECTOR,
) -> Sight:
    """The rays of a coarser camera through the box of a body (see `body_box`), between source and detector only."""
    coarse = coarse_camera(camera)
    depths = apply(coarse.camera_from_ras, corners_ras)[:, 2]
    reach = coarse.source_to_detector_mm
    near, far = float(np.clip(depths.min(), 0.0, 0.98 * reach)), float(np.clip(depths.max(), 0.02 * reach, reach))
    step = (max(far, near + 1.0) - near) / (LAYERS * STEPS)
    # Camera coordinates at depth 1 of the pixels' corners, then in voxels of the box.
    voxel_from_camera = volume.ijk_from_ras @ coarse.ras_from_camera
    inverse = np.linalg.inv(coarse.intrinsics)
    turn = voxel_from_camera[:3, :3] @ inverse
    source = voxel_from_camera[:3, 3] - [box[2].start, box[1].start, box[0].start]
    first = -MARGIN - 0.5
    v, u = np.mgrid[-MARGIN : coarse.height + MARGIN, -MARGIN : coarse.width + MARGIN]
    lengths_cm = 0.1 * np.linalg.norm(np.stack([u, v, np.ones_like(u)], axis=-1) @ inverse.T, axis=-1)
    gaps = np.maximum(reach - near - step * STEPS * (np.arange(LAYERS) + 0.5), 1.0)
    return Sight(
        coarse, source, turn @ [first, first, 1.0], turn[:, 0].copy(), turn[:, 1].copy(), lengths_cm, near, step, gaps,
        _beam(field, coarse),
    )  # fmt: skip


def cut(volume: MaterialVolume, camera: Camera, threads: int, field: Field = WHOLE_DETECTOR) -> Layers:
    """What `camera` sees of a volume, by depth; between source and detector only, nearest voxels."""
    from .layering import fill_layers

    box, corners = body_box(volume)
    rays = sight(volume, box, corners, camera, field)
    out = np.zeros((LAYERS, len(volume.materials), *rays.lengths_cm.shape), np.float32)
    density, labels = volume.density_g_cm3[box], volume.labels[box]

    def work(v0: int, v1: int) -> None:
        fill_layers(
            density, labels, rays.source, rays.origin, rays.along_u, rays.along_v, rays.lengths_cm, (rays.near, STEPS),
            rays.step, FINER, v0, v1, out,
        )  # fmt: skip

    in_slabs(work, out.shape[2], threads)
    return Layers(out, rays.gaps_mm, rays.camera, rays.beam, volume.materials)


def _beam(field: Field, camera: Camera) -> Float32Array:
    """The part of each pixel that lies within the field."""

    def covered(low: float, high: float, count: int) -> npt.NDArray[np.float64]:
        edges = np.arange(count + 1)
        inside = np.clip(edges, low * count, high * count)
        return np.diff(inside)

    u0, v0, u1, v1 = field
    return np.outer(covered(v0, v1, camera.height), covered(u0, u1, camera.width)).astype(np.float32)
