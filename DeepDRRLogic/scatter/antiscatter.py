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
    through strips and gaps, averaged over one period as for a moving grid; the approach of Day & Dance, Phys. Med.
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
