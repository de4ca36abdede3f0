"""The bones of a CT as a coarse surface, made in half a second and drawn in no time whatever the CT's size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import vtk
from vtkmodules.util.numpy_support import numpy_to_vtk

from DeepDRRLogic.affine import FloatArray, spacing_mm
from DeepDRRLogic.grid import blocked_affine

BONE_HU = 150.0
"""Of blocks of voxels: those that a rib passes through are mostly soft tissue."""
_BLOCKS = 800_000
_PASS_BAND, _ITERATIONS = 0.1, 8
_TRIANGLES = 25_000
"""More would slow a C-arm's drag where no graphics card draws."""


def bones(hu: npt.NDArray[np.generic], ras_from_ijk: FloatArray) -> vtk.vtkPolyData:
    """Where CT numbers [k, j, i] reach those of bone, in RAS mm; of blocks of voxels, some 4 to 5 mm for a torso."""
    blocks = blocks_of(hu.shape, ras_from_ijk)
    coarse = _means(hu, blocks)
    image = vtk.vtkImageData()
    image.SetDimensions(*coarse.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(coarse.ravel(), deep=True))
    found = vtk.vtkFlyingEdges3D()
    found.SetInputData(image)
    found.SetValue(0, BONE_HU)
    found.ComputeNormalsOff()
    found.ComputeScalarsOff()
    found.Update()
    if not (triangles := found.GetOutput().GetNumberOfPolys()):
        return found.GetOutput()
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(found.GetOutputPort())
    smooth.SetNumberOfIterations(_ITERATIONS)
    smooth.SetPassBand(_PASS_BAND)
    fewer = vtk.vtkDecimatePro()
    fewer.SetInputConnection(smooth.GetOutputPort())
    fewer.SetTargetReduction(max(0.0, 1.0 - _TRIANGLES / triangles))
    to_ras = vtk.vtkTransform()
    to_ras.SetMatrix(blocked_affine(ras_from_ijk, blocks).ravel().tolist())
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetTransform(to_ras)
    placed.SetInputConnection(fewer.GetOutputPort())
    shaded = vtk.vtkPolyDataNormals()
    shaded.SetInputConnection(placed.GetOutputPort())
    shaded.SplittingOff()
    shaded.Update()
    return shaded.GetOutput()


def blocks_of(shape: tuple[int, ...], ras_from_ijk: FloatArray) -> tuple[int, int, int]:
    """Voxels along i, j, k of blocks about as long as wide, of which there are less than a million or so."""
    spacing = np.array(spacing_mm(ras_from_ijk))
    step_mm = np.cbrt(np.prod(shape) * np.prod(spacing) / _BLOCKS)
    i, j, k = np.clip(np.round(step_mm / spacing).astype(int), 1, shape[::-1]).tolist()
    return i, j, k


def _means(hu: npt.NDArray[np.generic], blocks: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """The mean of every whole block."""
    i, j, k = blocks
    planes, rows, columns = (n // size for n, size in zip(hu.shape, (k, j, i), strict=True))
    whole = hu[: planes * k, : rows * j, : columns * i]
    sums = whole.reshape(planes, k, rows * j, columns * i).sum(1, np.float32)
    sums = sums.reshape(planes, rows, j, columns * i).sum(2)
    return np.asarray(sums.reshape(planes, rows, columns, i).mean(3) / (k * j), np.float32)
