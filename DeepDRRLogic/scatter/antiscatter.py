"""Focused anti-scatter grids in front of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..checks import check_positive, check_range
from ..materials import material

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AntiScatterGrid:
    """A linear grid whose lead strips all point at the source.

    `ratio` is the strips' height over the gap between them, `lines_per_cm` their frequency, `strip_um` their
    thickness; `interspace` names the material in the gaps (None for nothing, as good as fibre), `lines` says whether
    the strips run along the detector's columns ("v") or rows ("u"). Covers are left out. Transmission: straight rays
    through strips and gaps, averaged over one period as for a moving grid. Scatter comes in units of the primary that
    passes, whose photons N0 counts: a tube that makes up for the grid gives 1 / `primary_transmission` as many. The
    approach of Day & Dance, Phys. Med.
    Biol. 28, 1429 (1983), with the mean taken in closed form. Raises ValueError for grids that cannot be.
    """

    ratio: float = 10.0
    lines_per_cm: float = 40.0
    strip_um: float = 50.0
    interspace: str | None = None
    lines: Literal["u", "v"] = "v"

    def __post_init__(self) -> None:
        check_range("ratio", self.ratio, 1.0, 30.0)
        check_positive("lines_per_cm", self.lines_per_cm)
        check_positive("strip_um", self.strip_um)
        if self.gap_cm <= 0.0:
            raise ValueError(
                f"{self.lines_per_cm:g} lines per cm of {self.strip_um:g} µm leave no gap; "
                "give fewer lines or thinner strips."
            )
        if self.lines not in ("u", "v"):
            raise ValueError(f"lines is {self.lines!r}; give 'u' or 'v', the direction of the strips.")
        if self.interspace is not None:
            material(self.interspace)

    @property
    def gap_cm(self) -> float:
        """Width of the gap between two strips."""
        return 1.0 / self.lines_per_cm - 1e-4 * self.strip_um

    @property
    def height_cm(self) -> float:
        """Height of the strips."""
        return self.ratio * self.gap_cm

    def attenuation_per_cm(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """µ of strips and gaps, (2, n), in 1/cm."""
        energies = np.asarray(energies_kev, np.float64)
        lead = material("lead")
        table = np.zeros((2, energies.size))
        table[0] = lead.mass_attenuation_cm2_g(energies) * lead.density_g_cm3
        if self.interspace is not None:
            gap = material(self.interspace)
            table[1] = gap.mass_attenuation_cm2_g(energies) * gap.density_g_cm3
        return table

    def primary_transmission(self, energies_kev: npt.ArrayLike) -> FloatArray:
        """The part of the primary that passes, (n,), on the central ray."""
        strips, gaps = np.exp(-self.attenuation_per_cm(energies_kev) * self.height_cm)
        covered = 1e-4 * self.strip_um * self.lines_per_cm
        transmission: FloatArray = covered * strips + (1.0 - covered) * gaps
        return transmission

    def transmission(self, energies_kev: npt.ArrayLike, across: FloatArray, along: FloatArray) -> FloatArray:
        """What passes of rays at these tangents to the focused one, across and along the strips, (n, *shape).

        The mean over one period of exp(-∫µ dl): whole strips that a ray crosses, and for the rest of its way a width
        of lead that is a trapezium of where it enters.
        """
        attenuation = self.attenuation_per_cm(energies_kev).reshape(2, -1, *(1,) * across.ndim)
        lead, gap = attenuation[0], attenuation[1]
        period, width = 1.0 / self.lines_per_cm, 1e-4 * self.strip_um
        sweep = np.maximum(self.height_cm * np.abs(across), 1e-6 * period)
        path = self.height_cm * np.sqrt(1.0 + across**2 + along**2)
        whole = np.floor(sweep / period)
        rest = sweep - whole * period
        least, most = np.maximum(0.0, rest + width - period), np.minimum(rest, width)
        per_cm = (lead - gap) * path / sweep
        base = np.exp(-gap * path - per_cm * (whole * width + least))
        ramp = most - least
        flat_high = np.abs(rest - width)
        flat_low = period - flat_high - 2.0 * ramp
        steep = np.maximum(per_cm * ramp, 1e-12)
        mean = flat_low - 2.0 * ramp * np.expm1(-steep) / steep + flat_high * np.exp(-steep)
        transmission: FloatArray = base * mean / period
        return transmission
