"""What a CT scanner makes of metal: beam hardening, scatter, noise and dark bands, by the physics that cause them.

Slice by slice, the rays that pass the metal are measured again by a polychromatic beam with the metal in their way.
What their readings differ by from readings without it, reconstructed by filtered back projection, is what the metal
adds to the image. All else of the CT stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from grids import FloatVolume, Scan, box_around
from torch import Tensor
from torch.nn import functional

from DeepDRRLogic.materials import density_from_hu, material
from DeepDRRLogic.spectrum import Spectrum

_BONE, _SPONGY_HU = 2, 100.0
_SLICES = 16  # at a time
_BIN_KEV = 4.0
_FEW_PHOTONS, _READOUT_PHOTONS = 100.0, 5.0


@dataclass(frozen=True)
class Rescan:
    """How the scanner measures.

    `photons` is what a ray has without a patient; `scatter` a share of what the rays around let through, left after
    the scanner's correction; `kept` how much of the artefacts stays in the image, 1 without, less with a reduction of
    metal artefacts. `seed` is that of the noise.
    """

    kvp: float = 120.0
    photons: float = 4e5
    scatter: float = 0.01
    kept: float = 1.0
    seed: int = 0
    views: int = 480


@dataclass(frozen=True, eq=False)
class Filling:
    """A substance: the name of a material, its density in g/cm³ and its share of each voxel, [k, j, i], 0 to 1."""

    material: str
    density_g_cm3: float
    share: FloatVolume


def rescanned(scan: Scan, labels: npt.NDArray[np.uint8], fillings: Sequence[Filling], rescan: Rescan) -> Scan:
    """The scan with the fillings in it; `labels` (0 air, 1 soft tissue, 2 bone) are those without them.

    Raises ValueError for pixels that are not square.
    """
    pixel_mm = scan.spacing_mm[0]
    if not math.isclose(pixel_mm, scan.spacing_mm[1], rel_tol=1e-3):
        raise ValueError(f"Pixels of {scan.spacing_mm[:2]} mm: rays are traced through square ones only.")
    filled = np.sum([filling.share for filling in fillings], axis=0, dtype=np.float32)
    _, rows, columns = box_around((labels > 0) | (filled > 0.0), (0, 2, 2))
    beam = _Beam(rescan, [filling.material for filling in fillings])
    noise = np.random.default_rng([rescan.seed, 120])
    hu = scan.hu.copy()
    slices = np.flatnonzero(filled.any(axis=(1, 2)))
    for part in (slices[n : n + _SLICES] for n in range(0, len(slices), _SLICES)):
        old = hu[part, rows, columns].astype(np.float32)
        share = filled[part, rows, columns]
        is_bone = (labels[part, rows, columns] == _BONE) & (old > _SPONGY_HU)
        water = np.where(is_bone, 0.0, np.maximum(1.0 + old / 1000.0, 0.0))
        bone = np.where(is_bone, density_from_hu(old, material("cortical_bone")), 0.0)
        maps = [water, bone, water * share, bone * share]
        maps += [filling.density_g_cm3 * filling.share[part, rows, columns] for filling in fillings]
        added_mm = _added_readings(np.stack(maps).astype(np.float32), share.any(axis=0), pixel_mm, beam, rescan, noise)
        added = 1000.0 * _reconstructed(added_mm, share.shape[1:], pixel_mm)
        near = functional.max_pool2d(torch.from_numpy(share)[:, None], 5, 1, 2)[:, 0].numpy()
        stays = rescan.kept + (1.0 - rescan.kept) * np.minimum(2.0 * near, 1.0)
        hu[part, rows, columns] = np.rint(np.clip(old + stays * added, -1024, 3071)).astype(np.int16)
    return replace(scan, hu=hu)


class _Beam:
    """A polychromatic beam and a detector that weighs photons by their energy, calibrated with water."""

    def __init__(self, rescan: Rescan, fillings: Sequence[str]) -> None:
        spectrum = Spectrum.tube(rescan.kvp, aluminium_mm=8.0, bin_width_kev=_BIN_KEV)
        weights = spectrum.photons * spectrum.energies_kev
        self._weights = torch.from_numpy(weights / weights.sum()).to(torch.float32)
        names = ("water", "cortical_bone", *fillings)
        attenuation = [0.1 * material(name).mass_attenuation_cm2_g(spectrum.energies_kev) for name in names]
        self._per_mm = torch.from_numpy(np.array(attenuation)).to(torch.float32)
        self._water_mm = np.linspace(0.0, 4000.0, 8001)
        lengths = torch.zeros(len(names), len(self._water_mm))
        lengths[0] = torch.from_numpy(self._water_mm)
        self._water_log = -np.log(self.transmission(lengths).double().clamp_min(1e-30).numpy())

    def transmission(self, lengths: Tensor) -> Tensor:
        """The share of the signal that is left behind `lengths` (material, ...), in mm at 1 g/cm³."""
        exponent = torch.tensordot(lengths, self._per_mm, ([0], [0]))
        return torch.exp(-exponent) @ self._weights

    def water_mm(self, transmission: Tensor) -> Tensor:
        """The length of water that lets as much through."""
        log = -np.log(transmission.double().clamp_min(1e-12).numpy())
        return torch.from_numpy(np.interp(log, self._water_log, self._water_mm).astype(np.float32))


def _added_readings(
    maps: FloatVolume,
    metal: npt.NDArray[np.bool_],
    pixel_mm: float,
    beam: _Beam,
    rescan: Rescan,
    noise: np.random.Generator,
) -> Tensor:
    """What readings gain by the metal (k, view, s), in mm of water; detector elements are as wide as a pixel.

    `maps` (map, k, j, i) are densities: water, bone, as much of both as the metal takes the place of, the metals.
    `metal` [j, i] is where any slice has some.
    """
    count, depth, height, width = maps.shape
    half = math.ceil(0.5 * math.hypot(height, width)) + 1
    stack = torch.from_numpy(maps.reshape(1, count * depth, height, width))
    rows, columns = np.nonzero(metal)
    y, x = rows - 0.5 * (height - 1), columns - 0.5 * (width - 1)
    along = torch.arange(-half, half + 1, dtype=torch.float32)
    added = torch.zeros(depth, rescan.views, 2 * half + 1)
    for view in range(rescan.views):
        cosine, sine = math.cos(math.pi * view / rescan.views), math.sin(math.pi * view / rescan.views)
        shadow = x * cosine + y * sine
        first, last = math.floor(shadow.min()) - 2, math.ceil(shadow.max()) + 2
        across = torch.arange(first, last + 1, dtype=torch.float32)[:, None]
        at = torch.stack(
            [
                (across * cosine - along * sine) * (2.0 / (width - 1)),
                (across * sine + along * cosine) * (2.0 / (height - 1)),
            ],
            dim=-1,
        )
        sampled = functional.grid_sample(stack, at[None], align_corners=True)[0].sum(-1) * pixel_mm
        water, bone, less_water, less_bone, *metals = sampled.reshape(count, depth, -1)
        nothing = torch.zeros_like(water)
        before = beam.transmission(torch.stack([water, bone, *[nothing for _ in metals]]))
        after = beam.transmission(torch.stack([water - less_water, bone - less_bone, *metals]))
        scatter = rescan.scatter * before.mean(-1, keepdim=True)
        photons = rescan.photons * (after + scatter)
        grain = torch.from_numpy(noise.standard_normal(photons.shape, np.float32))
        counted = photons + (photons + _READOUT_PHOTONS**2).sqrt() * grain
        around = functional.avg_pool1d(functional.pad(counted, (2, 2), mode="replicate"), 5, 1)
        counted = torch.where(photons < _FEW_PHOTONS, around, counted).clamp_min(1.0)
        gained = beam.water_mm(counted / rescan.photons) - beam.water_mm(before + scatter)
        passes = sum(metals) + less_water > 0.0
        added[:, view, first + half : last + half + 1] = torch.where(passes, gained, nothing)
    return added


def _reconstructed(readings_mm: Tensor, shape: tuple[int, ...], pixel_mm: float) -> FloatVolume:
    """Filtered back projection of parallel rays (k, view, s) to (k, j, i); ramp times a Hann window."""
    depth, views, elements = readings_mm.shape
    padded = 1 << (2 * elements - 1).bit_length()
    frequency = torch.fft.rfftfreq(padded, pixel_mm)
    window = frequency * (0.5 + 0.5 * torch.cos(2.0 * math.pi * frequency * pixel_mm))
    filtered = torch.fft.irfft(torch.fft.rfft(readings_mm, padded) * window, padded)[..., :elements]
    height, width = shape
    half = (elements - 1) // 2
    y = torch.arange(height, dtype=torch.float32)[:, None] - 0.5 * (height - 1)
    x = torch.arange(width, dtype=torch.float32) - 0.5 * (width - 1)
    image = torch.zeros(depth, height * width)
    for view in range(views):
        angle = math.pi * view / views
        s = (x * math.cos(angle) + y * math.sin(angle) + half).reshape(-1)
        low = s.floor().clamp(0, elements - 2)
        index, share = low.long(), s - low
        left, right = filtered[:, view].index_select(1, index), filtered[:, view].index_select(1, index + 1)
        image += torch.lerp(left, right, share)
    return np.asarray((image * (math.pi / views)).reshape(depth, height, width))
