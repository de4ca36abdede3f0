"""Noise: mean, variance, power spectrum and row correlation against what the model declares."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from DeepDRRLogic.crosstalk import separable_kernel
from DeepDRRLogic.detector import Detector, ReadoutNoise, detector, detector_names
from DeepDRRLogic.exposure import Exposure, expose
from DeepDRRLogic.materials import material
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.spectrum import Spectrum

SILENT = ReadoutNoise(0.0, 0.0)
SIZE = 256
WATER = [material("water")]
PITCH = (0.194, 0.194)
CSI = Detector.csi_flat_panel().at(PITCH)


def a_flat_exposure(
    one: Detector, water_g_cm2: float = 10.0, height: int = SIZE, width: int = SIZE, kvp: int = 100
) -> Exposure:
    flat = np.full((1, height, width), water_g_cm2, dtype=np.float32)
    return expose(flat, WATER, Spectrum.for_kvp(kvp), one)


def noise_of(model: NoiseModel, exposure: Exposure, n0: float, seed: int = 1) -> npt.NDArray[np.float64]:
    noisy = model.apply(exposure, n0, seed).astype(np.float64)
    return noisy - n0 * exposure.signal.astype(np.float64)


@pytest.mark.parametrize("n0", [1.0, 30.0, 3e3, 5e5])
def test_quantum_noise_has_the_mean_and_the_variance_of_poisson_photons(n0: float) -> None:
    exposure = a_flat_exposure(Detector.ideal(readout=SILENT))
    noise = noise_of(NoiseModel(SILENT), exposure, n0)
    expected_photons = n0 * float(exposure.photons[0, 0, 0])
    energy = float(exposure.mean_energy_kev[0, 0])
    deviation = energy * math.sqrt(expected_photons)
    assert noise.mean() == pytest.approx(0.0, abs=4.0 * deviation / SIZE)
    assert noise.var() == pytest.approx(deviation**2, rel=0.03)


def test_few_photons_are_counted_in_whole_ones() -> None:
    exposure = a_flat_exposure(Detector.photon_counting(absorber=None))
    counts = NoiseModel(SILENT).apply(exposure, 5.0, 3)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    assert counts.min() == pytest.approx(0.0, abs=1e-5)
    expected = 5.0 * float(exposure.photons[0, 0, 0])
    assert (np.rint(counts) == 0).mean() == pytest.approx(math.exp(-expected), rel=0.05)


def test_where_no_photon_is_counted_there_is_no_signal_at_all() -> None:
    exposure = a_flat_exposure(Detector.ideal(readout=SILENT), water_g_cm2=20.0)
    signal = NoiseModel(SILENT).apply(exposure, 100.0, 4)
    energy = float(exposure.mean_energy_kev[0, 0])
    assert (signal == 0.0).mean() == pytest.approx(math.exp(-100.0 * float(exposure.photons[0, 0, 0])), rel=0.05)
    assert signal[signal != 0.0].min() == pytest.approx(energy, rel=1e-5)


def test_compound_noise_has_the_variance_of_an_energy_integrator() -> None:
    exposure = a_flat_exposure(Detector.ideal(readout=SILENT), kvp=120)
    n0 = 2000.0
    single = noise_of(NoiseModel(SILENT), exposure, n0).var()
    compound = noise_of(NoiseModel(SILENT, quantum="compound"), exposure, n0).var()
    assert compound == pytest.approx(n0 * float(exposure.signal_square[0, 0, 0]), rel=0.03)
    assert 1.04 < compound / single < 1.15
    # Against photons drawn energy by energy.
    spectrum = Spectrum.for_kvp(120)
    mu = WATER[0].mass_attenuation_cm2_g(spectrum.energies_kev)
    lam = n0 * spectrum.photons * np.exp(-10.0 * mu)
    drawn = np.random.default_rng(0).poisson(lam, size=(40000, lam.size)) @ spectrum.energies_kev
    assert compound == pytest.approx(drawn.var(), rel=0.04)


def test_compound_and_mean_energy_agree_for_one_energy_and_for_counters() -> None:
    counter = a_flat_exposure(Detector.photon_counting())
    a = NoiseModel(SILENT).apply(counter, 100.0, 5)
    b = NoiseModel(SILENT, quantum="compound").apply(counter, 100.0, 5)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("n0", [3.0, 3e3])
@pytest.mark.parametrize("quantum", ["mean_energy", "compound"])
def test_lost_information_is_noise_as_of_so_many_photons_fewer(
    n0: float, quantum: Literal["mean_energy", "compound"]
) -> None:
    exposure = a_flat_exposure(Detector.ideal())
    whole, part = (NoiseModel(SILENT, quantum=quantum, information=i) for i in (1.0, 0.4))
    noise, more = noise_of(whole, exposure, n0), noise_of(part, exposure, n0)
    assert more.mean() == pytest.approx(0.0, abs=0.02 * n0 * float(exposure.signal.mean()))
    assert more.var() / noise.var() == pytest.approx(2.5, rel=0.03)
    assert part.nps((8, 8), 2.5).mean() == pytest.approx(2.5)


def test_noise_grows_with_the_root_of_the_exposure() -> None:
    exposure, model = a_flat_exposure(Detector.ideal()), NoiseModel(SILENT)
    little, much = (noise_of(model, exposure, n0).std() for n0 in (1e3, 1e5))
    assert much / little == pytest.approx(10.0, rel=0.03)


def test_darker_pixels_have_less_noise_but_a_worse_ratio_to_their_signal() -> None:
    ramp = np.repeat(np.linspace(0, 30, 4, dtype=np.float32), 64)[None, None, :].repeat(SIZE, axis=1)
    exposure = expose(ramp, WATER, Spectrum.for_kvp(100), Detector.ideal())
    steps = noise_of(NoiseModel(SILENT), exposure, 1e5)[0].reshape(SIZE, 4, 64).std(axis=(0, 2))
    signal = 1e5 * exposure.signal[0, 0, ::64]
    assert (np.diff(steps) < 0.0).all()
    assert (np.diff(steps / signal) > 0.0).all()


@pytest.mark.parametrize(
    "kernel",
    [
        ((1.0,),),
        separable_kernel((0.1, 0.8, 0.1)),
        ((0.0, 0.05, 0.0), (0.1, 0.7, 0.1), (0.0, 0.05, 0.0)),
        ((0.05, 0.2, 0.5, 0.2, 0.05),),
    ],
    ids=["white", "separable", "anisotropic", "one row"],
)
def test_measured_noise_power_is_the_declared_one(kernel: tuple[tuple[float, ...], ...]) -> None:
    readout = ReadoutNoise(std_signal=250.0, correlation_px=1.5)
    model = NoiseModel(readout, kernel)
    exposure = a_flat_exposure(Detector.ideal())
    n0 = 1e3
    energy = float(exposure.mean_energy_kev[0, 0])
    declared = model.nps((SIZE, SIZE), energy**2 * n0 * float(exposure.photons[0, 0, 0]))
    measured = np.zeros((SIZE, SIZE))
    for seed in range(12):
        noise = noise_of(model, exposure, n0, seed)[0]
        measured += np.abs(np.fft.fft2(noise)) ** 2 / noise.size / 12
    blocks = (measured / declared).reshape(16, 16, 16, 16).mean(axis=(1, 3))  # over 16 x 16 frequencies
    np.testing.assert_allclose(blocks, 1.0, atol=0.09)
    assert measured.mean() == pytest.approx(declared.mean(), rel=0.01)


def test_crosstalk_keeps_the_mean_and_lowers_the_variance_by_the_squared_kernel() -> None:
    kernel = separable_kernel((0.15, 0.7, 0.15))
    exposure = a_flat_exposure(Detector.ideal())
    plain, crossed = (noise_of(NoiseModel(SILENT, crosstalk), exposure, 1e4) for crosstalk in (((1.0,),), kernel))
    assert crossed.var() / plain.var() == pytest.approx(np.sum(np.square(kernel)), rel=0.03)
    assert crossed.mean() == pytest.approx(0.0, abs=5.0 * plain.std() / SIZE)


def test_the_border_of_the_detector_is_as_noisy_as_its_middle() -> None:
    # Without a margin the crosstalk would take 9 % of the variance off the border.
    model = NoiseModel(ReadoutNoise(50.0, 0.5), separable_kernel((0.2, 0.6, 0.2)))
    exposure = a_flat_exposure(Detector.ideal(), height=96, width=96)
    noise = np.stack([noise_of(model, exposure, 1e3, seed)[0] for seed in range(150)])
    middle = noise[:, 20:-20, 20:-20].var()
    for border in (noise[:, 0], noise[:, -1], noise[:, :, 0], noise[:, :, -1]):
        assert border.var() == pytest.approx(middle, rel=0.05)


@pytest.mark.parametrize("correlation_px", [0.0, 0.7, 2.0, 8.0])
def test_readout_noise_is_correlated_along_rows_as_declared_and_not_across(correlation_px: float) -> None:
    model = NoiseModel(ReadoutNoise(50.0, correlation_px))
    nothing = np.zeros((1, 400, 600), dtype=np.float32)
    noise = model.apply(Exposure(nothing, nothing, nothing, nothing[0]), 1.0, 7)[0].astype(np.float64)
    assert noise.std() == pytest.approx(50.0, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=2.0)
    for distance in (1, 2, 5):
        declared = math.exp(-distance / correlation_px) if correlation_px else 0.0
        along = np.mean(noise[:, distance:] * noise[:, :-distance]) / noise.var()
        across = np.mean(noise[distance:] * noise[:-distance]) / noise.var()
        assert along == pytest.approx(declared, abs=0.02)
        assert across == pytest.approx(0.0, abs=0.02)


def test_readout_noise_is_there_where_no_photon_arrives() -> None:
    for one in (Detector.ideal(), CSI):
        behind_lead = np.full((1, 128, 128), 60.0, dtype=np.float32)
        exposure = expose(behind_lead, [material("lead")], Spectrum.for_kvp(80), one)
        noisy = NoiseModel.of(one).apply(exposure, 5e5, 1)
        assert noisy.std() == pytest.approx(one.readout.std_signal, rel=0.05)


def test_a_silent_detector_without_crosstalk_has_poisson_noise_alone() -> None:
    exposure = a_flat_exposure(Detector.ideal())
    quantum = NoiseModel(SILENT).apply(exposure, 1e4, 2)
    both = NoiseModel(ReadoutNoise(75.0, 0.0)).apply(exposure, 1e4, 2)
    assert (both - quantum).std() == pytest.approx(75.0, rel=0.02)


@pytest.mark.parametrize("name", detector_names())
def test_the_same_seed_gives_the_same_picture_with_any_number_of_threads(name: str) -> None:
    one = detector(name).at(PITCH)
    exposure = a_flat_exposure(one, height=61, width=83)
    model = NoiseModel.of(one)
    first = model.apply(exposure, 1e4, 42, threads=1)
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(model.apply(exposure, 1e4, 42, threads=threads), first)
    assert (model.apply(exposure, 1e4, 43) != first).mean() > 0.9
    assert first.shape == (len(one.channels), 61, 83)
    assert first.dtype == np.float32


def test_a_generator_goes_on_from_picture_to_picture_and_a_seed_does_not() -> None:
    exposure, model = a_flat_exposure(Detector.ideal(), height=40, width=40), NoiseModel.of(Detector.ideal())
    generator = np.random.default_rng(9)
    first, second = model.apply(exposure, 1e4, generator), model.apply(exposure, 1e4, generator)
    assert (first != second).mean() > 0.99
    np.testing.assert_array_equal(first, model.apply(exposure, 1e4, np.random.default_rng(9)))
    np.testing.assert_array_equal(first, model.apply(exposure, 1e4, 9))


def test_channels_and_bands_of_rows_have_noise_of_their_own() -> None:
    noise = noise_of(NoiseModel(ReadoutNoise(20.0, 1.0)), a_flat_exposure(Detector.energy_bins(absorber=None)), 3e3)
    flat = noise.reshape(len(noise), -1)
    assert np.abs(np.corrcoef(flat) - np.eye(len(noise))).max() < 0.02
    bands = noise[0].reshape(16, -1)
    assert np.abs(np.corrcoef(bands) - np.eye(16)).max() < 0.08


def test_the_beam_may_differ_from_pixel_to_pixel() -> None:
    exposure = a_flat_exposure(Detector.ideal(), height=64, width=64)
    n0 = np.full((64, 64), 1e4)
    n0[:, :32] = 0.0
    noisy = NoiseModel(SILENT).apply(exposure, n0, 1)[0]
    np.testing.assert_array_equal(noisy[:, :32], 0.0)
    assert noisy[:, 32:].mean() == pytest.approx(1e4 * float(exposure.signal[0, 0, 0]), rel=1e-2)


def test_the_exposure_itself_stays_clean() -> None:
    exposure = a_flat_exposure(Detector.ideal(), height=16, width=16)
    before = exposure.signal.copy()
    NoiseModel.of(CSI).apply(exposure, 1e4, 1)
    np.testing.assert_array_equal(exposure.signal, before)


@pytest.mark.parametrize(
    "n0", [0.0, -1.0, math.nan, math.inf, 1e13, np.zeros((16, 16)), np.ones((4, 4)), np.full((16, 16), -1.0)]
)
def test_an_impossible_number_of_photons_is_refused(n0: float) -> None:
    exposure = a_flat_exposure(Detector.ideal(), height=16, width=16)
    with pytest.raises(ValueError, match="photons_per_pixel"):
        NoiseModel.of(Detector.ideal()).apply(exposure, n0, 1)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_is_a_whole_number_from_0(seed: Any) -> None:
    exposure = a_flat_exposure(Detector.ideal(), height=16, width=16)
    with pytest.raises(ValueError, match=f"seed = {seed}: give 0 or a positive whole number"):
        NoiseModel.of(Detector.ideal()).apply(exposure, 1.0, seed)


def test_impossible_models_are_refused() -> None:
    with pytest.raises(ValueError, match="sums to"):
        NoiseModel(SILENT, ((0.5,),))
    with pytest.raises(ValueError, match="odd"):
        NoiseModel(SILENT, ((0.5, 0.5),))
    with pytest.raises(ValueError, match="ragged"):
        NoiseModel(SILENT, ((0.5,), (0.25, 0.25)))
    with pytest.raises(ValueError, match="quantum"):
        NoiseModel(SILENT, quantum="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="smaller than the kernel"):
        NoiseModel(SILENT, separable_kernel((0.1, 0.8, 0.1))).nps((2, 2), 1.0)
