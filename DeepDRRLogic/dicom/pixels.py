"""Stored pixels of DICOM files to Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ..threads import in_slabs, thread_count
from .headers import Slice, damage_named

# Multi-frame Grayscale Word Secondary Capture (PS3.4, B.5).
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"
# By (implicit VR, little endian), for files that do not state theirs (PS3.5 A.1, A.2, A.3).
_SYNTAX_OF_ENCODING = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_INT16 = np.iinfo(np.int16)
_FLOATS = {
    "FloatPixelData": "Float Pixel Data (7FE0,0008)",
    "DoubleFloatPixelData": "Double Float Pixel Data (7FE0,0009)",
}
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
    fits = [True] * len(stack)
    threads = thread_count(None)

    def work(first: int, last: int) -> None:
        for path, where in files[first:last]:
            stored = _opened(path)

            def fill_frames(begin: int, end: int, stored: _Stored = stored, where: list[int] = where) -> None:
                some = where[begin:end]
                for place, pixels in zip(some, stored.pixels([stack[n].frame for n in some]), strict=True):
                    hu = _rescaled(pixels, stored.padding(pixels), stack[place])
                    fits[place] = volume.dtype != np.int16 or bool(_INT16.min <= hu.min() and hu.max() <= _INT16.max)
                    volume[place] = hu

            in_slabs(fill_frames, len(where), max(1, threads // len(files)))

    in_slabs(work, len(files), threads)
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


@dataclass(frozen=True, eq=False)
class _Stored:
    """A file whose pixels are wanted, whether it takes GDCM to decode them, by how many bits they lie too far to the
    left, as old software stores them, and the range of padding, if there is any."""

    path: Path
    dataset: Any
    is_coded: bool
    shift: int
    padding_range: tuple[int, int] | None

    def pixels(self, frames: Sequence[int]) -> Sequence[npt.NDArray[Any]]:
        """Stored values [row, column] of frames; ValueError where they are damaged."""
        from pydicom.pixels import get_decoder

        with damage_named(self.path):
            if self.is_coded:
                return [*_decompressed(self.dataset, frames)]
            decoder = get_decoder(self.dataset.file_meta.TransferSyntaxUID)
            found = [decoder.as_array(self.dataset, index=frame, raw=True)[0] for frame in frames]
        return [values >> self.shift for values in found] if self.shift else found

    def padding(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Where stored values are padding; None if the file has none."""
        if self.padding_range is None:
            return None
        lowest, highest = self.padding_range
        inside: npt.NDArray[np.bool_] = (values >= lowest) & (values <= highest)
        return inside


def _opened(path: Path) -> _Stored:
    import pydicom
    from pydicom.uid import UID, RLELossless

    with damage_named(path):
        dataset = pydicom.dcmread(path, force=True)  # the header was accepted, with or without a preamble
    for keyword, name in _FLOATS.items():
        if keyword in dataset:
            raise ValueError(f"{path.name} holds {name} instead of whole numbers: convert the series to NRRD or NIfTI.")
    if "PixelData" not in dataset:
        raise ValueError(f"{path.name} has no pixels: export the series again with its images.")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None and not dataset.preamble:
        syntax = dataset.file_meta.TransferSyntaxUID = UID(_SYNTAX_OF_ENCODING[dataset.original_encoding])
    if syntax is None:
        raise ValueError(f"{path.name} does not state its transfer syntax: export the series again.")
    with damage_named(path):
        # RLE pydicom decodes ten times as fast as GDCM, and all else with plug-ins only.
        is_coded = syntax.is_compressed and syntax != RLELossless
        bits = int(dataset.BitsStored)
        high = int(dataset.get("HighBit", bits - 1))
        padding_range = _padding_range(dataset)
    shift = high + 1 - bits
    if shift < 0 or (shift > 0 and is_coded):
        raise ValueError(f"{path.name} has HighBit {high}, which must be {bits - 1} (BitsStored - 1): export it again.")
    dataset.BitsStored = high + 1  # pydicom takes the highest bits for zeros otherwise
    return _Stored(path, dataset, is_coded, shift, padding_range)


def _padding_range(dataset: Any) -> tuple[int, int] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    return min(value, limit), max(value, limit)


def _decompressed(dataset: Any, frames: Sequence[int]) -> npt.NDArray[Any]:
    """Frames [n, row, column] through GDCM, which SimpleITK brings along and which needs no plug-ins.

    It gets a file of these frames alone, without rescale, so that it cannot apply one frame's rescale to
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
    alone.NumberOfFrames = len(frames)
    for keyword in (
        "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    ):  # fmt: skip
        setattr(alone, keyword, dataset[keyword].value)
    offsets = dataset.get("ExtendedOffsetTable")
    lengths = dataset.get("ExtendedOffsetTableLengths")
    extended = (offsets, lengths) if offsets and lengths else None
    alone.PixelData = encapsulate(
        [get_frame(dataset.PixelData, n, number_of_frames=count, extended_offsets=extended) for n in frames]
    )
    alone["PixelData"].is_undefined_length = True
    with TemporaryDirectory() as folder:
        path = Path(folder) / "frames.dcm"
        alone.save_as(path, enforce_file_format=True)
        decoded: npt.NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return decoded
