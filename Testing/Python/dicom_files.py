"""CTs as DICOM files, legacy and enhanced, whose voxels are known."""

from __future__ import annotations

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from DeepDRRLogic.affine import rotation

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CT_IMAGE, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
MARK_IJK, MARK_HU = (3, 5, 2), 2345


def affine_of(axes, spacing):
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(axes, float) * spacing
    matrix[:3, 3] = (-31.1234, 112.98765, -301.5)
    return matrix


OBLIQUE = rotation([1, -2, 0.5], 37) @ np.diag([-1, -1, 1])
GRIDS = {
    "axial": affine_of(np.diag([-1, -1, 1]), (0.7, 0.8, 2.5)),
    "feet first in the file": affine_of(np.diag([-1, -1, -1]), (0.7, 0.7, 2.5)),
    "coronal": affine_of([[-1, 0, 0], [0, 0, -1], [0, -1, 0]], (0.9, 0.8, 3.0)),
    "oblique": affine_of(OBLIQUE, (0.703125, 0.8333333, 2.5123456)),
    "oblique left-handed": affine_of(OBLIQUE @ np.diag([1, 1, -1]), (0.703125, 0.8333333, 2.5123456)),
}


def marked_hu():
    hu = np.random.default_rng(0).integers(-1000, 1500, (7, 9, 8)).astype(np.int16)
    hu[MARK_IJK[::-1]] = MARK_HU
    return hu


def decimal(values):
    """DICOM's decimal strings hold 16 characters."""
    return [f"{value:.12g}"[:16] for value in np.atleast_1d(values)]


def new_file(sop_class, series_uid):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series_uid, generate_uid()
    dataset.Modality, dataset.SeriesDescription, dataset.SeriesNumber = "CT", "Body 2.5", 4
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    return dataset


def legacy_slices(hu, ras_from_ijk):
    """One data set per slice, stored as unsigned with an intercept of -1024."""
    lps = RAS_FROM_LPS @ ras_from_ijk
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    series_uid = generate_uid()
    slices = []
    for k, pixels in enumerate(hu):
        one = new_file(CT_IMAGE, series_uid)
        one.Rows, one.Columns = pixels.shape
        one.PixelSpacing = decimal(spacing[[1, 0]])
        one.ImageOrientationPatient = decimal((lps[:3, :2] / spacing[:2]).T.ravel())
        one.ImagePositionPatient = decimal((lps @ [0, 0, k, 1])[:3])
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
        one.PixelData = (pixels.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        slices.append(one)
    return slices


def save(folder, slices, shuffled=True):
    """File names say nothing about the order."""
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(1).permutation(len(slices)) if shuffled else range(len(slices))
    for name, n in enumerate(order):
        slices[n].save_as(folder / f"IM{name:04d}", enforce_file_format=True)
    return folder


def enhanced(hu, ras_from_ijk):
    """One multi-frame file whose frames are out of order, each with its own rescale."""
    lps = RAS_FROM_LPS @ ras_from_ijk
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    file = new_file(ENHANCED_CT, generate_uid())
    file.Rows, file.Columns = hu.shape[1:]
    file.NumberOfFrames = len(hu)
    shared = Dataset()
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = decimal(spacing[[1, 0]])
    orientation.ImageOrientationPatient = decimal((lps[:3, :2] / spacing[:2]).T.ravel())
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    file.SharedFunctionalGroupsSequence = [shared]
    frames, pixels = [], []
    for k in np.random.default_rng(2).permutation(len(hu)):
        groups, position, transformation = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = decimal((lps @ [0, 0, k, 1])[:3])
        intercept = -1024 - int(k)
        transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = (
            1,
            intercept,
            "HU",
        )
        groups.PlanePositionSequence, groups.PixelValueTransformationSequence = [position], [transformation]
        frames.append(groups)
        pixels.append((hu[k].astype(np.int32) - intercept).astype(np.uint16))
    file.PerFrameFunctionalGroupsSequence = frames
    file.PixelData = np.array(pixels).tobytes()
    return file


def compressed_by_gdcm(pixels, folder):
    """The JPEG 2000 stream of one slice, as GDCM writes it."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetFileName(str(folder / "jpeg.dcm"))
    writer.Execute(sitk.GetImageFromArray(pixels[None]))
    written = pydicom.dcmread(folder / "jpeg.dcm")
    return next(generate_frames(written.PixelData, number_of_frames=1)), written.file_meta.TransferSyntaxUID


def compress(file, frames, folder):
    encoded = [compressed_by_gdcm(frame, folder) for frame in frames]
    (folder / "jpeg.dcm").unlink()
    assert encoded[0][1].is_compressed
    file.PixelData = encapsulate([stream for stream, _ in encoded])
    file["PixelData"].is_undefined_length = True
    file.file_meta.TransferSyntaxUID = encoded[0][1]


def larger(hu):
    """JPEG 2000 has its least sizes."""
    return np.pad(hu, ((0, 0), (0, 64), (0, 64)), mode="reflect")
