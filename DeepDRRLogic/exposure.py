"""From area densities to what the detector receives: the polychromatic Beer-Lambert law, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .detector import Detector
from .materials import Material
from .spectrum import Spectrum
from .threads import in_slabs, thread_count

Float32Array = npt.NDArray[np.float32]

# exp(-70) = 4e-31 is nothing to any detector. Stopping there keeps every number a normal float32: logarithms
# and mean energies stay finite behind any amount of metal, and no denormal slows the products down.
DEEPEST_EXPONENT = np.float32(-70.0)

# Bins with less than this part of the detected photons are left out; 100 of them are 1e-5 of the signal.
_NEGLIGIBLE = 1e-7

# OpenBLAS starts its own threads for a product of more multiplications than this; ours are already running.
_SINGLE_THREADED_PRODUCT = 262_144


@dataclass(frozen=True, eq=False)
class Exposure:
    """What reaches each detector pixel, per photon that would reach it with nothing in the beam.

    All arrays float32. `photons` (C, H, W): detected photons, Σ η N; `signal` (C, H, W): their signal,
    Σ η g N, in keV or counts; `signal_square` (C, H, W): Σ η g² N, the variance of that signal for Poisson
    photons; `energy_kev` (H, W): energy of the detected photons of all channels, Σ η E N. Exposures of one
    detector add (primary + scatter).
    """

    signal: Float32Array
    photons: Float32Array
    signal_square: Float32Array
    energy_kev: Float32Array

    @property
    def mean_energy_kev(self) -> Float32Array:
        """Mean energy of the detected photons, (H, W), in keV; 0 where there are none."""
        photons = self.photons.sum(axis=0)
        mean: Float32Array = np.zeros_like(photons)
        np.divide(self.energy_kev, photons, out=mean, where=photons > 0.0)
        return mean

    @property
    def signal_per_photon(self) -> Float32Array:
        """Mean signal of a detected photon, (C, H, W), in keV or counts; 0 where there are none."""
        mean = np.zeros_like(self.signal)
        np.divide(self.signal, self.photons, out=mean, where=self.photons > 0.0)
        return mean

    @property
    def planes(self) -> Float32Array:
        """Everything in one array (3 C + 1, H, W): photons, signal and squared signal of every channel, energy."""
        return np.concatenate([self.photons, self.signal, self.signal_square, self.energy_kev[None]])

    @staticmethod
    def of_planes(planes: Float32Array) -> Exposure:
        """The exposure that has these `planes`."""
        photons, signal, square = planes[:-1].reshape(3, -1, *planes.shape[1:])
        return Exposure(signal, photons, square, planes[-1])

    def __add__(self, other: Exposure) -> Exposure:
        return Exposure(
            self.signal + other.signal,
            self.photons + other.photons,
            self.signal_square + other.signal_square,
            self.energy_kev + other.energy_kev,
        )


def expose(
    area_densities: npt.ArrayLike,
    materials: Sequence[Material],
    spectrum: Spectrum,
    detector: Detector,
    threads: int | None = None,
) -> Exposure:
    """Return the exposure of `detector` to `spectrum` behind `area_densities`, (M, H, W) in g/cm².

    N(E) = p0(E) · exp(-Σ_m (µ/ρ)_m(E) A_m), detected with η(E) and weighted with g(E): DeepDRR, Unberath et
    al., MICCAI 2018, Eq. 1. Relative error below 2e-5; no energy is attenuated below e^-70, 4e-31. Raises
    ValueError for shapes that disagree, negative or non-finite area densities, and a detector that sees
    nothing of the spectrum.
    """
    densities = _checked(area_densities, materials)
    n_channels, (height, width) = len(detector.channels), densities.shape[1:]
    energies, rows, row_of = detection_weights(spectrum, detector)
    minus_mu = np.empty((energies.size, len(materials)), dtype=np.float32)
    for m, one in enumerate(materials):
        minus_mu[:, m] = -one.mass_attenuation_cm2_g(energies)

    pixels = height * width
    flat = densities.reshape(len(materials), pixels)
    sums = np.empty((len(rows), pixels), dtype=np.float32)
    widest = max(len(materials), len(rows), 1)
    chunk = min(max(_SINGLE_THREADED_PRODUCT // (energies.size * widest), 128), 1024)

    # Chunks lie where they lie for any number of threads: the last digit of a product may depend on its neighbours.
    def work(start: int, stop: int) -> None:
        buffer = np.empty(energies.size * chunk, dtype=np.float32)
        for first in range(start * chunk, min(stop * chunk, pixels), chunk):
            last = min(first + chunk, pixels)
            transmission = buffer[: energies.size * (last - first)].reshape(energies.size, last - first)
            np.matmul(minus_mu, flat[:, first:last], out=transmission)
            np.maximum(transmission, DEEPEST_EXPONENT, out=transmission)
            np.exp(transmission, out=transmission)
            np.matmul(rows, transmission, out=sums[:, first:last])

    in_slabs(work, -(-pixels // chunk), thread_count(threads))
    pictures = sums.reshape(len(rows), height, width)
    photons, signal, square = (pictures[row_of[i * n_channels : (i + 1) * n_channels]] for i in range(3))
    return Exposure(signal, photons, square, pictures[row_of[-1]])


def unattenuated(spectrum: Spectrum, detector: Detector) -> Exposure:
    """Return the exposure with nothing in the beam, its pictures one pixel large: I0 is its `signal`.

    Raises ValueError for a channel that none of the spectrum's photons reach: there would be nothing to compare with.
    """
    blank = expose(np.zeros((0, 1, 1), dtype=np.float32), (), spectrum, detector, threads=1)
    for channel, signal in zip(detector.channels, blank.signal[:, 0, 0], strict=True):
        if not signal > 0.0:
            raise ValueError(
                f"Channel '{channel}' of the detector '{detector.name}' sees none of the spectrum's photons, which end "
                f"at {spectrum.energies_kev[spectrum.photons > 0].max():g} keV: raise the tube voltage, or choose "
                "another detector or other edges_kev."
            )
    return blank


def _checked(area_densities: npt.ArrayLike, materials: Sequence[Material]) -> Float32Array:
    densities = np.ascontiguousarray(area_densities, dtype=np.float32)
    if densities.ndim != 3 or densities.shape[0] != len(materials) or 0 in densities.shape[1:]:
        raise ValueError(
            f"Area densities have shape {densities.shape} for {len(materials)} materials; "
            "give (materials, height, width)."
        )
    if not densities.size:
        return densities
    lowest, highest = densities.min(), densities.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError("The area densities hold NaN or infinite values; project a volume without them.")
    if lowest < -1e-3:
        raise ValueError(f"An area density is {lowest:g} g/cm²; densities must not be negative.")
    return np.maximum(densities, np.float32(0.0)) if lowest < 0.0 else densities


def detection_weights(
    spectrum: Spectrum, detector: Detector
) -> tuple[npt.NDArray[np.float64], Float32Array, list[int]]:
    """Return the energies that matter, the distinct rows of weights over them, and which row each sum uses.

    The sums are photons, signal and squared signal of every channel, then the energy of all. Many are the
    same (a counter's signal is its photons), and each costs time.
    """
    detected = detector.detected_fraction(spectrum.energies_kev) * spectrum.photons
    total = detected.sum(axis=0)
    if not total.sum() > 0.0:
        raise ValueError(
            f"The detector '{detector.name}' sees nothing of the spectrum '{spectrum.description}'; "
            "lower its threshold or raise the tube voltage."
        )
    kept = total > _NEGLIGIBLE * total.sum()
    energies = spectrum.energies_kev[kept]
    every = (detector.responses(energies) * spectrum.photons[kept]).astype(np.float32)
    distinct: dict[bytes, int] = {}
    row_of = [distinct.setdefault(row.tobytes(), len(distinct)) for row in every]
    rows = np.array([np.frombuffer(row, dtype=np.float32) for row in distinct])
    return energies, rows, row_of
