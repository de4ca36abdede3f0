"""What the command line refuses is said in one line, in the names that can be typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import PAPER, PELVIS, SMALL, run

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


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
def test_paths_are_left_as_they_are(a_ct: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, "--segmentation", path) == 2
    assert f"There is no {path}: check the path." in capsys.readouterr().err.replace("\\", "/")


BAD_INPUT: list[tuple[list[Any], str]] = [
    (["--preset", "toy"], "Unknown C-arm preset 'toy'; known are radiography_room"),
    (["--view", "sideways"], "Unknown view 'sideways'; known are ap, pa"),
    (["--preset", "biplane_frontal", "--lao", 150], "cannot reach this position"),
    (["--lao", 10, "--rao", 10], "--lao and --rao say the same angle"),
    (["--kv", 500], "500"),
    (["--photons", 10, "--mas", 1], "--photons and --mas both set"),
    (["--photons", -5], "-5"),
    (["--detector", "film"], "Unknown detector 'film'"),
    (["--window", "thorax"], "Unknown window 'thorax'"),
    (["--window", "4,x"], "give a name, or CENTER,WIDTH"),
    (["--polarity", "grey"], "'bones_bright' or 'bones_dark'"),
    (["--collimator", "hexagon:3"], "circle:80mm"),
    (["--collimator", "circle:9px@900,20"], "leaves no pixel of the 620×480 detector open"),
    (["--size", "big"], "give pixels such as 620x480"),
    (["--size", "100x100"], "would squeeze the detector's 620×480 pixels; give --size 100x77"),
    (["--bits", 12], "give 8 or 16"),
    (["--device", "abacus"], "abacus"),
    (["--segmentation", "missing.seg.nrrd"], "missing.seg.nrrd"),
    (["--segmentation", "a.seg.nrrd", "--method", "vnet"], "read from --segmentation: leave out --method"),
    (["--segmentation", "a.seg.nrrd", "--keep-table"], "read from --segmentation: leave out --keep-table"),
    (["--kv", 60, "--detector", "energy_bins"], "Channel '75 keV and up' of the detector 'energy_bins' sees none"),
    (["-o", "shot.bmp"], "must end in one of .png"),
    (["-o", "nowhere/shot.png"], "create it first"),
]


@pytest.mark.parametrize(("options", "message"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_ends_with_one_line_and_code_2(
    a_ct: Path, options: list[Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("render", a_ct, *PAPER, *options) == 2
    shown = capfd.readouterr()
    # Nothing was segmented before: it takes long, and warns where there is no PyTorch.
    (line,) = shown.err.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert not shown.out
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["phantom:pelvis:chest"], "says the same twice; give phantom:REGION:SEED"),
        (["phantom:1:2"], "says the same twice"),
        (["phantom:chest:x"], "'x' is neither a region (torso, chest, pelvis) nor a seed, a whole number from 0"),
        (["phantom:chest:-1"], "'-1' is neither a region"),
        (["phantom", "--hu-offset", 0], "The phantom is no file: leave out --hu-offset"),
    ],
)
def test_a_phantom_takes_no_more_words_than_it_has(
    words: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", *words, *SMALL) == 2
    assert message in capsys.readouterr().err
