"""nanodrr's ray marching in plain PyTorch on the CPU, from the package nanodrr."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from nanodrr.data import Subject
from nanodrr.drr import DRR
from peers.view import View, voxel_000_mm

VERSION = f"{version('nanodrr')}, torch {version('torch')}"

SAMPLES_PER_RAY = 500
"""nanodrr's default."""


class Peer:
    def __init__(
        self, attenuation_mm: npt.NDArray[np.float32], spacing_mm: list[float], threads: int, folder: Path
    ) -> None:
        torch.set_num_threads(threads)
        self._subject = subject_of(attenuation_mm, spacing_mm)
        self._cameras: dict[View, tuple[DRR, torch.Tensor]] = {}

    def project(self, view: View) -> tuple[npt.NDArray[np.float32], float]:
        """The image, and the seconds that rendering took; the rays of a view are set up once."""
        if view not in self._cameras:
            self._cameras[view] = camera_of(view)
        drr, mm_from_camera = self._cameras[view]
        with torch.inference_mode():
            start = time.perf_counter()
            picture = drr(self._subject, mm_from_camera, n_samples=SAMPLES_PER_RAY, backend="torch")
            seconds = time.perf_counter() - start
        return picture[0, 0].numpy(), seconds


def subject_of(attenuation_mm: npt.NDArray[np.float32], spacing_mm: list[float]) -> Subject:
    """The volume, its attenuation in 1/mm, in the frame of peers.view."""
    mm_from_ijk = np.diag([*spacing_mm, 1.0])
    mm_from_ijk[:3, 3] = voxel_000_mm(attenuation_mm.shape, spacing_mm)
    size = np.array(attenuation_mm.shape[::-1])
    grid_from_ijk = np.diag([*(2.0 / size), 1.0])
    grid_from_ijk[:3, 3] = 1.0 / size - 1.0
    return Subject(
        torch.from_numpy(attenuation_mm)[None, None],
        torch.zeros(1, 1, 1, 1, 1),
        tensor(mm_from_ijk),
        tensor(np.linalg.inv(mm_from_ijk)),
        tensor(grid_from_ijk),
        torch.zeros(3),
        max_label=0,
        convert_to_mu=False,
    )


def camera_of(view: View) -> tuple[DRR, torch.Tensor]:
    """A camera whose axes are those of the volume: its pixels then are the detector's, seen from the source."""
    # nanodrr counts pixels from the outer corner of the first.
    corner = view.pixel_00_mm - 0.5 * view.step_u_mm - 0.5 * view.step_v_mm - view.source_mm
    mm_from_pixel = np.stack([view.step_u_mm, view.step_v_mm, corner], axis=1)
    distance_mm = view.source_to_detector_mm
    mm_from_camera = np.eye(4)
    mm_from_camera[:3, 3] = view.source_mm
    k_inverse = tensor(mm_from_pixel / distance_mm)[None]
    return DRR(k_inverse, torch.tensor([distance_mm]), view.height, view.width), tensor(mm_from_camera)[None]


def tensor(matrix: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(matrix.astype(np.float32))
