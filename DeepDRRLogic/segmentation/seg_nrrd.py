"""3D Slicer's segmentation files (.seg.nrrd): materials out, materials in; and label maps of any origin in.

Slicer's format is Slicer's developer guide, "Segmentation labelmap file format": a gzipped NRRD whose header names
the segments. Air is the background, value 0, which no segment can have; Slicer would draw an air segment as
an opaque box.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import check_kind
from ..materials import Material, material, material_names
from ..volume_io import READABLE_SUFFIXES, image_of, ras_from_ijk_of, read_volume, write_image
from ..voxels import AIR
from .terminology import OWN_SCHEME, terminology_entry, terminology_material

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..volume import MaterialLabels

_logger = logging.getLogger(__name__)

MATERIAL_TAG = "DeepDRR.Material"
_TERMINOLOGY_TAG = "TerminologyEntry"
_UNSAID = "soft_tissue"  # Slicer calls every new segment tissue, also that of a plate
_SUFFIXES = (".seg.nrrd", ".nrrd")
_OF_A_LABEL_MAP = 'materials={1: "soft_tissue", 2: "bone"}'
_MOST_VALUES, _SHOWN_VALUES = 1 << 16, 20
_NOTHING = 255  # 255 materials at most have the labels 0 to 254


@dataclass(frozen=True)
class _Segment:
    """What the header says of one segment."""

    name: str
    value: int
    layer: int
    tags: Mapping[str, str]

    @property
    def material(self) -> str:
        """The material that we tagged it with, or ""."""
        return self.tags.get(MATERIAL_TAG, "")


def write_segmentation(labels: MaterialLabels, path: str | os.PathLike[str], *, air_segment: bool = False) -> None:
    """Write labels as a segmentation that 3D Slicer opens with names, colours and terminology.

    Air is left as background unless `air_segment` asks for a segment of it. Each segment keeps its material
    in the tag DeepDRR.Material. Raises ValueError for a suffix other than .seg.nrrd, for a folder that does
    not exist and for air alone, of which there would be no segment to read.
    """
    target = Path(path)
    if not target.name.lower().endswith(".seg.nrrd"):
        raise ValueError(f"Cannot write {target.name}: the suffix of a segmentation is .seg.nrrd.")
    names = [m.name for m in labels.materials]
    shown = [n for n, name in enumerate(names) if name != AIR or air_segment]
    if not shown:
        raise ValueError(
            f"Cannot write {target.name}: the only material is {AIR}, which is no segment. Pass air_segment=True."
        )
    value_of_label = np.zeros(256, np.uint8)
    value_of_label[shown] = np.arange(1, len(shown) + 1)
    values = value_of_label[labels.labels]

    image = image_of(values, labels.ras_from_ijk)
    header = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for n, label in enumerate(shown):
        extent = _extent(labels.labels == label)
        header |= {f"Segment{n}_{k}": v for k, v in _fields(labels.materials[label], n, extent).items()}
    for key, text in header.items():
        image.SetMetaData(key, text)
    write_image(image, target)


def read_segmentation(
    path: str | os.PathLike[str], materials: Mapping[str, Material | str] | Mapping[int, Material | str] | None = None
) -> MaterialLabels:
    """Read segments, or the values of a label map, as materials; background becomes air, label 0.

    Of a .seg.nrrd, a segment's material is that of its name, or tag, in `materials`; else its tag DeepDRR.Material,
    its entry in our own terminology, its name, and last its entry in Slicer's: a code there stands for several
    materials, that of tissue, which every new segment has, for none. Where segments overlap, in Slicer's files of
    several layers, the later one wins. Of any scalar image of whole numbers (.nrrd, .nii, .nii.gz, .mha) `materials`
    says what each value stands for, as in {1: "soft_tissue", 2: "bone"}; 0 is air unless it is among them. Raises
    ValueError for segments and values without a known material, and for names that no segment or tag has; a value that
    a label map does not hold is no error. The grid is the file's, which Slicer may have cropped: see
    MaterialLabels.resampled.
    """
    check_kind("materials", materials, (Mapping, type(None)), '{"Femur": "bone"} or {1: "bone"}')
    source = Path(path)
    if not source.exists():
        raise ValueError(f"There is no {source}: check the path.")
    if source.is_dir():
        raise ValueError(f"{source} is a folder: give the file of the segmentation.")
    given = materials or {}
    for key, its in given.items():
        check_kind(f"materials[{key!r}]", its, (Material, str), '"bone"')
    of_value = {int(key): _as_material(its) for key, its in given.items() if isinstance(key, Integral)}
    of_name = {key: _as_material(its) for key, its in given.items() if isinstance(key, str)}
    if len(of_value) == len(given) > 0:
        return _read_values(source, of_value)
    if len(of_name) < len(given):
        raise ValueError(
            f"materials has the keys {', '.join(map(repr, given))}: keys are whole numbers or names, all of one kind."
        )
    return _read_segments(source, of_name)


def _as_material(its: Material | str) -> Material:
    return material(its) if isinstance(its, str) else its


def _read_segments(source: Path, given: Mapping[str, Material]) -> MaterialLabels:
    from ..volume import MaterialLabels

    layers, image = _layers(source)
    segments = _segments(image)
    if not segments:
        raise ValueError(
            f"{source.name} names no segments: it is no segmentation of 3D Slicer. Save one as .seg.nrrd, or say what "
            f"the values of this label map stand for, as in {_OF_A_LABEL_MAP}."
        )
    _require_segments(given, segments, source)
    known = {_folded(key): its for key, its in given.items()}
    found = [material(AIR)]
    labels = np.zeros(layers.shape[:3], np.uint8)
    for segment in segments:
        if segment.layer >= layers.shape[3]:
            raise ValueError(f"{source.name}: segment '{segment.name}' is in layer {segment.layer}, which is missing.")
        its = _material_of(segment, known, source)
        if its not in found:
            found.append(its)
        labels[layers[..., segment.layer] == segment.value] = found.index(its)
    return MaterialLabels(labels, tuple(found), ras_from_ijk_of(image))


def _require_segments(given: Iterable[str], segments: Sequence[_Segment], source: Path) -> None:
    """Raise ValueError for names that no segment or tag has."""
    names = {_folded(text) for segment in segments for text in (segment.name, segment.material)} - {""}
    if unknown := [name for name in given if _folded(name) not in names]:
        there = ", ".join(its.name + f" ({its.material})" * bool(its.material) for its in segments)
        raise ValueError(
            f"{source.name}: no segment is named or tagged {' or '.join(map(repr, unknown))}; there are {there}."
        )


def _folded(name: str) -> str:
    return name.strip().lower()


def _read_values(source: Path, given: Mapping[int, Material]) -> MaterialLabels:
    from ..volume import MaterialLabels

    if not source.name.lower().endswith(READABLE_SUFFIXES):
        raise ValueError(f"{source.name} is no label map: its suffix must be one of {', '.join(READABLE_SUFFIXES)}.")
    stored, ras_from_ijk, notes = read_volume(source)
    for note in notes:
        _logger.warning("%s: %s", source.name, note)
    material_of = {0: material(AIR), **given}
    found = list(dict.fromkeys((material(AIR), *material_of.values())))
    lowest = _lowest_of_label_map(stored, source)
    label_of = np.full(_MOST_VALUES, _NOTHING, np.uint8)
    for value, its in material_of.items():
        if 0 <= value - lowest < _MOST_VALUES:
            label_of[value - lowest] = found.index(its)
    labels = np.empty(stored.shape, np.uint8)
    for values, out in zip(stored, labels, strict=True):  # slice by slice, for their indices take eight bytes each
        out[:] = label_of[values.astype(np.int64) - lowest]
    unknown = {int(v) for values, out in zip(stored, labels, strict=True) for v in np.unique(values[out == _NOTHING])}
    if unknown:
        raise ValueError(
            f"{source.name} holds values that stand for no material, {_listed(sorted(unknown))}: name one for each, "
            f"as in {_OF_A_LABEL_MAP}."
        )
    return MaterialLabels(labels, tuple(found), ras_from_ijk)


def _lowest_of_label_map(stored: npt.NDArray[Any], source: Path) -> int:
    """The lowest value; ValueError unless all are whole numbers in a range of 65536."""
    lowest, highest = float(stored.min()), float(stored.max())
    whole = stored.dtype.kind in "iu" or all(np.array_equal(values, np.rint(values)) for values in stored)
    if not whole or not highest - lowest < _MOST_VALUES:
        raise ValueError(
            f"{source.name}: values run from {lowest:g} to {highest:g}, and those of a label map are whole numbers in "
            f"a range of {_MOST_VALUES}. Is this the segmentation?"
        )
    return int(lowest)


def _listed(values: list[int]) -> str:
    more = len(values) - _SHOWN_VALUES
    return ", ".join(map(str, values[:_SHOWN_VALUES])) + (f" and {more} more" if more > 0 else "")


def _layers(source: Path) -> tuple[npt.NDArray[Any], sitk.Image]:
    """Values [k, j, i, layer], and the image with its header."""
    import SimpleITK as sitk

    if not source.name.lower().endswith(_SUFFIXES):
        raise ValueError(
            f"{source.name} is no .seg.nrrd: save the segmentation from 3D Slicer in that format, or say what the "
            f"values of this label map stand for, as in {_OF_A_LABEL_MAP}."
        )
    try:
        image = sitk.ReadImage(str(source))
    except RuntimeError as error:
        raise ValueError(f"{source.name} cannot be read: it is damaged. Save the segmentation again.") from error
    values = sitk.GetArrayFromImage(image)
    if image.GetDimension() != 3:
        raise ValueError(f"{source.name} has {image.GetDimension()} dimensions: a segmentation has 3.")
    return (values if values.ndim == 4 else values[..., None]), image


def _segments(image: sitk.Image) -> list[_Segment]:
    segments: list[_Segment] = []
    while image.HasMetaDataKey(f"Segment{len(segments)}_ID"):
        n = len(segments)

        def field(key: str, default: str, n: int = n) -> str:
            name = f"Segment{n}_{key}"
            return str(image.GetMetaData(name)) if image.HasMetaDataKey(name) else default

        pairs = (tag.partition(":") for tag in field("Tags", "").split("|"))
        tags = {key: value for key, colon, value in pairs if colon}
        # Files of Slicer before 5.0 have one layer per segment and no values.
        segments.append(
            _Segment(
                field("Name", field("ID", "")),
                int(field("LabelValue", "1")),
                int(field("Layer", str(n))),
                tags,
            )
        )
    return segments


def _material_of(segment: _Segment, known: Mapping[str, Material], source: Path) -> Material:
    tag, name = _folded(segment.material), _folded(segment.name)
    for key in (name, tag):
        if key in known:
            return known[key]
    entry = segment.tags.get(_TERMINOLOGY_TAG, "")
    meant = terminology_material(entry) or ""
    exact, coarse = (meant, "") if OWN_SCHEME in entry else ("", meant)
    if coarse == _UNSAID:
        coarse = ""
    for key in (tag, exact, name, coarse):
        if key.replace(" ", "_").replace("-", "_") in material_names():
            return material(key)
    raise ValueError(
        f"{source.name}: the material of segment '{segment.name}' is not known. Name the segment after one "
        f"of {', '.join(material_names())}, or pass materials={{{segment.name!r}: 'bone'}}."
    )


def _fields(its: Material, n: int, extent: str) -> dict[str, str]:
    tags = {_TERMINOLOGY_TAG: terminology_entry(its.name), MATERIAL_TAG: its.name}
    return {
        "ID": f"DeepDRR_{its.name}",
        "Name": its.name.replace("_", " ").capitalize(),
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{channel / 255:.6f}" for channel in its.color_rgb),
        "ColorAutoGenerated": "0",
        "LabelValue": str(n + 1),
        "Layer": "0",
        "Extent": extent,
        "Tags": "".join(f"{key}:{value}|" for key, value in tags.items()),
    }


def _extent(inside: npt.NDArray[np.bool_]) -> str:
    """First and last occupied index along i, j and k; "0 -1 0 -1 0 -1" for an empty segment."""
    if not inside.any():
        return "0 -1 0 -1 0 -1"
    ends: list[int] = []
    for others in ((0, 1), (0, 2), (1, 2)):
        occupied = np.flatnonzero(inside.any(axis=others))
        ends += [int(occupied[0]), int(occupied[-1])]
    return " ".join(map(str, ends))
