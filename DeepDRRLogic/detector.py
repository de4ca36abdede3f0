"""X-ray detectors: which photons they detect, what signal each gives, and the noise they declare."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import check_positive, check_range, chosen
from .crosstalk import NO_CROSSTALK, Crosstalk, LightSpread, checked_kernel, kernel_at
from .materials import Material, material

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReadoutNoise:
    """Additive Gaussian noise of a detector's electronics, correlated along rows.

    `std_signal` is the standard deviation of a pixel in the detector's signal unit (keV or counts). Pixels of
    one row that are d apart have the correlation exp(-d / correlation_px); 0 is white. There is no default:
    a detector without readout noise says so with `ReadoutNoise(0.0, 0.0)`. Raises ValueError for negative
    values. Source: correlation of flat-panel noise, Zhang et al., Med. Phys. 41, 031906 (2014).
    """

    std_signal: float
    correlation_px: float

    def __post_init__(self) -> None:
        check_range("std_signal", self.std_signal, 0.0, 1e12)
        check_range("correlation_px", self.correlation_px, 0.0, 1e4, "pixels")

    @property
    def neighbour_correlation(self) -> float:
        """Correlation of two pixels that are next to each other in a row; that of pixels d apart is its d-th power."""
        return math.exp(-1.0 / self.correlation_px) if self.correlation_px > 0.0 else 0.0

    @staticmethod
    def from_electrons(electrons: float, electrons_per_signal: float, correlation_px: float) -> ReadoutNoise:
        """Return the noise of `electrons` rms at a gain of so many electrons per keV (or per count)."""
        check_positive("electrons_per_signal", electrons_per_signal)
        return ReadoutNoise(electrons / electrons_per_signal, correlation_px)

    @staticmethod
    def from_photons(photons: float, signal_per_photon: float, correlation_px: float) -> ReadoutNoise:
        """Return the noise that equals the signal of so many detected photons of `signal_per_photon` each."""
        check_positive("signal_per_photon", signal_per_photon)
        return ReadoutNoise(photons * signal_per_photon, correlation_px)


# A caesium iodide panel on amorphous silicon has some 20 electrons per absorbed keV and an additive noise of
# some 1500 electrons (orders of magnitude of Siewerdsen et al., Med. Phys. 24, 71 (1997)): 75 keV, or little
# more than one photon. The correlation length is a choice of ours.
FLAT_PANEL_READOUT = ReadoutNoise.from_electrons(1500.0, electrons_per_signal=20.0, correlation_px=2.0)

# Six caesium iodide panels at 70 kV and 1 mm of copper (Marshall et al., Phys. Med. Biol. 56, 979 (2011)): half of the
# contrast is left at 1.29 per mm, pixels included, and at 0.5 per mm a detective quantum efficiency of 0.60.
CSI_LIGHT = LightSpread(area_mm2=0.5)
CSI_INFORMATION = 0.7


@dataclass(frozen=True)
class Detector:
    """How a detector answers to a photon: what fraction it detects, and the signal each detected one gives.

    With `edges_kev` None it integrates energy (one channel, signal in keV). Otherwise it counts: channel c
    counts the photons with edges_kev[c] <= E < edges_kev[c + 1], the last edge may be inf. `absorber` of
    `absorber_g_cm2` detects 1 - exp(-µ/ρ · g/cm²); None detects everything. `crosstalk` is what a pixel's signal, and
    its quantum noise, owe to its neighbours: an odd-sized kernel that sums to 1, or a LightSpread in mm. Signals are
    as noisy as if only the share `information` of the detected photons had been counted: the rest is lost to the
    fluctuations of the light that they give. Raises ValueError for edges that do not increase, a negative absorber, a
    kernel that does not preserve the mean and a share outside 0 to 1.
    """

    name: str
    channels: tuple[str, ...]
    readout: ReadoutNoise
    edges_kev: tuple[float, ...] | None = None
    absorber: Material | None = None
    absorber_g_cm2: float = 0.0
    crosstalk: Crosstalk = NO_CROSSTALK
    information: float = 1.0

    def __post_init__(self) -> None:
        edges = (0.0, math.inf) if self.edges_kev is None else self.edges_kev
        if len(edges) < 2 or not edges[0] >= 0.0 or not all(a < b for a, b in itertools.pairwise(edges)):
            raise ValueError(f"Energy bins have the edges {edges} keV; give at least two rising values.")
        if len(self.channels) != len(edges) - 1:
            raise ValueError(f"{len(self.channels)} channel names for {len(edges) - 1} channels; name each once.")
        if self.absorber is not None:
            check_positive("absorber_g_cm2", self.absorber_g_cm2)
        check_range("information", self.information, 0.01, 1.0)
        # Tuples, whatever was given: what has been computed for a detector is kept by it.
        if not isinstance(self.crosstalk, LightSpread):
            checked_kernel(self.crosstalk)
            object.__setattr__(self, "crosstalk", tuple(tuple(float(x) for x in row) for row in self.crosstalk))
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.edges_kev is not None:
            object.__setattr__(self, "edges_kev", tuple(float(edge) for edge in self.edges_kev))

    @staticmethod
    def ideal(readout: ReadoutNoise = FLAT_PANEL_READOUT) -> Detector:
        """Return the detector of the DeepDRR paper: it absorbs every photon and integrates its energy."""
        return Detector("ideal", ("energy",), readout)

    @staticmethod
    def csi_flat_panel(
        *,
        thickness_um: float = 600.0,
        packing: float = 0.8,
        crosstalk: Crosstalk = CSI_LIGHT,
        information: float = CSI_INFORMATION,
        readout: ReadoutNoise = FLAT_PANEL_READOUT,
    ) -> Detector:
        """Return an indirect flat panel with a columnar caesium iodide scintillator.

        `packing` is the share of the layer's volume that is CsI. An absorbed photon gives its whole energy: what the
        escape of fluorescence and the fluctuations of the light cost is in `information`. Light crosses to
        neighbouring pixels, which blurs the picture and correlates its noise. The defaults of both are those of
        measured panels (Marshall et al. 2011), so that the detective quantum efficiency is the product of the
        absorbed share and `information` at all frequencies; that of a real panel falls at high ones.
        """
        check_positive("thickness_um", thickness_um)
        check_range("packing", packing, 0.01, 1.0)
        csi = material("caesium_iodide")
        return Detector(
            "csi_flat_panel",
            ("energy",),
            readout,
            absorber=csi,
            absorber_g_cm2=1e-4 * thickness_um * csi.density_g_cm3 * packing,
            crosstalk=crosstalk,
            information=information,
        )

    @staticmethod
    def photon_counting(
        *,
        threshold_kev: float = 20.0,
        absorber: str | None = "cadmium_telluride",
        thickness_um: float = 1000.0,
    ) -> Detector:
        """Return a detector that counts the photons at or above a threshold; `absorber` None absorbs all.

        Electronic noise stays below the threshold, so it has no readout noise. Charge sharing and pile-up
        are left out.
        """
        return Detector.energy_bins(
            (threshold_kev, math.inf), absorber=absorber, thickness_um=thickness_um, name="photon_counting"
        )

    @staticmethod
    def energy_bins(
        edges_kev: Sequence[float] = (20.0, 50.0, 75.0, math.inf),
        *,
        absorber: str | None = "cadmium_telluride",
        thickness_um: float = 1000.0,
        name: str = "energy_bins",
    ) -> Detector:
        """Return a counting detector with one channel between each two `edges_kev` (the last may be inf)."""
        edges = tuple(float(edge) for edge in edges_kev)
        check_positive("thickness_um", thickness_um)
        sensor = None if absorber is None else material(absorber)
        return Detector(
            name,
            tuple(f"{a:g}-{b:g} keV" if b < math.inf else f"{a:g} keV and up" for a, b in itertools.pairwise(edges)),
            ReadoutNoise(0.0, 0.0),
            edges_kev=edges,
            absorber=sensor,
            absorber_g_cm2=0.0 if sensor is None else 1e-4 * thickness_um * sensor.density_g_cm3,
        )

    @property
    def signal_unit(self) -> str:
        """What the signal is measured in: "keV" or "counts"."""
        return "keV" if self.edges_kev is None else "counts"

    def at(self, pixel_pitch_mm: tuple[float, float]) -> Detector:
        """Return this detector with pixels of so many mm along u and v: its crosstalk is a kernel."""
        if not isinstance(self.crosstalk, LightSpread):
            return self
        return dataclasses.replace(self, crosstalk=kernel_at(self.crosstalk, pixel_pitch_mm))

    def detected_fraction(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """Return η(E), (C, n): the fraction of the photons of n energies that each channel detects."""
        energies = np.atleast_1d(np.asarray(energies_kev, dtype=np.float64))
        absorbed = np.ones(energies.shape)
        if self.absorber is not None:
            absorbed = -np.expm1(-self.absorber_g_cm2 * self.absorber.mass_attenuation_cm2_g(energies))
        if self.edges_kev is None:
            return absorbed[None]
        edges = np.array(self.edges_kev)
        return np.where((edges[:-1, None] <= energies) & (energies < edges[1:, None]), absorbed, 0.0)

    def signal_per_photon(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """Return g(E), (C, n): the signal of one detected photon, its energy in keV or one count."""
        energies = np.atleast_1d(np.asarray(energies_kev, dtype=np.float64))
        return energies[None].copy() if self.edges_kev is None else np.ones((len(self.channels), energies.size))

    def responses(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """Return what one photon of each energy is worth, (3 C + 1, n): the planes of an Exposure, in their order.

        η, η g and η g² of every channel, then the energy that all channels detect: see exposure.Exposure.planes.
        """
        energies = np.atleast_1d(np.asarray(energies_kev, dtype=np.float64))
        detected, gain = self.detected_fraction(energies), self.signal_per_photon(energies)
        energy = (detected * energies).sum(axis=0, keepdims=True)
        return np.concatenate([detected, detected * gain, detected * gain**2, energy])


_NAMED: dict[str, Callable[[], Detector]] = {
    "ideal": Detector.ideal,
    "csi_flat_panel": Detector.csi_flat_panel,
    "photon_counting": Detector.photon_counting,
    "energy_bins": Detector.energy_bins,
}


def detector_names() -> tuple[str, ...]:
    """Return the names that `detector` knows."""
    return tuple(_NAMED)


def detector(name: str) -> Detector:
    """Return the detector called `name` with its default parameters; ValueError for an unknown name."""
    return _NAMED[chosen("detector", name, _NAMED)]()
