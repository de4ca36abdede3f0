"""A volume node as a CT: its Hounsfield units, where it lies, and in one line whether it will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from slicer.util import arrayFromVolume, updateVolumeFromArray, vtkMatrixFromArray

from DeepDRRLogic.affine import FloatArray, check_affine
from DeepDRRLogic.grid import OnGrid
from DeepDRRLogic.volume import CTVolume

from .mrml import ras_from_ijk, scene_or_default, world_from_parent

_AIR_MAX_HU, _BONE_MIN_HU = -500.0, 100.0
_NOT_CT = ("vtkMRMLLabelMapVolumeNode", "vtkMRMLVectorVolumeNode", "vtkMRMLDiffusionTensorVolumeNode")


def ct_volume(volume: Any | None) -> CTVolume:
    """The CT of a volume node in the node's own coordinates, without its parent transforms.

    Raises ValueError for no volume, an empty one, a label map or colour volume, and what cannot be Hounsfield units.
    """
    if volume is None:
        raise ValueError("No CT chosen: load one, or take a sample.")
    if any(volume.IsA(kind) for kind in _NOT_CT):
        raise ValueError(f"{volume.GetName()} is a {volume.GetNodeTagName()}, not a CT: choose a scalar volume.")
    _image(volume)
    return CTVolume.from_array(arrayFromVolume(volume), ras_from_ijk(volume), volume.GetName())


def ras_from_local(volume: Any) -> FloatArray:
    """What the parent transforms do to the volume, (4, 4); ValueError where they bend it."""
    return world_from_parent(volume)


def world_from_ijk(volume: Any) -> FloatArray:
    """A volume's affine (4, 4), its parent transforms applied; ValueError where they bend or shear it."""
    affine = ras_from_local(volume) @ ras_from_ijk(volume)
    if volume.GetParentTransformNode() is None:
        return affine
    try:
        return check_affine(affine, volume.GetName())
    except ValueError as error:
        name = volume.GetParentTransformNode().GetName()
        raise ValueError(f"The transform {name} shears this CT: harden it and resample. ({error})") from error


@dataclass(frozen=True, eq=False)
class VolumeGrid(OnGrid):
    """The voxels of a volume node in the world, its parent transforms applied."""

    ras_from_ijk: FloatArray
    size: tuple[int, int, int]

    @classmethod
    def of(cls, volume: Any) -> VolumeGrid:
        """The grid of a node; ValueError for an empty one, and where transforms bend or shear it."""
        return cls(world_from_ijk(volume), _image(volume).GetDimensions())

    @property
    def shape(self) -> tuple[int, int, int]:
        i, j, k = self.size
        return k, j, i


def center_ras(volume: Any) -> tuple[float, float, float]:
    """The middle of a volume in the world, RAS mm; ValueError as in VolumeGrid.of."""
    x, y, z = VolumeGrid.of(volume).center_ras.tolist()
    return x, y, z


def verdict(volume: Any | None) -> str:
    """One line for people: size, spacing, and "HU ok" or what is wrong. Never raises."""
    try:
        ct = ct_volume(volume)
        world_from_ijk(volume)
    except ValueError as error:
        return str(error)
    info = ct.info()
    size = "×".join(map(str, info.size))
    spacing = "×".join(f"{step:.2f}" for step in info.spacing_mm)
    trouble = "; ".join(info.warnings)
    return f"{size}, {spacing} mm, {trouble or 'HU ok'}"


def content_key(volume: Any) -> tuple[str, int, int, tuple[float, ...]]:
    """What changes when the CT's values or its place change, its parent transforms left out; ValueError if empty."""
    image = _image(volume)
    scalars = image.GetPointData().GetScalars()
    return volume.GetID(), image.GetMTime(), scalars.GetMTime(), tuple(ras_from_ijk(volume).ravel().tolist())


def looks_like_ct(volume: Any) -> bool:
    """Whether a volume may be taken for a CT unasked: a grey volume with air and bone in it. Quick, and no proof."""
    if volume.GetClassName() != "vtkMRMLScalarVolumeNode":
        return False
    image = volume.GetImageData()
    if image is None or min(image.GetDimensions()) < 2:
        return False
    lowest, highest = image.GetScalarRange()
    return bool(lowest <= _AIR_MAX_HU and highest >= _BONE_MIN_HU)


def volume_node(scene: Any, ct: CTVolume) -> Any:
    """Add a CT to the scene, with a display window for soft tissue and bone."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", ct.name)
    updateVolumeFromArray(node, np.ascontiguousarray(ct.hu))
    node.SetIJKToRASMatrix(vtkMatrixFromArray(ct.ras_from_ijk))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(500.0, 50.0)
    return node


def phantom_node(scene: Any | None = None, region: str = "torso", spacing_mm: float = 1.5) -> Any:
    """Add the embedded phantom as a CT: computed, not downloaded."""
    from DeepDRRLogic.phantom import phantom

    node = volume_node(scene_or_default(scene), phantom(spacing_mm=spacing_mm, region=region).ct)
    node.SetName(f"Phantom {region}")
    return node


def _image(volume: Any) -> Any:
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise ValueError(f"{volume.GetName()} is empty: load a CT into it, or choose another.")
    return image
