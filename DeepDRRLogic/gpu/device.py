"""The GPU as we use it: the primary context, shared with torch, kernels, and memory that is used again."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import libcuda
from .errors import DeviceError, DeviceMemoryError
from .libcuda import CudaError, CudaMemoryError, Memory, call
from .textures import Texture

_logger = logging.getLogger(__name__)

LEAST_CAPABILITY = (7, 5)
"""Turing: what our PTX files are made for. The driver translates them for anything newer."""

MOST_SPARE_BYTES = 512 * 2**20

MOST_CONSTANTS = 64


class Gpu:
    """One GPU.

    `driver` is the module pycuda.driver, or libcuda.Driver. Raises DeviceError for a GPU that is missing, too old or
    without a usable driver. Once it has failed for another reason than memory it is `lost`: it is not asked again.
    """

    def __init__(self, driver: Any, number: int = 0) -> None:
        self.driver = driver
        self.lost: str | None = None
        self._spare: dict[int, list[Memory]] = {}
        try:
            driver.init()
            if driver.Device.count() == 0:
                raise DeviceError("the driver finds no NVIDIA GPU")
            self.device = driver.Device(number)
            self.name: str = self.device.name()
            self._require_capability()
            self.context = self.device.retain_primary_context()
        except (driver.Error, CudaError) as error:
            raise DeviceError(f"the NVIDIA driver cannot be used ({error})") from error
        self._modules: dict[Traversable, Any] = {}
        self._functions: dict[tuple[Traversable, str], Any] = {}
        self._constants: dict[tuple[bytes, tuple[int, ...], str], DeviceArray] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Our context on top of this thread's stack; errors of the driver come out as DeviceError."""
        if self.lost is not None:
            raise DeviceError(self.lost)
        errors = self.driver.Error, CudaError
        try:
            self.context.push()
        except errors as error:
            raise DeviceError(self._lose(f"cannot be reached any more ({error})")) from error
        try:
            yield
        except (self.driver.MemoryError, CudaMemoryError) as error:
            raise DeviceMemoryError(f"{self.name} is out of memory ({error})") from error
        except errors as error:
            raise DeviceError(self._lose(f"gave up ({error})")) from error
        finally:
            # Where this fails the context is lost, and whoever comes next is told.
            with contextlib.suppress(*errors):
                self.context.pop()

    def room(self) -> int:
        """Bytes that arrays can take, spare memory included. Call it while active."""
        free, _ = self.driver.mem_get_info()
        return int(free) + sum(size * len(kept) for size, kept in list(self._spare.items()))

    def require_memory(self, needed: int, what: str) -> None:
        """Raise DeviceMemoryError if so much is not free, spare memory included. Call it while active."""
        free, _ = self.driver.mem_get_info()
        if needed > free and self._spare:
            self._spare.clear()
            free, _ = self.driver.mem_get_info()
        if needed > free and _torch_lets_go():
            free, _ = self.driver.mem_get_info()
        text = f"{what}: {needed / 1e9:.2f} GB needed on {self.name}, {free / 1e9:.2f} GB free"
        if needed > free:
            raise DeviceMemoryError(text)
        _logger.debug("%s.", text)

    def take(self, nbytes: int) -> Memory:
        """Memory for one array, a spare one where there is one of this size. Call it while active."""
        # One step, so that another thread cannot come between the look and the grasp.
        with contextlib.suppress(KeyError, IndexError):
            return self._spare[nbytes].pop()
        self.require_memory(nbytes, "An array")
        return Memory(max(nbytes, 1))

    def give_back(self, memory: Memory, nbytes: int) -> None:
        """Keep memory for the next array of this size: allocating costs more than a small kernel."""
        if sum(size * len(kept) for size, kept in list(self._spare.items())) + nbytes <= MOST_SPARE_BYTES:
            self._spare.setdefault(nbytes, []).append(memory)

    def launch(
        self, ptx: Traversable, kernel: str, threads: tuple[int, ...], block: tuple[int, int, int], *args: Any
    ) -> None:
        """Run a kernel of a PTX file over `threads` (x, y, z), rounded up to whole blocks. Call it while active."""
        grid = tuple(-(-count // size) for count, size in zip(threads, block, strict=True))
        self.function(ptx, kernel)(*args, block=block, grid=grid)

    def function(self, ptx: Traversable, kernel: str) -> Any:
        """A kernel of a PTX file, which the driver translates when it is first asked for. Call it while active."""
        if (ptx, kernel) not in self._functions:
            self._functions[ptx, kernel] = self._module(ptx).get_function(kernel)
        return self._functions[ptx, kernel]

    def _module(self, ptx: Traversable) -> Any:
        if ptx not in self._modules:
            self._modules[ptx] = self.driver.module_from_buffer(ptx.read_bytes())
        return self._modules[ptx]

    def upload(self, values: npt.NDArray[Any]) -> DeviceArray:
        """A copy on the GPU. Call it while active."""
        array = DeviceArray(self, values.shape, values.dtype)
        self.driver.memcpy_htod(int(array.pointer), np.ascontiguousarray(values))
        return array

    def constant(self, values: npt.NDArray[Any]) -> DeviceArray:
        """A small table on the GPU, kept for the next time: an upload waits for all kernels before it.

        Nobody may write to it. Call it while active.
        """
        key = values.tobytes(), values.shape, values.dtype.str
        if key not in self._constants:
            while len(self._constants) >= MOST_CONSTANTS:
                self._constants.pop(next(iter(self._constants)))
            self._constants[key] = self.upload(values)
        return self._constants[key]

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> DeviceArray:
        """An array of zeros. Call it while active."""
        array = DeviceArray(self, shape, dtype)
        call("cuMemsetD8_v2", ctypes.c_uint64(int(array.pointer)), ctypes.c_ubyte(0), ctypes.c_size_t(array.nbytes))
        return array

    def free(self, *textures: Texture) -> None:
        """Give the memory of textures back; of a lost GPU it is gone already."""
        with contextlib.suppress(DeviceError), self.active():
            for texture in textures:
                texture.free()

    def _require_capability(self) -> None:
        capability = tuple(self.device.compute_capability())
        if capability < LEAST_CAPABILITY:
            has, least = (".".join(map(str, version)) for version in (capability, LEAST_CAPABILITY))
            raise DeviceError(f"{self.name} has compute capability {has}; {least} (Turing, 2018) is needed")

    def _lose(self, what: str) -> str:
        self.lost = f"{self.name} {what}"
        return self.lost


def first_gpu() -> Gpu:
    """The first GPU, by PyCUDA where that is installed, else by the library of the NVIDIA driver; else DeviceError."""
    try:
        libcuda.library()
    except OSError as error:
        raise DeviceError("there is no NVIDIA driver") from error
    try:
        with warnings.catch_warnings():
            # A PyCUDA that was built for another driver says so by a warning; we go on without it.
            warnings.simplefilter("ignore")
            import pycuda.driver as driver
    except Exception as error:  # what a broken installation raises: on Windows FileNotFoundError, for one
        _logger.debug("PyCUDA cannot be imported (%s): the NVIDIA driver is called directly.", error)
        return Gpu(libcuda.Driver())
    return Gpu(driver)


def _torch_lets_go() -> bool:
    """Whether torch, where it runs on the GPU too, gave back what it keeps for itself but does not use."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return False
    cuda.empty_cache()
    return True


class DeviceArray:
    """A C-ordered array in the GPU's memory, given back with this object. Make it while the GPU is active.

    `pointer` is what kernels take.

    torch.as_tensor(array, device="cuda") and cupy.asarray(array) see the same memory: no copy is made, and they keep
    the array alive. All our kernels run on the default stream, and torch's do unless told otherwise; on another stream
    wait for that one before this object goes.
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> None:
        self._gpu = gpu
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self._memory = gpu.take(self.nbytes)
        self.pointer = np.uint64(self._memory.address)

    def __del__(self) -> None:
        if hasattr(self, "_memory"):
            self._gpu.give_back(self._memory, self.nbytes)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (int(self.pointer), False),
            "strides": None,
            "stream": 1,  # the legacy default stream
            "version": 3,
        }

    def get(self) -> npt.NDArray[Any]:
        """A copy in NumPy; waits for the kernels that write it."""
        out = np.empty(self.shape, self.dtype)
        with self._gpu.active():
            self._gpu.driver.memcpy_dtoh(out, int(self.pointer))
        return out
