"""What the command line says of its options is said in the names that can be typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL, run

from DeepDRRLogic.image import XRayImage

PELVIS = ["phantom:pelvis", "--phantom-spacing", 10]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kv", 500], "--kv is 500.0; give 20 to 300 kV"),
        (["--filter-mm", 99], "--filter-mm is 99.0"),
        (["--copper-mm", -1], "--copper-mm is -1.0"),
        (["--photons", -1], "--photons is -1.0"),
        (["--photons", 1e30], "--photons = 1e+30"),
        (["--mas", -1], "--mas is -1.0"),
        (["--primary", "nan"], "--primary holds NaN"),
        (["--cran", "nan"], "--secondary holds NaN"),
        (["--roll", "nan"], "--roll holds NaN"),
        (["--isocenter", "nan", 0, 0], "--isocenter holds NaN"),
        (["--source-isocenter-mm", 5000], "--source-isocenter-mm 5000 is not less than --source-detector-mm 1200"),
        (["--pixel-mm", 0], "--pixel-mm is 0"),
        (["--read-from", "above"], "--read-from is 'above'"),
        (["--air-max-hu", 500], "Thresholds --air-max-hu = 500.0 and --bone-min-hu = 350.0"),
        (["--phantom-spacing", 0.1], "--phantom-spacing is 0.1"),
        (["--detector", "energy_bins", "--kv", 60], "raise the tube voltage, or choose another detector."),
        (["--grid", 50, "--scatter", "kernel"], "--grid is 50.0; give 1 to 30"),
        (["--grid", 10], "--grid acts on scatter: choose --scatter, too."),
    ],
)
def test_a_refused_value_is_named_by_its_option(
    options: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", *PELVIS, *SMALL, *options, "-o", "shot.png") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", ["kvp.seg.nrrd", "a/kvp/b.seg.nrrd", "old-kvp.seg.nrrd"])
def test_paths_are_left_as_they_are(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", *PELVIS, "--segmentation", path) == 2
    assert f"There is no {path}: check the path." in capsys.readouterr().err.replace("\\", "/")


def test_every_voltage_that_presets_lists_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("presets") == 0
    listed = re.search(r"\(--kv\).*\n((?:  .*\n)+)", capsys.readouterr().out)
    assert listed is not None
    voltages = [line.split()[0] for line in listed[1].splitlines()]
    assert len(voltages) == 8
    assert run("spectrum", *(word for kv in voltages for word in ("--kv", kv))) == 0


def test_a_grid_takes_scatter_away_and_is_on_record() -> None:
    images = []
    for options in ([], ["--grid", 10]):
        scattered = ["--scatter", "kernel", "--no-noise", *options, "-q", "-o", "shot.npz"]
        assert run("render", *PELVIS, *SMALL, *scattered) == 0
        images.append(XRayImage.load("shot.npz"))
    bare, behind = images
    assert bare.metadata["scatter"]["grid"] is None
    assert behind.metadata["scatter"]["grid"]["ratio"] == 10
    assert behind.signal.mean() < 0.8 * bare.signal.mean()


def test_a_sweep_takes_the_grid_along() -> None:
    import json

    orbit = ["--frames", 2, "--scatter", "kernel", "--grid", 8, "--movie", "none", "-q", "-o", "orbit"]
    assert run("sweep", *PELVIS, *SMALL, *orbit) == 0
    metadata = json.loads(Path("orbit/frame_0001.png.json").read_text())["metadata"]
    assert metadata["scatter"]["grid"]["ratio"] == 8
