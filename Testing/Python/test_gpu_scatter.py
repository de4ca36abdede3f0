"""The Monte Carlo on a GPU, by emulation: held to the CPU's own tests of the physics, and to the CPU."""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import test_scatter as pictures
import test_scatter_physics as physics
import xraylib
from emulated_gpu import emulation, library
from shapes import centred_affine
from test_scatter import IDEAL, SCATTERS, slab, total
from test_scatter_physics import BONE, WATER, camera, reduced_chi_square

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.projector.cuda.gpu import Gpu
from DeepDRRLogic.scatter import running, transport
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.cuda import host
from DeepDRRLogic.scatter.cuda.scene import DeviceScene
from DeepDRRLogic.scatter.montecarlo import CancelledError, simulate
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

SPECTRUM = Spectrum.preset("90kV")
DRAWS = 100_000


@pytest.fixture(scope="module", autouse=True)
def gpu():
    """A machine where "auto" is the GPU, and the CPU does not take over unasked."""

    def refuse(error):
        raise AssertionError(f"the GPU did not do it: {error}")

    with emulation(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pycuda", None)
        patch.setitem(sys.modules, "pycuda.driver", None)
        patch.setattr(running, "_warn", refuse)
        Gpu.primary.cache_clear()
        yield Gpu.primary()
    Gpu.primary.cache_clear()


def run_of(monkeypatch, *args, **settings):
    """The run that `simulate` would carry out."""
    runs = []

    def keep(run, *others):
        runs.append(run)
        return []

    with monkeypatch.context() as patch, pytest.raises(CancelledError):
        patch.setattr("DeepDRRLogic.scatter.montecarlo.carry_out", keep)
        simulate(*args, **settings)
    return runs[0]


@pytest.fixture
def tables_on(gpu, monkeypatch):
    """A scene of water and bone with these cross sections, as the kernels are given it, and its run."""
    scenes = []

    def upload(tables=physics.TABLES, **settings):
        run = run_of(monkeypatch, slab(2, bone=True), camera(), SPECTRUM, IDEAL, interactions=tables, **settings)
        with gpu.active():
            scenes.append(DeviceScene(gpu, run))
        return np.array(scenes[-1].numbers), run

    return upload


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def cosines_drawn(scene, kind, number, energy, count=DRAWS):
    drawn = np.empty(count, np.float32)
    library().sampled_cosines(
        pointer(scene), int(kind == "compton"), number, ctypes.c_float(energy), count, ctypes.c_ulonglong(7),
        pointer(drawn),
    )  # fmt: skip
    return drawn


def numbers_of(photon, seed=1, count=DRAWS):
    out = np.empty(count, np.float32)
    library().numbers_between_0_and_1(count, ctypes.c_ulonglong(seed), ctypes.c_ulonglong(photon), pointer(out))
    return out.astype(np.float64)


def test_a_photons_numbers_are_its_own_uniform_and_independent():
    one = numbers_of(0)
    assert one.min() > 0.0 and one.max() < 1.0
    counts, _ = np.histogram(one, 64, (0.0, 1.0))
    assert ((counts - DRAWS / 64) ** 2 / (DRAWS / 64)).sum() / 63 < 1.6
    others = [*map(numbers_of, (1, 2**32, 2**63)), numbers_of(0, seed=2), np.roll(one, 1), np.roll(one, 4)]
    for other in others:
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / math.sqrt(DRAWS)


@pytest.mark.parametrize("energy", [15.0, 33.3, 120.0])
@pytest.mark.parametrize("number", [0, 1])
def test_angular_distributions_are_those_of_the_cpu(tables_on, number, energy):
    scene, run = tables_on()
    cosines = np.linspace(-1.0, 1.0, 2001, dtype=np.float32)
    rayleigh, compton = np.empty_like(cosines), np.empty_like(cosines)
    library().angular_factors(
        pointer(scene), number, ctypes.c_float(energy), pointer(cosines), cosines.size, pointer(rayleigh),
        pointer(compton),
    )  # fmt: skip
    index, fraction = transport.place(run.physics, energy)
    norms = [
        transport.between(table[number], index, fraction)
        for table in (run.physics.rayleigh_norm, run.physics.compton_norm)
    ]
    expected = [transport.rayleigh_factor(run.physics, number, energy, float(c)) / norms[0] for c in cosines]
    assert np.allclose(rayleigh, expected, rtol=1e-4)
    expected = [transport.compton_factor(run.physics, number, energy, float(c))[0] / norms[1] for c in cosines]
    assert np.allclose(compton, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("energy", [20.0, 60.0, 120.0])
def test_without_binding_compton_scattering_follows_klein_and_nishina(tables_on, energy):
    scene, _ = tables_on(physics.TABLES.free_electrons())
    drawn = cosines_drawn(scene, "compton", 0, energy)
    klein_nishina = np.vectorize(lambda c: xraylib.DCS_KN(energy, math.acos(c)))
    assert reduced_chi_square(drawn, klein_nishina) < physics.HIGHEST_CHI_SQUARE


@pytest.mark.parametrize(("number", "one"), [(0, WATER), (1, BONE)])
@pytest.mark.parametrize("energy", [25.0, 80.0])
@pytest.mark.parametrize("kind", ["compton", "rayleigh"])
def test_deflections_follow_s_and_the_form_factors(tables_on, kind, energy, number, one):
    drawn = cosines_drawn(tables_on()[0], kind, number, energy, physics.DRAWS)
    chi_square = reduced_chi_square(drawn, lambda c: physics.differential(one, kind, energy, c))
    assert chi_square < physics.HIGHEST_CHI_SQUARE


@pytest.mark.parametrize("direction", [(0.6, 0.0, 0.8), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (-0.48, 0.64, -0.6)])
def test_a_deflection_turns_by_its_angle_to_all_sides(direction):
    turned = np.empty((20_000, 3), np.float32)
    given = np.array(direction, np.float32)
    library().turned(pointer(given), ctypes.c_float(0.4), len(turned), ctypes.c_ulonglong(1), pointer(turned))
    assert np.allclose(np.linalg.norm(turned, axis=1), 1.0, atol=1e-5)
    assert np.allclose(turned @ given, 0.4, atol=1e-5)
    # The azimuth is uniform: what is across the direction averages out.
    assert np.allclose(turned.mean(axis=0), 0.4 * given, atol=4 / math.sqrt(2 * len(turned)))


@pytest.mark.parametrize("lines", ["u", "v"])
def test_the_grid_lets_through_what_it_does_on_the_cpu(tables_on, lines):
    scene, run = tables_on(grid=AntiScatterGrid(ratio=8, interspace="aluminium", lines=lines))
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(500, 3)) * (0.3, 0.3, 0.2) + (0, 0, 0.6)
    rays = np.concatenate([rng.random((500, 2)), directions / np.linalg.norm(directions, axis=1)[:, None]], axis=1)
    rays = rays.astype(np.float32)
    found = np.empty(len(rays), np.float32)
    library().grid_transmissions(pointer(scene), 590, pointer(rays), len(rays), pointer(found))
    expected = [transport.strip_transmission(run.panel, 590, *map(float, ray)) for ray in rays]
    assert np.allclose(found, expected, rtol=2e-3, atol=1e-5)
    assert 0.05 < np.max(expected) <= 1.0


def by_the_gpus_numbers(monkeypatch, run):
    """What the CPU makes of the photons of a run, (photons, ...), with the random numbers of the GPU for each."""
    for name in ("sample_compton", "sample_rayleigh", "deflected", "fly", "_emit", "_detect", "run_batch"):
        monkeypatch.setattr(transport, name, getattr(transport, name).py_func)
    monkeypatch.setattr(transport, "uniform", next)
    seed = int(np.random.SeedSequence(run.seed).generate_state(1, np.uint64)[0])
    body = running._weighed(run, 1) if run.forced else run.body
    tallies, ledgers = np.zeros((run.photons, 4, *run.shape)), np.zeros((run.photons, 5 + len(body.peak)))
    for photon, (tally, ledger) in enumerate(zip(tallies, ledgers, strict=True)):
        drawn = map(float, numbers_of(photon, seed, 20_000))
        transport.run_batch(
            body, run.physics, run.panel, run.energies, run.cumulative, 1, run.forced, drawn, tally, ledger
        )
    return tallies, ledgers


def an_oblique_slab():
    turn = np.array([[math.cos(0.4), -math.sin(0.4), 0], [math.sin(0.4), math.cos(0.4), 0], [0, 0, 1.0]])
    volume = slab(12, 30, bone=True)
    density = volume.density_g_cm3 * np.linspace(0.3, 1.5, 30, dtype=np.float32)
    affine = centred_affine(volume.shape, (10.0,) * 3, (20, 10, 850), turn)
    return MaterialVolume(density, volume.labels, volume.materials, affine)


def test_voxels_are_worth_what_they_are_on_the_cpu(gpu, monkeypatch):
    run = run_of(monkeypatch, an_oblique_slab(), camera(), SPECTRUM, IDEAL, voxel_mm=None)
    with gpu.active():
        scene = DeviceScene(gpu, run)
    host.weigh(gpu, scene, run)
    assert np.allclose(scene._arrays["worth"].get(), running._weighed(run, 2).worth, rtol=0.02)


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


def a_patient():
    torso = phantom(spacing_mm=5.0)
    volume = MaterialVolume.from_ct(torso.ct, torso.labels)
    arm = CArm(isocenter_ras_mm=tuple(volume.center_ras), width=310, height=240, pixel_pitch_mm=1.2)
    return volume, arm.with_angles(20, 10).camera()


@pytest.mark.parametrize(
    ("photons", "settings"),
    [(2000, dict(forced=0)), (500, dict(forced=8)), (500, dict(forced=8, grid=AntiScatterGrid(ratio=8)))],
    ids=["analogue", "forced", "behind a grid"],
)
@pytest.mark.parametrize("name", ["oblique", "patient"])
def test_given_the_same_numbers_every_photon_goes_the_way_it_goes_on_the_cpu(gpu, monkeypatch, name, photons, settings):
    """To the last scattering; but for a few that rounding to float may send elsewhere."""
    scene = {"oblique": lambda: (an_oblique_slab(), camera(250.0)), "patient": a_patient}[name]()
    run = run_of(
        monkeypatch, *scene, SPECTRUM, Detector.csi_flat_panel(), photons=photons, batches=photons, tally=2,
        voxel_mm=10.0, seed=5, **settings,
    )  # fmt: skip
    there = host.run_on_gpu(run, gpu, None, lambda: False)
    tallies, ledgers = by_the_gpus_numbers(monkeypatch, run)
    same = [
        np.allclose(batch.ledger, ledger, rtol=1e-4, atol=1e-5 * ledger[0])
        and np.allclose(batch.found, tally, rtol=0.01, atol=1e-5 * tally.max())
        for batch, ledger, tally in zip(there, ledgers, tallies, strict=True)
    ]
    assert np.mean(same) > 0.99
    assert (tallies.sum(axis=(0, 2, 3, 4)) > 0.0).all()  # the primary, and scattering of every kind


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
                "follow", (4000, 1, 1), host.BLOCK, scene.numbers, np.uint64(1), np.uint64(first), np.uint32(4000),
                *pointers, ptx=host.PTX,
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
