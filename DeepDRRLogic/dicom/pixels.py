"""Stored pixels of DICOM files to Hounsfield units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ..threads import in_slabs, thread_count
from .headers import Slice, damage_named

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# By (implicit VR, little endian), for files that do not state theirs (PS3.5 A.1, A.2, A.3).
_SYNTAX_OF_ENCODING = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_INT16 = np.iinfo(np.int16)
# Below -1024 HU nothing is measured: such values only stand for "outside the field of view" (PS3.3
# C.7.5.1.1.2).
_PADDING_HU = -1024
# Nothing is measured up here either: padding of -2000, read as if unsigned, is 63536.
_TOP_HU = 32767

HuSlices = npt.NDArray[np.int16] | npt.NDArray[np.float32]


def read_pixels(stack: Sequence[Slice]) -> HuSlices:
    """Hounsfield units [k, j, i] of an ordered stack, each slice by its own rescale, int16 where exact.

    A missing slope is 1, a missing intercept 0; padding that could be no tissue becomes -1024 HU. Raises
    ValueError for damaged pixels.
    """
    if all(_slope(s).is_integer() and _intercept(s).is_integer() for s in stack):
        volume = np.empty((len(stack), stack[0].rows, stack[0].columns), np.int16)
        if _fill(volume, stack):
            return volume
        del volume  # before twice its size is needed
    exact = np.empty((len(stack), stack[0].rows, stack[0].columns), np.float32)
    _fill(exact, stack)
    return exact


def _fill(volume: HuSlices, stack: Sequence[Slice]) -> bool:
    """Whether all values fit; a 16-bit scale reaches beyond int16 in a few extended CTs with metal."""
    places: dict[Path, list[int]] = {}
    for place, one in enumerate(stack):
        places.setdefault(one.path, []).append(place)
    files = list(places.items())
    fits = [True] * len(files)

    def work(first: int, last: int) -> None:
        for n in range(first, last):
            path, where = files[n]
            stored = _stored_frames(path, [stack[place].frame for place in where])
            for place, (pixels, padding) in zip(where, stored, strict=True):
                hu = _rescaled(pixels, padding, stack[place])
                fits[n] &= volume.dtype != np.int16 or bool(_INT16.min <= hu.min() and hu.max() <= _INT16.max)
                volume[place] = hu

    in_slabs(work, len(files), thread_count(None))
    return all(fits)


def _slope(one: Slice) -> float:
    return 1.0 if one.slope is None else one.slope


def _intercept(one: Slice) -> float:
    return 0.0 if one.intercept is None else one.intercept


def _rescaled(
    pixels: npt.NDArray[Any], padding: npt.NDArray[np.bool_] | None, one: Slice
) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    slope, intercept = _slope(one), _intercept(one)
    hu: npt.NDArray[Any]
    if slope.is_integer() and intercept.is_integer():
        hu = pixels.astype(np.int32) * int(slope) + int(intercept)
    else:
        hu = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if padding is not None:
        hu[padding & ((hu < _PADDING_HU) | (hu > _TOP_HU))] = _PADDING_HU
    return hu


def _stored_frames(
    path: Path, frames: Sequence[int]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]]:
    """Stored values [row, column] of frames of one file, and where they are padding."""
    import pydicom
    from pydicom.uid import UID

    with damage_named(path):
        dataset = pydicom.dcmread(path, force=True)  # the header was accepted, with or without a preamble
    if "PixelData" not in dataset:
        raise ValueError(f"{path.name} has no pixels: export the series again with its images.")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None and not dataset.preamble:
        syntax = dataset.file_meta.TransferSyntaxUID = UID(_SYNTAX_OF_ENCODING[dataset.original_encoding])
    if syntax is None:
        raise ValueError(f"{path.name} does not state its transfer syntax: export the series again.")
    with damage_named(path):
        if syntax.is_compressed:
            decoded = (_decompressed(dataset, frame) for frame in frames)
        else:
            pixels = dataset.pixel_array
            decoded = (pixels if pixels.ndim == 2 else pixels[frame] for frame in frames)
        for values in decoded:
            yield values, _padding(values, dataset)


def _padding(values: npt.NDArray[Any], dataset: Any) -> npt.NDArray[np.bool_] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    inside: npt.NDArray[np.bool_] = (values >= min(value, limit)) & (values <= max(value, limit))
    return inside


def _decompressed(dataset: Any, frame: int) -> npt.NDArray[Any]:
    """One frame through GDCM, which SimpleITK brings along and which knows what pydicom needs plug-ins for.

    It gets a file of this frame alone, without rescale, so that it cannot apply one frame's rescale to
    another.
    """
    import pydicom
    import SimpleITK as sitk
    from pydicom.encaps import encapsulate, get_frame
    from pydicom.uid import UID, generate_uid

    count = int(dataset.get("NumberOfFrames") or 1)
    alone = pydicom.Dataset()
    alone.file_meta = pydicom.dataset.FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.file_meta.MediaStorageSOPClassUID = alone.SOPClassUID = UID(_SECONDARY_CAPTURE)
    alone.file_meta.MediaStorageSOPInstanceUID = alone.SOPInstanceUID = generate_uid()
    alone.Modality = "OT"
    for keyword in (
        "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    ):  # fmt: skip
        setattr(alone, keyword, dataset[keyword].value)
    offsets = dataset.get("ExtendedOffsetTable")
    lengths = dataset.get("ExtendedOffsetTableLengths")
    extended = (offsets, lengths) if offsets and lengths else None
    pixels = get_frame(dataset.PixelData, frame, number_of_frames=count, extended_offsets=extended)
    alone.PixelData = encapsulate([pixels])
    alone["PixelData"].is_undefined_length = True
    with TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        alone.save_as(path, enforce_file_format=True)
        decoded: npt.NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    frame_of_one: npt.NDArray[Any] = decoded[0]
    return frame_of_one
