"""What the panel does where Python packages are missing: it says so, offers them, and waits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import dependencies, exposing


@pytest.fixture
def bare(bench, monkeypatch):
    """A Slicer without the simulator's packages: `install` has them, once `refused` is cleared."""
    bare = SimpleNamespace(missing=["xraylib>=4.2"], refused=[True], asked=[])

    def install(lines, ask):
        bare.asked.append(list(lines))
        if bare.refused:
            raise ValueError("the user said no")
        bare.missing.clear()

    def expose(*arguments, **options):
        if bare.missing:
            raise ModuleNotFoundError("No module named 'xraylib'")
        return real(*arguments, **options)

    real = exposing.expose
    monkeypatch.setattr(exposing, "expose", expose)
    monkeypatch.setattr(dependencies, "missing", lambda: list(bare.missing))
    monkeypatch.setattr(dependencies, "install", install)
    monkeypatch.setattr(bench.panel, "_has_simulator", False)
    return bare


def test_without_its_packages_live_waits_and_adding_an_arm_offers_them(bench, bare, chest_file):
    ct = bench.load(chest_file)
    bench.set_live(True)
    mouse.choose(bench.ui.layoutSelector, "X-ray workplace")
    bench.press("addCarmButton")
    assert bare.asked == [["xraylib>=4.2"]] and bench.message == "the user said no"
    bench.parameters.carm = bench.logic.carm(volumeNode=ct, width=64, height=64).root  # as a saved scene brings one
    mouse.settle(200)
    assert bench.carm.image_node() is None
    assert "packages" in bench.ui.statusLabel.text and "Shoot" in bench.ui.statusLabel.text
    bare.refused.clear()
    bench.press("addCarmButton")
    assert bench.message == ""
    bench.wait_for_full_quality()


def test_every_button_that_makes_an_xray_offers_the_packages(bench, bare, chest_file, tmp_path):
    bench.load(chest_file)
    bench.parameters.carm = bench.logic.carm(volumeNode=bench.parameters.ctVolume, width=64, height=64).root
    image = bench.logic.imageOf(bench.carm)
    slicer.util.updateVolumeFromArray(image, np.zeros((1, 64, 64), np.float32))
    bench.panel.update()
    bench.ui.exportPath.currentPath = str(tmp_path / "chest.png")
    buttons = ("shootButton", "sweepButton", "segmentButton", "exportButton", "phantomButton")
    for count, button in enumerate(buttons):
        bench.press(button)
        assert len(bare.asked) == count + 1, button
        assert bench.message == "the user said no", button
    bench.ui.exportPath.currentPath = ""


def test_scatter_by_a_network_offers_pytorch_when_it_is_chosen_and_when_it_is_needed(aimed, monkeypatch):
    asked, absent = [], [True]

    def install_torch(what, instead):
        asked.append((what, instead))
        raise ValueError("the user said no")

    monkeypatch.setattr(dependencies, "torch_is_missing", lambda: bool(absent))
    monkeypatch.setattr(dependencies, "install_torch", install_torch)
    aimed.open("xraySection")
    mouse.choose(aimed.ui.scatterSelector, "kernel")
    assert asked == []
    mouse.choose(aimed.ui.scatterSelector, "network")
    assert asked == [("Scatter by a network", "choose the scatter 'kernel'")]
    assert aimed.message == "the user said no"
    assert aimed.parameters.technique.scatter == "none"
    aimed.parameters.technique.scatter = "network-paper"  # as a saved scene brings it
    for count, button in enumerate(("shootButton", "sweepButton"), start=2):
        aimed.press(button)
        assert len(asked) == count and aimed.message == "the user said no"
    absent.clear()
    mouse.choose(aimed.ui.scatterSelector, "network")
    assert len(asked) == 3 and aimed.message == ""
    assert aimed.parameters.technique.scatter == "network"
