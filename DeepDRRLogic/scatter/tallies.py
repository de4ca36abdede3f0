"""What a Monte Carlo run has counted: pictures with their uncertainty, that add up over runs."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, replace
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..exposure import Exposure
from ..files import replaced_when_written
from ..geometry import Camera

FloatArray = npt.NDArray[np.float64]

COMPONENTS = ("primary", "compton", "rayleigh", "multiple", "scatter")
LEDGER = ("emitted", "photoelectric", "recoil", "escaped", "roulette")


@dataclass(frozen=True, eq=False)
class Tallies:
    """Sums over the batches of a run, per component, quantity and pixel of the tally.

    With x_b the estimate of batch b from n_b photons, `sums` holds Σ n x and `squares` Σ n x², both
    (component, quantity, height, width). Components: COMPONENTS; "scatter" is all but the primary. Quantities: photons,
    signal and squared signal of every channel, then the energy, as the fields of `Exposure` and in its unit: per photon
    that would reach the pixel with nothing in the beam. `ledger` is the energy in keV that LEDGER names, then what each
    material keeps, summed over the photons. `camera` has the tally's pixels, `field_sr` is the beam's solid angle.
    """

    sums: FloatArray
    squares: FloatArray
    ledger: FloatArray
    photons: int
    batches: int
    camera: Camera
    field_sr: float
    seeds: tuple[int, ...]
    settings: str

    @property
    def channels(self) -> int:
        """Channels of the detector."""
        return (int(self.sums.shape[1]) - 1) // 3

    def __add__(self, other: Tallies) -> Tallies:
        """Both runs as one; ValueError for runs of different set-ups, or of the same seed, which are no new photons."""
        if self.settings != other.settings or self.camera != other.camera:
            raise ValueError("These runs differ in more than their seeds; simulate both with the same settings.")
        if set(self.seeds) & set(other.seeds):
            raise ValueError(f"Both runs were made with seed {other.seeds[0]}: give each a seed of its own.")
        return replace(
            self,
            sums=self.sums + other.sums,
            squares=self.squares + other.squares,
            ledger=self.ledger + other.ledger,
            photons=self.photons + other.photons,
            batches=self.batches + other.batches,
            seeds=self.seeds + other.seeds,
        )

    def mean(self, component: str = "scatter") -> FloatArray:
        """Estimates (quantity, height, width) of a component."""
        return np.asarray(self.sums[_number(component)] / self.photons)

    def standard_error(self, component: str = "scatter") -> FloatArray:
        """Standard error of `mean`, from the spread between batches; inf after a single batch.

        Var(mean) = [Σ n x² / N - mean²] / (B - 1), with N photons in B batches of any size.
        """
        if self.batches < 2:
            return np.full(self.sums.shape[1:], np.inf)
        variance = self.squares[_number(component)] / self.photons - self.mean(component) ** 2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0) / (self.batches - 1)))

    def signal(self, component: str = "scatter") -> FloatArray:
        """Signal of all channels together, (height, width)."""
        return np.asarray(self.mean(component)[self.channels : 2 * self.channels].sum(axis=0))

    def signal_error(self, component: str = "scatter") -> FloatArray:
        """Standard error of `signal`; channels are added in quadrature."""
        return np.asarray(np.linalg.norm(self.standard_error(component)[self.channels : 2 * self.channels], axis=0))

    def median_uncertainty(self, component: str = "scatter") -> float:
        """Median over the pixels of the relative standard error of the signal; inf where nothing was counted."""
        signal, error = self.signal(component), self.signal_error(component)
        seen = signal > 0.0
        return float(np.median(error[seen] / signal[seen])) if seen.any() else float("inf")

    def deposited_kev_per_photon(self) -> FloatArray:
        """Energy left in each material of the volume per emitted photon, (materials,)."""
        return np.asarray(self.ledger[len(LEDGER) :] / (self.photons * self.field_sr))

    def exposure(self, component: str = "scatter") -> Exposure:
        """A component as an `Exposure` of the tally's own pixels."""
        return Exposure.of_planes(self.mean(component).astype(np.float32))

    def upsampled(self, camera: Camera, component: str = "scatter") -> Exposure:
        """A component at a camera's pixels, by cubic interpolation between the tally's; never negative.

        The camera must have the tally's field; see `Camera.resampled`. Scatter is smooth; a primary would be blurred.
        """
        return upsampled_exposure(self.mean(component), camera)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an .npz file, so that a run can be taken up again."""
        about = {
            "photons": self.photons, "batches": self.batches, "camera": self.camera.to_dict(),
            "field_sr": self.field_sr, "seeds": list(self.seeds), "settings": self.settings,
        }  # fmt: skip
        with replaced_when_written(path) as (temporary,), temporary.open("wb") as file:
            np.savez_compressed(
                file, sums=self.sums, squares=self.squares, ledger=self.ledger, about=np.array(json.dumps(about))
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tallies:
        """Read what `save` wrote; ValueError for any other file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about: dict[str, Any] = json.loads(str(file["about"]))
                about["camera"], about["seeds"] = Camera.from_dict(about["camera"]), tuple(about["seeds"])
                return cls(sums=file["sums"], squares=file["squares"], ledger=file["ledger"], **about)
        except (KeyError, TypeError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} holds no Monte Carlo tallies; give a file that Tallies.save wrote.") from error


def _number(component: str) -> int:
    if component not in COMPONENTS:
        raise ValueError(f"Unknown component '{component}'; known are {', '.join(COMPONENTS)}.")
    return COMPONENTS.index(component)


def upsampled_exposure(quantities: npt.NDArray[Any], camera: Camera) -> Exposure:
    """Photons, signal, squared signal of every channel, and energy, (quantity, height, width), at a camera's pixels."""
    rows = cubic_weights(quantities.shape[1], camera.height).astype(np.float32)
    columns = cubic_weights(quantities.shape[2], camera.width).astype(np.float32)
    fine = rows @ quantities.astype(np.float32) @ columns.T
    return Exposure.of_planes(np.maximum(fine, 0.0, out=fine))


def cubic_weights(coarse: int, fine: int) -> FloatArray:
    """(fine, coarse) weights that resample a row of pixel means to other pixels of the same row.

    Cubic convolution (Keys, IEEE Trans. ASSP 29 (1981)); beyond the outermost centres a straight line goes on.
    """
    at = (np.arange(fine) + 0.5) * coarse / fine - 0.5
    if coarse == 1:
        return np.ones((fine, 1))
    padded = np.zeros((fine, coarse + 4))
    base = np.floor(at).astype(int)
    for step in range(-1, 3):
        x = np.abs(at - base - step)
        weight = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
        padded[np.arange(fine), base + step + 2] += weight
    weights = padded[:, 2:-2]
    for outside, edge, inner in ((1, 0, 1), (0, 0, 1), (-2, -1, -2), (-1, -1, -2)):
        distance = 2 if outside in (0, -1) else 1
        weights[:, edge] += padded[:, outside] * (1 + distance)
        weights[:, inner] -= padded[:, outside] * distance
    return weights
