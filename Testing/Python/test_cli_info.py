"""The commands that only tell: info, presets and spectrum."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def test_info_reports_what_the_ct_is(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", a_ct) == 0
    shown = capsys.readouterr().out
    assert "40 × 40 × 40" in shown
    assert "3.000 × 3.000 × 3.000 mm" in shown
    assert "LPS" in shown


def test_presets_lists_every_name_the_options_take(capsys: pytest.CaptureFixture[str]) -> None:
    from DeepDRRLogic.carm_presets import carm_presets, carm_views
    from DeepDRRLogic.detector import detector_names
    from DeepDRRLogic.display import window_presets
    from DeepDRRLogic.materials import material_names
    from DeepDRRLogic.spectrum import spectrum_presets

    assert run("presets") == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    for names in (
        carm_presets(),
        carm_views(),
        [name.removesuffix("kV") for name in spectrum_presets()],
        detector_names(),
        window_presets(),
        material_names(),
    ):
        assert set(names) <= listed


def test_every_voltage_that_presets_lists_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("presets") == 0
    listed = re.search(r"\(--kv\).*\n((?:  .*\n)+)", capsys.readouterr().out)
    assert listed is not None
    voltages = [line.split()[0] for line in listed[1].splitlines()]
    assert len(voltages) == 8
    assert run("spectrum", *(word for kv in voltages for word in ("--kv", kv))) == 0


def test_spectrum_writes_a_table_and_a_plot_of_the_spectra_it_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    from DeepDRRLogic.spectrum import Spectrum

    assert run("spectrum", "--kv", 60, "--kv", 120, "-o", "s.csv", "-o", "s.png") == 0
    shown = capsys.readouterr().out
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("60kV", "120kV"):
        one = Spectrum.preset(name)
        assert f"{one.mean_energy_kev:.2f}" in shown
        assert f"{one.half_value_layer_mm():.2f}" in shown
        bins = [(float(r["energy_kev"]), float(r["photons"])) for r in rows if r["spectrum"] == one.description]
        assert np.array_equal(np.array(bins).T, [one.energies_kev, one.photons])
    with Image.open("s.png") as plot:
        assert plot.width > 800 and len(plot.convert("RGB").getcolors(1 << 24)) > 20


def test_spectrum_refuses_other_files_before_it_computes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spectrum", "-o", "s.pdf") == 2
    assert "give a .png for a plot or a .csv" in capsys.readouterr().err
