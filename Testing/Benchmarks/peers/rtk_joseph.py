"""RTK's Joseph projector (C++, ITK threads), from the package itk-rtk."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import itk
import numpy as np
import numpy.typing as npt
from itk import RTK
from peers.view import View, voxel_000_mm

VERSION = version("itk-rtk")


class Peer:
    def __init__(
        self, attenuation_mm: npt.NDArray[np.float32], spacing_mm: list[float], threads: int, folder: Path
    ) -> None:
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        self._volume = itk.image_view_from_array(attenuation_mm)
        self._volume.SetSpacing(spacing_mm)
        self._volume.SetOrigin(voxel_000_mm(attenuation_mm.shape, spacing_mm).tolist())
        self._filters: dict[View, Any] = {}

    def project(self, view: View) -> tuple[npt.NDArray[np.float32], float]:
        """The image, and the seconds that the filter's update took; the filter of a view is set up once."""
        if view not in self._filters:
            self._filters[view] = self._filter(view)
        joseph = self._filters[view]
        joseph.Modified()
        start = time.perf_counter()
        joseph.Update()
        seconds = time.perf_counter() - start
        return itk.array_from_image(joseph.GetOutput())[0], seconds

    def _filter(self, view: View) -> Any:
        u, v, to_source = view.directions
        # RTK's detector frame has its third axis, row × column, towards the source.
        side = 1.0 if np.cross(u, v) @ to_source > 0 else -1.0
        geometry = RTK.ThreeDCircularProjectionGeometry.New()
        accepted = geometry.AddProjection(
            itk.Point[itk.D, 3](view.source_mm.tolist()),
            itk.Point[itk.D, 3](view.pixel_00_mm.tolist()),
            itk.Vector[itk.D, 3]((side * u).tolist()),
            itk.Vector[itk.D, 3](v.tolist()),
        )
        if not accepted:
            raise ValueError("RTK refuses this geometry.")
        blank = itk.image_from_array(np.zeros((1, view.height, view.width), np.float32))
        blank.SetSpacing([*view.pitch_mm, 1.0])
        blank.SetDirection(np.diag([side, 1.0, 1.0]))
        image_type = itk.Image[itk.F, 3]
        joseph = RTK.JosephForwardProjectionImageFilter[image_type, image_type].New()
        joseph.SetInput(0, blank)
        joseph.SetInput(1, self._volume)
        joseph.SetGeometry(geometry)
        # In place, every update would add to the picture of the one before.
        joseph.InPlaceOff()
        return joseph
