"""The networks of scatter: their weights and layers, and the photons they find behind water."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from test_scatter import slab
from test_scatter_models import IDEAL, NEEDS_TORCH, scatter_of
from test_scatter_physics import camera

from DeepDRRLogic import Spectrum
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.scatter import network, paper
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.scatter.network import NetworkScatter


@NEEDS_TORCH
def test_weights_are_small():
    folder = Path(network.__file__).parents[1] / "data" / "scatter"
    sizes = [(folder / name).stat().st_size for name in (network.WEIGHTS, paper.WEIGHTS)]
    assert sum(sizes) < 5_000_000


@NEEDS_TORCH
@pytest.mark.parametrize("stored", [network.stored_network, paper.stored_paper_network])
def test_weights_are_checked_before_they_are_used(stored, monkeypatch):
    stored.cache_clear()
    monkeypatch.setattr(network, "checksum", lambda name: "0" * 64)
    with pytest.raises(ValueError, match="damaged"):
        stored()
    stored.cache_clear()


@NEEDS_TORCH
def test_the_network_of_the_paper_has_its_ten_layers_and_they_do_what_they_say():
    import torch

    from DeepDRRLogic.scatter import convnet

    net = paper.stored_paper_network()
    assert len(net.local) == 6 and len(net.smoothing) == 4
    pictures = torch.from_numpy(np.random.default_rng(0).random((2, 2, 128, 128), np.float32))
    kernel = convnet.unfolded((convnet.GAIN * net.smoothing[0].quarter).exp())
    assert kernel.shape == (2, 31, 31)
    with torch.inference_mode():
        directly = torch.nn.functional.conv2d(pictures, kernel[:, None], padding=15, groups=2)
        assert torch.allclose(net.smoothing[0](pictures), directly, rtol=1e-4)
        seen = torch.rand(1, len(convnet.CHANNELS), 40, 40, generator=torch.Generator().manual_seed(0))
        for turn in (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.rot90(1, (2, 3))):
            assert torch.allclose(net(turn(seen)), turn(net(seen)), rtol=1e-3)


def test_without_torch_the_network_names_the_remedy(monkeypatch):
    network.stored_network.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ValueError, match="kernel"):
        network.stored_network()
    network.stored_network.cache_clear()


def of_the_monte_carlo(model, spectrum, detector, gap_mm, side_cm=60):
    """Photons of every channel in the middle of a view of 15 cm of water, in units of the Monte Carlo's."""
    volume, view = slab(15, side_cm, exit_mm=1000.0 - gap_mm), camera(300.0)
    truth = simulate(volume, view, spectrum, detector, photons=20_000, tally=4, voxel_mm=None, threads=1).exposure()
    found = scatter_of(model, volume, view, spectrum, detector)
    inner = slice(found.photons.shape[1] // 4, -found.photons.shape[1] // 4)
    return found.photons[:, inner, inner].mean(axis=(1, 2)) / truth.photons[:, 1:3, 1:3].mean(axis=(1, 2))


@NEEDS_TORCH
@pytest.mark.parametrize("gap_mm", [50.0, 300.0])
@pytest.mark.parametrize("beam", ["80kV", "120kV", 40.0, 60.0, 100.0], ids=str)
def test_behind_water_the_network_finds_the_photons_of_the_monte_carlo(beam, gap_mm):
    spectrum = Spectrum.preset(beam) if isinstance(beam, str) else Spectrum.monoenergetic(beam)
    assert of_the_monte_carlo(NetworkScatter, spectrum, IDEAL, gap_mm) == pytest.approx(1.0, abs=0.2)


@NEEDS_TORCH
def test_the_network_finds_them_in_every_channel():
    detector = Detector.energy_bins((20.0, 45.0, 65.0, math.inf), absorber=None)
    found = of_the_monte_carlo(NetworkScatter, Spectrum.preset("120kV"), detector, 100.0)
    assert found == pytest.approx(np.ones(3), abs=0.3)


@NEEDS_TORCH
def test_what_the_network_does_not_know_is_said(caplog):
    scatter_of(NetworkScatter, slab(4, 20), camera(300.0))
    assert "trained on" not in caplog.text
    scatter_of(NetworkScatter, slab(4, 20), camera(900.0))
    scatter_of(NetworkScatter, slab(4, 20), camera(300.0), Spectrum.monoenergetic(200.0))
    assert "A detector of 900 mm is beyond" in caplog.text
    assert "A mean energy of 200 keV is beyond" in caplog.text
