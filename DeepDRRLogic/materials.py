"""Attenuation of materials, and the density that a CT number stands for.

Compositions are data (data/materials.json, each with its source); every coefficient comes from xraylib.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import chosen
from .cross_sections import checked_energies, mass_attenuation_cm2_g, mass_energy_absorption_cm2_g

FloatArray = npt.NDArray[np.float64]

# A 120 kV CT beam behind its body filter and some 20 cm of tissue has a mean energy of about 70 keV.
CT_EFFECTIVE_ENERGY_KEV = 70.0


@dataclass(frozen=True)
class Material:
    """A material by its elemental composition.

    `mass_fractions` is ((atomic number, fraction by mass), ...), summing to 1; `density_g_cm3` is the nominal
    density; `color_rgb` (0..255) is what segments of the material are painted with; `source` cites the
    composition. Two are equal whose name, composition and density are. Raises ValueError for a composition or
    density that cannot be.
    """

    name: str
    mass_fractions: tuple[tuple[int, float], ...]
    density_g_cm3: float
    color_rgb: tuple[int, int, int] = field(default=(128, 128, 128), compare=False)
    title: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        total = sum(fraction for _, fraction in self.mass_fractions)
        if not abs(total - 1.0) < 1e-3 or any(not 0.0 < w <= 1.0 for _, w in self.mass_fractions):
            raise ValueError(
                f"Mass fractions of '{self.name}' sum to {total:g}; give positive fractions that sum to 1."
            )
        if any(not 1 <= z <= 92 for z, _ in self.mass_fractions):
            raise ValueError(f"'{self.name}' has an atomic number outside 1 to 92; use natural elements.")
        if not 0.0 < self.density_g_cm3 < 30.0:
            raise ValueError(f"Density of '{self.name}' is {self.density_g_cm3} g/cm³; give a value between 0 and 30.")

    def mass_attenuation_cm2_g(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """Return µ/ρ, coherent scattering included, in cm²/g, in the shape of `energies_kev`.

        Raises ValueError outside 1 to 300 keV. Source: mixture rule and tables of Hubbell & Seltzer (NIST,
        1995) through xraylib (Schoonjans et al. 2011).
        """
        return self._mixed(mass_attenuation_cm2_g, energies_kev)

    def mass_energy_absorption_cm2_g(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """Return µ_en/ρ in cm²/g, in the shape of `energies_kev`.

        Raises ValueError outside 1 to 300 keV. Source: `cross_sections.mass_energy_absorption_cm2_g`.
        """
        return self._mixed(mass_energy_absorption_cm2_g, energies_kev)

    def _mixed(self, elemental: Callable[[int, FloatArray], FloatArray], energies_kev: npt.ArrayLike) -> FloatArray:
        energies = checked_energies(energies_kev)
        total = np.zeros(energies.shape)
        for atomic_number, fraction in self.mass_fractions:
            total += fraction * elemental(atomic_number, energies)
        return total


def material(name: str) -> Material:
    """Return the material called `name`, such as "soft_tissue"; case, blanks and hyphens do not matter.

    Raises ValueError, with the known names, for any other.
    """
    return _material(chosen("material", name, material_names()))


@lru_cache(maxsize=1)
def material_names() -> tuple[str, ...]:
    """Return the names of all materials that come with the package."""
    return tuple(_table())


def density_scale_g_cm3(material: Material, ct_effective_energy_kev: float = CT_EFFECTIVE_ENERGY_KEV) -> float:
    """Return the density in g/cm³ at which `material` attenuates like water of 1 g/cm³ (0 HU).

    µ_water(E) / (µ/ρ)_m(E) with µ_water that of 1.000 g/cm³. Raises ValueError outside 1 to 300 keV.
    """
    # The two sums of xraylib are the same number for water, so its ratio is exactly 1.
    water = _material("water").mass_attenuation_cm2_g(ct_effective_energy_kev)
    return float(water / material.mass_attenuation_cm2_g(ct_effective_energy_kev))


def density_from_hu(
    hu: npt.ArrayLike, material: Material, ct_effective_energy_kev: float = CT_EFFECTIVE_ENERGY_KEV
) -> npt.NDArray[np.float32]:
    """Return the density in g/cm³, as float32 in the shape of `hu`, that reproduces the CT's attenuation.

    ρ = (1 + HU/1000) · µ_water(E) / (µ/ρ)_m(E), never below 0: -1000 HU is exactly 0, water at 0 HU exactly
    1. E is the effective energy of the CT's beam. Allocates the result and nothing else. Raises ValueError
    for NaN or infinite values. Source: inversion of the definition of the Hounsfield unit; the idea of a
    stoichiometric calibration is Schneider et al., Phys. Med. Biol. 45 (2000).
    """
    scale = density_scale_g_cm3(material, ct_effective_energy_kev)
    density = np.array(hu, dtype=np.float32)
    # Adding first keeps -1000 HU at an exact zero; (1 + HU/1000) · scale would leave rounding dust there.
    density += np.float32(1000.0)
    density *= np.float32(scale / 1000.0)
    np.maximum(density, np.float32(0.0), out=density)
    if density.size and not np.isfinite(density.max()):
        raise ValueError("The CT holds NaN or infinite values; replace them, for instance with -1000 HU.")
    return density


def hu_from_density(
    density_g_cm3: npt.ArrayLike, material: Material, ct_effective_energy_kev: float = CT_EFFECTIVE_ENERGY_KEV
) -> npt.NDArray[np.float32]:
    """Return the CT numbers, as float32, of `material` at the given densities; inverts density_from_hu.

    Raises ValueError for negative or non-finite densities.
    """
    scale = density_scale_g_cm3(material, ct_effective_energy_kev)
    hu = np.array(density_g_cm3, dtype=np.float32)
    if hu.size and not (hu.min() >= 0.0 and np.isfinite(hu.max())):
        raise ValueError(f"Densities run from {hu.min():g} to {hu.max():g} g/cm³; give finite values of at least 0.")
    hu *= np.float32(1000.0 / scale)
    hu -= np.float32(1000.0)
    return hu


def iodinated_blood(iodine_mg_ml: float) -> Material:
    """Return blood mixed with iohexol (300 mg I/ml) to `iodine_mg_ml` milligrams of iodine per ml.

    Volumes add: the agent's share is iodine_mg_ml / 300. Raises ValueError outside 0 to 300 mg/ml.
    """
    if not 0.0 <= iodine_mg_ml <= 300.0:
        raise ValueError(f"{iodine_mg_ml} mg iodine per ml; give between 0 and 300 (the undiluted agent).")
    agent, blood = _material("contrast_agent"), _material("blood")
    share = iodine_mg_ml / 300.0
    agent_mass, blood_mass = share * agent.density_g_cm3, (1.0 - share) * blood.density_g_cm3
    density = agent_mass + blood_mass
    fractions: dict[int, float] = {}
    for part, mass in ((agent, agent_mass), (blood, blood_mass)):
        for z, fraction in part.mass_fractions:
            fractions[z] = fractions.get(z, 0.0) + fraction * mass / density
    return Material(
        name=f"iodinated_blood_{iodine_mg_ml:g}",
        mass_fractions=tuple((z, w) for z, w in sorted(fractions.items()) if w > 0.0),
        density_g_cm3=density,
        color_rgb=_material("iodinated_blood").color_rgb,
        title=f"Blood with {iodine_mg_ml:g} mg iodine per ml",
        source="Mixture of contrast_agent and blood by volume",
    )


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    text = files("DeepDRRLogic").joinpath("data", "materials.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table


@cache
def _material(name: str) -> Material:
    import xraylib

    entry = _table()[name]
    red, green, blue = entry["color_rgb"]
    return Material(
        name=name,
        mass_fractions=tuple(
            (int(xraylib.SymbolToAtomicNumber(symbol)), float(fraction))
            for symbol, fraction in entry["mass_fractions"].items()
        ),
        density_g_cm3=float(entry["density_g_cm3"]),
        color_rgb=(red, green, blue),
        title=entry["title"],
        source=entry["source"],
    )
