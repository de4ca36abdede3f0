"""Makes kernels.ptx of kernels.cu with nvcc: `python Testing/Tools/build_ptx.py` (`--check` compares only).

The PTX is for compute capability 7.5; the driver translates it for any newer GPU. Its first lines name the source and
the nvcc that it was made of. The PTX version is set to the oldest one that knows this capability and has all that we
use, so that drivers older than nvcc load it too: nvcc writes its own version, which drivers before it refuse.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "DeepDRRLogic" / "projector" / "cuda"
SOURCE, PTX = FOLDER / "kernels.cu", FOLDER / "kernels.ptx"
ARCHITECTURE = "75"
PTX_VERSION = "6.3"
"""The first with sm_75; drivers from 418 (2019) on."""

CHECKED_ON = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def source_line() -> str:
    """What kernels.ptx begins with: a digest of kernels.cu and what it includes, line ends being of no account."""
    digest = hashlib.sha256()
    for path in (SOURCE, *sorted(FOLDER.glob("*.cuh"))):
        digest.update(path.name.encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return f"// kernels.cu sha256 {digest.hexdigest()}\n"


def compiler_line() -> str:
    """The second line: the release of nvcc; RuntimeError without it."""
    found = re.search(r"release (\S+), (\S+)", _run([_nvcc(), "--version"]))
    return f"// nvcc {found[2] if found else 'unknown'}\n"


def build() -> str:
    """kernels.ptx as it should be; RuntimeError without nvcc, or where ptxas refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.ptx"
        _run([_nvcc(), "-ptx", "-O3", f"-arch=compute_{ARCHITECTURE}", str(SOURCE), "-o", str(path)])
        text = re.sub(r"^\.version .*$", f".version {PTX_VERSION}", path.read_text(encoding="ascii"), flags=re.M)
        # The compiler's own lines name its build, not its release.
        text = source_line() + compiler_line() + re.sub(r"\A(//.*\n)+", "", text)
        path.write_text(text, encoding="ascii")
        for architecture, _ in assemble(path):
            print(f"ptxas accepts it for {architecture}.")
    return text


def assemble(ptx: Path) -> list[tuple[str, str]]:
    """Architectures for which ptxas makes machine code of it, with what it says of registers; RuntimeError if not."""
    ptxas = shutil.which("ptxas")
    if ptxas is None:
        return []
    known = _run([ptxas, "--help"])
    with tempfile.TemporaryDirectory() as folder:
        command = [ptxas, "-v", str(ptx), "-o", str(Path(folder) / "kernels.cubin")]
        return [(name, _run([*command, f"-arch={name}"])) for name in CHECKED_ON if f"'{name}'" in known]


def _nvcc() -> str:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise RuntimeError("nvcc is not on the PATH: install the CUDA toolkit.")
    return nvcc


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def main() -> int:
    """Exit status 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the shipped file, write nothing")
    if parser.parse_args().check:
        same = PTX.read_text(encoding="ascii") == build()
        print("kernels.ptx is what nvcc makes of kernels.cu." if same else "kernels.ptx differs: build it anew.")
        return 0 if same else 1
    PTX.write_text(build(), encoding="ascii", newline="\n")
    print(f"{PTX}: {PTX.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
