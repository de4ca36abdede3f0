"""Runs of the Monte Carlo on a GPU, by emulation: held to the CPU's own tests of the physics, and to the CPU."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import test_scatter as pictures
import test_scatter_physics as physics
from emulated_gpu import library
from scatter_on_gpu import a_machine_with_a_gpu, a_patient, an_oblique_slab, run_of
from test_scatter import IDEAL, SCATTERS, slab, total
from test_scatter_physics import WATER, camera

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.cuda import host
from DeepDRRLogic.scatter.cuda.scene import DeviceScene
from DeepDRRLogic.scatter.montecarlo import CancelledError, simulate
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

SPECTRUM = Spectrum.preset("90kV")


@pytest.fixture(scope="module", autouse=True)
def gpu():
    with a_machine_with_a_gpu() as found:
        yield found


def test_the_primary_is_the_analytic_one_within_one_percent_and_within_its_error_bars():
    pictures.test_the_primary_is_the_analytic_one_within_one_percent_and_within_its_error_bars(SPECTRUM)


def test_the_primary_agrees_with_the_exact_projector_through_oblique_voxels():
    pictures.test_the_primary_agrees_with_the_exact_projector_through_oblique_voxels()


@pytest.mark.parametrize("kind", ["compton", "rayleigh"])
def test_single_scattering_of_a_small_ball_is_the_integral_over_it(kind):
    physics.test_single_scattering_of_a_small_ball_is_the_integral_over_it(kind)


def test_the_energy_left_in_a_body_is_that_of_aapm_task_group_195():
    physics.test_the_energy_left_in_a_body_is_that_of_aapm_task_group_195()


@pytest.mark.parametrize(("thickness_cm", "low", "high"), [(10, 1.0, 2.0), (20, 2.4, 5.0), (30, 4.5, 10.0)])
def test_scatter_to_primary_ratios_of_water_lie_where_they_have_been_measured(thickness_cm, low, high):
    assert low < pictures.scatter_to_primary(thickness_cm, 90.0) < high


def test_an_empty_beam_scatters_nothing_and_its_primary_is_one():
    pictures.test_an_empty_beam_scatters_nothing_and_its_primary_is_one(4)


def test_error_bars_tell_the_spread_between_runs():
    pictures.test_error_bars_tell_the_spread_between_runs()


@pytest.mark.parametrize("forced", [0, 8])
def test_energy_is_conserved(forced):
    result = simulate(slab(10, 20, bone=True), camera(), SPECTRUM, IDEAL, photons=20_000, forced=forced, tally=4)
    emitted, absorbed, recoil, escaped, roulette = result.ledger[:5]
    assert absorbed + recoil + escaped + roulette == pytest.approx(emitted, rel=1e-6)
    assert result.ledger[5:].sum() == pytest.approx(absorbed + recoil, rel=1e-9)
    assert (roulette == 0.0) == (forced == 0)


SCENES = {
    "slab, analogue": (lambda: (slab(10, 30, bone=True), camera(250.0)), IDEAL, 200_000, dict(forced=0)),
    "slab behind a grid": (
        lambda: (slab(20, 40), camera(300.0)), Detector.csi_flat_panel(), 25_000,
        dict(grid=AntiScatterGrid(ratio=8, interspace="aluminium"), field=(0.1, 0.2, 0.8, 0.9)),
    ),
    "oblique, in bins": (
        lambda: (an_oblique_slab(), camera(250.0)),
        Detector.energy_bins((20.0, 50.0, math.inf), absorber=None), 25_000, {},
    ),
    "patient": (a_patient, Detector.csi_flat_panel(), 15_000, dict(voxel_mm=10.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
def test_pictures_are_those_of_the_cpu_within_their_error_bars(name):
    scene, detector, photons, settings = SCENES[name]
    settings = dict(photons=photons, voxel_mm=None) | settings
    args = (*scene(), SPECTRUM, detector)
    # One pixel tells the error of the total: pixels of one batch are not independent.
    (whole, pixels), (its_whole, its_pixels) = (
        [simulate(*args, device=device, seed=3 * seed + tally, tally=tally, **settings) for tally in (1, 4)]
        for seed, device in enumerate(("cpu", "cuda"))
    )
    assert np.allclose(whole.ledger[:4] / whole.photons, its_whole.ledger[:4] / its_whole.photons, rtol=0.04)
    for component in ("primary", *SCATTERS):
        (one, error), (two, other) = total(whole, component), total(its_whole, component)
        assert abs(one - two) < 4 * math.hypot(error, other)
        assert math.hypot(error, other) < (0.2 if component == "primary" else 0.07) * one  # or it would mean little
        mean = pixels.mean(component)
        seen = mean > 0.01 * mean.max(axis=(1, 2), keepdims=True)
        error = np.hypot(pixels.standard_error(component), its_pixels.standard_error(component))
        pulls = (mean - its_pixels.mean(component))[seen] / error[seen]
        assert np.sqrt(np.mean(pulls**2)) < 1.6


def small(**settings):
    return simulate(slab(5, 20), camera(), SPECTRUM, IDEAL, **(dict(photons=4_000, tally=4) | settings))


def test_a_seed_gives_one_result_whatever_the_launches(monkeypatch):
    one = small(seed=3)
    assert np.array_equal(one.sums, small(seed=3).sums)
    assert not np.allclose(one.sums, small(seed=4).sums)
    monkeypatch.setattr(host, "FIRST_LAUNCH", 300)
    monkeypatch.setattr(host, "LARGEST_LAUNCH", 700)
    again = small(seed=3)
    assert np.allclose(one.sums, again.sums, rtol=1e-12) and np.allclose(one.squares, again.squares, rtol=1e-12)


def test_photons_are_numbered_beyond_32_bits(gpu, monkeypatch):
    run = run_of(monkeypatch, slab(5, 20), camera(), SPECTRUM, IDEAL, tally=4)
    with gpu.active():
        scene = DeviceScene(gpu, run)

    def primary(first):
        with gpu.active():
            tally, ledger = (gpu.zeros((40, size), np.float64) for size in (4 * 16 * 4, 7))
            pointers = tally.pointer, ledger.pointer
            gpu.launch(
                host.PTX, "follow", (4000, 1, 1), host.BLOCK, scene.numbers, np.uint64(1), np.uint64(first),
                np.uint32(4000), *pointers,
            )  # fmt: skip
        return tally.get()[:, :64].sum(axis=0)

    near, far, over = primary(0), primary(2**40), primary(2**32 - 2000)
    assert not np.array_equal(near, far)
    assert far.sum() == pytest.approx(near.sum(), rel=0.15) and over.sum() == pytest.approx(near.sum(), rel=0.15)


def test_progress_counts_photons_and_what_was_followed_before_a_stop_counts(monkeypatch):
    monkeypatch.setattr(host, "FIRST_LAUNCH", 1010)
    monkeypatch.setattr(host, "LARGEST_LAUNCH", 1010)
    told = []
    part = small(progress=lambda *now: told.append(now), cancelled=lambda: len(told) >= 2)
    assert told == [(1010, 4000), (2020, 4000)]
    assert part.photons == 2020 and part.batches == 40
    assert part.signal("primary").mean() == pytest.approx(small().signal("primary").mean(), rel=0.2)
    with pytest.raises(CancelledError):
        small(cancelled=lambda: True)


def test_launches_are_made_to_take_a_quarter_of_a_second():
    assert host.next_size(10_000, 1.0) == 2_500
    assert host.next_size(10_000, 0.125) == 20_000
    assert host.next_size(10_000, 1e-9) == 40_000
    assert host.next_size(10_000, 1e9) == host.BLOCK[0]
    assert host.next_size(host.LARGEST_LAUNCH, 0.1) == host.LARGEST_LAUNCH


def test_runs_of_gpu_and_cpu_add_up():
    both = small(seed=1) + small(seed=2, device="cpu")
    assert both.photons == 8_000 and both.batches == 80


def test_no_memory_is_left_behind(gpu):
    small()
    before = library().emulated_used_bytes()
    for seed in range(3):
        small(seed=seed)
    assert library().emulated_used_bytes() == before


def test_more_materials_than_the_kernels_take_are_left_to_the_cpu():
    materials = tuple(replace(WATER, name=f"water {number}") for number in range(17))
    shape = (2, 2, 2)
    volume = MaterialVolume(
        np.ones(shape, np.float32), np.zeros(shape, np.uint8), materials, np.diag([10, 10, 10, 1.0])
    )
    with pytest.raises(AssertionError, match="16 materials, not 17"):
        simulate(volume, camera(), Spectrum.monoenergetic(20.0), IDEAL)
