"""The GPU projector: uploads a volume once, then projects views and forms images without leaving the device."""

from __future__ import annotations

import contextlib
import itertools
import logging
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...affine import apply
from ...gpu.device import MOST_SPARE_BYTES, DeviceArray, Gpu
from ...gpu.errors import DeviceMemoryError
from ...gpu.textures import Texture
from ...grid import size_text
from ...threads import thread_count
from .. import FormedImage
from . import PTX
from .check import trusted_gpu
from .imaging import Beam, DeviceImages, develop, planes_of_view, scatter_planes
from .texels import BYTES_PER_VOXEL, MAX_MATERIALS, box_of_matter, check_materials, pack

if TYPE_CHECKING:
    from ...detector import Detector
    from ...geometry import Camera
    from ...imaging_chain import ImagingChain
    from ...materials import Material
    from ...spectrum import Spectrum
    from ...volume import MaterialVolume

_logger = logging.getLogger(__name__)

BLOCK = (8, 16, 1)
"""Pixels of one thread block: a warp is a patch of 8 × 4, whose rays stay close together."""

MOST_BATCH_BYTES = MOST_SPARE_BYTES
MOST_VIEWS = 64
"""Bound a batch: so much is kept for the next one, and the first images come soon."""

MOST_BEAMS = 16
"""Spectra with detectors that are kept on the device; the oldest goes first."""


class CudaProjector:
    """Projects one material volume on an NVIDIA GPU; the protocol of projector.Projector, and more.

    The volume stays on the device in 3 bytes per voxel. Rays and interpolation are those of the CPU projector.
    `threads` is for packing. Raises DeviceError where the GPU cannot be used, DeviceMemoryError before anything is
    allocated that does not fit.
    """

    def __init__(self, volume: MaterialVolume, threads: int | None = None, gpu: Gpu | None = None) -> None:
        self.gpu = gpu or trusted_gpu()
        self.materials = volume.materials
        check_materials(volume)
        box = box_of_matter(volume)
        shape = [part.stop - part.start for part in box]
        needed = int(np.prod(shape, dtype=np.int64)) * BYTES_PER_VOXEL
        _logger.info("The volume needs %.2f GB on %s.", needed / 1e9, self.gpu.name)
        with self.gpu.active():
            try:
                self.gpu.require_memory(needed, f"The volume ({size_text((shape[0], shape[1], shape[2]))})")
            except DeviceMemoryError as error:
                raise DeviceMemoryError(f"{error}; volume.downsampled(2) needs an eighth") from error
        texels = pack(volume, box, thread_count(threads))
        self._ras_from_ijk = texels.ras_from_ijk
        self._size = [np.int32(n) for n in texels.labels.shape[::-1]]
        with self.gpu.active(), contextlib.ExitStack() as undo:
            self._density = Texture(texels.density)
            undo.callback(self._density.free)
            self._labels = Texture(texels.labels)
            undo.pop_all()
        self._beams: dict[tuple[tuple[Material, ...], Spectrum, Detector], Beam] = {}
        self.close = weakref.finalize(self, self.gpu.free, self._density, self._labels)
        """Gives the volume's memory back, at the latest when the projector goes; it is of no more use then."""

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width), float32, in g/cm²."""
        areas: npt.NDArray[np.float32] = self.project_on_device([camera]).get()[0]
        return areas

    def project_on_device(self, cameras: Sequence[Camera], others: Sequence[CudaProjector] = ()) -> DeviceArray:
        """Area densities (views, n_materials, height, width) of a batch, left on the device.

        With `others` those of all volumes together, in the order of `materials_of`. All cameras have the same number of
        pixels, else ValueError. The kernels are only launched: get() waits for them.
        """
        height, width = _common_size(cameras)
        materials = materials_of([self, *others])
        projectors = self, *others
        with self.gpu.active():
            # An upload waits for the kernels before it: first all of them, then the kernels.
            views = [self.gpu.upload(projector._views(cameras)) for projector in projectors]
            planes = [projector._planes(materials) for projector in projectors]
            out = self.gpu.zeros((len(cameras), len(materials), height, width))
            for projector, seen, plane_of in zip(projectors, views, planes, strict=True):
                projector._add_to(out, seen, plane_of)
        return out

    def _views(self, cameras: Sequence[Camera]) -> npt.NDArray[np.float32]:
        return np.stack([_view(camera, self._ras_from_ijk) for camera in cameras])

    def _planes(self, materials: Sequence[Material]) -> DeviceArray:
        return self.gpu.constant(np.array([materials.index(material) for material in self.materials], np.int32))

    def _add_to(self, out: DeviceArray, views: DeviceArray, plane_of: DeviceArray) -> None:
        count, planes, height, width = out.shape
        self.gpu.launch(
            PTX, f"project_{columns_for(len(self.materials))}", (width, height, count), BLOCK,
            self._density.handle, self._labels.handle, *self._size, views.pointer, np.int32(width), np.int32(height),
            plane_of.pointer, np.int32(len(self.materials)), np.int32(planes), out.pointer,
        )  # fmt: skip

    def form(
        self,
        camera: Camera,
        chain: ImagingChain,
        seed: int = 0,
        others: Sequence[CudaProjector] = (),
    ) -> FormedImage:
        """One finished image, copied from the device; see form_on_device."""
        return self.form_batch([camera], chain, seed, others)[0]

    def form_batch(
        self,
        cameras: Sequence[Camera],
        chain: ImagingChain,
        seed: int = 0,
        others: Sequence[CudaProjector] = (),
    ) -> list[FormedImage]:
        """The first images, at least one, of a series of views: as many as are of one size and fit in memory.

        They are enqueued in one go and copied from the device when all are done; see form_on_device.
        """
        count = self._batch_size(cameras, chain, others)
        images = self.form_on_device(cameras[:count], chain, seed, others)
        arrays = images.signal, images.photons, images.mean_energy_kev, images.area_densities
        return [FormedImage(*planes) for planes in zip(*(array.get() for array in arrays), strict=True)]

    def _batch_size(
        self,
        cameras: Sequence[Camera],
        chain: ImagingChain,
        others: Sequence[CudaProjector],
    ) -> int:
        if chain.scatter is not None and not hasattr(chain.scatter, "estimate_on_device"):
            return 1  # one estimate may take minutes, and a series is shown and stopped view by view
        first = cameras[0]
        channels, noise, scatter = len(chain.detector.channels), chain.noise is not None, chain.scatter is not None
        planes = len(materials_of([self, *others])) + planes_of_view(channels, noise, scatter)
        with self.gpu.active():
            room = min(MOST_BATCH_BYTES, self.gpu.room() // 2)
        most = min(MOST_VIEWS, max(1, room // (4 * planes * first.width * first.height)))
        alike = itertools.takewhile(lambda camera: _pixels(camera) == _pixels(first), cameras[:most])
        return sum(1 for _ in alike)

    def form_on_device(
        self,
        cameras: Sequence[Camera],
        chain: ImagingChain,
        seed: int = 0,
        others: Sequence[CudaProjector] = (),
    ) -> DeviceImages:
        """The whole image formation of a batch of views, of this volume and others together, left on the device.

        Every step is that of exposure.expose and noise.NoiseModel.apply; view n draws the noise of `seed + n`. The
        random numbers are not those of the CPU, their statistics are. A scatter model with a method
        `estimate_on_device`, see scatter_planes, works on the device as well; of any other the area densities are
        copied to the host, and its estimate back.
        """
        chain = chain.at(_common_pitch(cameras))
        materials = materials_of([self, *others])
        areas = self.project_on_device(cameras, others)
        planes = None
        if chain.scatter is not None:
            planes = scatter_planes(self.gpu, chain.scatter, areas, materials, cameras, chain.spectrum, chain.detector)
        with self.gpu.active():
            beam = self._beam(materials, chain.spectrum, chain.detector)
            return develop(self.gpu, areas, beam, chain.noise, chain.photons_per_pixel, seed, planes)

    def _beam(self, materials: tuple[Material, ...], spectrum: Spectrum, detector: Detector) -> Beam:
        key = materials, spectrum, detector
        if key not in self._beams:
            while len(self._beams) >= MOST_BEAMS:
                self._beams.pop(next(iter(self._beams)))
            self._beams[key] = Beam.upload(self.gpu, materials, columns_for(len(materials)), spectrum, detector)
        return self._beams[key]


def materials_of(projectors: Sequence[CudaProjector]) -> tuple[Material, ...]:
    """The materials of all volumes, each once, in the order they appear."""
    return tuple(dict.fromkeys(material for projector in projectors for material in projector.materials))


def columns_for(materials: int) -> int:
    """The kernels come for 4, 8 and 16 materials; ValueError for more."""
    if materials > MAX_MATERIALS:
        raise ValueError(f"{materials} materials in one image; the GPU takes {MAX_MATERIALS}: merge some.")
    return next(columns for columns in (4, 8, 16) if materials <= columns)


def _size(camera: Camera) -> tuple[int, int]:
    return camera.height, camera.width


def _common_size(cameras: Sequence[Camera]) -> tuple[int, int]:
    sizes = {_size(camera) for camera in cameras}
    if len(sizes) != 1:
        raise ValueError(f"A batch has cameras of (height, width) {sorted(sizes)}: give one size per batch.")
    return sizes.pop()


def _pixels(camera: Camera) -> tuple[float, ...]:
    """How many pixels of which size, which the views of a batch have in common but for rounding."""
    return *_size(camera), *(round(pitch, 5) for pitch in camera.pixel_pitch_mm)


def _common_pitch(cameras: Sequence[Camera]) -> tuple[float, float]:
    if len({_pixels(camera) for camera in cameras}) > 1:
        raise ValueError("A batch has cameras with pixels of several sizes in mm: give one size per batch.")
    return cameras[0].pixel_pitch_mm


def _view(camera: Camera, ras_from_ijk: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """A view as kernels.cu reads it: source and rays in voxels, then the rays in mm."""
    ijk_from_ras = np.linalg.inv(ras_from_ijk)
    rays_mm = camera.ras_from_pixel[:3, [3, 0, 1]].copy()
    rays_mm[:, 0] -= camera.source_ras
    source = apply(ijk_from_ras, camera.source_ras)
    return np.concatenate([source, (ijk_from_ras[:3, :3] @ rays_mm).T.ravel(), rays_mm.T.ravel()]).astype(np.float32)
