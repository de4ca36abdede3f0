"""plastimatch's exact (Siddon) DRR (C++, OpenMP), from the package plastimatch."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import distribution, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from peers.view import View, voxel_000_mm

VERSION = version("plastimatch")

MM_PER_CM = 10.0


class Peer:
    """A program, not a library: it reads the volume anew for every image, but reports what the rendering took."""

    def __init__(
        self, attenuation_mm: npt.NDArray[np.float32], spacing_mm: list[float], threads: int, folder: Path
    ) -> None:
        self._program = _program()
        self._volume = folder / "attenuation.mha"
        self._output = folder / "plastimatch_"
        _write_metaimage(self._volume, attenuation_mm, spacing_mm)

    def project(self, view: View) -> tuple[npt.NDArray[np.float32], float]:
        """The image, and the program's own time for it less what it took to write the file."""
        _, v, to_source = view.directions
        column, row = view.principal_point
        # It draws what is seen from the source; where ours is the mirror image, so becomes its own.
        column = column if view.seen_from_source else view.width - 1 - column
        source_to_axis_mm = 0.5 * view.source_to_detector_mm
        options = {
            "--threading": "cpu",
            "--algorithm": "exact",
            "--hu-conversion": "none",
            "--output-format": "raw",
            "--nrm": to_source,
            "--vup": -v,
            "--isocenter": view.source_mm - source_to_axis_mm * to_source,
            "--sad": [source_to_axis_mm],
            "--sid": [view.source_to_detector_mm],
            # Its help says "row col"; version 1.10 takes columns first.
            "--dim": [view.width, view.height],
            "--detector-size": [view.width * view.pitch_mm[0], view.height * view.pitch_mm[1]],
            "--image-center": [column, row],
            "--input": str(self._volume),
            "--output": str(self._output),
        }
        arguments = [
            text
            for name, value in options.items()
            for text in (name, value if isinstance(value, str) else " ".join(f"{x:.9g}" for x in value))
        ]
        run = subprocess.run([self._program, "drr", *arguments], capture_output=True, text=True, check=True)
        picture = np.fromfile(f"{self._output}0000.raw", np.float32).reshape(view.height, view.width)
        picture = picture * np.float32(MM_PER_CM)
        seconds = _reported("Total time", run.stdout) - _reported("I/O time", run.stdout)
        return picture if view.seen_from_source else picture[:, ::-1], seconds


def _reported(what: str, output: str) -> float:
    found = re.search(rf"{what}: ([0-9.e+-]+) sec", output)
    if found is None:
        raise ValueError(f"plastimatch does not report its {what}: {output[-500:]}")
    return float(found[1])


def _program() -> str:
    for file in distribution("plastimatch").files or []:
        if file.parent.name == "bin" and file.stem == "plastimatch" and "plastimatch/bin" in file.as_posix():
            return str(file.locate())
    raise ImportError("the package plastimatch has no program")


def _write_metaimage(path: Path, values: npt.NDArray[np.float32], spacing_mm: list[float]) -> None:
    first = voxel_000_mm(values.shape, spacing_mm)
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": " ".join(f"{x:.9g}" for x in first),
        "ElementSpacing": " ".join(f"{x:.9g}" for x in spacing_mm),
        "DimSize": " ".join(str(n) for n in values.shape[::-1]),
        "ElementType": "MET_FLOAT",
        "ElementDataFile": "LOCAL",
    }
    with path.open("wb") as file:
        file.write("".join(f"{key} = {value}\n" for key, value in header.items()).encode("ascii"))
        values.tofile(file)
