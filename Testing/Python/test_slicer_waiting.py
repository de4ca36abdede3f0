"""An exposure that takes long: it tells how far it is, can be called off, and is the same as without a watch."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume
from slicer_scene import add_ct, body_hu, make_scene

from DeepDRRLogic.scatter.montecarlo import MonteCarloScatter
from DeepDRRSlicerLib import patient, waiting
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.technique import Technique

SLOW = Technique(noise=False, scatter="montecarlo", device="cpu")


class Bench:
    """A CT, its C-arm, and how long its Monte Carlo takes."""

    def __init__(self, photons):
        self.photons = photons
        self.logic = SceneLogic(make_scene())
        self.ct = add_ct(self.logic.scene, body_hu())
        self.carm = self.logic.carm(volumeNode=self.ct, width=64, height=48, pixel_pitch_mm=5.0)

    def make_scatter(self, name, volumes):
        return MonteCarloScatter(volumes, photons=self.photons, tally=4, device="cpu", progress=self.count)

    def count(self, done, total):
        raise AssertionError("another watch is kept")

    def shoot(self, **watch):
        return self.logic.render(self.ct, None, self.carm, SLOW, **watch)


@pytest.fixture
def bench(monkeypatch):
    made = Bench(4_000)
    monkeypatch.setattr(patient, "make_scatter", made.make_scatter)
    return made


def test_a_shot_that_is_watched_is_the_shot(bench):
    bench.count = lambda done, total: None
    plain = arrayFromVolume(bench.shoot())[0].copy()
    seen = []
    watched = arrayFromVolume(bench.shoot(progress=seen.append))[0]
    np.testing.assert_array_equal(watched, plain)
    assert seen == sorted(seen) and seen[-1] <= 1.0


def test_it_says_how_far_it_is_and_ends_soon_after_it_is_called_off(bench):
    bench.photons = 40_000_000  # minutes
    seen, started = [], time.perf_counter()
    shot = bench.shoot(progress=seen.append, cancelled=lambda: seen[-1] > 0.0)
    assert shot is None and bench.carm.image_node() is None
    assert 0.0 < seen[-1] < 0.5
    assert time.perf_counter() - started < 60.0


def test_where_the_c_arm_is_gone_when_it_is_done_there_is_no_xray(bench):
    images = bench.logic.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    shot = bench.shoot(progress=lambda fraction: bench.carm.remove() if bench.carm.is_valid() else None)
    assert shot is None
    assert bench.logic.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == images


def test_what_goes_wrong_on_either_side_is_raised_and_leaves_nothing_at_work(bench, monkeypatch):
    def closed(fraction):
        raise RuntimeError("the window is gone")

    bench.photons = 40_000_000
    with pytest.raises(RuntimeError, match="the window is gone"):
        bench.shoot(progress=closed)
    monkeypatch.setattr(waiting.exposing, "expose", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.shoot(progress=lambda fraction: None)


def test_a_sweep_with_slow_scatter_can_be_called_off_within_a_picture(bench):
    bench.photons = 40_000_000
    told = []
    recorded = bench.logic.sweep(
        bench.ct, None, bench.carm, SLOW, frames=3, width=32,
        progress=lambda *done: told.append(done), cancelled=lambda: len(told) > 2,
    )  # fmt: skip
    assert recorded is None
    assert told == [(0, 3)] * 3
    assert bench.logic.scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0
