"""The NVIDIA driver's own library, by ctypes: all that PyCUDA does for us, where PyCUDA is not there.

PyCUDA has to be compiled where it is installed; the driver's library comes with the driver. `Driver` has the interface
of the module pycuda.driver as far as we use it. Structures and values are those of cuda.h.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

OUT_OF_MEMORY = 2

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


class CudaError(Exception):
    """A call of the driver that failed."""


class CudaMemoryError(CudaError):
    """The driver has no more memory."""


@functools.cache
def library() -> ctypes.CDLL:
    """The driver's library; OSError where there is no NVIDIA driver."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def call(function: str, *arguments: Any) -> None:
    """Call a function of the library; CudaError, or CudaMemoryError, with the driver's own word for it."""
    status = getattr(library(), function)(*arguments)
    if status != 0:
        name = ctypes.c_char_p()
        library().cuGetErrorName(status, ctypes.byref(name))
        kind = CudaMemoryError if status == OUT_OF_MEMORY else CudaError
        raise kind(f"{function.partition('_')[0]} failed: {(name.value or str(status).encode()).decode()}")


class Memory:
    """Memory of the current context's device, freed with this object; beside PyCUDA, too.

    PyCUDA frees memory only in the thread that made it, and loses it in any other.
    """

    def __init__(self, nbytes: int) -> None:
        self._library = library()
        self._pointer = ctypes.c_uint64()
        call("cuMemAlloc_v2", ctypes.byref(self._pointer), ctypes.c_size_t(nbytes))
        self._context = ctypes.c_void_p()
        call("cuCtxGetCurrent", ctypes.byref(self._context))

    @property
    def address(self) -> int:
        """Where it lies."""
        return self._pointer.value

    def __del__(self) -> None:
        # An object may die in any thread and while anything is current. Of a lost context all is gone already.
        if self._pointer.value and self._library.cuCtxPushCurrent_v2(self._context) == 0:
            self._library.cuMemFree_v2(self._pointer)
            self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


class Context:
    """A device's primary context, the one that torch uses, too."""

    def __init__(self, device: ctypes.c_int) -> None:
        self._context = ctypes.c_void_p()
        call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def push(self) -> None:
        """Make it this thread's current one."""
        call("cuCtxPushCurrent_v2", self._context)

    def pop(self) -> None:
        """Make the one before it current again."""
        call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def synchronize(self) -> None:
        """Wait for all work of the device."""
        call("cuCtxSynchronize")


class Device:
    """A GPU by number."""

    def __init__(self, number: int) -> None:
        self._device = ctypes.c_int()
        call("cuDeviceGet", ctypes.byref(self._device), number)

    @staticmethod
    def count() -> int:
        """How many there are."""
        found = ctypes.c_int()
        call("cuDeviceGetCount", ctypes.byref(found))
        return found.value

    def name(self) -> str:
        """What its maker calls it."""
        text = ctypes.create_string_buffer(256)
        call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode(errors="replace")

    def compute_capability(self) -> tuple[int, int]:
        """(major, minor)."""
        return self.get_attribute(_CAPABILITY_MAJOR), self.get_attribute(_CAPABILITY_MINOR)

    def get_attribute(self, attribute: int) -> int:
        """One of the numbers of CUdevice_attribute."""
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), int(attribute), self._device)
        return value.value

    def retain_primary_context(self) -> Context:
        """Its primary context, which is not made current."""
        return Context(self._device)


class Function:
    """A kernel. Its arguments are NumPy scalars, as PyCUDA takes them."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def __call__(self, *arguments: Any, block: tuple[int, ...], grid: tuple[int, ...]) -> None:
        values = [np.array(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        call("cuLaunchKernel", self._handle, *map(ctypes.c_uint, (*grid, *block, 0)), None, pointers, None)


class Module:
    """Kernels that the driver has translated from PTX."""

    def __init__(self, ptx: bytes) -> None:
        self._module = ctypes.c_void_p()
        call("cuModuleLoadData", ctypes.byref(self._module), ptx + b"\0")

    def get_function(self, name: str) -> Function:
        """A kernel by name."""
        handle = ctypes.c_void_p()
        call("cuModuleGetFunction", ctypes.byref(handle), self._module, name.encode())
        return Function(handle)


class Event:
    """A point in the work of the device, for measuring time."""

    def __init__(self) -> None:
        self._event = ctypes.c_void_p()
        call("cuEventCreate", ctypes.byref(self._event), 0)

    def record(self) -> None:
        """Put it behind all work so far."""
        call("cuEventRecord", self._event, None)

    def synchronize(self) -> None:
        """Wait until the device has come to it."""
        call("cuEventSynchronize", self._event)

    def time_till(self, later: Event) -> float:
        """Milliseconds of the device between two."""
        milliseconds = ctypes.c_float()
        call("cuEventElapsedTime", ctypes.byref(milliseconds), self._event, later._event)
        return milliseconds.value


class Driver:
    """As much of pycuda.driver as we use."""

    Error = CudaError
    MemoryError = CudaMemoryError
    Device = Device
    Event = Event

    def init(self) -> None:
        call("cuInit", 0)

    def mem_get_info(self) -> tuple[int, int]:
        """Bytes free and in all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def memcpy_htod(self, address: int, values: npt.NDArray[Any]) -> None:
        host = ctypes.c_void_p(values.ctypes.data)
        call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), host, ctypes.c_size_t(values.nbytes))

    def memcpy_dtoh(self, values: npt.NDArray[Any], address: int) -> None:
        host = ctypes.c_void_p(values.ctypes.data)
        call("cuMemcpyDtoH_v2", host, ctypes.c_uint64(address), ctypes.c_size_t(values.nbytes))

    def module_from_buffer(self, ptx: bytes) -> Module:
        return Module(ptx)
