"""Makes the PTX files of their CUDA sources with nvcc: `python Testing/Tools/build_ptx.py` (`--check` compares only).

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

LOGIC = Path(__file__).parents[2] / "DeepDRRLogic"
SOURCES = (LOGIC / "projector" / "cuda" / "kernels.cu", LOGIC / "scatter" / "cuda" / "transport.cu")
ARCHITECTURE = "75"
PTX_VERSION = "6.3"
"""The first with sm_75; drivers from 418 (2019) on."""

CHECKED_ON = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def parts_of(source: Path) -> list[Path]:
    """A source and what it includes of ours, each once, in the order in which the compiler comes to it."""
    parts = [source]
    for name in re.findall(r'^#include "(.*)"', source.read_text(encoding="utf-8"), flags=re.M):
        parts += [part for part in parts_of((source.parent / name).resolve()) if part not in parts]
    return parts


def source_line(source: Path) -> str:
    """What its PTX begins with: a digest of a source and what it includes, line ends being of no account."""
    digest = hashlib.sha256()
    for path in parts_of(source):
        digest.update(path.name.encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return f"// {source.name} sha256 {digest.hexdigest()}\n"


def compiler_line() -> str:
    """The second line: the release of nvcc; RuntimeError without it."""
    found = re.search(r"release (\S+), (\S+)", _run([_nvcc(), "--version"]))
    return f"// nvcc {found[2] if found else 'unknown'}\n"


def build(source: Path) -> str:
    """The PTX of a source as it should be; RuntimeError without nvcc, or where ptxas refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.with_suffix(".ptx").name
        _run([_nvcc(), "-ptx", "-O3", f"-arch=compute_{ARCHITECTURE}", str(source), "-o", str(path)])
        text = re.sub(r"^\.version .*$", f".version {PTX_VERSION}", path.read_text(encoding="ascii"), flags=re.M)
        # A hint about loads that PTX knows from version 8.3 on only.
        text = re.sub(r'^\s*\.pragma "used_bytes_mask.*\n', "", text, flags=re.M)
        # The compiler's own lines name its build, not its release.
        text = source_line(source) + compiler_line() + re.sub(r"\A(//.*\n)+", "", text)
        path.write_text(text, encoding="ascii")
        for architecture, _ in assemble(path):
            print(f"ptxas accepts {path.name} for {architecture}.")
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
    parser.add_argument("--check", action="store_true", help="compare with the shipped files, write nothing")
    check = parser.parse_args().check
    differing = 0
    for source in SOURCES:
        ptx = source.with_suffix(".ptx")
        if not check:
            ptx.write_text(build(source), encoding="ascii", newline="\n")
            print(f"{ptx}: {ptx.stat().st_size} bytes")
        elif ptx.read_text(encoding="ascii") == build(source):
            print(f"{ptx.name} is what nvcc makes of {source.name}.")
        else:
            print(f"{ptx.name} differs: build it anew.")
            differing += 1
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
