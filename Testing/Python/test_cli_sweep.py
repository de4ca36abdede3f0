"""`deepdrr sweep`: frames, movies, and what is refused before any time is spent."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import SMALL, THRESHOLD, run
from PIL import Image

from DeepDRRLogic.cli import scene
from DeepDRRLogic.geometry import Camera

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_a_sweep_writes_frames_and_a_movie_with_one_window(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orbit = ["--from", -60, "--to", 60, "--frames", 5, "--fps", 10, "-o", "orbit"]
    assert run("sweep", a_ct, *SMALL, "--method", "threshold", *orbit) == 0
    frames = [Path("orbit") / f"frame_{number:04d}.png" for number in range(5)]
    assert capsys.readouterr().out.split() == [*map(str, frames), str(Path("orbit/sweep.gif"))]
    windows, angles, turned = set(), [], []
    for frame in frames:
        sidecar = json.loads(frame.with_name(frame.name + ".json").read_text())
        windows.add((sidecar["content"]["window_center"], sidecar["content"]["window_width"]))
        axis = Camera.from_dict(sidecar["camera"]).principal_axis_ras
        turned.append(sidecar["metadata"]["carm"]["primary_angle_deg"])
        angles.append(np.degrees(np.arctan2(-axis[0], axis[1])))
    assert len(windows) == 1
    np.testing.assert_allclose(angles, [-60, -30, 0, 30, 60], atol=1e-9)
    assert turned == [-60, -30, 0, 30, 60]
    with Image.open("orbit/sweep.gif") as movie, Image.open(frames[3]) as still:
        assert (movie.n_frames, movie.size, movie.info["duration"]) == (5, (62, 48), 100)
        movie.seek(3)
        shown, expected = np.asarray(movie.convert("L")), np.asarray(still) / 257
        assert np.abs(shown - expected).max() <= 1


def test_a_sweep_into_a_movie_leaves_nothing_else(a_ct: Path) -> None:
    orbit = ["--axis", "secondary", "--from", -20, "--to", 20, "--frames", 3, "-o", "orbit.gif"]
    assert run("sweep", a_ct, *SMALL, *THRESHOLD, *orbit) == 0
    assert [path.name for path in Path().iterdir()] == ["orbit.gif"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "orbit.avi"], "neither a .gif nor an .mp4"),
        (["-o", "orbit.gif", "--fps", 200], "from 0.01 to 50"),
        (["-o", "orbit.gif", "--fps", 0.001], "from 0.01 to 50"),
        (["-o", "orbit.gif", "--movie", "mp4"], "--movie mp4 is for a folder"),
        (["-o", "orbit", "--movie", "avi"], "give gif, mp4 or none"),
        (["-o", "orbit.gif", "--axis", "roll"], "give primary or secondary"),
        (["-o", "orbit.gif", "--lao", 3], "--lao fixes the angle"),
        (["-o", "orbit.gif", "--collimator", "circle:9px@90,2"], "leaves no pixel of the 62×48 detector open"),
        (["-o", "nowhere/orbit"], "create it first"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_the_materials_are_separated(
    a_ct: Path,
    options: list[Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scene, "patient", lambda *_: pytest.fail("materials were separated"))
    assert run("sweep", a_ct, *SMALL, "--frames", 3, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_an_mp4_is_refused_before_the_ct_is_read_where_its_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert run("sweep", "no_such_ct.nrrd", "-o", "orbit.mp4") == 2
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err
