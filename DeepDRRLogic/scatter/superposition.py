"""First estimates of scatter: what every layer scatters, spread over the detector by a kernel, and added up.

Single scattering follows from cross sections: with S photons scattered in a layer behind a pixel of area a, at a
distance d from the detector, a place ρ away from that pixel receives S · a · p(θ) cos α / r² · e^-τ, where r² = d² +
ρ², cos θ = cos α = d / r, p the angular distribution per steradian and τ what lies between. Photons that scatter more
than once are spread as if they came, isotropic, from somewhat farther away, and their number grows with a power of the
optical depth. The approach is that of scatter kernel superposition (Sun & Star-Lack, Phys. Med. Biol. 55, 6695 (2010)),
with depth resolved; the numbers that physics does not give are fitted to the Monte Carlo (Testing/Training).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..cross_sections import ELECTRON_MASS_KEV, KEV_ANGSTROM
from ..materials import Material, material
from .interactions import klein_nishina, mixed, thomson
from .layers import MARGIN

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..spectrum import Spectrum
    from .antiscatter import AntiScatterGrid
    from .layers import Layers

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

GROUPS = 6
_HARDENED_BY_CM = 8.0
_PARTED_BEHIND_CM = (1.0, 20.0)
SUB = 3
SHIFTS = (0.142, 0.328, 0.508, 0.704, 0.933, 1.225, 1.647, 2.514)
"""How much a wavelength grows in many collisions, in units of its mean: the middles of eighths of a gamma distribution
of shape 1.5, which is near what the Monte Carlo finds behind 15 cm of water."""


@dataclass(frozen=True)
class Fitted:
    """What is fitted: factors on the exit path, on the numbers, the powers of depth and albedo, and two distances.

    Depth counts as its mean within some `around_mm`; `collisions` is how many Compton wavelengths a photon that
    scattered more than once grew longer by on average where nothing is absorbed, about one each time.
    """

    rayleigh: float = 1.0
    rayleigh_exit: float = 1.05
    compton: float = 0.9
    compton_exit: float = 1.0
    multiple: float = 1.2
    multiple_exit: float = 0.8
    power: float = 0.85
    albedo: float = 2.5
    around_mm: float = 40.0
    multiple_mm: float = 100.0
    collisions: float = 2.0


@dataclass(frozen=True, eq=False)
class Superposed:
    """Scatter in a few energies: `photons` (kind, group, rows, columns) per photon of the open beam.

    Kinds: single Rayleigh, single Compton, multiple. `energies_kev` (kind, group, shift) are what such photons have, as
    many each; `transmission` (rows, columns) is the primary's.
    """

    photons: Float32Array
    energies_kev: FloatArray
    transmission: Float32Array

    @property
    def energy_kev(self) -> Float32Array:
        """Energy (kind, rows, columns) per photon of the open beam."""
        mean = self.energies_kev.mean(axis=-1).astype(np.float32)
        return np.asarray(np.einsum("kgvu,kg->kvu", self.photons, mean))


def group_weights(spectrum: Spectrum) -> FloatArray:
    """(group, energy): photons behind 8 cm of water, in groups of alike much energy behind thin and thick bodies."""
    energies, photons = spectrum.energies_kev, spectrum.photons
    mu = material("water").mass_attenuation_cm2_g(energies)

    def cumulative(depth_cm: float) -> FloatArray:
        weight = photons * np.exp(-depth_cm * (mu - mu.min())) * energies  # never all 0, however soft the beam
        return np.asarray((np.cumsum(weight) - 0.5 * weight) / weight.sum())

    middle = np.mean([cumulative(depth) for depth in _PARTED_BEHIND_CM], axis=0)
    index = np.minimum((middle * GROUPS).astype(int), GROUPS - 1)
    hardened = photons * np.exp(-_HARDENED_BY_CM * (mu - mu.min()))
    weights = np.where(index == np.arange(GROUPS)[:, None], hardened, 0.0)
    return np.asarray(weights[weights.sum(axis=1) > 0.0])


def groups(spectrum: Spectrum) -> tuple[FloatArray, FloatArray]:
    """Energies and shares of the photons of a few groups.

    A group's energy is what its photons have on average behind 8 cm of water, its share such that behind as much
    it is exact. A narrow spectrum has fewer groups than GROUPS.
    """
    weights = group_weights(spectrum)
    mean = weights @ spectrum.energies_kev / weights.sum(axis=1)
    water, least = material("water"), material("water").mass_attenuation_cm2_g(spectrum.energies_kev).min()
    share = weights.sum(axis=1) * np.exp(_HARDENED_BY_CM * (water.mass_attenuation_cm2_g(mean) - least))
    return mean, share


def softness(spectrum: Spectrum) -> float:
    """Ten times the share of the softest sixth of a spectrum, and µ/ρ of water at its mean energy in cm²/g."""
    energies, share = groups(spectrum)
    mu = float(material("water").mass_attenuation_cm2_g(spectrum.mean_energy_kev))
    return 10.0 * mu * float(share[0]) * len(energies) / GROUPS


@cache
def stored_fit() -> Fitted:
    """The numbers that come with the package."""
    table = json.loads((files("DeepDRRLogic") / "data" / "scatter" / "kernel.json").read_text("utf-8"))
    return Fitted(**{name: float(value) for name, value in table.items() if name != "source"})


def superpose(
    layers: Layers, spectrum: Spectrum, fitted: Fitted | None = None, grid: AntiScatterGrid | None = None
) -> Superposed:
    """The scatter of layers, by kind and energy group; behind a grid in units of the primary that passes it."""
    fitted = fitted or stored_fit()
    energies, share = groups(spectrum)
    total, rayleigh, compton = (coefficients(layers.materials, energies.tobytes(), n) for n in NAMES)
    areal = layers.areal_g_cm2
    depth = np.tensordot(total, areal, (1, 1))  # (group, layer, rows, columns)
    before = np.cumsum(depth, axis=1) - depth
    whole = before[:, -1] + depth[:, -1]
    arriving = np.exp(-before) * -np.expm1(-depth) / np.maximum(depth, 1e-6)
    arriving *= (share.astype(np.float32)[:, None, None] * layers.beam)[:, None]
    left = whole[:, None] - before - 0.5 * depth
    r_source = arriving * np.tensordot(rayleigh, areal, (1, 1))
    c_source = arriving * np.tensordot(compton, areal, (1, 1))
    m_source = (r_source + c_source) * np.exp(-fitted.multiple_exit * left)
    m_source *= _often(layers, total, rayleigh + compton, fitted)[:, None]
    # What lies on the way out at an angle, as the mean over the layer: (1/cos θ - 1) times the straight way.
    slant = (c_source * left).sum(axis=(2, 3)) / np.maximum(c_source.sum(axis=(2, 3)), 1e-30)
    sources = (
        fitted.rayleigh * r_source * np.exp(-fitted.rayleigh_exit * left),
        fitted.compton * c_source * np.exp(-fitted.compton_exit * left),
        m_source,
    )
    kernels, kept = _kernels(layers, energies, slant * fitted.compton_exit, fitted.multiple_mm, grid)
    tilt, rows, columns = perspective(layers.camera, layers.gaps_mm)
    r_source, c_source, m_source = sources
    photons = np.stack(
        [
            _spread(r_source * tilt, kernels[0]),
            _spread(rows @ (c_source * tilt) @ columns, kernels[1]),
            _spread(rows @ (m_source * tilt) @ columns, kernels[2]),
        ]
    )
    photons /= tilt
    out = energies_by_kind(energies, kept, fitted)
    transmission = (np.exp(-whole) * share.astype(np.float32)[:, None, None]).sum(axis=0) * layers.beam
    return Superposed(photons, out, transmission)


def _often(layers: Layers, total: Float32Array, scattering: Float32Array, fitted: Fitted) -> Float32Array:
    """How many photons scatter again, of each that scattered, (group, rows, columns)."""
    column = layers.around_g_cm2.sum(axis=0)
    depth = np.tensordot(total, column, (1, 0))
    albedo = np.tensordot(scattering, column, (1, 0)) / np.maximum(depth, 1e-6)
    within = albedo[:, MARGIN:-MARGIN, MARGIN:-MARGIN] ** np.float32(fitted.albedo)
    rows, columns = neighbourhood(layers.camera, layers.gaps_mm, fitted.around_mm)
    thereabouts = np.maximum(rows @ depth @ columns, 1e-6)
    return np.asarray(np.float32(fitted.multiple) * within * thereabouts ** np.float32(fitted.power), np.float32)


def neighbourhood(camera: Camera, gaps_mm: FloatArray, around_mm: float) -> tuple[Float32Array, Float32Array]:
    """Matrices (rows, rows + 2 MARGIN) and (columns + 2 MARGIN, columns) that take a mean over a neighbourhood.

    It is Gaussian, of the standard deviation `around_mm` in the middle of the body; what lies beyond the margin is
    left out of account.
    """
    magnified = around_mm / (1.0 - gaps_mm.mean() / camera.source_to_detector_mm)

    def weights(count: int, pitch_mm: float) -> FloatArray:
        apart = pitch_mm * (np.arange(count + 2 * MARGIN) - MARGIN - np.arange(count)[:, None])
        weight = np.exp(-0.5 * (apart / magnified) ** 2)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    pitch_u, pitch_v = camera.pixel_pitch_mm
    rows, columns = weights(camera.height, pitch_v), weights(camera.width, pitch_u)
    return rows.astype(np.float32), columns.T.astype(np.float32)


def energies_by_kind(energies: FloatArray, kept: FloatArray, fitted: Fitted) -> FloatArray:
    """Energies (kind, group, shift) of scattered photons that had `energies`; Compton scatter keeps `kept` of them.

    A photon that scattered more than once did so the less often the more of its collisions absorb: its wavelength grew
    in water, on average, by collisions · albedo² of the electron's Compton wavelength. How unlike they are follows
    SHIFTS.
    """
    total, rayleigh, compton = (coefficients((material("water"),), energies.tobytes(), n)[:, 0] for n in NAMES)
    longer = fitted.collisions * ((rayleigh + compton) / total) ** 2
    multiple = 1.0 / (1.0 + (energies / ELECTRON_MASS_KEV * longer)[:, None] * np.array(SHIFTS))
    once = np.ones(len(SHIFTS))
    every: FloatArray = np.stack([np.outer(np.ones_like(kept), once), np.outer(kept, once), multiple])
    return energies[:, None] * every


def perspective(camera: Camera, gaps_mm: FloatArray) -> tuple[Float32Array, Float32Array, Float32Array]:
    """cos³ of the rays' tilt (rows, columns), and the matrices (layer, n, n) that move what a ray scatters in a layer.

    The beam diverges: a layer at depth z lies over a part z/D as large of the detector, around the principal point.
    Forward peaks go on along their rays; what is spread widely starts from over that part.
    """
    rows, columns = camera.height, camera.width
    v, u = np.mgrid[:rows, :columns]
    inverse = np.linalg.inv(camera.intrinsics)
    tilt = np.linalg.norm(np.stack([u, v, np.ones_like(u)], axis=-1) @ inverse.T, axis=-1) ** -3.0
    shrunk = 1.0 - gaps_mm / camera.source_to_detector_mm

    def moved(count: int, middle: float) -> FloatArray:
        edges = np.arange(count + 1) - 0.5
        low = (middle + shrunk[:, None] * (edges[:-1] - middle))[:, :, None]
        high = (middle + shrunk[:, None] * (edges[1:] - middle))[:, :, None]
        overlap = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
        return np.asarray(np.maximum(overlap, 0.0) / shrunk[:, None, None])

    across, down = moved(columns, camera.intrinsics[0, 2]), moved(rows, camera.intrinsics[1, 2])
    return tilt.astype(np.float32), down.transpose(0, 2, 1).astype(np.float32), across.astype(np.float32)


NAMES = ("CS_Total", "CS_Rayl", "CS_Compt")


@lru_cache(maxsize=64)
def coefficients(materials: Sequence[Material], energies: bytes, name: str) -> Float32Array:
    """Cross sections (groups, materials) in cm²/g."""
    at = np.frombuffer(energies)
    return np.array([mixed(one, name, at, per_atom=False) for one in materials]).T.astype(np.float32)


def _kernels(
    layers: Layers, energies: FloatArray, slant: FloatArray, farther_mm: float, grid: AntiScatterGrid | None
) -> tuple[tuple[Float32Array, ...], FloatArray]:
    """Kernels (group, layer, 2 rows, 2 columns) of the three kinds, wrapped around pixel (0, 0); Compton's mean k."""
    from .layering import fill_kernels

    rows, columns = layers.beam.shape
    pitch_u, pitch_v = layers.camera.pixel_pitch_mm
    area = pitch_u * pitch_v
    part = (np.arange(SUB) + 0.5) / SUB - 0.5
    v = (np.arange(rows + 1)[:, None] + part).ravel() * pitch_v
    u = (np.arange(columns + 1)[:, None] + part).ravel() * pitch_u
    r_shape, c_shape, kept = angular(energies.tobytes())
    passed = np.zeros((0, 0, 0, 0)) if grid is None else _through(grid, energies, v, u, layers.gaps_mm)
    r_kernel, c_kernel = np.zeros((2, len(energies), len(layers.gaps_mm), rows + 1, columns + 1), np.float32)
    fill_kernels(area * r_shape, area * c_shape, layers.gaps_mm, v, u, SUB, passed, r_kernel, c_kernel)
    gaps = layers.gaps_mm[:, None, None]
    square = v[:, None] ** 2 + u**2
    slanted = _block(np.sqrt(square + gaps**2) / gaps) - 1.0
    c_kernel *= np.exp(-np.minimum(slant[:, :, None, None] * slanted, 30.0))
    wide = area / (4.0 * np.pi) * (gaps + farther_mm) / (square + (gaps + farther_mm) ** 2) ** 1.5
    m_kernel = _block(wide[None] if grid is None else wide * passed)
    return (_mirrored(r_kernel), _mirrored(c_kernel), _mirrored(m_kernel)), kept


def _through(
    grid: AntiScatterGrid, energies: FloatArray, v: FloatArray, u: FloatArray, gaps_mm: FloatArray
) -> FloatArray:
    """What the grid lets through, (group, layer, v, u), in units of the primary."""
    vertical, horizontal = np.broadcast_arrays(v[:, None] / gaps_mm[:, None, None], u / gaps_mm[:, None, None])
    across, along = (horizontal, vertical) if grid.lines == "v" else (vertical, horizontal)
    passed = grid.transmission(energies, across, along)
    straight = grid.primary_transmission(energies)
    return np.asarray(passed / straight[:, None, None, None])


def _block(values: FloatArray) -> Float32Array:
    shape = values.shape
    split = values.reshape(*shape[:-2], shape[-2] // SUB, SUB, shape[-1] // SUB, SUB)
    return np.asarray(split.mean(axis=(-3, -1)), np.float32)


_COSINES = 4001


@lru_cache(maxsize=64)
def angular(energies: bytes) -> tuple[Float32Array, Float32Array, FloatArray]:
    """Rayleigh's and Compton's distributions in water, per sr (group, 1 - cos θ from 0 to 1); Compton's mean k."""
    at = np.frombuffer(energies)
    water = material("water")
    cosines = np.linspace(1.0, -1.0, 2 * _COSINES - 1)
    x = at[:, None] / KEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosines))
    nodes = np.linspace(0.0, np.sqrt(x.max()), 400) ** 2
    form, bound = (np.interp(x, nodes, mixed(water, n, nodes, per_atom=True)) for n in ("FF_Rayl", "SF_Compt"))
    r_shape, c_shape = thomson(at, cosines) * form, klein_nishina(at, cosines) * bound
    step = cosines[0] - cosines[1]
    for shape in (r_shape, c_shape):
        shape /= 2.0 * np.pi * step * shape.sum(axis=1, keepdims=True)
    kept = 1.0 / (1.0 + at[:, None] / ELECTRON_MASS_KEV * (1.0 - cosines[:_COSINES]))
    forward = c_shape[:, :_COSINES] * cosines[:_COSINES] ** 2
    mean = (forward * kept).sum(axis=1) / forward.sum(axis=1)
    return r_shape[:, :_COSINES].astype(np.float32), c_shape[:, :_COSINES].astype(np.float32), mean


def _mirrored(quadrant: Float32Array) -> Float32Array:
    """A kernel over (2 rows, 2 columns) with its centre at (0, 0) from the quadrant (rows + 1, columns + 1)."""
    rows = np.concatenate([quadrant, quadrant[..., -2:0:-1, :]], axis=-2)
    return np.concatenate([rows, rows[..., :, -2:0:-1]], axis=-1)


def _spread(source: Float32Array, kernel: Float32Array) -> Float32Array:
    """Σ over layers of source ⊗ kernel, (group, rows, columns); never negative."""
    rows, columns = source.shape[2:]
    size = (2 * rows, 2 * columns)
    product = np.fft.rfft2(source.astype(np.float32), size) * np.fft.rfft2(kernel, size)
    spread = np.fft.irfft2(product.sum(axis=1), size)[:, :rows, :columns]
    return np.maximum(spread, 0.0).astype(np.float32)
