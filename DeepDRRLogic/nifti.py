"""What ITK passes over in NIfTI files: a sheared sform, which it straightens; missing data, NaN and infinity,
which it reads as zeros."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .affine import FloatArray
from .hounsfield import not_finite

_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_LONGEST_HEADER = 540
_FLOAT_TYPES = {16: "f4", 64: "f8"}
_VOXELS_PER_BLOCK = 1 << 21


@dataclass(frozen=True)
class _Layout:
    """Size of the header, and (offset in bytes, struct type) of fields, from nifti1.h and nifti2.h."""

    size: int
    dimensions: tuple[int, str]
    type_and_bits: tuple[int, str]
    data_offset: tuple[int, str]
    scale: tuple[int, str]
    units: tuple[int, str]
    codes: tuple[int, str]
    sform: tuple[int, str]


_LAYOUTS = (
    _Layout(348, (40, "8h"), (70, "2h"), (108, "f"), (112, "2f"), (123, "B"), (252, "2h"), (280, "12f")),
    _Layout(540, (16, "8q"), (12, "2h"), (168, "q"), (176, "2d"), (500, "i"), (344, "2i"), (400, "12d")),
)


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """Whether the file says where its volume lies, its sform (4, 4) in RAS mm or None, voxels along i, j, k and
    further axes, their first and last byte in the uncompressed file, their type if they are floats, and the
    scale (slope, intercept) from what is stored to what is meant."""

    has_place: bool
    sform: FloatArray | None
    sizes: tuple[int, ...]
    start: int
    length: int
    floats: np.dtype[Any] | None
    scale: tuple[float, ...]


def read_header(path: Path) -> NiftiHeader:
    """Read the header of a .nii or .nii.gz; ValueError if it is none, or if the file breaks off behind it."""
    with _damage_named(path):
        with _opened(path) as file:
            start = file.read(_LONGEST_HEADER)
        header = _parsed(start, path)
        whole = _is_whole(path, header.length)
    if not whole:
        raise ValueError(f"{path.name} is damaged, it breaks off before its last voxel: copy or download it again.")
    if not np.isfinite(header.scale).all():
        slope, intercept = header.scale
        raise ValueError(
            f"{path.name} scales its voxels by {slope:g} and adds {intercept:g} (scl_slope, scl_inter): write the "
            "file again with finite numbers, 1 and 0 if Hounsfield units are stored."
        )
    return header


def require_finite_voxels(path: Path, header: NiftiHeader) -> None:
    """Raise ValueError, with number and place, if the volume holds floats that are NaN or infinite.

    They are sought in the file, because ITK's NIfTI library makes zeros of them: water, in Hounsfield units.
    """
    count, first, before = 0, 0, 0
    for values in _blocks(path, header):
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size and not count:
            first = before + int(wrong[0])
        count += wrong.size
        before += values.size
    if count:
        i, j, k = header.sizes[:3]
        raise not_finite(count, first, (k, j, i))


def _blocks(path: Path, header: NiftiHeader) -> Iterator[npt.NDArray[Any]]:
    """The voxels as stored, in order and a few at a time; none if they are whole numbers."""
    if header.floats is None:
        return
    size = header.floats.itemsize
    with _damage_named(path), _opened(path) as file:
        file.seek(header.start)
        for at in range(header.start, header.length, _VOXELS_PER_BLOCK * size):
            raw = file.read(min(_VOXELS_PER_BLOCK * size, header.length - at))
            yield np.frombuffer(raw, header.floats, len(raw) // size)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged ({error}): copy or download it again.") from error


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
    sizes = sizes[: max(0, count)]
    kind, bits = (int(n) for n in field(layout.type_and_bits))
    first = int(field(layout.data_offset)[0])
    qform_code, sform_code = field(layout.codes)
    sform = None
    if sform_code > 0:
        sform = np.vstack([np.reshape(field(layout.sform), (3, 4)), [0.0, 0.0, 0.0, 1.0]])
        sform[:3] *= _MM_PER_UNIT.get(int(field(layout.units)[0]) & 7, 1.0)
    return NiftiHeader(
        has_place=qform_code > 0 or sform is not None,
        sform=sform,
        sizes=tuple(sizes),
        start=first,
        length=first + math.prod(sizes) * bits // 8,
        floats=np.dtype(endian + _FLOAT_TYPES[kind]) if kind in _FLOAT_TYPES else None,
        scale=field(layout.scale),
    )


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
