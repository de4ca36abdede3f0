"""Volumes in files: NRRD, NIfTI and MetaImage through SimpleITK. LPS exists here and nowhere above."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .affine import FloatArray, apply, check_affine, spacing_mm
from .files import replaced_when_written
from .memory import require_memory
from .nifti import NiftiHeader, read_floats, read_header
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
# A quaternion of single precision, near half a turn, is good to this.
_NOTED_MM = 0.1
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
    place, notes = (np.eye(4), _notes_on_header(path)) if nifti is None else _place(path, nifti)
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
    if nifti is not None and nifti.floats is not None:
        return read_floats(path, nifti).reshape(size[2::-1]), place, notes
    if len(size) > 3:
        reader.SetExtractSize([*size[:3], *([0] * (len(size) - 3))])
    image = _translated(reader.Execute, path)
    return sitk.GetArrayFromImage(image), ras_from_ijk_of(image) if nifti is None else place, notes


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


def _notes_on_header(path: Path) -> tuple[str, ...]:
    return notes_on_nrrd(path) if path.name.lower().endswith((".nrrd", ".nhdr")) else notes_on_metaimage(path)


def _place(path: Path, nifti: NiftiHeader) -> tuple[FloatArray, tuple[str, ...]]:
    """Where a NIfTI file lies, as an affine (4, 4), and notes on what else it says.

    As ITK and 3D Slicer have it, by the sform if its code is 1, for scanner, or if there is no other.
    """
    sform, qform = nifti.sform, nifti.qform
    if sform is None and qform is None:
        notes = ("the file does not say where the volume lies (qform and sform code 0); left may be right",)
        return RAS_FROM_LPS @ np.diag([*nifti.voxel_mm, 1.0]), notes
    # A tilted gantry is in the sform alone, because a qform cannot say it.
    if sform is not None and (qform is None or nifti.sform_code in (1, nifti.qform_code)):
        sform = check_affine(sform, f"The sform of {path.name}")
    if sform is not None and (qform is None or nifti.sform_code == 1):
        return sform, (*_notes_on_code("sform", nifti.sform_code), *_notes_on_sform(path, nifti, sform))
    assert qform is not None
    return qform, (*_notes_on_code("qform", nifti.qform_code), *_notes_on_forms(nifti, "qform"))


def _notes_on_code(used: str, code: int) -> tuple[str, ...]:
    text = f"the {used} (code {code}) is of a template, not of the scanner: place and size may not be the patient's"
    return (text,) if code > 2 else ()


def _notes_on_sform(path: Path, nifti: NiftiHeader, sform: FloatArray) -> tuple[str, ...]:
    """What else is said where the sform is used; ValueError where a qform says that voxels are of another size."""
    sizes = spacing_mm(sform)
    if not np.allclose(sizes, nifti.voxel_mm, rtol=0.01, atol=0.0) and nifti.has_voxel_mm:
        by_sform, by_pixdim = ("×".join(f"{mm:.4g}" for mm in three) for three in (sizes, nifti.voxel_mm))
        text = f"voxels are {by_sform} mm by the sform and {by_pixdim} mm by pixdim"
        if nifti.qform is None:
            return (f"{text}, which 3D Slicer uses; the sform is used",)
        raise ValueError(
            f"{path.name}: {text}, which the qform uses, too; programs disagree on which is right. Set both to the "
            "right one, or save the file again from 3D Slicer, if the size is right there."
        )
    return _notes_on_forms(nifti, "sform")


def _notes_on_forms(nifti: NiftiHeader, used: str) -> tuple[str, ...]:
    sform, qform = nifti.sform, nifti.qform
    if sform is None or qform is None:
        return ()
    apart_mm = _displacement_mm(sform, qform, (*nifti.sizes, 1, 1, 1))
    if apart_mm <= _NOTED_MM:
        return ()
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0.0
    return (
        f"sform (code {nifti.sform_code}) and qform (code {nifti.qform_code}) differ by up to {apart_mm:.3g} mm"
        f"{' and in handedness, left may be right' * bool(mirrored)}; the {used} is used, as in 3D Slicer",
    )


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
