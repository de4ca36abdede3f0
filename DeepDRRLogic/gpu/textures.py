"""3D textures of the CUDA driver: PyCUDA knows texture references only, which CUDA 12 gave up.

Structures and values are those of cuda.h (CUDA_ARRAY3D_DESCRIPTOR, CUDA_MEMCPY3D, CUDA_RESOURCE_DESC,
CUDA_TEXTURE_DESC), in their 64-bit forms.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from .libcuda import CudaError, call

_FORMATS = {"uint8": 0x01, "float16": 0x10}
_ON_HOST, _IN_ARRAY = 1, 3
_CLAMP_TO_EDGE = 1
_POINT, _LINEAR = 0, 1
_READ_AS_INTEGER = 1


class _ArrayDescriptor(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
        ("depth", ctypes.c_size_t),
        ("format", ctypes.c_int),
        ("channels", ctypes.c_uint),
        ("flags", ctypes.c_uint),
    )


class _Place(ctypes.Structure):
    """One end of a copy: the source or the destination in a CUDA_MEMCPY3D."""

    _fields_ = (
        ("x_in_bytes", ctypes.c_size_t),
        ("y", ctypes.c_size_t),
        ("z", ctypes.c_size_t),
        ("lod", ctypes.c_size_t),
        ("memory_type", ctypes.c_int),
        ("host", ctypes.c_void_p),
        ("device", ctypes.c_uint64),
        ("array", ctypes.c_void_p),
        ("reserved", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


class _Copy(ctypes.Structure):
    _fields_ = (
        ("source", _Place),
        ("destination", _Place),
        ("width_in_bytes", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
        ("depth", ctypes.c_size_t),
    )


class _ResourceDescriptor(ctypes.Structure):
    """An array (resource type 0): its handle is the first member of a union of 32 ints."""

    _fields_ = (
        ("resource_type", ctypes.c_int),
        ("array", ctypes.c_void_p),
        ("rest_of_union", ctypes.c_int * 30),
        ("flags", ctypes.c_uint),
    )


class _TextureDescriptor(ctypes.Structure):
    _fields_ = (
        ("address_mode", ctypes.c_int * 3),
        ("filter_mode", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("max_anisotropy", ctypes.c_uint),
        ("mipmap_filter_mode", ctypes.c_int),
        ("mipmap_level_bias", ctypes.c_float),
        ("min_mipmap_level_clamp", ctypes.c_float),
        ("max_mipmap_level_clamp", ctypes.c_float),
        ("border_color", ctypes.c_float * 4),
        ("reserved", ctypes.c_int * 12),
    )


class Texture:
    """A 3D texture of values [k, j, i], clamped at its edges, its coordinates counted in texels.

    float16 is read as float with linear interpolation, uint8 as the nearest whole number. `handle` is what kernels
    take. Make it while the GPU is active; CudaError where it fails.
    """

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._array = ctypes.c_void_p()
        self.handle = np.uint64(0)
        values = np.ascontiguousarray(values)
        depth, height, width = values.shape
        descriptor = _ArrayDescriptor(width, height, depth, _FORMATS[values.dtype.name], 1, 0)
        call("cuArray3DCreate_v2", ctypes.byref(self._array), ctypes.byref(descriptor))
        try:
            self._copy(values)
            self.handle = self._texture(linear=values.dtype == np.float16)
        except CudaError:
            self.free()
            raise

    def _copy(self, values: npt.NDArray[Any]) -> None:
        depth, height, width = values.shape
        copy = _Copy(width_in_bytes=width * values.itemsize, height=height, depth=depth)
        copy.source = _Place(
            memory_type=_ON_HOST, host=values.ctypes.data, pitch=width * values.itemsize, height=height
        )
        copy.destination = _Place(memory_type=_IN_ARRAY, array=self._array)
        call("cuMemcpy3D_v2", ctypes.byref(copy))

    def _texture(self, linear: bool) -> np.uint64:
        resource = _ResourceDescriptor(resource_type=0, array=self._array)
        texture = _TextureDescriptor(
            address_mode=(ctypes.c_int * 3)(*[_CLAMP_TO_EDGE] * 3),
            filter_mode=_LINEAR if linear else _POINT,
            flags=0 if linear else _READ_AS_INTEGER,
        )
        handle = ctypes.c_uint64()
        call("cuTexObjectCreate", ctypes.byref(handle), ctypes.byref(resource), ctypes.byref(texture), None)
        return np.uint64(handle.value)

    def free(self) -> None:
        """Give the memory back. Call it while active; of a context that is lost, it is gone already."""
        with contextlib.suppress(CudaError):
            if self.handle:
                call("cuTexObjectDestroy", ctypes.c_uint64(int(self.handle)))
            if self._array:
                call("cuArrayDestroy", self._array)
        self.handle, self._array = np.uint64(0), ctypes.c_void_p()
