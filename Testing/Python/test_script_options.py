"""Scripts that write into the repository, or take their arguments by place, write nothing where they are misspelt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTING = Path(__file__).parents[1]
ROOT = TESTING.parent
SCRIPTS = {
    "Figures/carm_figure.py": "vtk",
    "Figures/geometry_figure.py": "matplotlib",
    "Figures/icons.py": "PIL",
    "Figures/panel_figures.py": "argparse",  # it looks at its options before it starts the host
    "Figures/readme_figure.py": "PIL",
    "Figures/scatter_figure.py": "matplotlib",
    "Benchmarks/first_image.py": "numpy",
    "Benchmarks/scatter.py": "torch",
    "Training/export_scatter.py": "torch",
    "Training/fit_scatter_kernel.py": "scipy",
}
WRITTEN = ("Resources/**/*.png", "DeepDRRSlicer/Resources/**/*.png", "DeepDRRLogic/data/scatter/*")


def ages() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for pattern in WRITTEN for path in ROOT.glob(pattern)}


def run(script: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TESTING / script), *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize(("script", "package"), SCRIPTS.items())
def test_a_misspelt_option_writes_nothing(script: str, package: str) -> None:
    pytest.importorskip(package)
    before = ages()
    said = run(script, "--ouptut", "elsewhere")
    assert (said.returncode, said.stderr.split(":")[0]) == (2, "usage"), said.stderr
    assert ages() == before


def test_a_figure_is_drawn_where_it_is_told_to(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    before = ages()
    said = run("Figures/geometry_figure.py", "-o", tmp_path / "new")
    assert said.returncode == 0, said.stderr
    assert [path.name for path in tmp_path.rglob("*.png")] == ["geometry.png"]
    assert ages() == before
