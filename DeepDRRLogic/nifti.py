"""What ITK passes over in NIfTI files: a sheared sform, which it straightens, and missing data, which it
reads as zeros."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .affine import FloatArray

_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_LONGEST_HEADER = 540


@dataclass(frozen=True)
class _Layout:
    """Size of the header, and (offset in bytes, struct type) of fields, from nifti1.h and nifti2.h."""

    size: int
    dimensions: tuple[int, str]
    bits_per_voxel: tuple[int, str]
    data_offset: tuple[int, str]
    units: tuple[int, str]
    codes: tuple[int, str]
    sform: tuple[int, str]


_LAYOUTS = (
    _Layout(348, (40, "8h"), (72, "h"), (108, "f"), (123, "B"), (252, "2h"), (280, "12f")),
    _Layout(540, (16, "8q"), (14, "h"), (168, "q"), (500, "i"), (344, "2i"), (400, "12d")),
)


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """Whether the file says where its volume lies, its sform (4, 4) in RAS mm or None, its length in
    bytes."""

    has_place: bool
    sform: FloatArray | None
    length: int


def read_header(path: Path) -> NiftiHeader:
    """Read the header of a .nii or .nii.gz; ValueError if it is none, or if the file breaks off behind it."""
    try:
        with _opened(path) as file:
            start = file.read(_LONGEST_HEADER)
        header = _parsed(start, path)
        whole = _is_whole(path, header.length)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged ({error}): copy or download it again.") from error
    if not whole:
        raise ValueError(f"{path.name} is damaged, it breaks off before its last voxel: copy or download it again.")
    return header


def _opened(path: Path) -> gzip.GzipFile:
    # NIfTI is often compressed without saying so in its name, and the other way round; ITK looks at the
    # content, too.
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _parsed(start: bytes, path: Path) -> NiftiHeader:
    for layout in _LAYOUTS:
        for endian in "<>":
            if len(start) >= layout.size and struct.unpack_from(f"{endian}i", start)[0] == layout.size:
                return _header(start, layout, endian)
    raise ValueError(f"{path.name} has no NIfTI header: it is damaged or not what its suffix says.")


def _header(start: bytes, layout: _Layout, endian: str) -> NiftiHeader:
    def field(place: tuple[int, str]) -> tuple[float, ...]:
        return struct.unpack_from(endian + place[1], start, place[0])

    count, *sizes = (int(n) for n in field(layout.dimensions))
    voxels = math.prod(sizes[: max(0, count)])
    length = int(field(layout.data_offset)[0]) + voxels * int(field(layout.bits_per_voxel)[0]) // 8
    qform_code, sform_code = field(layout.codes)
    if sform_code <= 0:
        return NiftiHeader(qform_code > 0, None, length)
    affine = np.vstack([np.reshape(field(layout.sform), (3, 4)), [0.0, 0.0, 0.0, 1.0]])
    affine[:3] *= _MM_PER_UNIT.get(int(field(layout.units)[0]) & 7, 1.0)
    return NiftiHeader(True, affine, length)


def _is_whole(path: Path, length: int) -> bool:
    """Whether the file, uncompressed, has at least `length` bytes."""
    with _opened(path) as file:
        if not isinstance(file, gzip.GzipFile):
            return path.stat().st_size >= length
        # gzip ends with its uncompressed size, modulo 2³²: a quick yes. What says otherwise is read to its
        # end.
        with path.open("rb") as tail:
            tail.seek(-4, 2)
            if struct.unpack("<I", tail.read())[0] == length % 2**32:
                return True
        found = 0
        while block := file.read(1 << 20):
            found += len(block)
        return found >= length
