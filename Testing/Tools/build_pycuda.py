"""Builds PyCUDA from its sdist where nothing can be fetched: `python build_pycuda.py FOLDER_WITH_SDIST TARGET`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
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
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(next(sdists.glob("pycuda-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = next(Path(folder).glob("pycuda-*"))
        # Of the toolkit's libraries PyCUDA can use cuRAND; we do not, and small installations lack it.
        (source / "siteconf.py").write_text(
            f"CUDA_ROOT = {str(toolkit)!r}\nCUDA_ENABLE_CURAND = False\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--upgrade"]
        command += ["--find-links", str(sdists), "--target", str(target), str(source)]
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
