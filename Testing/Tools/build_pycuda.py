"""Builds PyCUDA from its sdist where nothing can be fetched: `python build_pycuda.py FOLDER_WITH_SDIST TARGET`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def build(sdists: Path, target: Path, toolkit: Path) -> int:
    """pip's exit status. `sdists` also holds the wheels of what PyCUDA needs; `target` goes to PYTHONPATH."""
    # PyCUDA takes the toolkit whose nvcc comes first, and links with the driver, or the toolkit's stand-in for it.
    stubs = [str(toolkit / "lib64" / "stubs"), *filter(None, [os.environ.get("LIBRARY_PATH")])]
    environment = os.environ | {
        "CUDA_ROOT": str(toolkit),
        "PATH": os.pathsep.join([str(toolkit / "bin"), os.environ["PATH"]]),
        "LIBRARY_PATH": os.pathsep.join(stubs),
    }
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--upgrade"]
    command += ["--find-links", str(sdists), "--target", str(target), "pycuda"]
    return subprocess.run(command, env=environment, check=False).returncode


def find_toolkit() -> Path | None:
    """Where the CUDA toolkit is installed; nvcc on the PATH may be a mere wrapper of it."""
    named = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT") if name in os.environ]
    nvcc = shutil.which("nvcc")
    beside = [Path(nvcc).resolve().parents[1]] if nvcc else []
    usual = [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    return next((folder for folder in (*named, *beside, *usual) if (folder / "include" / "cuda.h").exists()), None)


if __name__ == "__main__":
    found = find_toolkit()
    sys.exit("No CUDA toolkit with cuda.h." if found is None else build(Path(sys.argv[1]), Path(sys.argv[2]), found))
