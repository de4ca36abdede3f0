"""superposition.py and features.py in torch, for a batch of views on one device: the same formulae, in float32.

Everything has one axis more, the views', in front. What depends on the spectrum alone is computed by the host once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .features import DEPTH_UNIT, LEAST, NOTHING
from .layers import MARGIN
from .superposition import (
    NAMES,
    SUB,
    Fitted,
    angular,
    coefficients,
    energies_by_kind,
    groups,
    neighbourhood,
    perspective,
    softness,
    stored_fit,
)

if TYPE_CHECKING:
    from ..materials import Material
    from ..spectrum import Spectrum
    from .antiscatter import AntiScatterGrid
    from .layers import Sight


def uploaded(values: npt.ArrayLike, device: torch.device, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """A copy on the device; neither the host nor the device waits for the other."""
    there = torch.from_numpy(np.ascontiguousarray(values, dtype))
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)


@dataclass(frozen=True, eq=False)
class Tables:
    """A spectrum in a few groups of energies and what materials do to them, on a device.

    Shapes: `share` (group,); the cross sections (group, material); the distributions (group, 1 - cos θ);
    `energies` (kind, group) in keV, the means of what the host has, (kind, group, shift).
    """

    share: Tensor
    total: Tensor
    rayleigh: Tensor
    compton: Tensor
    rayleigh_shape: Tensor
    compton_shape: Tensor
    energies: Tensor
    energies_kev: npt.NDArray[np.float64]
    mean_energy_kev: float
    hardness: float
    fitted: Fitted

    @staticmethod
    def of(spectrum: Spectrum, materials: tuple[Material, ...], device: torch.device) -> Tables:
        """The tables of a spectrum."""
        energies, share = groups(spectrum)
        total, rayleigh, compton = (
            uploaded(coefficients(materials, energies.tobytes(), name), device) for name in NAMES
        )
        r_shape, c_shape, kept = angular(energies.tobytes())
        fitted = stored_fit()
        by_kind = energies_by_kind(energies, kept, fitted)
        return Tables(
            uploaded(share, device), total, rayleigh, compton, uploaded(r_shape, device), uploaded(c_shape, device),
            uploaded(by_kind.mean(axis=-1), device), by_kind, spectrum.mean_energy_kev, softness(spectrum), fitted,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Views:
    """What the layers of a batch have to do with its cameras, on a device.

    gaps_mm (view, layer), pitch_mm (view, 2) along u and v, beam and tilt (view, rows, columns), rows and columns
    (view, 1, layer, n, n) as superposition.perspective, near_rows and near_columns (view, 1, n, n + 2 MARGIN or turned)
    as superposition.neighbourhood, rays (view, rows + 2 MARGIN, columns + 2 MARGIN): the length of
    a ray per unit of depth.
    """

    gaps_mm: Tensor
    pitch_mm: Tensor
    beam: Tensor
    tilt: Tensor
    rows: Tensor
    columns: Tensor
    near_rows: Tensor
    near_columns: Tensor
    rays: Tensor
    source_to_detector_mm: Tensor

    @staticmethod
    def of(sights: Sequence[Sight], device: torch.device) -> Views:
        """The views of one batch; their coarse pixels are of one number."""
        moves = [perspective(sight.camera, sight.gaps_mm) for sight in sights]
        tilt, rows, columns = (np.stack(parts) for parts in zip(*moves, strict=True))
        around_mm = stored_fit().around_mm
        near = [neighbourhood(sight.camera, sight.gaps_mm, around_mm) for sight in sights]
        near_rows, near_columns = (np.stack(parts) for parts in zip(*near, strict=True))
        return Views(
            *(
                uploaded(values, device)
                for values in (
                    [sight.gaps_mm for sight in sights],
                    [sight.camera.pixel_pitch_mm for sight in sights],
                    [sight.beam for sight in sights],
                    tilt,
                    rows[:, None],
                    columns[:, None],
                    near_rows[:, None],
                    near_columns[:, None],
                    [10.0 * sight.lengths_cm for sight in sights],
                    [sight.camera.source_to_detector_mm for sight in sights],
                )
            )
        )


@dataclass(frozen=True, eq=False)
class Scatter:
    """As superposition.Superposed: photons (view, kind, group, rows, columns), transmission (view, rows, columns)."""

    photons: Tensor
    transmission: Tensor


def superpose(around: Tensor, views: Views, tables: Tables, grid: AntiScatterGrid | None = None) -> Scatter:
    """As superposition.superpose, of layers (view, layer, material, rows + 2 MARGIN, columns + 2 MARGIN)."""
    fitted = tables.fitted
    areal = around[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    depth, rayleigh, compton = (
        torch.einsum("gm,vlmrc->vglrc", table, areal) for table in (tables.total, tables.rayleigh, tables.compton)
    )
    before = torch.cumsum(depth, dim=2) - depth
    whole = before[:, :, -1] + depth[:, :, -1]
    share = tables.share[:, None, None]
    arriving = torch.exp(-before) * -torch.expm1(-depth) / depth.clamp_min(1e-6)
    arriving = arriving * (share * views.beam[:, None])[:, :, None]
    left = whole[:, :, None] - before - 0.5 * depth
    r_source, c_source = arriving * rayleigh, arriving * compton
    m_source = (r_source + c_source) * torch.exp(-fitted.multiple_exit * left)
    m_source = m_source * _often(around, views, tables)[:, :, None]
    slant = (c_source * left).sum(dim=(3, 4)) / c_source.sum(dim=(3, 4)).clamp_min(1e-30)
    tilt = views.tilt[:, None, None]
    r_source = fitted.rayleigh * r_source * torch.exp(-fitted.rayleigh_exit * left) * tilt
    c_source = fitted.compton * c_source * torch.exp(-fitted.compton_exit * left) * tilt
    r_kernel, c_kernel, m_kernel = _kernels(views, tables, slant * fitted.compton_exit, grid)
    photons = torch.stack(
        [
            _spread(r_source, r_kernel),
            _spread(views.rows @ c_source @ views.columns, c_kernel),
            _spread(views.rows @ (m_source * tilt) @ views.columns, m_kernel),
        ],
        dim=1,
    )
    return Scatter(photons / tilt, (torch.exp(-whole) * share).sum(dim=1) * views.beam)


def _often(around: Tensor, views: Views, tables: Tables) -> Tensor:
    """As superposition._often, (view, group, rows, columns)."""
    fitted, column = tables.fitted, around.sum(dim=1)
    depth = torch.einsum("gm,vmrc->vgrc", tables.total, column)
    scattering = torch.einsum("gm,vmrc->vgrc", tables.rayleigh + tables.compton, column)
    albedo = (scattering / depth.clamp_min(1e-6))[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    thereabouts = (views.near_rows @ depth @ views.near_columns).clamp_min(1e-6)
    return fitted.multiple * albedo**fitted.albedo * thereabouts**fitted.power


def features(around: Tensor, views: Views, tables: Tables, first: Scatter) -> Tensor:
    """(view, CHANNELS, rows + 2 MARGIN, columns + 2 MARGIN), see features.features."""
    middle = len(tables.total) // 2
    whole = around.sum(dim=1)
    soft, depth, hard = (torch.einsum("m,vmrc->vrc", tables.total[n], whole) for n in (0, middle, -1))
    by_layer = torch.einsum("m,vlmrc->vlrc", tables.total[middle], around)
    gaps = (views.gaps_mm / 300.0)[:, :, None, None]
    weight = depth.clamp_min(NOTHING)
    gap, square = ((power * by_layer).sum(dim=1) / weight for power in (gaps, gaps**2))
    filled = by_layer > NOTHING
    exit_gap = torch.where(filled, gaps, gaps[:, :1] * filled.any(dim=1, keepdim=True)).amin(dim=1)
    logs = torch.log(
        _padded(torch.einsum("vkgrc,kg->vkrc", first.photons, tables.energies)) / tables.mean_energy_kev + LEAST
    )
    pictures = (
        _padded(views.beam), _padded(first.transmission), *(logs / 4.0).unbind(1), depth / DEPTH_UNIT, hard / 4.0,
        soft / 8.0, gap, (square - gap**2).clamp_min(0.0).sqrt(), exit_gap, 10.0 * (1.0 - 1.0 / views.rays),
    )  # fmt: skip
    numbers = (
        views.pitch_mm.prod(dim=1).sqrt() / 10.0,
        views.source_to_detector_mm / 1000.0,
        torch.full_like(views.source_to_detector_mm, tables.mean_energy_kev / 60.0),
        torch.full_like(views.source_to_detector_mm, tables.hardness),
    )
    return torch.stack([*pictures, *(number[:, None, None].expand_as(depth) for number in numbers)], dim=1)


def _padded(pictures: Tensor) -> Tensor:
    return functional.pad(pictures, (MARGIN,) * 4)


def _kernels(
    views: Views, tables: Tables, slant: Tensor, grid: AntiScatterGrid | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Kernels (view, group, layer, 2 rows, 2 columns) of the three kinds, wrapped around pixel (0, 0)."""
    rows, columns = views.beam.shape[1:]
    device = slant.device
    part = (torch.arange(SUB, device=device) + 0.5) / SUB - 0.5
    u, v = (
        (torch.arange(count + 1, device=device)[:, None] + part).ravel() * views.pitch_mm[:, axis, None]
        for axis, count in ((0, columns), (1, rows))
    )
    area = views.pitch_mm.prod(dim=1)[:, None, None, None]
    square = (v[:, :, None] ** 2 + u[:, None, :] ** 2)[:, None]
    gaps = views.gaps_mm[:, :, None, None]
    way = torch.sqrt(square + gaps**2)
    # 1 - cos θ without the difference of two numbers that are nearly one.
    at = square / (way * (way + gaps)) * (tables.rayleigh_shape.shape[1] - 1)
    at = at.clamp_max(tables.rayleigh_shape.shape[1] - 1.001)
    index = at.long()
    between, weight = at - index, area * gaps / way**3

    passed = None
    if grid is not None:
        vertical, horizontal = (one / gaps for one in torch.broadcast_tensors(v[:, None, :, None], u[:, None, None, :]))
        passed = _passed(grid, tables, *((horizontal, vertical) if grid.lines == "v" else (vertical, horizontal)))

    def kernel(shape: Tensor) -> Tensor:
        found = weight * torch.lerp(shape[:, index], shape[:, index + 1], between)
        return _block_means(found if passed is None else found * passed).transpose(0, 1)

    slanted = _block_means(way / gaps) - 1.0
    bent = torch.exp(-(slant[..., None, None] * slanted[:, None]).clamp_max(30.0))
    far = gaps + tables.fitted.multiple_mm
    wide = area / (4.0 * math.pi) * far / (square + far**2) ** 1.5
    third = wide[None] if passed is None else wide * passed
    one, other = kernel(tables.rayleigh_shape), kernel(tables.compton_shape) * bent
    return _mirrored(one), _mirrored(other), _mirrored(_block_means(third).transpose(0, 1))


def _passed(grid: AntiScatterGrid, tables: Tables, across: Tensor, along: Tensor) -> Tensor:
    """What a grid lets through, (group, *shape), in units of the primary: AntiScatterGrid.transmission."""
    energies = tables.energies_kev[0, :, 0]
    attenuation = uploaded(grid.attenuation_per_cm(energies), across.device)
    lead, gap = attenuation.reshape(2, -1, *(1,) * across.ndim)
    straight = uploaded(grid.primary_transmission(energies), across.device).reshape(-1, *(1,) * across.ndim)
    period, width = 1.0 / grid.lines_per_cm, 1e-4 * grid.strip_um
    sweep = (grid.height_cm * across.abs()).clamp_min(1e-6 * period)
    path = grid.height_cm * torch.sqrt(1.0 + across**2 + along**2)
    whole = torch.floor(sweep / period)
    rest = sweep - whole * period
    least, most = (rest + width - period).clamp_min(0.0), rest.clamp_max(width)
    per_cm = (lead - gap) * (path / sweep)
    ramp, flat_high = most - least, (rest - width).abs()
    steep = (per_cm * ramp).clamp_min(1e-12)
    mean = period - flat_high - 2.0 * ramp * (1.0 + torch.expm1(-steep) / steep) + flat_high * torch.exp(-steep)
    return torch.exp(-gap * path - per_cm * (whole * width + least)) * mean / (period * straight)


def _block_means(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, SUB)).unflatten(-3, (-1, SUB)).mean(dim=(-3, -1))


def _mirrored(quadrant: Tensor) -> Tensor:
    rows = torch.cat([quadrant, quadrant[..., 1:-1, :].flip(-2)], dim=-2)
    return torch.cat([rows, rows[..., 1:-1].flip(-1)], dim=-1)


def _spread(source: Tensor, kernel: Tensor) -> Tensor:
    rows, columns = source.shape[-2:]
    size = (2 * rows, 2 * columns)
    product = torch.fft.rfft2(source, size) * torch.fft.rfft2(kernel, size)
    return torch.fft.irfft2(product.sum(dim=2), size)[..., :rows, :columns].clamp_min(0.0)
