"""`deepdrr` run in this process, and a CT for it to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from DeepDRRLogic.cli import main
from DeepDRRLogic.image import XRayImage

BEAD_RAS = (30.0, 0.0, 20.0)
PAPER = ["--preset", "deepdrr_paper", "--threads", "1"]
SMALL = [*PAPER, "--size", "62"]
THRESHOLD = ["--method", "threshold", "-q"]
PELVIS = ["phantom:pelvis", "--phantom-spacing", "10"]


def run(*arguments: object) -> int:
    """The exit code of `deepdrr` with these arguments."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return int(ending.value.code or 0)


def rendered(ct: Path, *options: object, method: str | None = "threshold") -> XRayImage:
    """The small picture that `deepdrr render` takes; without a method, the command chooses it."""
    chosen = ["--method", method] if method else []
    assert run("render", ct, *SMALL, *chosen, *options, "-q", "-o", "shot.npz") == 0
    return XRayImage.load("shot.npz")


def write_cylinder(path: Path) -> Path:
    """A cylinder of soft tissue along the body axis, a bead of bone to the right of and above its middle."""
    import SimpleITK as sitk

    k, j, i = np.mgrid[:40, :40, :40] * 3.0 - 58.5
    hu = np.full(k.shape, -1000, np.int16)
    hu[i**2 + j**2 < 50**2] = 40
    right, anterior, superior = -i, -j, k
    bead = (right - BEAD_RAS[0]) ** 2 + (anterior - BEAD_RAS[1]) ** 2 + (superior - BEAD_RAS[2]) ** 2
    hu[bead < 9**2] = 1500
    volume = sitk.GetImageFromArray(hu)
    volume.SetSpacing((3.0, 3.0, 3.0))
    volume.SetOrigin((-58.5, -58.5, -58.5))
    sitk.WriteImage(volume, str(path))
    return path
