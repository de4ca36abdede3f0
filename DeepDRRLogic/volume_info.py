"""What a CT is, and what looks wrong with it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .hounsfield import OFFSET_GIVEN, has_offset, offset_of, sample

if TYPE_CHECKING:
    from .volume import CTVolume

_PERCENTILES = (1.0, 25.0, 50.0, 75.0, 99.0)
_AIR_MAX_HU, _BODY_MIN_HU = -800.0, -300.0


@dataclass(frozen=True)
class CTInfo:
    """What a person wants to know of a CT; `str()` is the report.

    Sizes, spacings and extents are along i, j, k. Percentiles and fractions come from about a million voxels;
    air is up to -800 HU, body above -300 HU (lung is neither). `warnings` are sentences on what looks wrong.
    """

    name: str
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    orientation: str
    is_oblique: bool
    is_left_handed: bool
    hu_min: float
    hu_max: float
    hu_mean: float
    hu_percentiles: tuple[tuple[float, float], ...]
    air_fraction: float
    body_fraction: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        axes = self.orientation + ", oblique" * self.is_oblique + ", left-handed" * self.is_left_handed
        percentiles = ", ".join(f"{value:.0f} ({percent:g} %)" for percent, value in self.hu_percentiles)
        rows = [
            ("size", _product(self.size, "d")),
            ("spacing", f"{_product(self.spacing_mm, '.3f')} mm"),
            ("extent", f"{_product(self.extent_mm, '.0f')} mm"),
            ("axes", axes),
            ("HU", f"{self.hu_min:.0f} to {self.hu_max:.0f}, mean {self.hu_mean:.0f}"),
            ("percentiles", percentiles),
            ("air, body", f"{self.air_fraction:.0%}, {self.body_fraction:.0%} of the volume"),
            *(("note", note) for note in self.notes),
            *(("warning", warning) for warning in self.warnings),
        ]
        return "\n".join([self.name, *(f"  {label:<12}{text}" for label, text in rows)])


def describe(ct: CTVolume) -> CTInfo:
    """Measure a CT and look for what commonly goes wrong."""
    spread = sample(ct.hu)
    percentiles = np.percentile(spread, _PERCENTILES)
    lowest, highest = float(ct.hu.min()), float(ct.hu.max())
    k, j, i = ct.shape
    return CTInfo(
        name=ct.name,
        size=(i, j, k),
        spacing_mm=ct.spacing_mm,
        extent_mm=ct.extent_mm,
        orientation=ct.orientation,
        is_oblique=ct.is_oblique,
        is_left_handed=ct.is_left_handed,
        hu_min=lowest,
        hu_max=highest,
        hu_mean=float(spread.mean(dtype=np.float64)),
        hu_percentiles=tuple(zip(_PERCENTILES, percentiles.tolist(), strict=True)),
        air_fraction=float(np.mean(spread <= _AIR_MAX_HU)),
        body_fraction=float(np.mean(spread > _BODY_MIN_HU)),
        notes=ct.notes,
        warnings=(
            *_grid_warnings(ct.shape, ct.spacing_mm, ct.extent_mm),
            *_value_warnings(ct, spread, lowest, highest),
            *_truncation_warnings(ct),
        ),
    )


def _grid_warnings(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], extent_mm: tuple[float, float, float]
) -> list[str]:
    warnings = []
    fewest = min(shape)
    if fewest < 16:
        warnings.append(f"only {fewest} voxels along one axis: an X-ray needs the whole body part")
    ratio = max(spacing_mm) / min(spacing_mm)
    if ratio > 10:
        warnings.append(f"voxels are {ratio:.0f} times longer than wide: check the spacing")
    elif max(spacing_mm) > 3 or ratio > 4:
        warnings.append(f"slices {max(spacing_mm):.3g} mm apart: steps will show in views across them")
    if min(spacing_mm) < 0.05 or max(spacing_mm) > 20:
        warnings.append(f"spacing {_product(spacing_mm, '.3g')} mm is unusual: is its unit mm?")
    if max(extent_mm) > 2500:
        warnings.append(f"the volume is {max(extent_mm) / 1000:.1f} m long: check the spacing")
    return warnings


def _value_warnings(ct: CTVolume, spread: npt.NDArray[Any], lowest: float, highest: float) -> list[str]:
    warnings = []
    if OFFSET_GIVEN not in ct.notes and has_offset(spread):
        offset = offset_of(spread)
        warnings.append(f"values look like CT numbers plus {-offset}: read the file with hu_offset={offset}")
    air = spread[(spread > -1500) & (spread <= -850)]
    if air.size < 0.001 * spread.size:
        warnings.append("hardly any air: the body is cut, or these are not Hounsfield units")
    elif not -1040 <= (typical := float(np.median(air))) <= -950:
        warnings.append(f"air lies at {typical:.0f} HU instead of -1000: check the calibration")
    at_top = int(np.count_nonzero(spread == highest))
    just_below = int(np.count_nonzero((spread >= highest - 20) & (spread < highest)))
    if highest < 800:
        warnings.append(f"no value above {highest:.0f} HU: bone is clipped or absent")
    elif at_top > max(spread.size // 50_000, just_below):
        share = at_top / spread.size
        warnings.append(f"{share:.3%} of the voxels have the highest value, {highest:.0f} HU: dense matter is clipped")
    if lowest < -1500:
        warnings.append(f"lowest value {lowest:.0f} HU: padding, which counts as empty")
    return warnings


def _truncation_warnings(ct: CTVolume) -> list[str]:
    """Whether the body reaches the sides of the volume; head and foot are cut in every CT."""
    warnings = []
    for axis, letter in zip((2, 1, 0), ct.orientation, strict=True):
        if letter in "SI":
            continue
        faces: list[npt.NDArray[Any]] = [np.take(ct.hu, side, axis) for side in (0, -1)]
        body = max(np.count_nonzero(face > _BODY_MIN_HU) / face.size for face in faces)
        if body > 0.05:
            which = "left or right" if letter in "LR" else "front or back"
            warnings.append(f"{body:.0%} of the {which} border is body: it is cut there")
    return warnings


def _product(values: tuple[float, ...], form: str) -> str:
    return " × ".join(format(value, form) for value in values)
