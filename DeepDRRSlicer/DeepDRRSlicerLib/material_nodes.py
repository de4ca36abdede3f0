"""Segments as materials: what each segment is made of, kept in its tags, never in its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import slicer
import vtk
from slicer.util import NodeModify, vtkMatrixFromArray
from vtkmodules.util.numpy_support import numpy_to_vtk

from DeepDRRLogic.affine import FloatArray
from DeepDRRLogic.materials import Material, material, material_names
from DeepDRRLogic.segmentation.seg_nrrd import MATERIAL_TAG
from DeepDRRLogic.segmentation.terminology import terminology_entry, terminology_material
from DeepDRRLogic.volume import MaterialLabels

from .layout import XRAY_VIEWS
from .mrml import ras_from_ijk, scene_or_default, world_from_parent

TAG_MATERIAL = MATERIAL_TAG
TAG_DENSITY = "DeepDRR.Density"
TAG_ENABLED = "DeepDRR.Enabled"
TAG_PRIORITY = "DeepDRR.Priority"

DEFAULT_MATERIAL = "soft_tissue"
_FROM_CT = "ct"
_OURS = "DeepDRR_"
# What a plain CT shows as it is. Metal streaks and clips there, and a painted contrast agent was never in it.
_SEEN_BY_CT = frozenset(
    ("air", "soft_tissue", "bone", "cortical_bone", "trabecular_bone", "adipose", "muscle", "lung", "water", "blood")
)
# Categories and types of SNOMED CT. New segments of the Segment Editor are of the type Tissue until somebody chooses.
_ANATOMY, _TISSUE = "123037004", "85756007"
_BONE = re.compile(
    r"\b(bones?|vertebra[el]?|ribs?|femur|hip|sacrum|coccyx|scapula|clavicle|sternum|humerus|ulna|radius|carpus|metacarpal"
    r"|patella|tibia|fibula|tarsus|metatarsal|phalanx|skull|maxilla|mandible|vomer|zygoma|tooth|teeth)\b",
    re.IGNORECASE,
)
_AT_BONE = re.compile(
    r"\b(artery|canal|cartilage|joint|ligament|marrow|muscle|nerve|region|tendon|vein)\b", re.IGNORECASE
)
_VIEWS = "DeepDRR.Views"
_LABELMAP, _SURFACE = "Binary labelmap", "Closed surface"
_OPACITY_3D = {"air": 0.0, "soft_tissue": 0.12, "adipose": 0.04}  # fat shares its surface with soft tissue
_FILL_2D = {"soft_tissue": 0.1, "adipose": 0.1}  # of half: the CT is seen through it
_OUTLINE_2D = {"adipose": 0.3}  # there is fat everywhere


@dataclass(frozen=True)
class SegmentMaterial:
    """A segment as the simulator takes it.

    density_g_cm3: None where the density comes from the CT's values. priority: where segments overlap the higher
    wins, among equals the later. A segment that is not enabled is cut out of the patient: nothing is there, unless
    another segment lies over it. is_guess: nobody said what it is made of; it lies under those of which somebody did.
    """

    segment_id: str
    name: str
    material: str
    density_g_cm3: float | None
    enabled: bool
    priority: int
    color: tuple[float, float, float]
    is_guess: bool = False


def segment_materials(segmentation_node: Any) -> list[SegmentMaterial]:
    """The segments of a segmentation in its own order."""
    return [_read(segment_id, segment) for segment_id, segment in _segments(segmentation_node)]


def set_material(
    segmentation_node: Any,
    segment_id: str,
    *,
    material: str | None = None,
    density_g_cm3: float | Literal["ct", "default"] | None = None,
    enabled: bool | None = None,
    priority: int | None = None,
) -> None:
    """Say what a segment is made of; what is None stays.

    `density_g_cm3` is a number, "ct" for the density that the CT's values stand for, or "default" for what is usual
    for the material. Raises ValueError for an unknown segment or material, and a density that cannot be.
    """
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise ValueError(f"{segmentation_node.GetName()} has no segment {segment_id!r}.")
    tags: dict[str, str] = {}
    if material is not None:
        tags[TAG_MATERIAL] = _known(material)
    if density_g_cm3 is not None:
        tags[TAG_DENSITY] = "" if density_g_cm3 == "default" else _density_text(density_g_cm3)
    if enabled is not None:
        tags[TAG_ENABLED] = "1" if enabled else "0"
    if priority is not None:
        tags[TAG_PRIORITY] = str(int(priority))
    for name, value in tags.items():
        if _tag(segment, name) != value:
            segment.SetTag(name, value)


def material_choices() -> list[tuple[str, str]]:
    """Name and title of every material that a segment can be made of."""
    return [(name, material(name).title or name) for name in material_names()]


def has_ct_density(material_name: str) -> bool:
    """Whether a material usually has the density that the CT's values stand for, not its nominal one."""
    return material_name in _SEEN_BY_CT


def segmentation_from_labels(
    labels: MaterialLabels, volume: Any, segmentation_node: Any | None = None, scene: Any | None = None
) -> Any:
    """Labels on a CT's grid as segments, one per material, beside the CT in the subject hierarchy.

    An existing segmentation keeps the segments that a person added, where they lie; if they are surfaces, as voxels of
    the CT's size. Those of an earlier run are replaced, but for what was said of them: name, colour, material, density,
    priority.
    Raises ValueError, and no segment changes, where surfaces cannot be turned into voxels.
    """
    scene = volume.GetScene() or scene_or_default(scene)
    node = segmentation_node
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} materials")
    replaced = {segment_id: segment for segment_id, segment in _segments(node) if segment_id.startswith(_OURS)}
    segmentation = node.GetSegmentation()
    if node.GetTransformNodeID() is None and segmentation.GetNumberOfSegments() == len(replaced):  # nothing else moves
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    image = _oriented_image(labels.labels + np.uint8(1), _local_from_volume(node, volume) @ ras_from_ijk(volume))
    ensure_labelmaps(node, volume)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    with NodeModify(node):
        segmentation.SetSourceRepresentationName(_LABELMAP)
        for segment_id in replaced:
            segmentation.RemoveSegment(segment_id)
        first = segmentation.GetNthSegmentID(0) if segmentation.GetNumberOfSegments() else ""
        for label, its in enumerate(labels.materials):
            segment_id = _OURS + its.name
            segment = _segment(its, label + 1, image)
            if segment_id in replaced:
                _copy_words(replaced[segment_id], segment)
            segmentation.AddSegment(segment, segment_id, first)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    with NodeModify(display):
        for its in labels.materials:
            opacity = _OPACITY_3D.get(its.name, 1.0)
            segment_id = _OURS + its.name
            display.SetSegmentVisibility3D(segment_id, opacity > 0.0)
            display.SetSegmentVisibility(segment_id, opacity > 0.0)
            display.SetSegmentOpacity3D(segment_id, opacity)
            display.SetSegmentOpacity2DFill(segment_id, _FILL_2D.get(its.name, 0.6))
            display.SetSegmentOpacity2DOutline(segment_id, _OUTLINE_2D.get(its.name, 1.0))
    keep_off_xrays(scene)
    _put_beside(node, volume)
    return node


def keep_off_xrays(scene: Any, chosen: Any | None = None) -> None:
    """Show segments of materials, and those chosen, in every view but the X-rays', once there are any.

    Where the detector's plane cuts the CT there is nothing to see or to paint. To be called again when views are added.
    A display whose views somebody has chosen stays as it is.
    """
    views = [node for kind in ("vtkMRMLSliceNode", "vtkMRMLViewNode") for node in _nodes(scene, kind)]
    others = [view.GetID() for view in views if view.GetSingletonTag() not in XRAY_VIEWS]
    if not others or len(others) == len(views):
        return
    for node in _nodes(scene, "vtkMRMLSegmentationNode"):
        if node is not chosen and not was_segmented(node):
            continue
        for n in range(node.GetNumberOfDisplayNodes()):
            display = node.GetNthDisplayNode(n)
            before = set(json.loads(display.GetAttribute(_VIEWS) or "[]"))
            if set(display.GetViewNodeIDs()) == before.intersection(others) != set(others):
                display.SetViewNodeIDs(others)
                display.SetAttribute(_VIEWS, json.dumps(others))


def segmentation_of(volume: Any) -> Any | None:
    """The segmentation of materials whose reference is this CT, the latest if there are several.

    One in which no segment says what it is made of, such as a drawn tumour's, would leave the CT without bones: it is
    taken only where somebody asks for it.
    """
    found = _nodes(volume.GetScene(), "vtkMRMLSegmentationNode")
    mine = [node for node in found if reference_volume(node) is volume and _is_of_materials(node)]
    return mine[-1] if mine else None


def reference_volume(segmentation_node: Any) -> Any | None:
    """The CT that a segmentation was made for; None where it is not known, or no longer in the scene."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation_node.GetNodeReference(role)


def is_moved(segmentation_node: Any, volume: Any) -> bool:
    """Whether the transforms of a segmentation and of a volume do different things to them."""
    return not np.allclose(_local_from_volume(segmentation_node, volume), np.eye(4), atol=1e-6)


def is_in_3d(segmentation_node: Any | None) -> bool:
    """Whether segments have surfaces, which 3D views show."""
    return segmentation_node is not None and segmentation_node.GetSegmentation().ContainsRepresentation(_SURFACE)


def is_seen_in_3d(segmentation_node: Any | None) -> bool:
    """Whether segments have surfaces, and nobody has switched them off."""
    if segmentation_node is None or not is_in_3d(segmentation_node):
        return False
    displays = [segmentation_node.GetNthDisplayNode(n) for n in range(segmentation_node.GetNumberOfDisplayNodes())]
    return any(display.GetVisibility() and display.GetVisibility3D() for display in filter(None, displays))


def may_be_filled(segmentation_node: Any | None, volume: Any) -> bool:
    """Whether the CT's materials may go into a segmentation without loss: its own, or one that belongs to no CT yet.

    Not one of surfaces, which would become voxels.
    """
    if segmentation_node is None:
        return False
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetNumberOfSegments() and segmentation.GetSourceRepresentationName() != _LABELMAP:
        return False
    reference = reference_volume(segmentation_node)
    if reference is not None:
        return reference is volume
    return not was_segmented(segmentation_node)


def was_segmented(segmentation_node: Any) -> bool:
    """Whether a segmentation has segments that another run would replace."""
    return any(segment_id.startswith(_OURS) for segment_id, _ in _segments(segmentation_node))


def ensure_labelmaps(segmentation_node: Any, volume: Any) -> None:
    """Give segments that are surfaces, such as a plate's model, voxels of the CT's size."""
    segmentation = segmentation_node.GetSegmentation()
    if not segmentation.GetNumberOfSegments() or segmentation.ContainsRepresentation(_LABELMAP):
        return
    segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    if not segmentation.CreateRepresentation(_LABELMAP):
        raise ValueError(
            f"The segments of {segmentation_node.GetName()} cannot be turned into voxels: create their "
            "'Binary labelmap' representation in the module Segmentations."
        )


def _is_of_materials(segmentation_node: Any) -> bool:
    return any(
        _tag(segment, TAG_MATERIAL)
        or terminology_material(segment.GetTerminology() or "") not in (None, DEFAULT_MATERIAL)
        for _, segment in _segments(segmentation_node)
    )


def _local_from_volume(segmentation_node: Any, volume: Any) -> FloatArray:
    """From a volume's own coordinates to those of a segmentation, (4, 4)."""
    if segmentation_node.GetTransformNodeID() == volume.GetTransformNodeID():
        return np.eye(4)
    return np.linalg.inv(world_from_parent(segmentation_node)) @ world_from_parent(volume)


def _nodes(scene: Any, class_name: str) -> list[Any]:
    nodes = scene.GetNodesByClass(class_name)
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def _copy_words(before: Any, segment: Any) -> None:
    segment.SetName(before.GetName())
    segment.SetColor(before.GetColor())
    for name in (TAG_MATERIAL, TAG_DENSITY, TAG_ENABLED, TAG_PRIORITY):
        if value := _tag(before, name):
            segment.SetTag(name, value)


def _segments(segmentation_node: Any) -> Iterator[tuple[str, Any]]:
    segmentation = segmentation_node.GetSegmentation()
    for n in range(segmentation.GetNumberOfSegments()):
        segment_id = segmentation.GetNthSegmentID(n)
        yield segment_id, segmentation.GetSegment(segment_id)


def _read(segment_id: str, segment: Any) -> SegmentMaterial:
    known = _material_name(segment)
    name = known or DEFAULT_MATERIAL
    priority = _tag(segment, TAG_PRIORITY)
    # An implant or contrast agent displaces the tissue that it was painted over.
    usual = -1 if known is None else 0 if has_ct_density(name) else 1
    return SegmentMaterial(
        segment_id=segment_id,
        name=segment.GetName() or segment_id,
        material=name,
        density_g_cm3=_density(_tag(segment, TAG_DENSITY), name),
        enabled=_tag(segment, TAG_ENABLED) != "0",
        priority=int(priority) if priority else usual,
        color=tuple(segment.GetColor()),
        is_guess=known is None,
    )


def _material_name(segment: Any) -> str | None:
    """What somebody said that a segment is made of; None where nobody did."""
    tagged = _tag(segment, TAG_MATERIAL)
    if tagged in material_names():
        return tagged
    entry = segment.GetTerminology() or ""
    category, kind = [*entry.split("~"), "", "", ""][1:3]
    if kind.startswith(f"SCT^{_TISSUE}^"):
        return None
    return terminology_material(entry) or ("bone" if _is_bone(category, kind) else None)


def _is_bone(category: str, kind: str) -> bool:
    """Whether a part of the anatomy, such as SCT^71341001^Femur, is bone: there are hundreds, known by their words."""
    if not category.startswith((f"SCT^{_ANATOMY}^", f"SCT^{_TISSUE}^")) or not kind.startswith("SCT^"):
        return False
    return bool(_BONE.search(kind)) and not _AT_BONE.search(kind)


def _density(text: str, material_name: str) -> float | None:
    if text == _FROM_CT or (not text and has_ct_density(material_name)):
        return None
    try:
        return float(text)
    except ValueError:
        return material(material_name).density_g_cm3


def _density_text(density: float | str) -> str:
    if density == _FROM_CT:
        return _FROM_CT
    value = float(density)
    if not 0.0 <= value < 30.0:
        raise ValueError(f"A density of {value:g} g/cm³ cannot be: give 0 to 30, or take it from the CT.")
    return repr(value)


def _known(name: str) -> str:
    return material(name).name


def _tag(segment: Any, name: str) -> str:
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def _segment(its: Material, value: int, image: Any) -> Any:
    segment = slicer.vtkSegment()
    segment.SetName(its.name.replace("_", " ").capitalize())
    segment.SetColor(*(channel / 255 for channel in its.color_rgb))
    segment.SetLabelValue(value)
    segment.SetTerminology(terminology_entry(its.name))
    segment.SetTag(TAG_MATERIAL, its.name)
    segment.AddRepresentation(_LABELMAP, image)
    return segment


def _oriented_image(values: np.ndarray, ras_from_voxel: np.ndarray) -> Any:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    image.SetImageToWorldMatrix(vtkMatrixFromArray(ras_from_voxel))
    return image


def _put_beside(node: Any, volume: Any) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    if hierarchy is None:
        return
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))
