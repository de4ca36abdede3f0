"""X-ray tube spectra: how many photons leave the tube, and at which energies."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from numbers import Real

import numpy as np
import numpy.typing as npt

from .checks import check_kind, check_positive, check_range, chosen
from .cross_sections import MAX_ENERGY_KEV, MIN_ENERGY_KEV
from .materials import Material, material

FloatArray = npt.NDArray[np.float64]

_logger = logging.getLogger(__name__)

KVP_RANGE = (20.0, 300.0)
_ANODES = {"W": KVP_RANGE, "Mo": (20.0, 50.0), "Rh": (20.0, 50.0)}

# Attenuation is taken at the centre of a bin. In bins of 1 keV that of iodine in a 60 kV beam is right to half a per
# cent; in bins of 5 keV, in one of which its K edge lies, it is 5 % too small.
_WIDEST_ACCURATE_KEV = 1.0

# Of the usual beams some 1e6 photons per mm² and mAs reach 1 m; of this one a thousand mAs give one photon.
_LEAST_PHOTONS_PER_MAS_MM2 = 1e-3

JOULE_PER_KEV = 1.602176634e-16  # exact in the SI of 2019

# Filtration of the spectra published with DeepDRR (60, 90 and 120 kV) and of the presets between them.
_DEFAULT_FILTER_KVP = (60.0, 70.0, 80.0, 90.0, 120.0)
_DEFAULT_FILTER_MM = (3.5, 3.7, 3.8, 4.0, 4.3)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Photons by energy: `energies_kev` (n,) are the CENTRES of the bins, `photons` (n,) sums to 1.

    `photons` is normalised when the object is made; both arrays become read-only float64. `kvp` is the tube
    voltage in kV, `photons_per_mas_mm2_at_1m` the fluence that one mAs gives at 1 m from the source with
    nothing but the filters in the beam (None where no tube stands behind the spectrum). Raises ValueError
    for negative, missing or non-finite photons, and for energies that do not increase, leave 1 to 300 keV or exceed
    what `kvp` can give.
    """

    energies_kev: FloatArray
    photons: FloatArray
    kvp: float
    description: str = ""
    photons_per_mas_mm2_at_1m: float | None = None

    def __post_init__(self) -> None:
        energies = np.array(self.energies_kev, dtype=np.float64)
        photons = np.array(self.photons, dtype=np.float64)
        _check_table(energies, photons)
        check_kind("kvp", self.kvp, Real, "80")
        check_positive("kvp", self.kvp)
        highest = float(energies[photons > 0.0][-1])
        if highest > self.kvp * (1 + 1e-9):
            raise ValueError(
                f"The spectrum has photons of {highest:g} keV, and kvp is {self.kvp:g}: a tube gives none above its "
                "voltage. Give the voltage of the tube, or the energies in keV."
            )
        if self.photons_per_mas_mm2_at_1m is not None:
            check_positive("photons_per_mas_mm2_at_1m", self.photons_per_mas_mm2_at_1m)
        photons /= photons.max()  # first, so that the sum of very large numbers cannot overflow
        photons /= photons.sum()
        energies.flags.writeable = photons.flags.writeable = False
        object.__setattr__(self, "energies_kev", energies)
        object.__setattr__(self, "photons", photons)

    @staticmethod
    def from_table(
        energies_kev: npt.ArrayLike,
        photons: npt.ArrayLike,
        *,
        kvp: float | None = None,
        description: str = "from a table",
    ) -> Spectrum:
        """Return the spectrum with `photons` (relative) in bins around the CENTRES `energies_kev`, both (n,).

        `kvp` defaults to the highest energy that has photons. Raises ValueError as the class does.
        """
        energies = np.asarray(energies_kev, dtype=np.float64)
        weights = np.asarray(photons, dtype=np.float64)
        _check_table(energies, weights)
        highest = float(energies[weights > 0.0][-1])
        return Spectrum(energies, weights, highest if kvp is None else kvp, description)

    @staticmethod
    def monoenergetic(energy_kev: float) -> Spectrum:
        """Return a beam of a single energy in keV."""
        return Spectrum(np.array([energy_kev]), np.array([1.0]), energy_kev, f"monoenergetic, {energy_kev:g} keV")

    @staticmethod
    def tube(
        kvp: float,
        *,
        aluminium_mm: float | None = None,
        copper_mm: float = 0.0,
        anode: str = "W",
        anode_angle_deg: float = 12.0,
        bin_width_kev: float = 1.0,
    ) -> Spectrum:
        """Return the spectrum of a tube with a reflection target, at 1 m on the central axis.

        `kvp` from 20 to 300 kV (Mo and Rh anodes: 20 to 50). `aluminium_mm` is the whole filtration; None takes
        `default_aluminium_mm(kvp)`, which goes with a W anode only. Attenuation is taken at the centre of a bin: bins
        wider than 1 keV blur the K edges of contrast media and filters, which a warning says. Raises ValueError for
        values out of range, and for filters that practically nothing gets through. Source: SpekPy 2, model "casim"
        (Omar et al., Med. Phys. 47 (2020); Poludniowski et al., Med. Phys. 48 (2021)).
        """
        anode = chosen("anode", anode, _ANODES)
        _check_number("kvp", kvp, *_ANODES[anode], f"kV for a {anode} anode", "80")
        if aluminium_mm is None and anode != "W":
            raise ValueError(f"No filtration is usual for a {anode} anode; give one, such as aluminium_mm=0.5.")
        aluminium = default_aluminium_mm(kvp) if aluminium_mm is None else aluminium_mm
        _check_number("aluminium_mm", aluminium, 0.0, 50.0, "mm", "2.5")
        _check_number("copper_mm", copper_mm, 0.0, 10.0, "mm", "0.1")
        _check_number("anode_angle_deg", anode_angle_deg, 5.0, 45.0, "degrees", "12")
        _check_number("bin_width_kev", bin_width_kev, 0.1, 5.0, "keV", "1")
        return _tube(
            float(kvp),
            float(aluminium),
            float(copper_mm),
            anode,
            float(anode_angle_deg),
            float(bin_width_kev),
        )

    @staticmethod
    def preset(name: str) -> Spectrum:
        """Return a spectrum that is stored in the package, such as "120kV"; `spectrum_presets()` lists them.

        Raises ValueError for an unknown name.
        """
        return _preset(chosen("spectrum", name, spectrum_presets()))

    @staticmethod
    def for_kvp(kvp: float, *, aluminium_mm: float | None = None, copper_mm: float = 0.0) -> Spectrum:
        """Return the beam of a tube voltage in kV: a preset where voltage and filtration are usual, else `tube`'s.

        `aluminium_mm` is the whole filtration, None what is usual. Raises ValueError as `tube` does.
        """
        check_kind("kvp", kvp, Real, "80")
        name = f"{kvp:g}kV"
        if name in spectrum_presets() and aluminium_mm is None and copper_mm == 0.0:
            return _preset(name)
        return Spectrum.tube(kvp, aluminium_mm=aluminium_mm, copper_mm=copper_mm)

    @property
    def mean_energy_kev(self) -> float:
        """The mean energy of the photons, Σ E p(E), in keV."""
        return float(self.photons @ self.energies_kev)

    def filtered(self, filter_material: Material | str, thickness_mm: float) -> Spectrum:
        """Return the spectrum behind a filter of nominal density, its fluence reduced accordingly.

        Raises ValueError for a negative thickness or a filter that leaves less than 1e-300 of the beam.
        """
        filter_material = _as_material(filter_material)
        check_range("thickness_mm", thickness_mm, 0.0, 1e6, "mm")
        remaining = self.photons * np.exp(-thickness_mm * _attenuation_per_mm(filter_material, self))
        transmission = float(remaining.sum())
        if transmission < 1e-300:
            raise ValueError(
                f"{thickness_mm:g} mm of {filter_material.name} let nothing through; use a thinner filter."
            )
        fluence = self.photons_per_mas_mm2_at_1m
        return Spectrum(
            self.energies_kev,
            remaining,
            self.kvp,
            f"{self.description}, {thickness_mm:g} mm {filter_material.name}",
            None if fluence is None else fluence * transmission,
        )

    def half_value_layer_mm(self, filter_material: Material | str = "aluminium") -> float:
        """Return the thickness in mm that halves the air kerma in narrow-beam geometry (IEC 61267).

        A single energy gives ln 2 / µ. The filter has its nominal density.
        """
        per_mm = _attenuation_per_mm(_as_material(filter_material), self)
        kerma = self.photons * self.energies_kev * material("air").mass_energy_absorption_cm2_g(self.energies_kev)
        # The least attenuated bin alone would need the most; bisection halves that down to rounding.
        low, high = 0.0, float(np.log(2.0) / per_mm.min())
        for _ in range(60):
            middle = 0.5 * (low + high)
            too_thin = kerma @ np.exp(-per_mm * middle) > 0.5 * kerma.sum()
            low, high = (middle, high) if too_thin else (low, middle)
        return 0.5 * (low + high)

    def air_kerma_gy(self, photons_per_mm2: float) -> float:
        """Return the air kerma in Gy of a fluence in photons/mm².

        K = Φ Σ p(E) E (µ_en/ρ)_air(E); the bremsstrahlung part, below 0.1 % here, is left out.
        Raises ValueError for a negative fluence. Source: Hubbell & Seltzer (NIST, 1995), ICRU Report 85.
        """
        check_range("photons_per_mm2", photons_per_mm2, 0.0, 1e30, "photons/mm²")
        mu_en_cm2_g = material("air").mass_energy_absorption_cm2_g(self.energies_kev)
        kev_per_g = 100.0 * photons_per_mm2 * float(self.photons @ (self.energies_kev * mu_en_cm2_g))
        return 1000.0 * kev_per_g * JOULE_PER_KEV

    def photons_per_pixel(self, mas: float, pixel_area_mm2: float, source_to_detector_mm: float) -> float:
        """Return N0, the photons that reach one pixel with nothing in the beam.

        N0 = fluence per mAs at 1 m · mAs · pixel area · (1000 mm / source_to_detector_mm)², the
        inverse-square law without the air in between (1 m of it takes about 2 %). Raises ValueError for
        values that are not positive, and for a spectrum without a tube, whose fluence nobody knows.
        """
        if self.photons_per_mas_mm2_at_1m is None:
            raise ValueError(
                f"The spectrum '{self.description}' has no tube output; give the photons per pixel, or take "
                "Spectrum.tube or a preset."
            )
        check_positive("mas", mas)
        check_positive("pixel_area_mm2", pixel_area_mm2)
        check_positive("source_to_detector_mm", source_to_detector_mm)
        return self.photons_per_mas_mm2_at_1m * mas * pixel_area_mm2 * (1000.0 / source_to_detector_mm) ** 2


def default_aluminium_mm(kvp: float) -> float:
    """Return the filtration in mm Al that goes with a tube voltage: 3.5 at 60, 4.0 at 90, 4.3 at 120 kV.

    Linear between the presets, constant outside. Source: the spectra published with DeepDRR.
    """
    return float(np.interp(kvp, _DEFAULT_FILTER_KVP, _DEFAULT_FILTER_MM))


@lru_cache(maxsize=1)
def spectrum_presets() -> tuple[str, ...]:
    """Return the names of the spectra stored in the package, by rising tube voltage."""
    names = [entry.name.removesuffix(".json") for entry in _folder().iterdir() if entry.name.endswith(".json")]
    return tuple(sorted(names, key=lambda name: float(name.removesuffix("kV"))))


def _folder() -> Traversable:
    return files("DeepDRRLogic").joinpath("data", "spectra")


@lru_cache(maxsize=32)
def _preset(name: str) -> Spectrum:
    table = json.loads(_folder().joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return Spectrum(
        energies_kev=table["energies_kev"],
        photons=table["photons"],
        kvp=table["kvp"],
        description=table["description"],
        photons_per_mas_mm2_at_1m=table["photons_per_mas_mm2_at_1m"],
    )


@lru_cache(maxsize=32)
def _tube(
    kvp: float,
    aluminium_mm: float,
    copper_mm: float,
    anode: str,
    anode_angle_deg: float,
    bin_width_kev: float,
) -> Spectrum:
    import spekpy

    tube = spekpy.Spek(kvp=kvp, th=anode_angle_deg, dk=bin_width_kev, targ=anode, z=100.0, mas=1.0)
    tube.filter("Al", aluminium_mm)
    tube.filter("Cu", copper_mm)
    # edges=False asks for bin centres, diff=False for photons per bin (not per keV) and cm².
    energies, photons = tube.get_spectrum(edges=False, diff=False)
    fluence = float(photons.sum()) / 100.0
    if not fluence > _LEAST_PHOTONS_PER_MAS_MM2:
        raise ValueError(
            f"Of a {kvp:g} kV beam {aluminium_mm:g} mm Al and {copper_mm:g} mm Cu leave {fluence:.2g} photons per mm² "
            "and mAs: practically nothing. Use thinner filters or a higher voltage."
        )
    if bin_width_kev > _WIDEST_ACCURATE_KEV:
        _logger.warning(
            "Bins of %g keV blur K edges: the attenuation of iodine or gadolinium may be off by per cents. "
            "Take bin_width_kev=1.",
            bin_width_kev,
        )
    # What the filters leave of the softest bins is far below what anything could detect, and costs time.
    kept = photons > 1e-9 * photons.max()
    copper = f", {copper_mm:g} mm Cu" if copper_mm else ""
    return Spectrum(
        energies_kev=energies[kept],
        photons=photons[kept],
        kvp=kvp,
        description=f"{kvp:g} kV, {anode} anode {anode_angle_deg:g}°, {round(aluminium_mm, 2):g} mm Al{copper}",
        photons_per_mas_mm2_at_1m=fluence,
    )


def _as_material(name_or_material: Material | str) -> Material:
    return material(name_or_material) if isinstance(name_or_material, str) else name_or_material


def _attenuation_per_mm(filter_material: Material, spectrum: Spectrum) -> FloatArray:
    per_cm = filter_material.mass_attenuation_cm2_g(spectrum.energies_kev) * filter_material.density_g_cm3
    return 0.1 * per_cm


def _check_number(name: str, value: float, low: float, high: float, unit: str, example: str) -> None:
    check_kind(name, value, Real, example)
    check_range(name, value, low, high, unit)


def _check_table(energies: FloatArray, photons: FloatArray) -> None:
    if energies.ndim != 1 or energies.shape != photons.shape or not energies.size:
        raise ValueError(
            f"Energies have shape {energies.shape}, photons {photons.shape}; give two lists of one length."
        )
    if not np.isfinite(energies).all() or not np.isfinite(photons).all():
        raise ValueError("The spectrum holds NaN or infinite values; remove them.")
    if (photons < 0.0).any():
        raise ValueError(f"The spectrum has a bin of {photons.min():g} photons; set negative bins to 0.")
    if not photons.max() > 0.0:
        raise ValueError("The spectrum has no photons; give at least one bin above 0.")
    if (np.diff(energies) <= 0.0).any():
        raise ValueError("The spectrum's energies do not increase; sort the bins and merge doubled ones.")
    if energies[0] < MIN_ENERGY_KEV or energies[-1] > MAX_ENERGY_KEV:
        raise ValueError(
            f"The spectrum runs from {energies[0]:g} to {energies[-1]:g} keV; "
            f"use {MIN_ENERGY_KEV:g} to {MAX_ENERGY_KEV:g} keV."
        )
