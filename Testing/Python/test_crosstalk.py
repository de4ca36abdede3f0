"""Crosstalk: the picture is blurred by the kernel that correlates its noise, with and without noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.crosstalk import NO_CROSSTALK, Kernel, LightSpread, kernel_at, separable_kernel, spread, widened
from DeepDRRLogic.detector import CSI_LIGHT, Detector, ReadoutNoise
from DeepDRRLogic.exposure import Exposure, expose
from DeepDRRLogic.materials import material
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum

SILENT = ReadoutNoise(0.0, 0.0)
KERNEL = separable_kernel((0.1, 0.8, 0.1))
SKEWED = ((0.0, 0.1, 0.0), (0.05, 0.5, 0.2), (0.0, 0.15, 0.0))


def a_wave(period_px: float, size: int = 192) -> Exposure:
    """Water whose transmission waves along the rows."""
    wave = 4.0 + 0.3 * np.cos(2.0 * np.pi * np.arange(size) / period_px)
    areas = np.broadcast_to(wave, (1, size, size)).astype(np.float32)
    return expose(areas, [material("water")], Spectrum.preset("90kV"), Detector.ideal())


def amplitude(planes: np.ndarray, period_px: float) -> float:
    """Of the wave along the rows, over whole periods in the middle."""
    rows = planes[0].mean(axis=0, dtype=np.float64)[48:144]
    return 2.0 * abs(np.mean(rows * np.exp(-2j * np.pi * np.arange(rows.size) / period_px)))


def test_a_pixel_takes_of_its_neighbours_what_the_kernel_says() -> None:
    point = np.zeros((2, 7, 9), np.float32)
    point[0, 3, 4], point[1, 2, 5] = 1.0, 2.0
    shared = spread(widened(point, SKEWED), SKEWED)
    np.testing.assert_array_equal(shared[0, 2:5, 3:6], np.array(SKEWED, np.float32)[::-1, ::-1])
    assert shared[1, 2, 4] == pytest.approx(2.0 * 0.2) and shared[1, 1, 5] == pytest.approx(2.0 * 0.15)
    np.testing.assert_allclose(shared.sum(axis=(1, 2)), (1.0, 2.0), rtol=1e-6)


def test_beyond_the_border_all_is_as_at_the_border() -> None:
    flat = np.full((1, 5, 6), 3.0, np.float32)
    np.testing.assert_allclose(spread(widened(flat, KERNEL), KERNEL), flat, rtol=1e-6)
    assert spread(widened(flat, NO_CROSSTALK), NO_CROSSTALK) is flat


@pytest.mark.parametrize("period_px", [3.0, 4.0, 12.0])
def test_the_signal_loses_the_contrast_that_its_noise_loses(period_px: float) -> None:
    """So that the ratio of signal to noise, frequency by frequency, is that of the photons (no DQE above 1)."""
    exposure, frequency = a_wave(period_px), 1.0 / period_px
    crossed = NoiseModel(SILENT, KERNEL)
    pictures = (model.apply(exposure, 1e10, 1) for model in (NoiseModel(SILENT), crossed))
    sharp, blurred = (amplitude(picture, period_px) for picture in pictures)
    transfer = 0.8 + 0.2 * np.cos(2.0 * np.pi * frequency)
    assert blurred / sharp == pytest.approx(transfer, rel=2e-3)
    declared = crossed.nps((48, 48), 1.0)[0, round(48 * frequency)]
    assert declared == pytest.approx(transfer**2, rel=1e-6)


def test_with_and_without_noise_the_expected_picture_is_the_same() -> None:
    light = LightSpread(5.5)
    csi = Detector.csi_flat_panel(readout=SILENT, crosstalk=light)
    patient, camera = random_volume(shape=(20, 22, 24)), view(20, 10, size=(64, 48), pitch=2.0)
    quiet, noisy, sharp = (
        XRaySimulator(patient, detector=which, noise=noise, photons_per_pixel=1e10, device="cpu")(camera)
        for which, noise in ((csi, None), (csi, "detector"), (csi, NoiseModel(SILENT)))
    )
    np.testing.assert_allclose(noisy.signal, quiet.signal, rtol=3e-4)
    np.testing.assert_array_equal(quiet.photons, sharp.photons)  # where they were absorbed, whatever their light does
    kernel = light.kernel(camera.pixel_pitch_mm)
    assert len(kernel) == len(kernel[0]) == 3
    by_hand = sum(
        kernel[dv][du] * sharp.signal[dv : dv + 46, du : du + 62].astype(float) for dv in range(3) for du in range(3)
    )
    np.testing.assert_allclose(quiet.signal[1:-1, 1:-1], by_hand, rtol=3e-4)
    assert np.abs(quiet.signal / sharp.signal - 1.0).max() > 0.005


def transfer(kernel: Kernel, pitch_mm: float, per_mm: float) -> float:
    """What a kernel leaves of the contrast of a wave along the rows."""
    profile = np.sum(kernel, axis=0)
    places = np.arange(len(profile)) - len(profile) // 2
    return float(profile @ np.cos(2.0 * np.pi * per_mm * pitch_mm * places))


@pytest.mark.parametrize("pitch_mm", [0.1, 0.194, 0.388, 0.8])
@pytest.mark.parametrize("nyquist_share", [0.1, 0.5, 0.9])
def test_light_spreads_in_mm_and_pixels_average_it(pitch_mm: float, nyquist_share: float) -> None:
    """Sampled every pixel, so that what lies beyond the Nyquist frequency folds back."""
    per_mm = nyquist_share / (2.0 * pitch_mm)
    folded = per_mm + np.arange(-2000, 2001) / pitch_mm
    expected = float(np.sum(np.sinc(pitch_mm * folded) / (1.0 + 0.5 * folded**2)))
    kernel = LightSpread(0.5).kernel((pitch_mm, pitch_mm))
    assert transfer(kernel, pitch_mm, per_mm) == pytest.approx(expected, abs=0.01)
    assert np.sum(kernel) == pytest.approx(1.0) and np.min(kernel) > 0.0
    np.testing.assert_allclose(kernel, np.array(kernel)[::-1, ::-1].T, rtol=1e-9)


def test_pixels_of_unequal_sides_share_more_across_the_short_one() -> None:
    kernel = np.array(LightSpread(0.5).kernel((0.1, 0.4)))
    middle = tuple(n // 2 for n in kernel.shape)
    assert kernel[middle[0], middle[1] + 1] > 3.0 * kernel[middle[0] + 1, middle[1]]
    np.testing.assert_allclose(kernel.sum(1), np.array(LightSpread(0.5).kernel((0.4, 0.1))).sum(0), rtol=1e-9)
    assert kernel_at(SKEWED, (0.1, 0.4)) is SKEWED


def test_the_panel_is_as_sharp_and_as_sensitive_as_measured_ones() -> None:
    """Marshall et al., Phys. Med. Biol. 56 (2011): half the contrast at 1.29 per mm, DQE 0.60 at 0.5 per mm."""
    for pitch_mm in (0.143, 0.2):
        presampled = math.sin(math.pi * 1.29 * pitch_mm) / (math.pi * 1.29 * pitch_mm) / (1.0 + 0.5 * 1.29**2)
        assert presampled == pytest.approx(0.5, abs=0.02)
        kernel = CSI_LIGHT.kernel((pitch_mm, pitch_mm))
        assert transfer(kernel, pitch_mm, 1.29) == pytest.approx(presampled, abs=0.03)
    panel = Detector.csi_flat_panel(readout=SILENT).at((0.2, 0.2))
    beam = Spectrum.for_kvp(70, copper_mm=1.0)
    open_field = expose(np.zeros((1, 240, 240), np.float32), [material("water")], beam, panel)
    noise = NoiseModel.of(panel, "compound")
    picture = noise.apply(open_field, 1e4, 3)[0].astype(np.float64)
    power = np.abs(np.fft.fft2(picture / picture.mean() - 1.0)) ** 2 / picture.size
    at_half = round(0.5 * 0.2 * 240)
    rows = power[np.ix_(range(1, 8), range(at_half - 8, at_half + 9))]
    efficiency = transfer(panel.at((0.2, 0.2)).crosstalk, 0.2, 0.5) ** 2 / (1e4 * rows.mean())
    assert efficiency == pytest.approx(0.60, abs=0.07)


def test_light_in_mm_asks_for_the_size_of_pixels() -> None:
    exposure = a_wave(4.0, 32)
    with pytest.raises(ValueError, match="in mm"):
        NoiseModel.of(Detector.csi_flat_panel()).apply(exposure, 1e4, 1)
    with pytest.raises(ValueError, match="in mm"):
        spread(exposure.signal, CSI_LIGHT)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="area_mm2"):
        LightSpread(0.0)
    with pytest.raises(ValueError, match="information"):
        Detector.csi_flat_panel(information=0.0)
    assert Detector.ideal().at((0.2, 0.2)) == Detector.ideal()


def test_free_air_keeps_its_signal() -> None:
    camera = view(size=(16, 12), pitch=2.0)
    image = XRaySimulator(random_volume(shape=(4, 4, 4)), detector=Detector.csi_flat_panel(), noise=None)(camera)
    np.testing.assert_allclose(image.signal[:2, :2], image.unattenuated_signal[0], rtol=1e-6)
