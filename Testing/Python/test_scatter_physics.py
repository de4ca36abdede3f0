"""The Monte Carlo's interactions and flights, against cross sections, integrals and published results."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xraylib
from shapes import centred_affine

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import Material, material
from DeepDRRLogic.scatter.interactions import FIRST_KEV, STEP_KEV, Interactions
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.scatter.setup import physics_of
from DeepDRRLogic.scatter.transport import Body, fly, sample_compton, sample_rayleigh
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

WATER, BONE = material("water"), material("bone")
TABLES = Interactions.of((WATER, BONE), 121.0)
DRAWS = 30_000


def state(seed=0):
    return np.random.SeedSequence(seed).generate_state(4, np.uint64)


def camera(size_mm=300.0, distance_mm=1000.0, pixels=32):
    f = distance_mm / size_mm * pixels
    intrinsics = np.array([[f, 0, (pixels - 1) / 2], [0, f, (pixels - 1) / 2], [0, 0, 1.0]])
    return Camera(intrinsics, np.eye(4), pixels, pixels, distance_mm)


def differential(one, kind, energy, cosines):
    """dσ/dΩ in cm²/g/sr, straight from xraylib."""
    function = {"compton": xraylib.DCS_Compt, "rayleigh": xraylib.DCS_Rayl}[kind]
    angles = np.maximum(np.arccos(np.clip(np.ravel(cosines), -1, 1)), 0.01)  # xraylib has no S below q = 0.001 / Å
    values = [sum(w * function(z, energy, angle) for z, w in one.mass_fractions) for angle in angles]
    return np.reshape(values, np.shape(cosines))


def reduced_chi_square(cosines, density):
    """Of a sample against a density over the cosine, in 30 bins of equal probability."""
    theta = np.linspace(0, np.pi, 4001)[1:-1]
    cumulative = np.cumsum(density(np.cos(theta)) * np.sin(theta))
    edges = np.interp(np.linspace(0, 1, 31), cumulative / cumulative[-1], theta)
    edges[0], edges[-1] = 0, np.pi
    counts, _ = np.histogram(np.arccos(np.clip(cosines, -1, 1)), edges)
    expected = len(cosines) / 30
    return ((counts - expected) ** 2 / expected).sum() / 29


# A reduced χ² of 29 degrees of freedom exceeds 1.9 once in 350 times.
HIGHEST_CHI_SQUARE = 1.9


@pytest.mark.parametrize("energy", [20.0, 60.0, 120.0])
def test_without_binding_compton_scattering_follows_klein_and_nishina(energy):
    physics, stream = physics_of(TABLES.free_electrons()), state(1)
    drawn = [sample_compton(physics, 0, energy, stream) for _ in range(DRAWS)]
    klein_nishina = np.vectorize(lambda c: xraylib.DCS_KN(energy, math.acos(c)))
    assert reduced_chi_square(drawn, klein_nishina) < HIGHEST_CHI_SQUARE


@pytest.mark.parametrize(("number", "one"), [(0, WATER), (1, BONE)])
@pytest.mark.parametrize("energy", [25.0, 80.0])
def test_with_bound_electrons_it_follows_klein_and_nishina_times_s(number, one, energy):
    physics, stream = physics_of(TABLES), state(2)
    drawn = [sample_compton(physics, number, energy, stream) for _ in range(DRAWS)]
    assert reduced_chi_square(drawn, lambda c: differential(one, "compton", energy, c)) < HIGHEST_CHI_SQUARE


def test_binding_is_visible_at_low_energy():
    physics, stream = physics_of(TABLES), state(2)
    drawn = [sample_compton(physics, 0, 20.0, stream) for _ in range(DRAWS)]
    klein_nishina = np.vectorize(lambda c: xraylib.DCS_KN(20.0, math.acos(c)))
    assert reduced_chi_square(drawn, klein_nishina) > 10


@pytest.mark.parametrize(("number", "one"), [(0, WATER), (1, BONE)])
@pytest.mark.parametrize("energy", [25.0, 80.0])
def test_rayleigh_scattering_follows_the_form_factors(number, one, energy):
    physics, stream = physics_of(TABLES), state(3)
    drawn = [sample_rayleigh(physics, number, energy, stream) for _ in range(DRAWS)]
    assert reduced_chi_square(drawn, lambda c: differential(one, "rayleigh", energy, c)) < HIGHEST_CHI_SQUARE


@pytest.mark.parametrize("energy", [15.0, 40.0, 100.0])
def test_angular_distributions_integrate_to_the_cross_sections(energy):
    """Two tables of xraylib, σ and dσ/dΩ, made independently: they agree within 1 %."""
    index = round((energy - FIRST_KEV) / STEP_KEV)
    electron_radius_square_cm2 = 7.940787e-26
    per_gram = 0.5 * electron_radius_square_cm2 * 6.02214076e23
    assert TABLES.rayleigh_norm[0, index] * per_gram == pytest.approx(TABLES.rayleigh[0, index], rel=0.01)
    assert TABLES.compton_norm[0, index] * per_gram == pytest.approx(TABLES.compton[0, index], rel=0.01)


def test_free_paths_are_the_inverse_of_the_attenuation():
    size, step = 64, np.array([5.0, 5.0, 5.0])
    body = Body(np.ones((size,) * 3, np.float32), np.zeros((size,) * 3, np.uint8), step, np.array([1.0, 2.0]), None)
    mu = np.array([0.2, 0.5])  # the second material is nowhere, but its 2 g/cm³ shorten the Woodcock steps
    stream = state(4)
    paths = np.array([fly(body, 160.0, 160.0, 1e-6, 0.6, 0.0, 0.8, mu, stream)[2] / 0.8 for _ in range(20_000)])
    assert paths.mean() == pytest.approx(1 / 0.2, abs=4 * 5 / math.sqrt(20_000))
    assert paths.std() == pytest.approx(1 / 0.2, rel=0.04)


def test_as_many_photons_cross_unlike_layers_as_beer_and_lambert_say():
    density = np.ones((4, 1, 1), np.float32)
    labels = np.array([0, 1, 0, 1], np.uint8).reshape(4, 1, 1)
    density[3] = 0.25
    body = Body(density, labels, np.array([10.0, 10.0, 2.0]), np.array([1.0, 1.0]), None)
    mu, stream, count = np.array([0.1, 0.4]), state(5), 20_000
    through = sum(fly(body, 5.0, 5.0, 0.0, 0.0, 0.0, 1.0, mu, stream)[3] < 0 for _ in range(count))
    expected = math.exp(-2 * (0.1 + 0.4 + 0.1 + 0.25 * 0.4))
    assert through / count == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / count))


@pytest.mark.parametrize("forced", [0, 8])
def test_energy_is_conserved(forced):
    shape = (10, 20, 20)
    labels = np.zeros(shape, np.uint8)
    labels[4:6, 8:12, 8:12] = 1
    volume = MaterialVolume(
        np.ones(shape, np.float32), labels, (WATER, BONE), centred_affine(shape, (10,) * 3, (0, 0, 800))
    )
    result = simulate(volume, camera(), Spectrum.preset("90kV"), Detector.ideal(), photons=20_000, forced=forced)
    emitted, absorbed, recoil, escaped, roulette = result.ledger[:5]
    assert absorbed + recoil + escaped + roulette == pytest.approx(emitted, rel=1e-9)
    assert result.deposited_kev_per_photon().sum() * result.photons * result.field_sr == pytest.approx(
        absorbed + recoil
    )
    assert abs(roulette) < 0.01 * emitted


@pytest.mark.parametrize("kind", ["compton", "rayleigh"])
def test_single_scattering_of_a_small_ball_is_the_integral_over_it(kind):
    """A thin ball of bone at 5 cm from the detector: angles up to 60°, no attenuation, no second scattering."""
    energy, shape = 40.0, (12, 12, 12)
    affine = centred_affine(shape, (1.0,) * 3, (10.0, 0.0, 450.0))
    k, j, i = np.indices(shape)
    ball = (k - 5.5) ** 2 + (j - 5.5) ** 2 + (i - 5.5) ** 2 < 36
    density = np.where(ball, 0.02, 0.0).astype(np.float32)
    volume = MaterialVolume(density, np.zeros(shape, np.uint8), (BONE,), affine)
    panel = camera(200.0, 500.0, 8)
    field = (0.46, 0.46, 0.64, 0.54)
    result = simulate(
        volume, panel, Spectrum.monoenergetic(energy), Detector.ideal(),
        photons=400_000, field=field, tally=8, voxel_mm=None, forced=32, seed=6,
    )  # fmt: skip

    voxels = (affine @ np.stack([i[ball], j[ball], k[ball], np.ones(ball.sum())]))[:3].T / 10
    grams = 0.02 * 0.001
    fine = panel.resampled(40, 40)
    v, u = np.mgrid[:40, :40]
    points = (fine.ras_from_pixel @ np.stack([u.ravel(), v.ravel(), 0 * u.ravel(), np.ones(1600)]))[:3].T / 10
    expected = np.zeros(1600)
    for voxel in voxels[::3]:
        way = points - voxel
        far = np.linalg.norm(way, axis=1)
        cosines = np.clip(way @ voxel / far / np.linalg.norm(voxel), -1, 1)
        table = np.linspace(0.2, 1, 400)
        kept = 1 / (1 + energy / 510.999 * (1 - cosines)) if kind == "compton" else 1.0
        arriving = np.interp(cosines, table, differential(BONE, kind, energy, table)) * way[:, 2] / far**3
        expected += 3 * grams / (voxel @ voxel) * arriving * energy * kept
    expected /= 50 / np.linalg.norm(points, axis=1) ** 3  # what the open beam sends there
    expected = expected.reshape(8, 5, 8, 5).mean(axis=(1, 3))
    found, error = result.signal(kind), result.signal_error(kind)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.05)
    pulls = (found / found.sum() * expected.sum() - expected) / np.hypot(error, 0.01 * expected)
    assert np.sqrt(np.mean(pulls**2)) < 1.5


def test_the_energy_left_in_a_body_is_that_of_aapm_task_group_195():
    """Case 2, radiography, 56.4 keV: 33 171 eV per history, mean of four codes (AAPM Report 195, 2015).

    39 × 39 × 20 cm³ of ICRU soft tissue, 155 to 175 cm from the source, in air, detector of 39 × 39 cm² at 180 cm.
    """
    fractions = (
        (1, 0.105),
        (6, 0.256),
        (7, 0.027),
        (8, 0.602),
        (11, 0.001),
        (15, 0.002),
        (16, 0.003),
        (17, 0.002),
        (19, 0.002),
    )
    tissue = Material("icru_soft_tissue", fractions, 1.03)
    shape = (36, 39, 39)
    density, labels = np.full(shape, 0.001205, np.float32), np.ones(shape, np.uint8)
    density[31:35], labels[31:35] = 1.03, 0
    volume = MaterialVolume(
        density, labels, (tissue, material("air")), centred_affine(shape, (10, 10, 50), (0, 0, 900))
    )
    result = simulate(
        volume, camera(390.0, 1800.0), Spectrum.monoenergetic(56.4), Detector.ideal(),
        photons=300_000, forced=0, voxel_mm=None,
    )  # fmt: skip
    assert 1000 * result.deposited_kev_per_photon()[0] == pytest.approx(33171.4, rel=0.005)
