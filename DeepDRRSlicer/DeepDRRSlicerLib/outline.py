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
_SIMPLIFIED = 150_000
"""Triangles: a chest has half as many before they are made fewer, which takes longer the more there are."""
_TRIANGLES = 25_000
"""More would slow a C-arm's drag where no graphics card draws."""


def bones(hu: npt.NDArray[np.generic], ras_from_ijk: FloatArray) -> vtk.vtkPolyData:
    """Where CT numbers [k, j, i] reach those of bone, in RAS mm; of blocks of voxels, some 5 mm for a torso.

    The blocks are doubled until noise no longer looks like bone everywhere, which would take seconds to simplify.
    """
    blocks = blocks_of(hu.shape, ras_from_ijk)
    coarse = _means(hu, blocks)
    while (found := _surface(coarse)).GetOutput().GetNumberOfPolys() > _SIMPLIFIED:
        i, j, k = (min(2, size) for size in coarse.shape[::-1])
        coarse, blocks = _means(coarse, (i, j, k)), (blocks[0] * i, blocks[1] * j, blocks[2] * k)
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


def _surface(hu: npt.NDArray[np.float32]) -> vtk.vtkFlyingEdges3D:
    """Finds the triangles between bone and the rest, in voxels."""
    image = vtk.vtkImageData()
    image.SetDimensions(*hu.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(hu.ravel(), deep=True))
    found = vtk.vtkFlyingEdges3D()
    found.SetInputData(image)
    found.SetValue(0, BONE_HU)
    found.ComputeNormalsOff()
    found.ComputeScalarsOff()
    found.Update()
    return found


def blocks_of(shape: tuple[int, ...], ras_from_ijk: FloatArray) -> tuple[int, int, int]:
    """Voxels along i, j, k of blocks about as long as wide, of which there are a million at most."""
    spacing = np.array(spacing_mm(ras_from_ijk))
    step_mm = np.cbrt(np.prod(shape) * np.prod(spacing) / _BLOCKS)
    i, j, k = np.clip(np.ceil(step_mm / spacing).astype(int), 1, shape[::-1]).tolist()
    return i, j, k


def _means(hu: npt.NDArray[np.generic], blocks: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """The mean of every whole block."""
    i, j, k = blocks
    planes, rows, columns = (n // size for n, size in zip(hu.shape, (k, j, i), strict=True))
    whole = hu[: planes * k, : rows * j, : columns * i]
    sums = whole.reshape(planes, k, rows * j, columns * i).sum(1, np.float32)
    sums = sums.reshape(planes, rows, j, columns * i).sum(2)
    return np.asarray(sums.reshape(planes, rows, columns, i).mean(3) / (k * j), np.float32)
