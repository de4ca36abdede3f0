"""What ITK passes over in NIfTI files: a sheared sform, which it straightens, a second place that differs from the
first; missing data, NaN and infinity, which it reads as zeros."""

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
    voxel_offset_scale: tuple[int, str]
    units: tuple[int, str]
    forms: tuple[int, str]


_LAYOUTS = (
    _Layout(348, (40, "8h"), (70, "2h"), (76, "8ff2f"), (123, "B"), (252, "2h18f")),
    _Layout(540, (16, "8q"), (12, "2h"), (104, "8dq2d"), (500, "i"), (344, "2i18d")),
)


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """Where the volume lies, said twice: qform and sform, (4, 4) in RAS mm, None where their code is 0 for "unknown";
    the size of a voxel in mm beside them, 1 where not given. Voxels along i, j, k and further axes, their first and
    last byte in the uncompressed file, their type if they are floats, and the scale (slope, intercept) from what is
    stored to what is meant."""

    qform: FloatArray | None
    sform: FloatArray | None
    qform_code: int
    sform_code: int
    voxel_mm: tuple[float, ...]
    has_voxel_mm: bool
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
    if min(header.voxel_mm) < 0.0:
        raise ValueError(
            f"{path.name} says that voxels are {'×'.join(f'{mm:.4g}' for mm in header.voxel_mm)} mm (pixdim), and "
            "programs disagree on which side a negative size means: write the file again with positive sizes."
        )
    if not np.isfinite(header.scale).all():
        slope, intercept = header.scale
        raise ValueError(
            f"{path.name} scales its voxels by {slope:g} and adds {intercept:g} (scl_slope, scl_inter): write the "
            "file again with finite numbers, 1 and 0 if Hounsfield units are stored."
        )
    return header


def read_floats(path: Path, header: NiftiHeader) -> npt.NDArray[Any]:
    """The voxels, floats, as they are meant, in order (n,); ITK's NIfTI library makes zeros of NaN and infinity:
    water, in Hounsfield units."""
    assert header.floats is not None
    size = header.floats.itemsize
    slope, intercept = header.scale
    is_scaled = slope not in (0.0, 1.0) or intercept != 0.0
    values = np.empty((header.length - header.start) // size, header.floats.newbyteorder("="))
    with _damage_named(path), _opened(path) as file:
        file.seek(header.start)
        for first in range(0, values.size, _VOXELS_PER_BLOCK):
            block = values[first : first + _VOXELS_PER_BLOCK]
            raw = file.read(block.size * size)
            if len(raw) < block.size * size:
                raise EOFError("it breaks off before its last voxel")
            stored = np.frombuffer(raw, header.floats)
            block[:] = stored.astype(np.float64) * (slope or 1.0) + intercept if is_scaled else stored
    return values


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
    sizes = [max(1, n) for n in sizes[: max(0, count)]]
    kind, bits = (int(n) for n in field(layout.type_and_bits))
    handedness, *voxel = field(layout.voxel_offset_scale)
    first = max(layout.size, int(voxel[7]))
    # What is no size of a voxel counts as 1, here and in ITK.
    steps = tuple(step if step and math.isfinite(step) else 1.0 for step in voxel[:3])
    qform_code, sform_code, *forms = field(layout.forms)
    mm = _MM_PER_UNIT.get(int(field(layout.units)[0]) & 7, 1.0)
    return NiftiHeader(
        qform=_in_mm(_qform(forms[:6], handedness, steps), mm) if qform_code > 0 else None,
        sform=_in_mm(np.reshape(forms[6:], (3, 4)), mm) if sform_code > 0 else None,
        qform_code=int(qform_code),
        sform_code=int(sform_code),
        voxel_mm=tuple(step * mm for step in steps),
        has_voxel_mm=all(voxel[:3]),
        sizes=tuple(sizes),
        start=first,
        length=first + math.prod(sizes) * bits // 8,
        floats=np.dtype(endian + _FLOAT_TYPES[kind]) if kind in _FLOAT_TYPES else None,
        scale=tuple(voxel[8:]),
    )


def _in_mm(rows: npt.NDArray[Any], mm: float) -> FloatArray:
    affine = np.eye(4)
    affine[:3] = rows * mm
    return affine


def _qform(place: list[float], handedness: float, steps: tuple[float, ...]) -> FloatArray:
    """The rows (3, 4) of the rotation by a quaternion, from nifti1.h: its last three parts, then the origin."""
    b, c, d, *origin = place
    a = 1.0 - b * b - c * c - d * d
    a = math.sqrt(a) if a > 1e-7 else 0.0  # less is the rounding of half a turn
    w, x, y, z = np.array([a, b, c, d]) / math.hypot(a, b, c, d)
    rotation = np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w + y * y - x * x - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w + z * z - x * x - y * y],
        ]
    )
    i, j, k = steps
    return np.column_stack([rotation * [i, j, -k if handedness < 0.0 else k], origin])


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
