"""Crosstalk: the picture is blurred by the kernel that correlates its noise, with and without noise."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.crosstalk import NO_CROSSTALK, separable_kernel, spread, widened
from DeepDRRLogic.detector import Detector, ReadoutNoise
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
    csi = Detector.csi_flat_panel(readout=SILENT)
    patient, camera = random_volume(shape=(20, 22, 24)), view(20, 10, size=(64, 48), pitch=2.0)
    quiet, noisy, sharp = (
        XRaySimulator(patient, detector=which, noise=noise, photons_per_pixel=1e10, device="cpu")(camera)
        for which, noise in ((csi, None), (csi, "detector"), (csi, NoiseModel(SILENT)))
    )
    np.testing.assert_allclose(noisy.signal, quiet.signal, rtol=3e-4)
    np.testing.assert_array_equal(quiet.photons, sharp.photons)  # where they were absorbed, whatever their light does
    middle = (slice(1, -1), slice(1, -1))
    by_hand = sum(
        KERNEL[dv][du] * sharp.signal[dv : dv + 46, du : du + 62].astype(float) for dv in range(3) for du in range(3)
    )
    np.testing.assert_allclose(quiet.signal[middle], by_hand, rtol=3e-4)
    assert np.abs(quiet.signal / sharp.signal - 1.0).max() > 0.01


def test_free_air_keeps_its_signal() -> None:
    camera = view(size=(16, 12), pitch=2.0)
    image = XRaySimulator(random_volume(shape=(4, 4, 4)), detector=Detector.csi_flat_panel(), noise=None)(camera)
    np.testing.assert_allclose(image.signal[:2, :2], image.unattenuated_signal[0], rtol=1e-6)
