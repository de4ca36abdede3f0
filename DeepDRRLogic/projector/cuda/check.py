"""Whether a GPU computes what it should: a small scene with a known answer, before a patient is trusted to it."""

from __future__ import annotations

import functools

import numpy as np

from ...carm import CArm
from ...detector import Detector
from ...exposure import expose
from ...gpu.device import Gpu, first_gpu
from ...gpu.errors import DeviceError
from ...imaging_chain import ImagingChain
from ...materials import material
from ...spectrum import Spectrum
from ...volume import MaterialVolume
from ..reference import project_exactly

WORST = 0.02
"""Relative error of the mean square from which a GPU is not believed; the scene's own is some 0.005."""


@functools.cache
def trusted_gpu() -> Gpu:
    """The first GPU, once it has proven to compute what it should; the same object each time, else DeviceError."""
    gpu = first_gpu()
    check_gpu(gpu)
    return gpu


def check_gpu(gpu: Gpu) -> None:
    """Project two materials and expose a detector on the GPU; DeviceError where it is not what the CPU computes.

    It takes some hundredths of a second, and keeps a driver that interprets us wrongly from making wrong images.
    """
    from .host import CudaProjector

    volume = _two_materials()
    spectrum, detector = Spectrum.preset("90kV"), Detector.ideal()
    with_arm = CArm(width=12, height=9, pixel_pitch_mm=12.0)
    cameras = [with_arm.with_angles(*angles).camera() for angles in ((0.0, 0.0), (60.0, 25.0))]
    projector = CudaProjector(volume, threads=1, gpu=gpu)
    images = projector.form_on_device(cameras, ImagingChain(spectrum, detector))
    areas, signal = images.area_densities.get(), images.signal.get()
    projector.close()
    for view, camera in enumerate(cameras):
        exact = project_exactly(volume, camera)
        _compare(gpu, "area densities", areas[view], exact)
        _compare(gpu, "a signal", signal[view], expose(exact, volume.materials, spectrum, detector, 1).signal)


def _two_materials() -> MaterialVolume:
    k, j, i = np.indices((14, 12, 10))
    density = (1.0 + 0.04 * (i + 2 * j)).astype(np.float32)
    labels = np.where(i + j + k > 18, 1, 0).astype(np.uint8)
    ras_from_ijk = np.diag([8.0, 9.0, 7.0, 1.0])
    ras_from_ijk[:3, 3] = -36.0, -50.0, -45.0
    return MaterialVolume(density, labels, (material("soft_tissue"), material("bone")), ras_from_ijk)


def _compare(gpu: Gpu, what: str, measured: np.ndarray, exact: np.ndarray) -> None:
    error = float(np.linalg.norm(measured - exact) / np.linalg.norm(exact))
    if not error < WORST:
        raise DeviceError(f"{gpu.name} computes {what} with an error of {100 * error:.1f} %, and is not trusted")
