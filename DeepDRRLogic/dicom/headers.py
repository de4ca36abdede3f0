"""DICOM headers to slices: legacy files of one slice and enhanced files of many become the same records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from struct import error
from typing import Any

# Only these are parsed; a header's private part can be larger than its slice.
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality",
    "ImageType", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "GantryDetectorTilt", "NumberOfFrames",
    "SamplesPerPixel", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

# CT Image Storage, Enhanced CT and Legacy Converted Enhanced CT (DICOM PS3.4, B.5).
_CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")


@dataclass(frozen=True)
class Slice:
    """One slice: its place (LPS mm, DICOM PS3.3 C.7.6.2) and the way from stored values to Hounsfield
    units."""

    path: Path
    frame: int
    uid: str
    position_lps: tuple[float, ...]
    orientation_lps: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...]
    rows: int
    columns: int
    samples: int
    slope: float | None
    intercept: float | None
    rescale_type: str
    gantry_tilt_deg: float | None


@dataclass(frozen=True)
class Series:
    """Those slices of a series that have a place in space, and how many localizers and others have none."""

    uid: str
    number: str
    description: str
    modality: str
    slices: tuple[Slice, ...]
    localizers: int = 0
    without_place: int = 0

    def __str__(self) -> str:
        uid, number = self.uid or "(no UID)", self.number or "-"
        return f"{uid}  no. {number}  '{self.description}'  {len(self.slices)} slices"


def list_series(path: Path) -> tuple[Series, ...]:
    """All series in a folder, or in its subfolders if it has none itself; of one file, its own series.

    A file of one slice stands for its series in the same folder; an enhanced file for itself.
    """
    if path.is_dir():
        return _grouped(path.iterdir()) or _grouped(path.rglob("*"))
    header = _header(path)
    if header is None:
        raise ValueError(f"{path.name} is neither DICOM nor has it a known suffix (.nrrd, .nii, .nii.gz, .mha).")
    if "PerFrameFunctionalGroupsSequence" in header:
        return _grouped([path])
    uid = str(header.get("SeriesInstanceUID", ""))
    return tuple(series for series in _grouped(path.parent.iterdir()) if series.uid == uid)


def _grouped(paths: Iterable[Path]) -> tuple[Series, ...]:
    found: dict[str, Series] = {}
    for path in sorted(p for p in paths if p.is_file()):
        header = _header(path)
        if header is None:
            continue
        with damage_named(path):
            one = _series_of(path, header)
        known = found.get(one.uid)
        found[one.uid] = one if known is None else _merged(known, one)
    return tuple(found.values())


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what pydicom and GDCM raise for damaged files into a ValueError with the file's name."""
    try:
        yield
    except (EOFError, OSError, RuntimeError, AttributeError, KeyError, TypeError, ValueError, error) as cause:
        reason = str(cause).splitlines()[-1] if str(cause) else type(cause).__name__
        raise ValueError(f"{path.name} is damaged ({reason}): copy or export it again.") from cause


def _merged(known: Series, one: Series) -> Series:
    return replace(
        known,
        slices=known.slices + one.slices,
        localizers=known.localizers + one.localizers,
        without_place=known.without_place + one.without_place,
    )


def _header(path: Path) -> Any | None:
    """The header of a DICOM image, or None for other files; ValueError where it breaks off."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with damage_named(path):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    except InvalidDicomError:
        return None
    if "Rows" in header:
        return header
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) in _CT_CLASSES:
        raise ValueError(f"{path.name} is damaged (it breaks off in its header): copy or export it again.")
    return None


def _series_of(path: Path, header: Any) -> Series:
    frames = _frames(header)
    placed, localizers, without_place = [], 0, 0
    for frame, groups in enumerate(frames):
        if "LOCALIZER" in _image_type(header, groups):
            localizers += 1
        elif (found := _slice(path, frame, header, groups)) is None:
            without_place += 1
        else:
            placed.append(found)
    is_ct = str(header.get("SOPClassUID", "")) in _CT_CLASSES
    number = header.get("SeriesNumber")
    return Series(
        uid=str(header.get("SeriesInstanceUID", "")),
        number="" if number is None else str(number),
        description=str(header.get("SeriesDescription", "")),
        modality="CT" if is_ct else str(header.get("Modality", "")) or "unknown",
        slices=tuple(placed),
        localizers=localizers,
        without_place=without_place,
    )


def _frames(header: Any) -> list[Sequence[Any]]:
    """Per frame, the data sets to search for an attribute: its own group, the shared one, the file."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return [(header,)]
    shared = header.get("SharedFunctionalGroupsSequence") or []
    return [(groups, *shared[:1], header) for groups in per_frame]


_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "GantryDetectorTilt": "CTAcquisitionDetailsSequence",
}


def _value(groups: Sequence[Any], keyword: str) -> Any | None:
    for group in groups:
        inner = group.get(_GROUP_OF[keyword])
        for dataset in (*(inner or [])[:1], group):
            value = dataset.get(keyword)
            if value is not None and value != "":
                return value
    return None


def _image_type(header: Any, groups: Sequence[Any]) -> tuple[str, ...]:
    of_frame = _value(groups, "FrameType") or ()
    return tuple(str(word).upper() for word in (*of_frame, *(header.get("ImageType") or ())))


def _numbers(groups: Sequence[Any], keyword: str, count: int) -> tuple[float, ...] | None:
    value = _value(groups, keyword)
    if value is None or isinstance(value, str):
        return None
    numbers = tuple(float(x) for x in value) if isinstance(value, Sequence) or hasattr(value, "__iter__") else ()
    return numbers if len(numbers) == count else None


def _number(groups: Sequence[Any], keyword: str) -> float | None:
    value = _value(groups, keyword)
    return None if value is None else float(value)


def _slice(path: Path, frame: int, header: Any, groups: Sequence[Any]) -> Slice | None:
    position = _numbers(groups, "ImagePositionPatient", 3)
    orientation = _numbers(groups, "ImageOrientationPatient", 6)
    spacing = _numbers(groups, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        return None
    uid = str(header.get("SOPInstanceUID", ""))
    return Slice(
        path=path,
        frame=frame,
        uid=f"{uid}/{frame}" if uid else "",
        position_lps=position,
        orientation_lps=orientation,
        pixel_spacing_mm=spacing,
        rows=int(header.Rows),
        columns=int(header.Columns),
        samples=int(header.get("SamplesPerPixel", 1)),
        slope=_number(groups, "RescaleSlope"),
        intercept=_number(groups, "RescaleIntercept"),
        rescale_type=str(_value(groups, "RescaleType") or ""),
        gantry_tilt_deg=_number(groups, "GantryDetectorTilt"),
    )
