"""The module's panel, in a host of its own process: the shipped .py and .ui, real MRML, real mouse events.

The scenarios are in Testing/SlicerHost/scenarios; `pytest Testing/SlicerHost/scenarios` runs them one by one.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "Testing" / "SlicerHost" / "scenarios"
DEBIAN = "libegl1 libegl-mesa0 libgl1-mesa-dri libxkbcommon0 libdbus-1-3 libfontconfig1 fonts-dejavu-core"


def _obstacle() -> str:
    absent = [name for name in ("slicer_core", "PySide6") if find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed: pip install '.[dev]'"
    libraries = [name for name in ("EGL", "xkbcommon", "dbus-1", "fontconfig") if not ctypes.util.find_library(name)]
    if sys.platform.startswith("linux") and libraries:
        return f"no {', '.join(libraries)} library; on Debian: apt-get install {DEBIAN}"
    return ""


@pytest.mark.skipif(bool(_obstacle()), reason=_obstacle() or "nothing is missing")
@pytest.mark.parametrize("slicers_own_python", [False, True], ids=["doubles", "slicers_own_python"])
@pytest.mark.parametrize("scenario", sorted(path.stem for path in SCENARIOS.glob("test_*.py")))
def test_the_panel_in_the_host(scenario, slicers_own_python):
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen", "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"}
    own = environment.pop("SLICER_PYTHON_DIR", "")
    if slicers_own_python:
        if not own:
            pytest.skip("SLICER_PYTHON_DIR does not name Base/Python/slicer of a Slicer checkout")
        environment["SLICER_PYTHON_DIR"] = own
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    command.append(str(SCENARIOS / f"{scenario}.py"))
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
