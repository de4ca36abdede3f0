"""What the README tells people to type works."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from DeepDRRLogic.affine import apply
from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.phantom import phantom

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if containing in block)


def test_the_ten_lines_of_python_make_an_image(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ct = phantom(spacing_mm=5.0, region="chest").ct
    replace(ct, hu=ct.hu[:20, :30, 20:60]).write("chest.nii.gz")
    saved = []
    monkeypatch.setattr(XRayImage, "save", lambda image, path: saved.append((image, path)))
    code = code_block("python", "XRaySimulator")
    exec(compile(code, "README.md", "exec"), {})
    ((image, path),) = saved
    assert path == "chest.png"
    assert image.signal.shape == (1536, 1536)
    assert "5.000" in capsys.readouterr().out
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_the_page_on_training_sets_makes_pictures_masks_and_landmarks_that_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "Resources" / "Documentation" / "training_sets.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert "spacing_mm=2.0" in code
    page_says = {}
    exec(compile(code.replace("spacing_mm=2.0", "spacing_mm=6.0"), "training_sets.md", "exec"), page_says)
    for number in range(3):
        with np.load(f"shot_{number:05d}.npz") as shot:
            assert shot["image"].shape == shot["mask"].shape == (256, 256) and 0.0 < shot["image"].max() < 9.3
            assert 0.05 < shot["mask"].mean() < 0.95 and shot["seen"].any()
    left = page_says["landmarks"]["greater_trochanter_left"]
    assert page_says["labels"][tuple(np.rint(apply(page_says["ct"].ijk_from_ras, left)).astype(int)[::-1])] != 0


@pytest.mark.parametrize("line", code_block("bash", "deepdrr render").splitlines())
def test_every_command_line_is_understood(line):
    from DeepDRRLogic.cli.app import app

    command, *arguments = line.split("#")[0].split()
    assert command == "deepdrr"
    root = get_command(app)
    name, *options = arguments
    understood = root.commands[name].make_context(name, list(options)).params
    assert all(option in str(understood) for option in options if not option.startswith("-"))


def test_importing_the_package_is_quick_and_imports_nothing_heavy():
    heavy = ("numba", "torch", "pycuda", "SimpleITK", "xraylib", "spekpy", "scipy", "pydicom")
    code = f"import sys, DeepDRRLogic; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_every_public_name_can_be_imported():
    import DeepDRRLogic

    for name in DeepDRRLogic.__all__:
        assert getattr(DeepDRRLogic, name) is not None
    with pytest.raises(AttributeError, match="no_such_thing"):
        DeepDRRLogic.no_such_thing  # noqa: B018


def test_the_picture_of_the_readme_is_there():
    for picture in re.findall(r"\]\((Resources/[^)]+|Testing/[^)]+)\)", README):
        assert (Path(__file__).parents[2] / picture).exists(), picture
    assert np.all([len(line) < 400 for line in README.splitlines()])
