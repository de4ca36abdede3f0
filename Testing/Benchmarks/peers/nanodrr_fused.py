"""nanodrr's fused Triton renderer on an NVIDIA GPU, from the package nanodrr: one line integral."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch
from nanodrr.drr import render
from peers.nanodrr_torch import camera_of, subject_of
from peers.view import View

VERSION = f"{version('nanodrr')}, torch {version('torch')}"


class FusedPeer:
    """A volume in 1/mm on the device, and batches of views rendered there; `backend` "torch" renders without Triton."""

    def __init__(
        self,
        attenuation_mm: npt.NDArray[np.float32],
        spacing_mm: Sequence[float],
        device: str = "cuda",
        backend: str = "triton",
    ) -> None:
        self.device, self.backend = device, backend
        self._subject = subject_of(attenuation_mm, list(spacing_mm)).to(device)

    def prepare(self, views: Sequence[View], samples: int) -> None:
        """The views that `render` renders, all of one size, and how often it samples each ray."""
        cameras = [camera_of(view) for view in views]
        self._k_inverse = torch.cat([drr.k_inv for drr, _ in cameras]).to(self.device)
        self._distance = torch.cat([drr.sdd for drr, _ in cameras]).to(self.device)
        self._mm_from_camera = torch.cat([pose for _, pose in cameras]).to(self.device)
        self._rays = {
            name: torch.cat([getattr(drr, name) for drr, _ in cameras]).to(self.device) for name in ("src", "tgt")
        }
        self._size, self._samples = (views[0].height, views[0].width), samples

    def render(self) -> torch.Tensor:
        """Line integrals (views, 1, height, width) on the device; they are only launched."""
        with torch.inference_mode():
            return render(
                self._subject, self._k_inverse, self._mm_from_camera, self._distance, *self._size,
                n_samples=self._samples, backend=self.backend, **self._rays,
            )  # fmt: skip

    def seconds(self) -> float:
        """Of the device, for one rendering."""
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.render()
        stop.record()
        stop.synchronize()
        return 1e-3 * float(start.elapsed_time(stop))
