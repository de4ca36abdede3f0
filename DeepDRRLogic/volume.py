"""The patient: a CT in Hounsfield units, its decomposition into materials, and the mass that X-rays meet.

Arrays are [k, j, i]; `ras_from_ijk` (4, 4) maps voxel centres to RAS mm. Left-handed and oblique grids stay
as they are: nothing is reordered, the affine tells the truth.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .affine import FloatArray, apply, check_affine
from .checks import check_kind
from .grid import OnGrid, as_volume, block_factors, blocked_affine, grid_text, require_same_grid
from .hounsfield import (
    OFFSET_GIVEN,
    as_hounsfield,
    has_offset,
    offset_of,
    require_finite,
    require_plausible,
    sample,
)
from .materials import CT_EFFECTIVE_ENERGY_KEV, Material
from .voxels import AIR, HuArray, average_blocks, densities, nearest

if TYPE_CHECKING:
    from .volume_info import CTInfo

_logger = logging.getLogger(__name__)

ROOM_AIR_MAX_HU = -950.0
_MATTER_MIN_HU = -500
# Osmium has 22.6; the brightest metal of an extended CT, 65535 HU, weighs some 70 if it is called soft tissue.
DENSEST_G_CM3 = 100.0


@dataclass(frozen=True, eq=False)
class CTVolume(OnGrid):
    """A CT: Hounsfield units on a grid.

    `hu` [k, j, i] becomes int16 if it holds whole numbers that fit, else float32; `ras_from_ijk` (4, 4) in mm may be
    oblique or left-handed; `name` is for people; `notes` say what the reader had to decide. Raises ValueError
    for NaN or infinity, fewer than two slices, more or fewer than three dimensions, and a singular or sheared
    affine.
    """

    hu: HuArray
    ras_from_ijk: FloatArray
    name: str = "CT"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        hu = as_volume(self.hu, "The CT", least=2)
        require_finite(hu)
        object.__setattr__(self, "hu", as_hounsfield(hu))
        object.__setattr__(self, "ras_from_ijk", _read_only_affine(self.ras_from_ijk))

    def __repr__(self) -> str:
        return f"CTVolume({self.name!r}, {grid_text(self)})"

    @classmethod
    def from_array(
        cls,
        values: npt.ArrayLike,
        ras_from_ijk: npt.ArrayLike,
        name: str = "CT",
        *,
        hu_offset: float | None = None,
        notes: tuple[str, ...] = (),
    ) -> CTVolume:
        """A CT from values of unknown origin, refused with ValueError where they cannot be Hounsfield units.

        Label maps, MR, normalised values and CT numbers stored with an offset are told apart by their range
        and histogram. `hu_offset` is added to the values, -1024 for instance, and says that they are known:
        then nothing but NaN and shape is checked; 0 accepts them as they are. A note keeps that it was given.
        """
        volume = as_volume(np.asarray(values), f"{name}", least=2)
        require_finite(volume)
        if hu_offset is None:
            require_plausible(volume, name)
        else:
            notes = (*notes, OFFSET_GIVEN)
        if hu_offset:
            kind = np.int32 if volume.dtype.kind in "iu" and float(hu_offset).is_integer() else np.float32
            volume = volume.astype(kind) + kind(hu_offset)
        return cls(as_hounsfield(volume), check_affine(ras_from_ijk, f"ras_from_ijk of {name}"), name, notes)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        series: str | None = None,
        *,
        hu_offset: float | None = None,
        correct_tilt: bool = False,
    ) -> CTVolume:
        """Read NRRD, NIfTI, MetaImage, a DICOM folder or one DICOM file, whose series is then read with it.

        `series` chooses among several in a folder by UID, number or description. `hu_offset` as in
        `from_array`; for DICOM it is asked for only where slices lack their rescale, and then meant for those
        alone. `correct_tilt` resamples DICOM slices of a tilted gantry to a rectangular grid instead of refusing
        them. Raises ValueError for whatever is not one CT volume in Hounsfield units, with what was found and
        what to do, and before memory is filled.
        """
        from .volume_io import read_ct

        check_kind("path", path, (str, os.PathLike), '"chest.nii.gz"')
        if not os.fspath(path):
            raise ValueError("The path of the CT is empty: give that of a file or a DICOM folder.")
        return read_ct(path, series, hu_offset, correct_tilt)

    def write(self, path: str | os.PathLike[str], *, compress: bool = True) -> None:
        """Write .nrrd, .nii, .nii.gz or .mha, whole or not at all; ValueError for any other suffix."""
        from .volume_io import write_volume

        write_volume(self.hu, self.ras_from_ijk, path, compress=compress)

    def info(self) -> CTInfo:
        """What a person wants to know before trusting the CT, with warnings of what looks wrong."""
        from .volume_info import describe

        return describe(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        k, j, i = self.hu.shape
        return k, j, i


@dataclass(frozen=True, eq=False)
class MaterialLabels(OnGrid):
    """Which material each voxel is: `labels` uint8 [k, j, i], a label being an index into `materials`.

    Raises ValueError for a label without a material, two materials of one name, and an affine as in CTVolume.
    """

    labels: npt.NDArray[np.uint8]
    materials: tuple[Material, ...]
    ras_from_ijk: FloatArray

    def __post_init__(self) -> None:
        materials = tuple(self.materials)
        object.__setattr__(self, "materials", materials)
        object.__setattr__(self, "labels", _as_labels(self.labels, materials))
        object.__setattr__(self, "ras_from_ijk", _read_only_affine(self.ras_from_ijk))

    def __repr__(self) -> str:
        return f"MaterialLabels({_names(self.materials)}, {grid_text(self)})"

    @property
    def shape(self) -> tuple[int, int, int]:
        k, j, i = self.labels.shape
        return k, j, i

    def resampled(self, like: OnGrid) -> MaterialLabels:
        """The labels on another volume's grid, each from the nearest voxel; beyond the labels there is air.

        A warning says how much of a CT's matter, above -500 HU, lies there. Raises ValueError if they have no voxel in
        common, and if part of the other volume lies outside and no material is called "air".
        """
        names = [material.name for material in self.materials]
        labels = nearest(self.labels, self.ijk_from_ras @ like.ras_from_ijk, like.shape, outside=255)
        beyond = labels == 255
        if beyond.all():
            raise ValueError(
                f"The labels lie around RAS {np.round(self.center_ras).tolist()} mm, the volume around "
                f"{np.round(like.center_ras).tolist()} mm, and they do not meet: give the labels of this volume."
            )
        if beyond.any():
            if AIR not in names:
                raise ValueError(
                    "Part of the volume lies outside the labels, and no material is 'air' to fill it: there are "
                    f"{', '.join(names)}."
                )
            if isinstance(like, CTVolume):
                _warn_of_matter(like, beyond)
            labels[beyond] = names.index(AIR)
        return MaterialLabels(labels, self.materials, like.ras_from_ijk)


@dataclass(frozen=True, eq=False)
class MaterialVolume(OnGrid):
    """What X-rays meet: `density_g_cm3` float32 and `labels` uint8 into `materials`, [k, j, i] in C order.

    `name` is for people, and goes into an image's metadata; `from_ct` takes that of the CT. Raises ValueError for
    densities below 0, above 100 or not finite, shapes that differ, and as MaterialLabels does.
    """

    density_g_cm3: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    materials: tuple[Material, ...]
    ras_from_ijk: FloatArray
    name: str = ""

    def __post_init__(self) -> None:
        materials = tuple(self.materials)
        density = as_volume(np.asarray(self.density_g_cm3, np.float32), "The density")
        labels = _as_labels(self.labels, materials)
        if density.shape != labels.shape:
            raise ValueError(f"Densities have shape {density.shape}, labels {labels.shape}: they must agree.")
        lowest, highest = float(density.min()), float(density.max())
        if not (lowest >= 0.0 and highest <= DENSEST_G_CM3):
            raise ValueError(
                f"Densities run from {lowest:g} to {highest:g} g/cm³; give values from 0 to {DENSEST_G_CM3:g}. A voxel "
                "of impossible CT number, as scanners leave behind, is to be mended in the CT."
            )
        for name, value in {"materials": materials, "density_g_cm3": density, "labels": labels}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "ras_from_ijk", _read_only_affine(self.ras_from_ijk))

    def __repr__(self) -> str:
        return f"MaterialVolume({self.name!r}, {_names(self.materials)}, {grid_text(self)})"

    @classmethod
    def from_ct(
        cls,
        ct: CTVolume,
        labels: MaterialLabels,
        ct_effective_energy_kev: float = CT_EFFECTIVE_ENERGY_KEV,
        *,
        room_air_max_hu: float = ROOM_AIR_MAX_HU,
    ) -> MaterialVolume:
        """The mass that reproduces the CT's own attenuation, material by material.

        Formula and source: materials.density_from_hu. Voxels labelled air at or below `room_air_max_hu` are
        empty, exactly 0: room air is noise around -1000 HU, and densities cannot be negative, so keeping its
        upper half would add mass along every ray. A warning tells of CT numbers with an offset, unless one was given.
        Raises ValueError naming both grids where they differ.
        """
        check_kind("ct", ct, CTVolume, 'CTVolume.read("chest.nii.gz")')
        check_kind("labels", labels, MaterialLabels, "segment(ct)")
        require_same_grid(ct, labels, ("CT", "labels"), "Resample the labels with labels.resampled(ct).")
        if OFFSET_GIVEN not in ct.notes and has_offset(spread := sample(ct.hu)):
            text = "%s: the values look like CT numbers with an offset, so that all is too dense: read them with %s."
            _logger.warning(text, ct.name, f"hu_offset={offset_of(spread)}")
        density = densities(ct.hu, labels.labels, labels.materials, ct_effective_energy_kev, room_air_max_hu)
        return cls(density, labels.labels, labels.materials, ct.ras_from_ijk, ct.name)

    @property
    def shape(self) -> tuple[int, int, int]:
        k, j, i = self.density_g_cm3.shape
        return k, j, i

    @property
    def mass_g(self) -> float:
        """All mass in the volume, in grams."""
        return float(self.density_g_cm3.sum(dtype=np.float64)) * _voxel_cm3(self)

    def replaced_by(self, other: MaterialVolume) -> MaterialVolume:
        """This volume emptied where another, such as an implant, has matter.

        All else in the other's bounding box stays. The other may lie on any grid: a voxel is emptied when its
        centre lies in a voxel of density above 0 of the other.
        """
        density = self.density_g_cm3.copy()
        box = self._box_around(other)
        i, j, k = (axis.start for axis in box)
        part = density[box[2], box[1], box[0]]
        if part.size:
            shift = np.eye(4)
            shift[:3, 3] = i, j, k
            matter = (other.density_g_cm3 > 0.0).view(np.uint8)
            taken = nearest(matter, other.ijk_from_ras @ self.ras_from_ijk @ shift, part.shape)
            part[taken.view(np.bool_)] = 0.0
        return replace(self, density_g_cm3=density)

    def _box_around(self, other: OnGrid) -> tuple[slice, slice, slice]:
        """The voxels along i, j, k whose centres may lie in another volume."""
        corners = apply(self.ijk_from_ras, other.corners_ras)
        size = np.array(self.shape[::-1])
        first = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(int)
        last = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size).astype(int)
        i, j, k = (slice(int(start), int(stop)) for start, stop in zip(first, last, strict=True))
        return i, j, k

    def downsampled(self, factor: int | tuple[int, int, int]) -> MaterialVolume:
        """Blocks of voxels as one: their mean density, and the label that holds most of their mass.

        `factor` is one number or three along i, j, k. Mass is conserved, and the first voxel's outer corner
        stays in place. Where the size is no multiple of the factor the last block reaches beyond the volume,
        where nothing is. Raises ValueError for factors below 1.
        """
        factors = block_factors(factor)
        if factors == (1, 1, 1):
            return self
        density, labels = average_blocks(self.density_g_cm3, self.labels, factors, len(self.materials))
        affine = blocked_affine(self.ras_from_ijk, factors)
        return MaterialVolume(density, labels, self.materials, affine, self.name)


def _warn_of_matter(ct: CTVolume, beyond: npt.NDArray[np.bool_]) -> None:
    """Say how much of a CT's matter lies beyond its labels, where that is more than noise."""
    voxels = sum(int(np.count_nonzero(where & (hu > _MATTER_MIN_HU))) for hu, where in zip(ct.hu, beyond, strict=True))
    volume_ml = voxels * _voxel_cm3(ct)
    if volume_ml >= 1.0:
        _logger.warning(
            "%.0f ml of the CT's matter (above %d HU) lie outside the segmentation and are taken for air: see that "
            "it is of this CT, and covers it.",
            volume_ml,
            _MATTER_MIN_HU,
        )


def _voxel_cm3(volume: OnGrid) -> float:
    return abs(float(np.linalg.det(volume.ras_from_ijk[:3, :3]))) / 1000.0


def _read_only_affine(ras_from_ijk: npt.ArrayLike) -> FloatArray:
    affine = check_affine(ras_from_ijk)
    affine.setflags(write=False)
    return affine


def _names(materials: tuple[Material, ...]) -> str:
    return ", ".join(material.name for material in materials)


def _as_labels(labels: npt.ArrayLike, materials: tuple[Material, ...]) -> npt.NDArray[np.uint8]:
    values = as_volume(labels, "The labels")
    names = [material.name for material in materials]
    if not 1 <= len(names) <= 255 or len(set(names)) != len(names):
        raise ValueError(f"Materials {names}: give 1 to 255, each once; a label is an index into them.")
    if values.dtype.kind not in "iub":
        raise ValueError(f"The labels are {values.dtype}: give whole numbers, uint8.")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= len(names):
        raise ValueError(
            f"Labels run from {lowest} to {highest}, but {len(names)} materials have the labels 0 to "
            f"{len(names) - 1}: {', '.join(names)}."
        )
    return values.astype(np.uint8, copy=False)
