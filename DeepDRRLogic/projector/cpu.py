"""The CPU projector: area densities of all materials in one pass through the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..affine import apply
from ..threads import in_slabs, thread_count
from .behind import pace_of_lines
from .fan import FINE, USUAL, Fan, fans, transverse_axes
from .packing import PackedVolume, pack

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..volume import MaterialVolume

CM_PER_MM = 0.1

MAX_BAND = 48
"""Fan rows that one thread marches at a time: few enough for its second-level cache, many enough to share voxels."""


class CpuProjector:
    """Projects one material volume with Joseph's method in its shear–warp factorisation.

    The volume is packed once, into 16 bits per voxel; its metal apart, for which lines are laid more densely. Rays run
    from the source, or from where they enter the volume's extent, to where they leave it or reach the detector. What
    is interpolated linearly is each material's partial density, ρ where the label is m and 0 elsewhere.
    """

    def __init__(self, volume: MaterialVolume, threads: int | None = None) -> None:
        self.threads = thread_count(threads)
        self.materials = volume.materials
        self._parts = pack(volume, self.threads)
        self._corners_ras = volume.corners_ras

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width), float32, in g/cm²."""
        pictures = [(part.members, self._project(part, camera)) for part in self._parts]
        if len(pictures) == 1 and len(pictures[0][0]) == len(self.materials):
            return pictures[0][1]
        out = np.zeros((len(self.materials), camera.height, camera.width), np.float32)
        for members, picture in pictures:
            for member, plane in zip(members, picture, strict=True):
                out[member] += plane
        return out

    def _project(self, part: PackedVolume, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_members, height, width) of one part of the volume."""
        from .resample import resample_fan

        ijk_from_ras = np.linalg.inv(part.ras_from_ijk)
        source = apply(ijk_from_ras, camera.source_ras)
        rays = ijk_from_ras[:3] @ camera.ras_from_pixel[:, [3, 0, 1]]
        rays[:, 0] -= source
        mm_from_ijk = np.ascontiguousarray(part.ras_from_ijk[:3, :3])
        scales = (part.scales_g_cm3 * CM_PER_MM).astype(np.float32)
        progress = self._progress(part, camera)

        out = np.zeros((part.members.size, camera.height, camera.width), np.float32)
        for fan in fans(source, rays, camera.width, camera.height, part.box, FINE if part.is_hard else USUAL):
            total = self._march(part, fan, source, progress)

            def resample(v0: int, v1: int, fan: Fan = fan, total: npt.NDArray[np.float32] = total) -> None:
                resample_fan(total, fan.axis, fan.forward, fan.grid, rays, mm_from_ijk, scales, v0, v1, out)

            in_slabs(resample, camera.height, self.threads)
        return out

    def _march(
        self, part: PackedVolume, fan: Fan, source: npt.NDArray[np.float64], progress: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """What the rays of a fan pick up, (fan rows, members, fan columns), in density codes times slices."""
        from .march import march_band

        p, q = transverse_axes(fan.axis)
        origin = (float(source[p]), float(source[q]), float(source[fan.axis]))
        pace = pace_of_lines(fan, progress)
        total = np.zeros((fan.rows, part.members.size, fan.columns), np.float32)

        def march(y0: int, y1: int) -> None:
            march_band(
                part.codes, fan.axis, *part.rows[fan.axis], origin, fan.forward, fan.slices,
                fan.offsets, fan.grid, pace, fan.span_lo, fan.span_hi, y0, y1, total,
            )  # fmt: skip

        in_slabs(march, fan.rows, self.threads, slab=min(MAX_BAND, -(-fan.rows // (3 * self.threads))))
        return total

    def _progress(self, part: PackedVolume, camera: Camera) -> npt.NDArray[np.float64]:
        """How far one voxel along i, j, k leads from source to detector (3,); nowhere if all lies before it."""
        depth_mm = apply(camera.camera_from_ras, self._corners_ras)[:, 2]
        if depth_mm.max() <= camera.source_to_detector_mm:
            return np.zeros(3)
        depth_mm_from_ijk = (camera.camera_from_ras @ part.ras_from_ijk)[2, :3]
        return np.asarray(depth_mm_from_ijk / camera.source_to_detector_mm)
