"""The Monte Carlo on a GPU, by emulation: its parts, and each photon's way, are held to those of the CPU."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
import test_scatter_physics as physics
import xraylib
from emulated_gpu import library
from scatter_on_gpu import a_machine_with_a_gpu, a_patient, an_oblique_slab, pointer, run_of
from test_scatter import IDEAL, slab
from test_scatter_physics import BONE, WATER, camera, reduced_chi_square

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.scatter import running, transport
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.cuda import host
from DeepDRRLogic.scatter.cuda.scene import DeviceScene
from DeepDRRLogic.spectrum import Spectrum

SPECTRUM = Spectrum.preset("90kV")
DRAWS = 100_000


@pytest.fixture(scope="module", autouse=True)
def gpu():
    with a_machine_with_a_gpu() as found:
        yield found


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


def test_voxels_are_worth_what_they_are_on_the_cpu(gpu, monkeypatch):
    run = run_of(monkeypatch, an_oblique_slab(), camera(), SPECTRUM, IDEAL, voxel_mm=None)
    with gpu.active():
        scene = DeviceScene(gpu, run)
    host.weigh(gpu, scene, run)
    assert np.allclose(scene._arrays["worth"].get(), running._weighed(run, 2).worth, rtol=1e-3)


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


@pytest.mark.parametrize(
    ("photons", "settings"),
    [(10_000, dict(forced=0)), (1000, dict(forced=8)), (1000, dict(forced=8, grid=AntiScatterGrid(ratio=8)))],
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
        and np.allclose(batch.found, tally, rtol=1e-3, atol=1e-5 * tally.max())
        for batch, ledger, tally in zip(there, ledgers, tallies, strict=True)
    ]
    assert np.mean(same) > 0.995
    assert (tallies.sum(axis=(0, 2, 3, 4)) > 0.0).all()  # the primary, and scattering of every kind
