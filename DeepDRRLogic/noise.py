"""Noise of an exposure: Poisson photons, crosstalk between pixels, and readout noise along rows."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .checks import check_range, check_seed
from .crosstalk import NO_CROSSTALK, Crosstalk, Kernel, LightSpread, checked_kernel, kernel_at, spread, widened
from .detector import Detector, ReadoutNoise
from .exposure import Exposure
from .threads import in_slabs, thread_count

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

MAX_PHOTONS_PER_PIXEL = 1e12

# A stream of random numbers per band of rows: the picture depends on the seed, not on the number of threads.
_BANDS = 16


@dataclass(frozen=True)
class NoiseModel:
    """Quantum noise, crosstalk of signal and noise alike, then readout noise.

    Per channel, with N the expected number of detected photons of a pixel and e their mean signal:
    K * (signal + e/i · (Poisson(i N) - i N)) + readout, K * being the convolution with `crosstalk` and i the share of
    the photons' `information` that reaches the signal. The noise has no mean, and K keeps that of the signal; a detail
    of frequency f keeps |K(f)| of its contrast, the quantum noise has the power spectrum σ² |K(f)|², σ² = e² N / i, and
    a pixel the variance σ² Σ K². A crosstalk in mm becomes a kernel where pixels have a size: `at`. `quantum`
    "mean_energy" takes for e the mean signal of a pixel's photons (DeepDRR, Unberath et al., MICCAI 2018, Eq. 2);
    "compound" the root mean square, which also counts that photons differ in energy and gives the variance of a true
    energy integrator, Σ η g² N (12 % more for the open 120 kV beam, 7 % behind 20 cm of water).
    """

    readout: ReadoutNoise
    crosstalk: Crosstalk = NO_CROSSTALK
    quantum: Literal["mean_energy", "compound"] = "mean_energy"
    information: float = 1.0

    def __post_init__(self) -> None:
        check_range("information", self.information, 0.01, 1.0)
        if not isinstance(self.crosstalk, LightSpread):
            checked_kernel(self.crosstalk)
        if self.quantum not in ("mean_energy", "compound"):
            raise ValueError(f"quantum = '{self.quantum}'; use 'mean_energy' or 'compound'.")

    @staticmethod
    def of(detector: Detector, quantum: Literal["mean_energy", "compound"] = "mean_energy") -> NoiseModel:
        """Return the noise that a detector declares."""
        return NoiseModel(detector.readout, detector.crosstalk, quantum, detector.information)

    def at(self, pixel_pitch_mm: tuple[float, float]) -> NoiseModel:
        """Return this noise for pixels of so many mm along u and v: its crosstalk is a kernel."""
        if not isinstance(self.crosstalk, LightSpread):
            return self
        return dataclasses.replace(self, crosstalk=kernel_at(self.crosstalk, pixel_pitch_mm))

    def apply(
        self,
        exposure: Exposure,
        photons_per_pixel: npt.ArrayLike,
        rng: int | np.random.Generator,
        threads: int | None = None,
    ) -> Float32Array:
        """Return a noisy signal, (C, H, W), float32, in the detector's unit.

        `photons_per_pixel` is N0, the photons that reach a pixel with nothing in the beam: a number, or
        (H, W) where the beam is not uniform. `rng` is a seed or a generator, which is advanced; the same seed
        gives the same picture with any number of threads. Offset-corrected detectors have pixels below 0
        where readout noise exceeds the signal, and so has the result. Raises ValueError for N0 that is
        negative, zero everywhere, not finite or above 1e12, and for a crosstalk in mm: take that of `at`.
        """
        kernel = self._kernel
        n0 = _checked_photons(photons_per_pixel, exposure.signal.shape)
        if not isinstance(rng, np.random.Generator):
            check_seed(rng)
        generator = np.random.default_rng(rng)
        n_threads = thread_count(threads)
        # Beyond its border the detector goes on as at the border: pixels there have neighbours like any other.
        photons, gain, expected = (
            widened(planes, kernel)
            for planes in (
                exposure.photons * (n0 * np.float32(self.information)),
                self._signal_per_photon(exposure) / np.float32(self.information),
                exposure.signal * n0,
            )
        )
        rest = 0.0 if self.quantum == "mean_energy" else expected - gain * photons
        signal = spread(_counted(photons, gain, generator, n_threads) + rest, kernel, n_threads)
        if self.readout.std_signal > 0.0:
            signal += _row_correlated(signal.shape, self.readout, generator)
        return signal

    def nps(self, shape: tuple[int, int], quantum_variance: float) -> FloatArray:
        """Return the declared noise power spectrum, (H, W) in the order of np.fft.fft2.

        `quantum_variance` is the variance of a pixel's signal before crosstalk, σ² = e² N / i. In signal² per
        (cycle/pixel)², so that the mean over all frequencies is the variance of a pixel.
        """
        height, width = shape
        kernel = np.array(self._kernel, dtype=np.float64)
        padded = np.zeros((max(height, kernel.shape[0]), max(width, kernel.shape[1])))
        padded[: kernel.shape[0], : kernel.shape[1]] = kernel
        if padded.shape != shape:
            raise ValueError(f"A spectrum of {shape} frequencies is smaller than the kernel {kernel.shape}.")
        transfer = np.abs(np.fft.fft2(padded)) ** 2
        neighbour = self.readout.neighbour_correlation
        cosine = np.cos(2.0 * np.pi * np.fft.fftfreq(width))
        along_row = (1.0 - neighbour**2) / (1.0 - 2.0 * neighbour * cosine + neighbour**2)
        power: FloatArray = quantum_variance * transfer + self.readout.std_signal**2 * along_row
        return power

    @property
    def _kernel(self) -> Kernel:
        if isinstance(self.crosstalk, LightSpread):
            raise ValueError(f"The crosstalk is {self.crosstalk}, in mm: ask noise.at(camera.pixel_pitch_mm) instead.")
        return self.crosstalk

    def _signal_per_photon(self, exposure: Exposure) -> Float32Array:
        if self.quantum == "mean_energy":
            return exposure.signal_per_photon
        square = np.zeros_like(exposure.signal)
        np.divide(exposure.signal_square, exposure.photons, out=square, where=exposure.photons > 0.0)
        return np.sqrt(square, out=square)


def _counted(expected: Float32Array, gain: Float32Array, generator: np.random.Generator, threads: int) -> Float32Array:
    """gain · Poisson(expected), exact for any mean: where no photon is counted there is nothing; all (C, H, W)."""
    means, gains = expected.reshape(-1, expected.shape[-1]), gain.reshape(-1, expected.shape[-1])
    signal = np.empty_like(means)
    seeds = generator.integers(2**63, size=_BANDS)
    edges = np.linspace(0, len(means), _BANDS + 1).astype(int)

    def draw(first: int, last: int) -> None:
        for band in range(first, last):
            rows = slice(edges[band], edges[band + 1])
            counts = np.random.Generator(np.random.SFC64(int(seeds[band]))).poisson(means[rows].astype(np.float64))
            np.multiply(counts, gains[rows], out=signal[rows], casting="same_kind")

    in_slabs(draw, _BANDS, threads, slab=1)
    return signal.reshape(expected.shape)


def _row_correlated(shape: tuple[int, ...], readout: ReadoutNoise, generator: np.random.Generator) -> Float32Array:
    """A stationary first-order autoregressive process along each row: correlation a^d at a distance of d."""
    channels, height, width = shape
    stream = np.random.Generator(np.random.SFC64(int(generator.integers(2**63))))
    columns = stream.standard_normal((width, channels * height), dtype=np.float32)
    neighbour = readout.neighbour_correlation
    if neighbour > 0.0:
        # The first column is left as it is, so that the border has the variance of the rest.
        columns[1:] *= np.float32(np.sqrt(1.0 - neighbour**2))
        for before, here in itertools.pairwise(columns):
            here += np.float32(neighbour) * before
    columns *= np.float32(readout.std_signal)
    return columns.T.reshape(shape)


def _checked_photons(photons_per_pixel: npt.ArrayLike, shape: tuple[int, ...]) -> Float32Array:
    n0 = np.asarray(photons_per_pixel, dtype=np.float64)
    if n0.ndim not in (0, 2) or (n0.ndim == 2 and n0.shape != shape[1:]):
        raise ValueError(f"photons_per_pixel has shape {n0.shape}; give a number or an array {shape[1:]}.")
    if not ((n0 >= 0.0) & (n0 <= MAX_PHOTONS_PER_PIXEL)).all() or not n0.max() > 0.0:
        raise ValueError(
            f"photons_per_pixel runs from {n0.min():g} to {n0.max():g}; give a positive number up to "
            f"{MAX_PHOTONS_PER_PIXEL:g}, for instance 5e5."
        )
    return n0.astype(np.float32)
