"""What a photon may meet in each material, as tables for the transport: cross sections, F²(x) and S(x)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..cross_sections import ELECTRON_MASS_KEV, KEV_ANGSTROM
from ..materials import Material

FloatArray = npt.NDArray[np.float64]

FIRST_KEV, STEP_KEV = 1.0, 0.1
TRANSFER_NODES = 1025
"""Nodes of the momentum transfer, at x_n = x_max (n/N)²: dense where form factors fall."""

_COSINES = 2049
_FIRST_TRANSFER = 0.002


@dataclass(frozen=True, eq=False)
class Interactions:
    """Tables of several materials, the first axis of each.

    By energy, FIRST_KEV + n·STEP_KEV: `attenuation`, `rayleigh`, `compton` in cm²/g, and `rayleigh_norm`,
    `compton_norm`, the integrals over all directions of F²(1 + cos²θ) and of k²(k + 1/k - sin²θ) S. By momentum
    transfer x = E/hc · sin(θ/2), in 1/Å: `form_square`, F²; `form_cumulative`, ∫F² dx²; `bound`, S; F² and S per gram
    in units that cancel. Independent atoms: no interference between molecules (it moves the Rayleigh peak of water
    to 6° at 30 keV, but hardly changes how much is scattered); Compton without Doppler broadening.
    """

    attenuation: FloatArray
    rayleigh: FloatArray
    compton: FloatArray
    rayleigh_norm: FloatArray
    compton_norm: FloatArray
    largest_transfer: float
    form_square: FloatArray
    form_cumulative: FloatArray
    bound: FloatArray

    @classmethod
    def of(cls, materials: Sequence[Material], max_energy_kev: float) -> Interactions:
        """The tables up to an energy in keV; everything from xraylib, mixed by mass (Schoonjans et al. 2011)."""
        count = int(np.ceil((max_energy_kev - FIRST_KEV) / STEP_KEV)) + 2
        energies: FloatArray = np.asarray(np.minimum(FIRST_KEV + STEP_KEV * np.arange(count), 300.0), np.float64)
        x_max = float(energies[-1]) / KEV_ANGSTROM
        transfers: FloatArray = x_max * np.linspace(0.0, 1.0, TRANSFER_NODES) ** 2

        def of_all(name: str, at: FloatArray, per_atom: bool = False) -> FloatArray:
            return np.array([mixed(material, name, at, per_atom) for material in materials])

        form = of_all("FF_Rayl", transfers, per_atom=True)
        bound = of_all("SF_Compt", transfers, per_atom=True)
        steps = 0.5 * (form[:, 1:] + form[:, :-1]) * np.diff(transfers**2)
        cumulative = np.concatenate([np.zeros((len(materials), 1)), np.cumsum(steps, axis=1)], axis=1)
        parts = [of_all(name, energies) for name in ("CS_Photo", "CS_Rayl", "CS_Compt")]
        return cls(
            attenuation=parts[0] + parts[1] + parts[2],
            rayleigh=parts[1],
            compton=parts[2],
            rayleigh_norm=_norms(transfers, form, energies, thomson),
            compton_norm=_norms(transfers, bound, energies, klein_nishina),
            largest_transfer=x_max,
            form_square=form,
            form_cumulative=cumulative,
            bound=bound,
        )

    def free_electrons(self) -> Interactions:
        """The same with S(x) = const, as if no electron were bound: Klein & Nishina's distribution for tests."""
        from dataclasses import replace

        energies: FloatArray = np.asarray(FIRST_KEV + STEP_KEV * np.arange(self.attenuation.shape[1]), np.float64)
        transfers: FloatArray = self.largest_transfer * np.linspace(0.0, 1.0, TRANSFER_NODES) ** 2
        ones = np.ones_like(self.bound)
        return replace(self, bound=ones, compton_norm=_norms(transfers, ones, energies, klein_nishina))


def thomson(energies: FloatArray, cosines: FloatArray) -> FloatArray:
    """1 + cos²θ, (energies, angles): Thomson's angular factor."""
    return np.broadcast_to(1.0 + cosines**2, (energies.size, cosines.size))


def klein_nishina(energies: FloatArray, cosines: FloatArray) -> FloatArray:
    """k²(k + 1/k - sin²θ), (energies, angles), k the part of the energy that is kept: Klein & Nishina (1929)."""
    kept = 1.0 / (1.0 + energies[:, None] / ELECTRON_MASS_KEV * (1.0 - cosines))
    shape: FloatArray = kept**2 * (kept + 1.0 / kept - 1.0 + cosines**2)
    return shape


def _norms(
    transfers: FloatArray,
    table: FloatArray,
    energies: FloatArray,
    factor: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    """2π ∫ factor(E, µ) table(x) dµ for every row of the table and every energy.

    With µ = 1 - 2 w⁴ the nodes crowd where the scattering is forward, as those of the table do; dµ = 8 w³ dw.
    """
    w = np.linspace(0.0, 1.0, _COSINES)
    cosines = 1.0 - 2.0 * w**4
    weight = np.full(w.size, w[1])
    weight[1:-1:2] *= 4.0 / 3.0
    weight[2:-1:2] *= 2.0 / 3.0
    weight[[0, -1]] /= 3.0
    weight *= 8.0 * w**3 * 2.0 * np.pi
    norms = np.empty((len(table), energies.size))
    # The norms are smooth: a coarser ladder of energies, then straight lines, is exact enough (1e-5).
    ladder = np.unique(np.append(energies[:: max(1, round(0.5 / STEP_KEV))], energies[-1]))
    shapes = factor(ladder, cosines) * weight
    x = ladder[:, None] / KEV_ANGSTROM * w**2
    for row, values in zip(norms, table, strict=True):
        at = np.interp(x.ravel(), transfers, values).reshape(x.shape)
        row[:] = np.interp(energies, ladder, (shapes * at).sum(axis=1))
    return norms


def mixed(material: Material, name: str, at: FloatArray, per_atom: bool) -> FloatArray:
    """A function of xraylib for a material, (n,): cross sections in cm²/g, or F² and S per atomic mass unit."""
    total = np.zeros(at.size)
    for atomic_number, fraction in material.mass_fractions:
        total += fraction * _element(atomic_number, name, at.tobytes(), per_atom)
    return total


@lru_cache(maxsize=512)
def _element(atomic_number: int, name: str, at: bytes, per_atom: bool) -> FloatArray:
    """A cross section in cm²/g, or the square of a form factor or S per atomic mass unit."""
    import xraylib

    function = getattr(xraylib, name)
    if not per_atom:
        return np.array([function(atomic_number, value) for value in np.frombuffer(at)])
    transfers = np.frombuffer(at)
    if name == "FF_Rayl":
        table = np.array([function(atomic_number, transfer) for transfer in transfers]) ** 2
    else:
        # xraylib's table of S begins at 0.001 / Å; below, S rises as x², the first term of its expansion.
        inside = np.maximum(transfers, _FIRST_TRANSFER)
        table = np.array([function(atomic_number, transfer) for transfer in inside])
        table = np.maximum(table, 0.0) * np.minimum(transfers / _FIRST_TRANSFER, 1.0) ** 2
    return table / float(xraylib.AtomicWeight(atomic_number))
