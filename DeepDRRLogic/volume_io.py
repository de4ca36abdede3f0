"""Volumes in files: NRRD, NIfTI and MetaImage through SimpleITK. LPS exists here and nowhere above."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .affine import FloatArray, apply, check_affine
from .files import replaced_when_written
from .memory import require_memory
from .nifti import NiftiHeader, read_header, require_finite_voxels
from .volume_headers import notes_on_metaimage, notes_on_nrrd

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .volume import CTVolume

_logger = logging.getLogger(__name__)

# By suffix in any case; ITK itself knows some of them in lower case only.
_IMAGE_IO = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
READABLE_SUFFIXES = tuple(_IMAGE_IO)
WRITABLE_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha")
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Single precision, in which NIfTI keeps its affine, is good to 0.0001 mm at a metre; more is another
# geometry.
_DISPLACED_MM = 1e-2
_COMPRESSION_LEVEL = 2


def read_ct(path: str | os.PathLike[str], series: str | None, hu_offset: float | None, correct_tilt: bool) -> CTVolume:
    """Read a CT from a file or a DICOM folder; see CTVolume.read."""
    from .volume import CTVolume

    place = Path(path)
    if not place.exists():
        raise ValueError(f"There is no {place}: check the path.")
    suffix = suffix_of(place)
    if suffix is None:
        from .dicom import read_dicom

        stored, ras_from_ijk, name, notes = read_dicom(place, series, hu_offset=hu_offset, correct_tilt=correct_tilt)
        if hu_offset is not None:
            hu_offset = 0.0  # it is in the values, and they are known
    else:
        if series is not None:
            raise ValueError(f"{place.name} holds one volume: series='{series}' chooses in a DICOM folder only.")
        stored, ras_from_ijk, notes = read_volume(place)
        name = place.name[: -len(suffix)]
    for note in notes:
        _logger.warning("%s: %s", name, note)
    return CTVolume.from_array(stored, ras_from_ijk, name, hu_offset=hu_offset, notes=notes)


def suffix_of(path: Path) -> str | None:
    """The known suffix of a file, lower case, or None for what is to be tried as DICOM."""
    name = path.name.lower()
    if path.is_dir():
        return None
    if ".seg." in name and name.endswith((".nrrd", ".nhdr")):
        raise ValueError(f"{path.name} is a segmentation, not a CT: read it with read_segmentation.")
    if name.endswith((".hdr", ".img", ".img.gz")):
        raise ValueError(f"{path.name} is Analyze, which does not say left from right: convert it to NIfTI or NRRD.")
    return next((s for s in sorted(READABLE_SUFFIXES, key=len, reverse=True) if name.endswith(s)), None)


def read_volume(path: Path) -> tuple[npt.NDArray[Any], FloatArray, tuple[str, ...]]:
    """Values [k, j, i] as stored, ras_from_ijk (4, 4) and notes; ValueError for all but scalar volumes."""
    import SimpleITK as sitk

    image_io = next(its for suffix, its in _IMAGE_IO.items() if path.name.lower().endswith(suffix))
    # Before ITK, which straightens a sheared affine or refuses it without saying why.
    nifti = read_header(path) if image_io == "NiftiImageIO" else None
    affine = None if nifti is None or nifti.sform is None else check_affine(nifti.sform, f"The sform of {path.name}")
    notes = _notes_on_header(path, nifti)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    _translated(reader.ReadImageInformation, path)
    size = [int(n) for n in reader.GetSize()]
    if reader.GetNumberOfComponents() != 1:
        raise ValueError(
            f"{path.name} has {reader.GetNumberOfComponents()} components per voxel, a colour or vector "
            "image: give a scalar CT."
        )
    if reader.GetPixelIDValue() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise ValueError(f"{path.name} holds complex numbers: give a scalar CT.")
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        shown = "×".join(map(str, size))
        raise ValueError(
            f"{path.name} has {len(size)} dimensions ({shown}): give one volume, such as one time point or a "
            "whole series."
        )
    bytes_stored = _bytes_per_voxel(sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    require_memory((size[2], size[1], size[0]), 2 * bytes_stored + 2, path.name)
    if nifti is not None:
        require_finite_voxels(path, nifti)
    if len(size) > 3:
        reader.SetExtractSize([*size[:3], *([0] * (len(size) - 3))])
    image = _translated(reader.Execute, path)
    read_affine = ras_from_ijk_of(image)
    if affine is None:
        affine = read_affine
    elif _displacement_mm(affine, read_affine, size) > _DISPLACED_MM:
        notes = (*notes, "sform and qform differ; the sform is used")
    return sitk.GetArrayFromImage(image), affine, notes


def ras_from_ijk_of(image: sitk.Image) -> FloatArray:
    """The affine (4, 4) of a SimpleITK image, whose world is LPS."""
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps_from_ijk[:3, 3] = image.GetOrigin()
    return RAS_FROM_LPS @ lps_from_ijk


def image_of(values: npt.NDArray[Any], ras_from_ijk: FloatArray) -> sitk.Image:
    """A SimpleITK image of values [k, j, i] with their place in the world."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    lps_from_ijk = RAS_FROM_LPS @ ras_from_ijk
    spacing = np.linalg.norm(lps_from_ijk[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps_from_ijk[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps_from_ijk[:3, 3].tolist())
    return image


def write_volume(
    values: npt.NDArray[Any], ras_from_ijk: FloatArray, path: str | os.PathLike[str], *, compress: bool = True
) -> None:
    """Write values [k, j, i] to a file whose affine, read back, is the one given; whole or not at all."""
    target = Path(path)
    if not target.name.lower().endswith(WRITABLE_SUFFIXES):
        raise ValueError(f"Cannot write {target.name}: its suffix must be one of {', '.join(WRITABLE_SUFFIXES)}.")
    write_image(image_of(values, ras_from_ijk), target, compress=compress)


def write_image(image: sitk.Image, target: Path, *, compress: bool = True) -> None:
    """Write a SimpleITK image, whole or not at all; ValueError if the format cannot keep its geometry."""
    import SimpleITK as sitk

    with replaced_when_written(target) as (temporary,):
        try:
            sitk.WriteImage(image, str(temporary), useCompression=compress, compressionLevel=_COMPRESSION_LEVEL)
            written = sitk.ImageFileReader()
            written.SetFileName(str(temporary))
            written.ReadImageInformation()
        except RuntimeError as error:
            raise ValueError(f"Cannot write {target}: {_reason(error)}.") from error
        moved_mm = _displacement_mm(ras_from_ijk_of(image), ras_from_ijk_of(written), image.GetSize())
        if moved_mm > _DISPLACED_MM:
            raise ValueError(
                f"Cannot write {target.name}: the format would move voxels by {moved_mm:.3g} mm, because the "
                "axes are not quite perpendicular. Write .nrrd instead."
            )


def _notes_on_header(path: Path, nifti: NiftiHeader | None) -> tuple[str, ...]:
    if nifti is None:
        return notes_on_nrrd(path) if path.name.lower().endswith((".nrrd", ".nhdr")) else notes_on_metaimage(path)
    if nifti.has_place:
        return ()
    return ("the file does not say where the volume lies (qform and sform code 0); left may be right",)


def _displacement_mm(one: FloatArray, other: FloatArray, size: Any) -> float:
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(size[:3]) - 1.0)
    return float(np.abs(apply(one, corners) - apply(other, corners)).max())


def _translated(read: Any, path: Path) -> Any:
    try:
        return read()
    except RuntimeError as error:
        reason = _reason(error)
        if "orthonormal" in reason or "spacing" in reason or "singular" in reason.lower() or "determinant" in reason:
            raise ValueError(
                f"{path.name} has a singular or sheared affine ({reason}): resample it to a rectangular grid first."
            ) from error
        raise ValueError(
            f"{path.name} cannot be read ({reason}): it is damaged or not what its suffix says."
        ) from error


def _reason(error: RuntimeError) -> str:
    """The first line that says something of ITK's message, without addresses in memory."""
    lines = [line.strip() for line in str(error).splitlines() if "ERROR" in line]
    text = lines[0] if lines else str(error).splitlines()[-1]
    return text.split("ERROR:")[-1].split("): ")[-1].strip().rstrip(".:")


def _bytes_per_voxel(pixel_type: str) -> int:
    """From SimpleITK's names, such as "16-bit signed integer"."""
    bits = pixel_type.split("-")[0].split()[0]
    return int(bits) // 8 if bits.isdigit() else 8
