"""Scatter and the grid against it, as the command line adds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import PELVIS, SMALL, THRESHOLD, rendered, run

from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.scatter.montecarlo import MonteCarloScatter

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def veiled(*options: object) -> XRayImage:
    return rendered(*PELVIS, "--no-noise", *options, method=None)


def test_the_command_line_adds_scatter(capsys: pytest.CaptureFixture[str]) -> None:
    without, scattered = veiled(), veiled("--scatter", "kernel")
    assert (scattered.signal > without.signal).all()
    assert scattered.metadata["scatter"]["model"] == "kernel"
    assert run("render", *PELVIS, *SMALL, "--scatter", "fog", "-o", "none.npz") == 2
    assert "kernel, network, network-paper, montecarlo" in " ".join(capsys.readouterr().err.split())


def test_a_grid_takes_scatter_away_and_is_on_record() -> None:
    bare, behind = (veiled("--scatter", "kernel", *grid) for grid in ([], ["--grid", 10]))
    assert bare.metadata["scatter"]["grid"] is None
    assert behind.metadata["scatter"]["grid"]["ratio"] == 10
    assert behind.signal.mean() < 0.8 * bare.signal.mean()


def test_a_sweep_takes_the_grid_along() -> None:
    orbit = ["--frames", 2, "--scatter", "kernel", "--grid", 8, "--movie", "none", "-q", "-o", "orbit"]
    assert run("sweep", *PELVIS, *SMALL, *orbit) == 0
    metadata = json.loads(Path("orbit/frame_0001.png.json").read_text())["metadata"]
    assert metadata["scatter"]["grid"]["ratio"] == 8


def test_a_sweep_by_monte_carlo_does_not_follow_photons_for_its_previews(
    a_ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []

    def estimate(self: MonteCarloScatter, densities: Any, *_: Any) -> float:
        followed.append(densities.shape[-1])
        raise ValueError("no photon today")

    monkeypatch.setattr(MonteCarloScatter, "estimate", estimate)
    orbit = ["--scatter", "montecarlo", "--frames", 2, "-o", "orbit.gif"]
    assert run("sweep", a_ct, *SMALL, *THRESHOLD, *orbit) == 2
    assert followed == [62]
