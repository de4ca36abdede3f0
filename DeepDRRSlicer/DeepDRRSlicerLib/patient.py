"""A CT node and its segmentation as the simulator takes them, kept in step with the scene at the least cost."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from DeepDRRLogic.affine import FloatArray, check_rigid
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.grid import blocked_affine
from DeepDRRLogic.scatter import ScatterModel, make_scatter
from DeepDRRLogic.segmentation import segment
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.volume import CTVolume, MaterialVolume
from DeepDRRLogic.voxels import average_blocks

from . import ct_nodes
from .material_map import Box, MaterialMap
from .material_nodes import ensure_labelmaps, segment_materials
from .mrml import in_scene, set_attribute, world_from_parent

Quality = Literal["full", "preview"]

# As many voxels as two cores of a laptop project ten times a second.
_PREVIEW_VOXELS = 12_000_000
_THRESHOLDS = "DeepDRR.Thresholds"


class Patient:
    """What a C-arm looks through. `update` takes over the scene; then `simulator` is ready for a camera.

    Without a segmentation the CT is split by thresholds, unseen: those kept with it (`keep_thresholds`). Everything is
    in the CT node's own coordinates, and a camera is carried there (`local_camera`), so that moving the patient by a
    transform costs nothing.
    """

    def __init__(self, volume_node: Any, segmentation_node: Any | None = None) -> None:
        self.volume_node = volume_node
        self.segmentation_node = segmentation_node
        self.version = 0
        self.volume: MaterialVolume | None = None
        self.preview: MaterialVolume | None = None
        self._ct: CTVolume | None = None
        self._map: MaterialMap | None = None
        self._ct_key: Hashable = None
        self._segments_key: Hashable = None
        self._factors = (1, 1, 1)
        self._simulators: dict[tuple[Quality, str], tuple[int, XRaySimulator]] = {}
        self._scatters: dict[tuple[Quality, str], tuple[int, ScatterModel]] = {}

    def update(self) -> Box | None:
        """Take over what has changed in the scene; the box [k, j, i] of voxels that did, None if nothing.

        Raises ValueError, in words, for what cannot be simulated; then the patient is as before.
        """
        ct_key = (ct_nodes.content_key(self.volume_node), self._baked())
        if ct_key != self._ct_key:
            self._ct, self._map = self._read_ct(), None
            self._ct_key, self._segments_key = ct_key, None
        if in_scene(self.segmentation_node):
            ensure_labelmaps(self.segmentation_node, self.volume_node)
        key = self._key_of_segments()
        if key == self._segments_key and self.volume is not None:
            return None
        box = self._update_materials()
        self._segments_key = key
        if box is not None:
            self._update_preview(box)
            self.version += 1
        return box

    def simulator(self, quality: Quality, device: str = "auto") -> XRaySimulator:
        """The simulator of this patient; made once per version. Touches no scene: any thread may ask."""
        version = self.version
        known = self._simulators.get((quality, device))
        if known is not None and known[0] == version:
            return known[1]
        volume = self.volume if quality == "full" else self.preview
        if volume is None:
            raise ValueError("There is no patient yet: choose a CT.")
        if volume is self.volume and quality == "preview":
            return self.simulator("full", device)
        made = XRaySimulator(volume, device=device)
        self._simulators[quality, device] = (version, made)
        return made

    def scatter(self, name: str, quality: Quality) -> ScatterModel | None:
        """The scatter model of that name for this patient, None for ""; made once per version, by any thread."""
        if not name:
            return None
        version = self.version
        known = self._scatters.get((quality, name))
        if known is not None and known[0] == version:
            return known[1]
        volume = self.volume if quality == "full" else self.preview
        made = make_scatter(name, () if volume is None else (volume,))
        assert made is not None
        self._scatters[quality, name] = (version, made)
        return made

    def local_camera(self, camera: Camera) -> Camera:
        """The camera in the CT's own coordinates."""
        world = self._world_from_local()
        return camera if np.array_equal(world, np.eye(4)) else camera.moved(np.linalg.inv(world))

    def key(self) -> Hashable:
        """Changes when the patient has: cheap enough to ask for on every event."""
        place = tuple(world_from_parent(self.volume_node).ravel().tolist())
        return ct_nodes.content_key(self.volume_node), place, self._key_of_segments()

    def _world_from_local(self) -> FloatArray:
        world = ct_nodes.ras_from_local(self.volume_node)
        return np.eye(4) if self._baked() is not None else world

    def _baked(self) -> Hashable | None:
        """The parent transform where it is no rigid motion: then it becomes part of the CT's affine."""
        world = ct_nodes.ras_from_local(self.volume_node)
        try:
            check_rigid(world)
        except ValueError:
            return tuple(world.ravel().tolist())
        return None

    def _read_ct(self) -> CTVolume:
        ct = ct_nodes.ct_volume(self.volume_node)
        if self._baked() is None:
            return ct
        return replace(ct, ras_from_ijk=ct_nodes.world_from_ijk(self.volume_node))

    def _key_of_segments(self) -> Hashable:
        node: Any = self.segmentation_node
        if not in_scene(node):
            return f"thresholds {self.volume_node.GetAttribute(_THRESHOLDS)}"
        segmentation = node.GetSegmentation()
        layers = []
        for n in range(segmentation.GetNumberOfSegments()):
            its = segmentation.GetNthSegment(n)
            image = its.GetRepresentation("Binary labelmap")
            scalars = image.GetPointData().GetScalars() if image is not None else None
            times = (image.GetMTime(), scalars.GetMTime()) if scalars is not None else ()
            layers.append((its.GetLabelValue(), *times))
        apart = np.linalg.inv(world_from_parent(node)) @ ct_nodes.ras_from_local(self.volume_node)
        return node.GetID(), tuple(segment_materials(node)), tuple(layers), tuple(apart.ravel().tolist())

    def _update_materials(self) -> Box | None:
        assert self._ct is not None
        node: Any = self.segmentation_node
        if not in_scene(node):
            self._map = None
            kept = json.loads(self.volume_node.GetAttribute(_THRESHOLDS) or "{}")
            self.volume = MaterialVolume.from_ct(self._ct, segment(self._ct, "threshold", **kept))
            k, j, i = self._ct.shape
            return slice(0, k), slice(0, j), slice(0, i)
        if self._map is None:
            self._map = MaterialMap(self._ct)
        box = self._map.update(node, self._world_from_local())
        self.volume = self._map.volume
        return box

    def _update_preview(self, box: Box) -> None:
        """The coarse volume, averaged anew in the blocks that the box touches."""
        volume = self.volume
        assert volume is not None
        before, factors = self.preview, preview_factors(volume)
        if factors == (1, 1, 1):
            self.preview = volume
            return
        same = before is not None and before.materials == volume.materials and self._factors == factors
        self._factors = factors
        affine = blocked_affine(volume.ras_from_ijk, factors)
        if before is None or not same or not np.allclose(before.ras_from_ijk, affine):
            self.preview = volume.downsampled(factors)
            return
        blocks, fine = zip(
            *(_blocks(s, f, n) for s, f, n in zip(box, factors[::-1], volume.shape, strict=True)), strict=True
        )
        part = np.ascontiguousarray(volume.density_g_cm3[fine]), np.ascontiguousarray(volume.labels[fine])
        density, labels = before.density_g_cm3, before.labels
        density[blocks], labels[blocks] = average_blocks(*part, factors, len(volume.materials))
        self.preview = replace(before, density_g_cm3=density, labels=labels)


def keep_thresholds(volume_node: Any, air_max_hu: float | None = None, bone_min_hu: float | None = None) -> None:
    """Keep with a CT, in its scene too, where it is split while it has no segments; None for the usual HU."""
    kept = {"air_max_hu": air_max_hu, "bone_min_hu": bone_min_hu}
    set_attribute(volume_node, _THRESHOLDS, json.dumps(kept))


def preview_factors(volume: MaterialVolume) -> tuple[int, int, int]:
    """Blocks of voxels along i, j, k that bring a volume to a size fit for moving pictures, none at all if it is."""
    factors = np.ones(3, int)
    spacing = np.array(volume.spacing_mm)
    while volume.labels.size / factors.prod() > _PREVIEW_VOXELS:
        steps = spacing * factors
        factors[steps <= np.sqrt(2.0) * steps.min()] *= 2
    i, j, k = factors.tolist()
    return i, j, k


def _blocks(box: slice, factor: int, size: int) -> tuple[slice, slice]:
    """The blocks that a range of voxels touches, and the voxels they are made of."""
    first, last = box.start // factor, -(-box.stop // factor)
    return slice(first, last), slice(first * factor, min(last * factor, size))
