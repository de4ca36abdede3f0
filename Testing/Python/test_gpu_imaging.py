"""What happens on the GPU behind the area densities, by emulation: exposure, scatter and noise as on the CPU."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
from emulated_gpu import emulated_gpu, emulation, library
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.crosstalk import separable_kernel, spread, widened
from DeepDRRLogic.detector import Detector, ReadoutNoise, detector, detector_names
from DeepDRRLogic.exposure import expose
from DeepDRRLogic.gpu.device import DeviceArray
from DeepDRRLogic.imaging_chain import ImagingChain
from DeepDRRLogic.materials import material
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.cuda.imaging import Beam, develop
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

SPECTRUM = Spectrum.preset("90kV")
WATER = (material("water"),)
SILENT = ReadoutNoise(0.0, 0.0)


@pytest.fixture(scope="module")
def gpu():
    with emulation():
        yield emulated_gpu()


def developed(gpu, area_densities, materials, which, noise=None, photons=1.0, seed=0, views=1):
    """Images of area densities (n_materials, H, W), each view the same."""
    areas = np.repeat(np.asarray(area_densities, np.float32)[None], views, axis=0)
    with gpu.active():
        beam = Beam.upload(gpu, materials, 4, SPECTRUM, which)
        return develop(gpu, gpu.upload(areas), beam, noise, photons, seed)


def uniform(shape=(40, 50), water_g_cm2=0.0):
    return np.full((1, *shape), water_g_cm2, np.float32)


@pytest.mark.parametrize("name", detector_names())
def test_the_exposure_is_that_of_the_cpu(gpu, name):
    materials = tuple(map(material, ("soft_tissue", "bone", "titanium")))
    areas = np.random.default_rng(0).uniform(0, (30, 8, 4), (7, 9, 3)).transpose(2, 0, 1)
    which = detector(name).at((0.3, 0.2))
    image = developed(gpu, areas, materials, which, photons=5e5)
    exposure = expose(areas, materials, SPECTRUM, which)
    kernel = which.crosstalk
    assert np.allclose(image.signal.get()[0], 5e5 * spread(widened(exposure.signal, kernel), kernel), rtol=1e-4)
    assert np.allclose(image.photons.get()[0], 5e5 * exposure.photons.sum(axis=0), rtol=1e-4)
    assert np.allclose(image.mean_energy_kev.get()[0], exposure.mean_energy_kev, rtol=1e-4)


def test_behind_any_amount_of_metal_numbers_stay_finite(gpu):
    image = developed(gpu, uniform(water_g_cm2=1e4), (material("lead"),), Detector.ideal(), photons=5e5)
    exposure = expose(uniform(water_g_cm2=1e4), (material("lead"),), SPECTRUM, Detector.ideal())
    assert np.allclose(image.signal.get()[0], 5e5 * exposure.signal, rtol=1e-3, atol=0)
    assert np.isfinite(image.mean_energy_kev.get()).all()


@pytest.mark.parametrize("quantum", ["mean_energy", "compound"])
@pytest.mark.parametrize("photons", [3.0, 200.0, 2e4, 5e6])
def test_quantum_noise_has_the_mean_and_the_variance_that_it_has_on_the_cpu(gpu, quantum, photons):
    shape, ideal = (300, 300), Detector.ideal(SILENT)
    noise = NoiseModel(SILENT, quantum=quantum)
    exposure = expose(uniform((1, 1), 2.0), WATER, SPECTRUM, ideal)
    signal = developed(gpu, uniform(shape, 2.0), WATER, ideal, noise, photons).signal.get()[0, 0]
    detected = photons * float(exposure.photons[0, 0, 0])
    square = float(exposure.signal_per_photon[0, 0, 0]) ** 2
    if quantum == "compound":
        square = float(exposure.signal_square[0, 0, 0] / exposure.photons[0, 0, 0])
    # Five standard errors of 90 000 pixels; the variance of a Poisson variance adds the excess 1/N.
    assert signal.mean() == pytest.approx(
        photons * float(exposure.signal[0, 0, 0]), abs=5 * math.sqrt(detected * square / signal.size)
    )
    spread = 5 * math.sqrt((2 + 1 / detected) / signal.size)
    assert signal.astype(np.float64).var() == pytest.approx(detected * square, rel=spread)


@pytest.mark.parametrize("mean", [0.02, 1.0, 9.9, 10.1, 35.5, 700.0, 16000.5, 16500.5])
def test_photon_numbers_follow_poissons_distribution(mean):
    scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    means = np.full(200_000, mean, np.float32)
    out = np.empty_like(means)
    library().poisson_deviations(
        means.ctypes.data_as(ctypes.c_void_p), means.size, ctypes.c_ulonglong(3), out.ctypes.data_as(ctypes.c_void_p)
    )
    counts = np.rint(out.astype(np.float64) + float(np.float32(mean))).astype(int)
    assert counts.min() >= 0 and np.allclose(counts - mean, out, atol=2e-3)
    # Kolmogorov and Smirnov at the thousandth: for steps the test is on the safe side.
    values = np.arange(counts.min(), counts.max() + 1)
    measured = np.searchsorted(np.sort(counts), values, side="right") / counts.size
    assert np.abs(measured - scipy_stats.poisson.cdf(values, mean)).max() < 1.95 / math.sqrt(counts.size)


def test_random_bits_are_philoxs():
    # Known answers of Random123 (Salmon et al., SC 2011): kat_vectors, philox4x32-10.
    for counter, key, expected in (
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ):
        bits = (ctypes.c_uint * 4)(*counter)
        library().philox_block(bits, ctypes.c_ulonglong(key))
        assert tuple(bits) == expected


def test_crosstalk_correlates_neighbours_and_leaves_the_mean_and_the_border(gpu):
    shape, kernel = (400, 400), separable_kernel((0.1, 0.8, 0.1))
    ideal = Detector.ideal(SILENT)
    noise = NoiseModel(SILENT, kernel)
    signal = developed(gpu, uniform(shape), WATER, ideal, noise, 400.0).signal.get()[0, 0].astype(np.float64)
    plain = developed(gpu, uniform(shape), WATER, ideal, None, 400.0).signal.get()[0, 0]
    deviation = signal - plain
    weights = np.array(kernel)
    sigma = float(expose(uniform((1, 1)), WATER, SPECTRUM, ideal).signal_per_photon[0, 0, 0]) * 20.0
    assert deviation.var() == pytest.approx(sigma**2 * (weights**2).sum(), rel=0.03)
    along_row = (weights[:, 1:] * weights[:, :-1]).sum() / (weights**2).sum()
    assert (deviation[:, 1:] * deviation[:, :-1]).mean() / deviation.var() == pytest.approx(along_row, abs=0.02)
    border = np.concatenate([deviation[0], deviation[-1], deviation[:, 0], deviation[:, -1]])
    assert border.var() == pytest.approx(deviation.var(), rel=0.2)


@pytest.mark.parametrize("photons", [6.0, 400.0, 1e5])
def test_lost_information_is_noise_as_of_so_many_photons_fewer(gpu, photons):
    ideal = Detector.ideal(SILENT)
    signal = developed(gpu, uniform((300, 300)), WATER, ideal, NoiseModel(SILENT, information=0.4), photons).signal
    values = signal.get()[0, 0].astype(np.float64)
    gain = float(expose(uniform((1, 1)), WATER, SPECTRUM, ideal).signal_per_photon[0, 0, 0])
    assert values.mean() == pytest.approx(gain * photons, rel=0.01)
    assert values.var() == pytest.approx(gain**2 * photons / 0.4, rel=0.03)


def test_crosstalk_blurs_the_signal_as_on_the_cpu_with_and_without_noise(gpu):
    kernel = ((0.0, 0.1, 0.0), (0.05, 0.5, 0.2), (0.0, 0.15, 0.0))
    which = Detector("skewed", ("energy",), SILENT, crosstalk=kernel)
    areas = np.random.default_rng(1).uniform(0.0, 20.0, (1, 30, 41)).astype(np.float32)
    expected = expose(areas, WATER, SPECTRUM, which).signal
    blurred = spread(widened(expected, kernel), kernel)
    for noise in (None, NoiseModel.of(which)):
        signal = developed(gpu, areas, WATER, which, noise, 1e10).signal.get()[0]
        np.testing.assert_allclose(signal, 1e10 * blurred, rtol=3e-4)
    sharp = developed(gpu, areas, WATER, which, NoiseModel(SILENT), 1e10).signal.get()[0]
    np.testing.assert_allclose(sharp, 1e10 * expected, rtol=3e-4)


@pytest.mark.parametrize("correlation_px", [0.0, 2.0, 40.0])
def test_readout_noise_is_correlated_along_rows_as_declared(gpu, correlation_px):
    ideal = Detector.ideal(ReadoutNoise(7.0, correlation_px))
    noise = NoiseModel(ideal.readout)
    # So little radiation that only the readout is left.
    signal = developed(gpu, uniform((500, 600), 1e4), (material("lead"),), ideal, noise, 1.0).signal.get()[0, 0]
    rows = signal.astype(np.float64)
    effective = rows.size / max(1.0, 2.0 * correlation_px)
    assert rows.mean() == pytest.approx(0.0, abs=5 * 7.0 / math.sqrt(effective))
    assert rows.var() == pytest.approx(49.0, rel=5 * math.sqrt(2 / effective))
    assert rows[:, :8].var() == pytest.approx(49.0, rel=0.3)
    for distance in (1, 3, 32):
        declared = math.exp(-distance / correlation_px) if correlation_px else 0.0
        measured = (rows[:, distance:] * rows[:, :-distance]).mean() / 49.0
        assert measured == pytest.approx(declared, abs=6 / math.sqrt(effective))
    between_rows = (rows[1:] * rows[:-1]).mean() / 49.0
    assert between_rows == pytest.approx(0.0, abs=6 / math.sqrt(effective))


def test_view_n_of_a_batch_is_the_single_view_of_seed_plus_n(gpu):
    volume = random_volume(shape=(20, 22, 24))
    cameras = [view(angle, 5, size=(24, 18), pitch=5.0) for angle in (0, 20, 70)]
    projector = CudaProjector(volume, gpu=gpu)
    which = detector("csi_flat_panel")
    noise = NoiseModel.of(which)
    batch = projector.form_on_device(cameras, ImagingChain(SPECTRUM, which, noise, 5e4), seed=11)
    for n, camera in enumerate(cameras):
        single = projector.form(camera, ImagingChain(SPECTRUM, which, noise, 5e4), seed=11 + n)
        for name in ("signal", "photons", "mean_energy_kev", "area_densities"):
            assert np.array_equal(getattr(batch, name).get()[n], getattr(single, name))
    other = projector.form(cameras[0], ImagingChain(SPECTRUM, which, noise, 5e4), seed=12)
    assert not np.array_equal(other.signal, batch.signal.get()[0])
    with pytest.raises(ValueError, match=r"one size per batch"):
        projector.project_on_device([cameras[0], view(size=(8, 8))])


class Fog:
    """A scatter model: a quarter of the open beam's photons at 50 keV, wherever there is water."""

    def planes(self, areas, which):
        fog = np.where(areas[0] > 0, np.float32(0.25), np.float32(0.0))
        count = 50.0 if which.edges_kev is None else 1.0
        return fog, fog * count, fog * count**2, fog * 50.0

    def estimate(self, area_densities, materials, camera, spectrum, which):
        from DeepDRRLogic.exposure import Exposure

        photons, signal, square, energy = self.planes(area_densities, which)
        return Exposure(signal[None], photons[None], square[None], energy)

    def to_dict(self):
        return {"model": "fog"}


class FogOnDevice(Fog):
    def __init__(self, gpu):
        self.gpu = gpu

    def estimate_on_device(self, area_densities, materials, cameras, spectrum, which):
        assert area_densities.__cuda_array_interface__["shape"] == area_densities.shape
        planes = np.stack([np.stack(self.planes(areas, which)) for areas in area_densities.get()])
        with self.gpu.active():
            return self.gpu.upload(planes)


@pytest.mark.parametrize("name", ["ideal", "photon_counting"])
def test_scatter_from_the_host_and_from_the_device_is_added_once(gpu, name):
    volume = MaterialVolume(np.ones((9, 9, 9), np.float32), np.zeros((9, 9, 9), np.uint8), WATER, np.diag([9, 9, 9, 1]))
    camera, which = view(size=(16, 12), pitch=20.0), detector(name)
    projector = CudaProjector(volume, gpu=gpu)
    clear = projector.form(camera, ImagingChain(SPECTRUM, which, None, 1e4))
    foggy = projector.form(camera, ImagingChain(SPECTRUM, which, None, 1e4, scatter=Fog()))
    expected = expose(clear.area_densities, WATER, SPECTRUM, which) + Fog().estimate(
        clear.area_densities, WATER, camera, SPECTRUM, which
    )
    assert np.allclose(foggy.signal, 1e4 * expected.signal, rtol=1e-4)
    assert np.allclose(foggy.photons, 1e4 * expected.photons.sum(axis=0), rtol=1e-4)
    assert np.allclose(foggy.mean_energy_kev, expected.mean_energy_kev, rtol=1e-4)
    on_device = projector.form(camera, ImagingChain(SPECTRUM, which, None, 1e4, scatter=FogOnDevice(gpu)))
    assert np.array_equal(on_device.signal, foggy.signal)


def test_arrays_tell_other_libraries_where_they_lie(gpu):
    with gpu.active():
        array = gpu.upload(np.arange(12, dtype=np.float32).reshape(3, 4))
    told = array.__cuda_array_interface__
    there = np.ctypeslib.as_array(ctypes.cast(told["data"][0], ctypes.POINTER(ctypes.c_float)), told["shape"])
    assert told["typestr"] == "<f4" and told["strides"] is None and told["version"] == 3
    assert np.array_equal(there, array.get())


def test_memory_is_used_again_and_given_back(gpu):
    volume, camera = random_volume(shape=(20, 22, 24)), view(size=(24, 18), pitch=5.0)
    noise = NoiseModel.of(Detector.ideal())
    before = library().emulated_used_bytes()
    projector = CudaProjector(volume, gpu=gpu)
    assert library().emulated_used_bytes() - before == 3 * 20 * 22 * 24
    projector.form(camera, ImagingChain(SPECTRUM, Detector.ideal(), noise, 1e4))
    after_one = library().emulated_used_bytes()
    for seed in range(20):
        projector.form(camera, ImagingChain(SPECTRUM, Detector.ideal(), noise, 1e4), seed)
    # A detector of its own each time: the tables of the oldest go.
    assert library().emulated_used_bytes() - after_one < 100_000
    projector.close()
    projector.close()
    assert library().emulated_used_bytes() < after_one + 100_000 - 3 * 20 * 22 * 24


def test_only_so_much_spare_memory_is_kept(gpu, monkeypatch):
    monkeypatch.setattr("DeepDRRLogic.gpu.device.MOST_SPARE_BYTES", 3 * 2**20)
    with gpu.active():
        arrays = [DeviceArray(gpu, (2**18,)) for _ in range(9)]
    held = library().emulated_used_bytes()
    del arrays
    assert held - library().emulated_used_bytes() >= 6 * 2**20


@pytest.mark.parametrize("photons", [0.0, -1.0, 2e12, math.nan])
def test_photon_numbers_out_of_range_are_refused(gpu, photons):
    with pytest.raises(ValueError, match=r"photons_per_pixel.*5e5"):
        developed(gpu, uniform(), WATER, Detector.ideal(), None, photons)
