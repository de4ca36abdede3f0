"""How DICOM stores its pixels: compressed by what, where in their bits, and as floats."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import GRIDS, compress, enhanced, larger, legacy_slices, marked_hu, save
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from DeepDRRLogic.dicom import pixels
from DeepDRRLogic.volume import CTVolume


@pytest.fixture
def slices():
    return legacy_slices(marked_hu(), GRIDS["axial"])


def refused(folder, message):
    with pytest.raises(ValueError, match=message):
        CTVolume.read(folder)


def test_compressed_slices_have_the_values_of_uncompressed_ones(tmp_path):
    hu = larger(marked_hu())
    plain = CTVolume.read(save(tmp_path / "plain", legacy_slices(hu, GRIDS["oblique"])))
    np.testing.assert_array_equal(plain.hu, hu)
    jpeg = legacy_slices(hu, GRIDS["oblique"])
    for one in jpeg:
        one.RescaleIntercept = -1000  # stored values are 24 lower, so the decoder must not rescale on its own
        compress(one, [(one.pixel_array - 24).astype(np.uint16)], tmp_path)
    assert CTVolume.read(save(tmp_path / "jpeg", jpeg)).hu.tobytes() == plain.hu.tobytes()
    rle = legacy_slices(hu, GRIDS["oblique"])
    for one in rle:
        one.compress(RLELossless)
    assert CTVolume.read(save(tmp_path / "rle", rle)).hu.tobytes() == plain.hu.tobytes()


def test_compressed_frames_keep_each_its_own_rescale(tmp_path):
    hu = larger(marked_hu())
    file = enhanced(hu, GRIDS["axial"])
    compress(file, file.pixel_array, tmp_path)
    file.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "ct.dcm").hu, hu)


def test_runs_of_one_value_are_not_left_to_gdcm(tmp_path, monkeypatch):
    """Which takes ten times as long."""
    hu = larger(marked_hu())
    file = enhanced(hu, GRIDS["axial"])
    file["PixelData"].VR = "OW"
    file.compress(RLELossless)
    file.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    monkeypatch.setattr(sitk, "ReadImage", lambda *_: pytest.fail("read through GDCM"))
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "ct.dcm").hu, hu)


@pytest.mark.parametrize("threads", [1, 3])
def test_frames_are_decompressed_several_at_a_time(tmp_path, monkeypatch, threads):
    hu = np.tile(larger(marked_hu()), (4, 1, 1))
    file = enhanced(hu, GRIDS["axial"])
    compress(file, file.pixel_array, tmp_path)
    file.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    reads, read = [], sitk.ReadImage
    monkeypatch.setattr(sitk, "ReadImage", lambda path: reads.append(path) or read(path))
    monkeypatch.setattr(pixels, "thread_count", lambda _: threads)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "ct.dcm").hu, hu)
    assert len(reads) <= 4 * threads < len(hu)


def left_justified(slices, hu, *, signed):
    """Values of 13 bits in the highest of 16; in the lower ones there is an overlay."""
    for one, values in zip(slices, hu, strict=True):
        one.PixelRepresentation, one.RescaleIntercept = int(signed), 0 if signed else -1024
        stored = values.astype(np.int32) - int(one.RescaleIntercept)
        one.PixelData = ((stored << 3) | 5).astype(np.int16 if signed else np.uint16).tobytes()
        one["PixelData"].VR = "OW"


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", ["plain", "RLE", "big endian"])
def test_values_in_the_highest_bits_are_shifted(tmp_path, slices, kind, signed):
    left_justified(slices, marked_hu(), signed=signed)
    for one in slices:
        if kind == "RLE":
            one.compress(RLELossless)
        if kind == "big endian":
            one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
        one.BitsStored = 13
    np.testing.assert_array_equal(CTVolume.read(save(tmp_path / "ct", slices)).hu, marked_hu())


def test_bits_that_cannot_be_told_are_refused(tmp_path, slices):
    slices[0].HighBit = 11
    refused(save(tmp_path / "low", slices), r"has HighBit 11, which must be 15 \(BitsStored - 1\)")
    file = enhanced(larger(marked_hu()), GRIDS["axial"])
    compress(file, file.pixel_array, tmp_path)
    file.BitsStored = 12
    file.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    refused(tmp_path / "ct.dcm", "ct.dcm has HighBit 15, which must be 11")


@pytest.mark.parametrize(
    ("keyword", "kind", "name"),
    [
        ("FloatPixelData", np.float32, r"Float Pixel Data \(7FE0,0008\)"),
        ("DoubleFloatPixelData", np.float64, r"Double Float Pixel Data \(7FE0,0009\)"),
    ],
)
def test_float_pixels_are_named(tmp_path, slices, keyword, kind, name):
    for one, hu in zip(slices, marked_hu(), strict=True):
        del one.PixelData
        setattr(one, keyword, hu.astype(kind).tobytes())
    refused(save(tmp_path / "ct", slices), rf"IM000\d holds {name} instead of whole numbers: convert")
