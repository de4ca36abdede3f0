"""The checks for a GPU machine, rehearsed on the emulated GPU: no time on a real one goes to their own faults."""

from __future__ import annotations

import contextlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from emulated_gpu import as_the_gpu_of_this_machine, emulated_gpu, emulation
from shapes import centred_affine

from DeepDRRLogic import MaterialVolume
from DeepDRRLogic.once import warn_once
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.volume import CTVolume

TESTING = Path(__file__).parents[1]
NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(scope="module")
def image_check():
    folders = [str(TESTING / "Tools"), str(TESTING / "Benchmarks")]
    sys.path[:0] = folders
    try:
        import image_check

        yield image_check
    finally:
        for folder in folders:
            sys.path.remove(folder)


@pytest.fixture(scope="module")
def torso():
    return phantom(spacing_mm=8.0)


@pytest.fixture(autouse=True)
def small_scenes(image_check, torso, monkeypatch):
    volume = MaterialVolume.from_ct(torso.ct, torso.labels)
    monkeypatch.setattr(image_check, "_torso", lambda: volume)
    monkeypatch.setattr(image_check, "SIZES", ((20, 16), (30, 20)))
    monkeypatch.setattr(image_check, "TIMED_SIZES", ((20, 16),))
    monkeypatch.setattr(image_check, "PARITY_SIZE", (31, 24))
    monkeypatch.setattr(image_check, "BATCHES", (2,))
    monkeypatch.setattr(image_check, "VIEWS", 3)
    monkeypatch.setattr(image_check, "REPETITIONS", 1)
    monkeypatch.setattr(image_check, "SEGMENTED_SHAPE", (24, 32, 32))


@pytest.fixture
def gpu():
    warn_once.cache_clear()
    with emulation(), as_the_gpu_of_this_machine(emulated_gpu()) as found:
        yield found
    warn_once.cache_clear()


def test_series_pass_where_they_are_their_views_and_only_then(image_check, gpu, monkeypatch, capsys):
    assert image_check.check_series()
    assert "| 20×16 " in capsys.readouterr().out
    simulator = image_check.XRaySimulator
    many = simulator.render_many
    monkeypatch.setattr(simulator, "render_many", lambda self, cameras, seed=0: many(self, cameras, seed + 1))
    assert not image_check.check_series()


def test_memory_passes_within_its_limit_and_only_then(image_check, gpu, monkeypatch):
    assert image_check.check_memory(24)
    monkeypatch.setattr(image_check, "MOST_MEMORY", 1.4)
    assert not image_check.check_memory(24)


def test_parity_passes_on_a_ct_and_says_how_many_it_did(image_check, gpu, torso, tmp_path, capsys):
    assert image_check.check_parity([], 60.0) is None
    path = tmp_path / "phantom.nrrd"
    torso.ct.write(path)
    assert image_check.check_parity([path], 60.0)
    assert image_check.check_parity([path, path], -1.0) is None and "worst of 0 of 2 CTs" in capsys.readouterr().out


@NEEDS_TORCH
def test_fast_scatter_is_compared_and_timed(image_check, gpu, monkeypatch, capsys):
    import torch

    from DeepDRRLogic.scatter import on_device

    assert image_check.check_fast_scatter() is None or torch.cuda.is_available()
    handed = property(
        lambda tensor: {"shape": tuple(tensor.shape), "typestr": "<f4", "data": (tensor.data_ptr(), False)}
    )
    monkeypatch.setattr(torch.Tensor, "__cuda_array_interface__", handed)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", object)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(on_device, "gpu_of_torch", lambda: torch.device("cpu"))
    assert image_check.check_fast_scatter()
    text = capsys.readouterr().out
    assert "network: differs from the host by" in text and "| kernel, 20×16, 2 " in text


@NEEDS_TORCH
def test_segmentation_is_timed_and_its_precision_compared(image_check, monkeypatch, capsys):
    import torch

    from DeepDRRLogic.segmentation import running

    if not torch.cuda.is_available():
        assert image_check.check_segmentation(None) is None
    hu = np.full((20, 30, 30), -1000, np.int16)
    hu[:, 4:-4, 4:-4], hu[5:12, 10:20, 10:20] = 40, 700
    small = CTVolume(hu, centred_affine(hu.shape, (1.0, 1.0, 1.0)))
    monkeypatch.setattr(image_check, "phantom", lambda spacing_mm: SimpleNamespace(ct=small))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    monkeypatch.setattr(running, "device_of", lambda name: torch.device("cpu"))
    monkeypatch.setattr(image_check, "SEGMENTED_SECONDS", 1e9)
    monkeypatch.setattr(image_check, "MOST_OTHER_LABELS", 0.01)
    assert image_check.check_segmentation(None)
    assert "in torch.float16" in capsys.readouterr().out


def test_a_ct_on_another_grid_stays_where_it_is(image_check):
    k, j, i = np.indices((10, 12, 14))
    ct = CTVolume((100 * k + 10 * j + i).astype(np.int16), centred_affine((10, 12, 14), (2.0, 3.0, 4.0)))
    other = image_check._resampled(ct, (20, 6, 28))
    assert other.shape == (20, 6, 28) and np.allclose(np.sort(other.corners_ras, 0), np.sort(ct.corners_ras, 0))
