"""The material of every voxel of a CT, from segments that overlap, lie on other grids, and get edited.

Every voxel has an owner: the segment of highest priority over it, or nobody. After an edit the owners are found anew
(a few passes over bytes), compared, and only where they differ is the density computed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from slicer.util import arrayFromVTKMatrix
from vtk import vtkMatrix4x4
from vtkmodules.util.numpy_support import vtk_to_numpy

from DeepDRRLogic.affine import FloatArray
from DeepDRRLogic.materials import CT_EFFECTIVE_ENERGY_KEV, Material, material
from DeepDRRLogic.segmentation.thresholds import AIR_MAX_HU
from DeepDRRLogic.threads import in_slabs, thread_count
from DeepDRRLogic.volume import ROOM_AIR_MAX_HU, CTVolume, MaterialVolume
from DeepDRRLogic.voxels import HuArray, densities, nearest

from .material_nodes import SegmentMaterial, segment_materials
from .mrml import world_from_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

Box = tuple[slice, slice, slice]

# Owners of voxels under no segment, and under one that is cut out. Segments are numbered from _FIRST.
_AIR, _SOFT, _VOID, _FIRST = 0, 1, 2, 3
_MOST_SEGMENTS = 255 - _FIRST
_SAME_GRID_VOXELS = 1e-3


@dataclass(frozen=True)
class _Owner:
    """What a voxel is, by who owns it: a material at the CT's density, or at one of its own."""

    material: str
    density_g_cm3: float | None


class MaterialMap:
    """The materials of one CT by one segmentation: `volume` after each `update`."""

    def __init__(self, ct: CTVolume) -> None:
        self.ct = ct
        self.volume: MaterialVolume | None = None
        self._numbers: dict[str, int] = {}
        self._owner_of_voxel = np.zeros(0, np.uint8)
        self._owners: tuple[_Owner, ...] = ()
        self._density = np.empty(ct.shape, np.float32)
        self._labels = np.empty(ct.shape, np.uint8)

    def update(self, segmentation_node: Any, world_from_ct: FloatArray) -> Box | None:
        """Take over what the segmentation says now; the box [k, j, i] of voxels that changed, None for none.

        `world_from_ct` (4, 4) is what the CT's parent transforms do, so that a segmentation under other ones fits.
        Raises ValueError for more segments than 252.
        """
        segments = segment_materials(segmentation_node)
        ranked = sorted(segments, key=lambda s: s.priority)
        for segment in segments:
            self._numbers.setdefault(segment.segment_id, len(self._numbers) + _FIRST)
        if len(self._numbers) > _MOST_SEGMENTS:
            raise ValueError(f"{len(self._numbers)} segments: at most {_MOST_SEGMENTS} can be told apart; merge some.")
        owners = self._owners_of(segments)
        owner_of_voxel = self._find_owners(segmentation_node, ranked, world_from_ct)
        box = self._changed(owner_of_voxel, owners)
        self._owner_of_voxel, before, self._owners = owner_of_voxel, self._owners, owners
        if box is not None:
            self._fill(box, _materials(before) != _materials(owners))
        return box

    def _owners_of(self, segments: Sequence[SegmentMaterial]) -> tuple[_Owner, ...]:
        owners = {_AIR: _Owner("air", None), _SOFT: _Owner("soft_tissue", None), _VOID: _Owner("air", 0.0)}
        for segment in segments:
            owners[self._numbers[segment.segment_id]] = _Owner(segment.material, segment.density_g_cm3)
        return tuple(owners.get(n, owners[_AIR]) for n in range(len(self._numbers) + _FIRST))

    def _find_owners(
        self, segmentation_node: Any, ranked: Sequence[SegmentMaterial], world_from_ct: FloatArray
    ) -> npt.NDArray[np.uint8]:
        hu = self.ct.hu
        owner = np.empty(hu.shape, np.uint8)
        limit = hu.dtype.type(AIR_MAX_HU)
        local_from_ct = np.linalg.inv(world_from_parent(segmentation_node)) @ world_from_ct
        layers = _Layers(segmentation_node, local_from_ct @ self.ct.ras_from_ijk, self.ct.shape)
        # Those that are cut out come first, so that any other segment over them shows.
        paints = [(*layers.of(s), _VOID) for s in ranked if not s.enabled]
        paints += [(*layers.of(s), self._numbers[s.segment_id]) for s in ranked if s.enabled]
        strokes = _grouped([paint for paint in paints if paint[0] is not None])

        def work(k0: int, k1: int) -> None:
            part = owner[k0:k1]
            np.greater(hu[k0:k1], limit, out=part.view(np.bool_))
            for (values, offset), table in strokes:
                _paint(part, values, (offset[0] - k0, *offset[1:]), table)

        in_slabs(work, len(owner), thread_count(None))
        return owner

    def _changed(self, owner_of_voxel: npt.NDArray[np.uint8], owners: tuple[_Owner, ...]) -> Box | None:
        if self.volume is None:
            return _whole(self.ct.shape)
        from .material_kernels import box_of_changes, empty_box

        changed = np.zeros(256, np.bool_)
        for number, (old, new) in enumerate(zip(self._owners, owners, strict=False)):
            changed[number] = old != new
        boxes: list[npt.NDArray[np.int64]] = []

        def work(k0: int, k1: int) -> None:
            box = empty_box()
            box_of_changes(self._owner_of_voxel, owner_of_voxel, changed, k0, k1, box)
            boxes.append(box)

        in_slabs(work, len(owner_of_voxel), thread_count(None))
        first, last = np.min([box[:, 0] for box in boxes], axis=0), np.max([box[:, 1] for box in boxes], axis=0)
        if last[0] < 0:
            return None
        k, j, i = (slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
        return k, j, i

    def _fill(self, box: Box, other_materials: bool) -> None:
        """Density and label of the voxels in a box; all labels where the list of materials has changed."""
        materials = _materials(self._owners)
        label_of = np.zeros(256, np.uint8)
        label_of[: len(self._owners)] = [materials.index(owner.material) for owner in self._owners]
        everywhere = _whole(self.ct.shape) if other_materials else box
        self._labels[everywhere] = label_of[self._owner_of_voxel[everywhere]]
        owner = np.ascontiguousarray(self._owner_of_voxel[box])
        its = tuple(material(o.material) for o in self._owners)
        hu = cast(HuArray, np.ascontiguousarray(self.ct.hu[box]))
        density = densities(hu, owner, its, CT_EFFECTIVE_ENERGY_KEV, ROOM_AIR_MAX_HU)
        for number, fixed in enumerate(self._owners):
            if fixed.density_g_cm3 is not None:
                density[owner == number] = fixed.density_g_cm3
        self._density[box] = density
        known: tuple[Material, ...] = tuple(material(name) for name in materials)
        self.volume = MaterialVolume(self._density, self._labels, known, self.ct.ras_from_ijk, self.ct.name)


class _Layers:
    """The labelmaps of a segmentation on the CT's grid: as they are where the grids agree, else resampled once."""

    def __init__(self, node: Any, local_from_ijk: FloatArray, shape: tuple[int, int, int]) -> None:
        self._segmentation = node.GetSegmentation()
        self._local_from_ijk = local_from_ijk
        self._shape = shape
        self._seen: dict[str, tuple[npt.NDArray[Any], tuple[int, ...]]] = {}

    def of(self, segment: SegmentMaterial) -> tuple[Any, int]:
        """((values [k, j, i], offset of their first voxel), label value); None for a segment that is empty."""
        its = self._segmentation.GetSegment(segment.segment_id)
        image = its.GetRepresentation("Binary labelmap")
        if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
            return None, 0
        key = image.GetAddressAsString("")
        if key not in self._seen:
            self._seen[key] = self._on_grid(image)
        return self._seen[key], int(its.GetLabelValue())

    def _on_grid(self, image: Any) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
        first = np.array(image.GetExtent()[::2])
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        matrix = vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        layer_from_ct = np.linalg.inv(arrayFromVTKMatrix(matrix)) @ self._local_from_ijk
        layer_from_ct[:3, 3] -= first
        shift = layer_from_ct[:3, 3]
        aligned = np.abs(layer_from_ct[:3, :3] - np.eye(3)).max() * max(self._shape) < _SAME_GRID_VOXELS
        if aligned and np.abs(shift - np.round(shift)).max() < _SAME_GRID_VOXELS:
            return values, tuple(int(-n) for n in np.round(shift)[::-1])
        if values.max() > 255:
            raise ValueError(f"A labelmap has values up to {values.max()}: at most 255 segments can share one.")
        return nearest(np.ascontiguousarray(values, np.uint8), layer_from_ct, self._shape), (0, 0, 0)


def _grouped(paints: list[Any]) -> list[tuple[Any, npt.NDArray[np.uint8]]]:
    """Segments that follow each other in one labelmap are painted in one go: (layer, owner of each label value)."""
    strokes: list[tuple[Any, npt.NDArray[np.uint8]]] = []
    for layer, value, number in paints:
        if not strokes or strokes[-1][0] is not layer:
            strokes.append((layer, np.zeros(1 << 16 if layer[0].itemsize > 1 else 1 << 8, np.uint8)))
        strokes[-1][1][value] = number + 1
    return strokes


def _paint(
    target: npt.NDArray[np.uint8], values: npt.NDArray[Any], offset: tuple[int, ...], table: npt.NDArray[np.uint8]
) -> None:
    """Give the voxels under a labelmap, whose first voxel lies at `offset`, to the owners of its values.

    The table holds the owner's number plus 1, and 0 for values that nobody has.
    """
    from .material_kernels import paint

    here, there = [], []
    for start, count, size in zip(offset, values.shape, target.shape, strict=True):
        low, high = max(start, 0), min(start + count, size)
        if low >= high:
            return
        here.append(slice(low, high))
        there.append(slice(low - start, high - start))
    paint(target[tuple(here)], values[tuple(there)], table)


def _materials(owners: tuple[_Owner, ...]) -> tuple[str, ...]:
    """The names of the owners' materials, each once."""
    return tuple(dict.fromkeys(owner.material for owner in owners))


def _whole(shape: tuple[int, int, int]) -> Box:
    k, j, i = shape
    return slice(0, k), slice(0, j), slice(0, i)
