"""A GPU without a GPU: our kernels compiled as C++, in a library that has the functions of the NVIDIA driver's.

Everything but that library is the real thing: the kernels, their launch configurations, the host code, and the calls
of the driver with their structures. Like the driver it can run out of memory, and be told to fail.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest

import DeepDRRLogic
from DeepDRRLogic.gpu import libcuda
from DeepDRRLogic.gpu.device import Gpu
from DeepDRRLogic.projector.cuda import check

HERE = Path(__file__).parent / "emulation"
LOGIC = Path(DeepDRRLogic.__file__).parent
KERNELS = LOGIC / "projector" / "cuda", LOGIC / "scatter" / "cuda"
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
ILLEGAL_ADDRESS = 700
"""The error of a context that is lost for good."""


def compile_driver(path: Path, *more: str) -> Path:
    """The library as a file, compiled anew; with the toolkit's cuda.h where there is one."""
    toolkit = [f"-I{folder}" for folder in (Path("/usr/local/cuda/include"),) if (folder / "cuda.h").exists()]
    flags = ["-std=c++17", "-O2", "-fno-math-errno", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
    source = [f"-I{HERE}", *(f"-I{folder}" for folder in KERNELS), str(HERE / "emulated_driver.cpp"), *more]
    subprocess.run([COMPILER, *flags, *toolkit, *source, "-o", str(path)], check=True, capture_output=True, text=True)
    return path


@functools.cache
def library():
    """The library, loaded; the test is skipped where there is no C++ compiler."""
    if COMPILER is None:
        pytest.skip("no C++ compiler to emulate the GPU with")
    with tempfile.TemporaryDirectory() as folder:
        loaded = ctypes.CDLL(str(compile_driver(Path(folder) / "libcuda.so")))
    loaded.emulated_used_bytes.restype = loaded.emulated_fetches.restype = ctypes.c_ulonglong
    return loaded


@contextmanager
def emulation():
    """Calls of the NVIDIA driver go to the emulation."""
    emulated = library()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libcuda, "library", lambda: emulated)
        patch.setattr(libcuda, "Function", CheckedFunction)
        yield emulated
        # What is still on the emulated device goes while it is there.
        gc.collect()


@contextmanager
def told(**settings):
    """The emulation with other settings: total_bytes, capability, devices, or the error that a function is to give."""
    for name, value in settings.items():
        library().emulate(name.encode(), ctypes.c_longlong(value))
    try:
        yield
    finally:
        for name in settings:
            usual = {"total_bytes": 2 << 30, "capability": 90, "devices": 1}.get(name, 0)
            library().emulate(name.encode(), ctypes.c_longlong(usual))


def calls_since_asked():
    """What was asked of the device since: a letter each for upload, launch, download and wait."""
    text = ctypes.create_string_buffer(100_000)
    library().emulated_calls(text, len(text) - 1)
    return text.value.decode()


class CheckedFunction(libcuda.Function):
    """The driver takes arguments on trust; here their number and sizes must be those that the kernel declares."""

    def __call__(self, *arguments, block, grid):
        sizes = (ctypes.c_int * 32)()
        count = library().emulated_parameters(self._handle, sizes)
        given = [argument.itemsize for argument in arguments]
        assert given == list(sizes[:count])
        super().__call__(*arguments, block=block, grid=grid)


def emulated_gpu():
    """A GPU on the emulation."""
    return Gpu(libcuda.Driver())


@contextmanager
def as_the_gpu_of_this_machine(gpu):
    """This GPU is the one that everybody is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "first_gpu", lambda: gpu)
        patch.setattr(check, "check_gpu", lambda found: None)
        check.trusted_gpu.cache_clear()
        yield gpu
    check.trusted_gpu.cache_clear()


def run_python(program, **environment):
    """A program in a process of its own, where only the environment says what the machine has."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[2])} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
