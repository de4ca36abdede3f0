"""DICOM headers to slices: legacy files of one slice and enhanced files of many become the same records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error
from typing import Any

# Only these are parsed; a header's private part can be larger than its slice.
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality",
    "ImageType", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "GantryDetectorTilt", "NumberOfFrames",
    "SamplesPerPixel", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "ConvolutionKernel",
    "FrameOfReferenceUID",
]  # fmt: skip

# CT Image Storage, Enhanced CT and Legacy Converted Enhanced CT (DICOM PS3.4, B.5).
_CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
# What a file without a preamble begins with: an element of group 0002 or 0008, of either endianness.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


@dataclass(frozen=True)
class Slice:
    """One slice: its place (LPS mm, DICOM PS3.3 C.7.6.2) in a frame of reference, the way from stored values to
    Hounsfield units, and the traits, by keyword, in which two slices of one place may differ."""

    path: Path
    frame: int
    uid: str
    frame_of_reference: str
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
    traits: tuple[tuple[str, str], ...]


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

    @property
    def may_be_ct(self) -> bool:
        """Whether there are CT slices with a place in space."""
        return self.modality == "CT" and bool(self.slices)

    def __str__(self) -> str:
        uid, number = self.uid or "(no UID)", self.number or "-"
        return f"{uid}  no. {number}  '{self.description}'  {len(self.slices)} slices"


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what pydicom and GDCM raise for damaged files into a ValueError with the file's name."""
    try:
        yield
    except (EOFError, OSError, RuntimeError, AttributeError, LookupError, TypeError, ValueError, error) as cause:
        reason = str(cause).splitlines()[-1] if str(cause) else type(cause).__name__
        raise ValueError(f"{path.name} is damaged ({reason}): copy or export it again.") from cause


def read_header(path: Path) -> Any | None:
    """The header of a DICOM image, or None for other files; ValueError where it breaks off."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with damage_named(path):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    except InvalidDicomError:
        return _header_without_preamble(path)
    if "Rows" in header:
        return header
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) in _CT_CLASSES:
        raise ValueError(f"{path.name} is damaged (it breaks off in its header): copy or export it again.")
    return None


def _header_without_preamble(path: Path) -> Any | None:
    """The header of a CT image as old software stores it, without the 132 bytes by which DICOM is known."""
    import pydicom

    with path.open("rb") as file:
        if file.read(2) not in _FIRST_GROUPS:
            return None
    try:
        with damage_named(path):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
    except ValueError:
        return None
    return header if str(header.get("SOPClassUID", "")) in _CT_CLASSES and "Rows" in header else None


def series_uid_of(path: Path) -> str:
    """The series UID of a damaged file, or its beginning where the file breaks off within or before it."""
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    uid = Tag("SeriesInstanceUID")
    try:
        with damage_named(path), path.open("rb") as file:
            header = read_partial(file, lambda tag, *_: tag > uid)
            # As bytes, because pydicom warns of a UID that is not whole.
            return "" if uid not in header else bytes(header.get_item(uid).value or b"").decode().strip("\0 ")
    except ValueError:
        return ""


def series_of(path: Path, header: Any) -> Series:
    """The series of one file."""
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


def require_placed_frames(path: Path, header: Any, one: Series) -> None:
    """Raise ValueError for a CT of many frames, in one file, that do not each have a place of their own."""
    frames = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is not None and len(groups) != frames and one.modality == "CT":
        raise ValueError(
            f"{path.name} holds {frames} frames (NumberOfFrames) but says of {len(groups)} where they lie (per-frame "
            "functional groups): copy or export it again."
        )
    if frames > 1 and groups is None and one.may_be_ct:
        raise ValueError(
            f"{path.name} holds {frames} frames and does not say where each of them lies (no per-frame functional "
            "groups): export it as an enhanced CT, one file per slice, or NRRD."
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
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}
_TRAITS = (
    "TemporalPositionIndex", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "StackID",
    "AcquisitionNumber", "ConvolutionKernel",
)  # fmt: skip


def _value(groups: Sequence[Any], keyword: str) -> Any | None:
    for group in groups:
        inner = group.get(_GROUP_OF[keyword]) if keyword in _GROUP_OF else None
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
        frame_of_reference=str(header.get("FrameOfReferenceUID", "")),
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
        traits=tuple((keyword, str(value)) for keyword in _TRAITS if (value := _value(groups, keyword)) is not None),
    )
