"""A Monte Carlo run: what is to be simulated, whatever carries it out, and what it brings back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .transport import Body, Panel, Physics

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


class Batch(NamedTuple):
    """Sums of one part of the photons: found (component, quantity, v, u), ledger in keV, and how many they were."""

    found: FloatArray
    ledger: FloatArray
    photons: int


@dataclass(frozen=True, eq=False)
class Run:
    """All that a device needs to know: the world as arrays, the spectrum's energies with their cumulative weights.

    `shape` is that of a tally (quantities, rows, columns); `photons` are followed in `batches` independent parts, with
    `forced` detector points per collision, 0 for analogue transport.
    """

    body: Body
    physics: Physics
    panel: Panel
    energies: FloatArray
    cumulative: FloatArray
    mean_kev: float
    shape: tuple[int, int, int]
    photons: int
    batches: int
    forced: int
    seed: int

    @property
    def mean_node(self) -> int:
        """The node of the tables that is nearest to the spectrum's mean energy."""
        return round((self.mean_kev - self.physics.first_kev) * self.physics.per_kev)

    def weighed(self, transmission: npt.NDArray[np.float32]) -> Body:
        """The body with the worth of its voxels: the transmission to the detector, on average 1 over its mass.

        A collision before the last mean free path decides little; those near the exit, rarer, decide the picture.
        """
        density = self.body.density
        mass = float(density.sum(dtype=np.float64))
        if mass > 0.0:
            transmission = transmission / np.float32((transmission * density).sum(dtype=np.float64) / mass)
        return self.body._replace(worth=transmission)
