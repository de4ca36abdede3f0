"""DICOM as it comes from careless hands: series mixed and damaged, UIDs and headers missing, phases in one file."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from dicom_files import ENHANCED_CT, GRIDS, enhanced, legacy_slices, marked_hu, save
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from DeepDRRLogic import memory
from DeepDRRLogic.volume import CTVolume


@pytest.fixture
def slices():
    return legacy_slices(marked_hu(), GRIDS["axial"])


def refused(folder, message, **options):
    with pytest.raises(ValueError, match=message):
        CTVolume.read(folder, **options)


def noted(ct, words):
    return any(words in note for note in ct.notes)


def test_an_offset_is_the_intercept_of_the_slices_that_lack_one_and_of_no_other(tmp_path, slices):
    for one in slices[:3]:
        del one.RescaleIntercept
    folder = save(tmp_path / "ct", slices)
    refused(folder, "3 of 7 slices lack rescale .*slices that have a rescale keep it")
    ct = CTVolume.read(folder, hu_offset=-1024)
    np.testing.assert_array_equal(ct.hu, marked_hu())
    assert noted(ct, "3 of 7 slices lacked rescale slope or intercept; hu_offset=-1024 is theirs only")


def test_an_offset_is_added_where_every_slice_has_its_intercept(tmp_path, slices):
    ct = CTVolume.read(save(tmp_path / "ct", slices), hu_offset=-10.5)
    np.testing.assert_array_equal(ct.hu, marked_hu() - 10.5)


def broken(folder, one, length, name="broken"):
    one.save_as(folder / name, enforce_file_format=True)
    (folder / name).write_bytes((folder / name).read_bytes()[:length])


def offset_of_series_uid(path):
    return path.read_bytes().index(b"\x20\x00\x0e\x00")


def test_a_damaged_file_of_another_series_is_left_out_and_noted(tmp_path, slices):
    folder = save(tmp_path / "ct", slices)
    other = legacy_slices(marked_hu(), GRIDS["axial"])[0]
    broken(folder, other, None)
    broken(folder, other, offset_of_series_uid(folder / "broken") + 100)
    for place in (folder, folder / "IM0000"):
        ct = CTVolume.read(place)
        np.testing.assert_array_equal(ct.hu, marked_hu())
        assert noted(ct, "cannot be read were left out: broken")


@pytest.mark.parametrize("beyond", [100, 30, 0], ids=["after its UID", "within its UID", "before its UID"])
def test_a_damaged_file_that_may_belong_to_the_series_is_named(tmp_path, slices, beyond):
    folder = save(tmp_path / "ct", slices[1:])
    slices[0].save_as(folder / "broken", enforce_file_format=True)
    broken(folder, slices[0], offset_of_series_uid(folder / "broken") + beyond)
    refused(folder, "broken is damaged")
    asked = {"series": slices[0].SeriesInstanceUID}
    if beyond == 100:
        refused(folder, "broken is damaged", **asked)
    else:
        assert noted(CTVolume.read(folder, **asked), "left out: broken")


def test_slices_that_share_a_uid_are_told_by_their_positions(tmp_path, slices):
    for one in slices:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = slices[0].SOPInstanceUID
    ct = CTVolume.read(save(tmp_path / "all", slices))
    np.testing.assert_array_equal(ct.hu, marked_hu())
    assert noted(ct, "slices at several positions have the same UID")


def test_two_slices_that_share_a_uid_are_both_used(tmp_path, slices):
    slices[0].SOPInstanceUID = slices[1].SOPInstanceUID
    assert CTVolume.read(save(tmp_path / "ct", slices)).shape[0] == 7


def test_frames_without_places_of_their_own_are_refused(tmp_path, slices):
    one = slices[0]
    one.NumberOfFrames = 7
    one.PixelData = (marked_hu().astype(np.int32) + 1024).astype(np.uint16).tobytes()
    folder = save(tmp_path / "ct", [one])
    for place in (folder, folder / "IM0000"):
        refused(place, r"IM0000 holds 7 frames and does not say where each of them lies .*one file per slice")
    save(tmp_path / "both", slices)
    one.SeriesInstanceUID = generate_uid()
    one.save_as(tmp_path / "both" / "IM0000", enforce_file_format=True)
    refused(tmp_path / "both" / "IM0000", "holds 7 frames")


@pytest.mark.parametrize(("groups", "frames"), [(5, 7), (7, 5), (0, 7), (7, 1)])
def test_frames_and_their_places_must_be_as_many(tmp_path, groups, frames):
    file = enhanced(marked_hu(), GRIDS["axial"])
    file.NumberOfFrames = frames
    file.PerFrameFunctionalGroupsSequence = file.PerFrameFunctionalGroupsSequence[:groups]
    file.PixelData = file.PixelData[: frames * 72 * 2]
    file.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    for place in (tmp_path, tmp_path / "ct.dcm"):
        refused(place, rf"ct.dcm holds {frames} frames \(NumberOfFrames\) but says of {groups} where they lie")


@pytest.mark.parametrize(
    ("keyword", "value", "shown"),
    [
        ("RescaleSlope", "0", "RescaleSlope 0.0 and RescaleIntercept -1024.0 make no Hounsfield units"),
        ("RescaleSlope", "nan", "RescaleSlope nan"),
        ("RescaleIntercept", "inf", ".* and RescaleIntercept inf make no"),
        ("PixelSpacing", ["0.8", "0"], r"PixelSpacing \[0.8, 0.0\] is not two distances"),
        ("PixelSpacing", ["-0.8", "0.7"], "PixelSpacing .* is not two distances"),
        ("PixelSpacing", ["nan", "0.7"], "PixelSpacing .* is not two distances"),
        ("ImagePositionPatient", ["0", "nan", "0"], "ImagePositionPatient .* is no place"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_header_that_means_nothing_is_named(tmp_path, slices, keyword, value, shown):
    for one in slices if keyword == "PixelSpacing" else slices[3:4]:
        setattr(one, keyword, value)
    refused(save(tmp_path / "ct", slices, shuffled=False), rf"IM000\d: {shown}")


def test_two_frames_of_reference_are_no_one_stack(tmp_path, slices):
    for number, one in enumerate(slices):
        one.FrameOfReferenceUID = "1.2.3.1" if number < 4 else "1.2.3.2"
    refused(save(tmp_path / "ct", slices), r"\(FrameOfReferenceUID\).*: 1\.2\.3\.1: 4; 1\.2\.3\.2: 3\.")
    for one in slices:
        one.FrameOfReferenceUID = "1.2.3.1"
    assert CTVolume.read(save(tmp_path / "ct", slices)).notes == ()


def test_a_frame_of_reference_for_each_file_is_noted(tmp_path, slices):
    for one in slices:
        one.FrameOfReferenceUID = generate_uid()
    ct = CTVolume.read(save(tmp_path / "ct", slices))
    np.testing.assert_array_equal(ct.hu, marked_hu())
    assert noted(ct, "every file has a frame of reference of its own")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_files_without_a_preamble_are_read(tmp_path, slices, syntax):
    for number, one in enumerate(slices):
        del one.file_meta
        content = DicomBytesIO()
        content.is_little_endian, content.is_implicit_VR = True, syntax.is_implicit_VR
        write_dataset(content, one)
        (tmp_path / f"IM{number}").write_bytes(content.getvalue())
    (tmp_path / "other").write_bytes(b"\x08\x00 something else altogether")
    for place in (tmp_path, tmp_path / "IM3"):
        np.testing.assert_array_equal(CTVolume.read(place).hu, marked_hu())


def test_a_capture_in_the_folder_does_not_hide_the_ct_below(tmp_path, slices):
    capture = legacy_slices(marked_hu()[:1], GRIDS["axial"])[0]
    capture.Modality = "OT"
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    for uid in (generate_uid(), slices[0].SeriesInstanceUID):
        capture.SeriesInstanceUID = uid
        save(tmp_path, [capture])
        save(tmp_path / "ct", slices)
        np.testing.assert_array_equal(CTVolume.read(tmp_path).hu, marked_hu())


def test_an_empty_limit_of_the_padding_is_none(tmp_path, slices):
    hu = marked_hu()
    for one, values in zip(slices, hu, strict=True):
        one.PixelRepresentation, one.PixelPaddingValue, one.PixelPaddingRangeLimit = 1, -2000, None
        stored = (values.astype(np.int32) + 1024).astype(np.int16)
        stored[0] = -2000
        one.PixelData = stored.tobytes()
    ct = CTVolume.read(save(tmp_path / "ct", slices))
    assert np.all(ct.hu[:, 0] == -1024)
    np.testing.assert_array_equal(ct.hu[:, 1:], hu[:, 1:])


def test_phases_in_one_file_are_told_apart_by_name(tmp_path):
    file = enhanced(np.concatenate([marked_hu(), marked_hu()]), GRIDS["axial"])
    for number, groups in enumerate(file.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex, content.StackID = 1 + number % 2, "1"
        groups.FrameContentSequence = [content]
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2 * (number // 2)]
    assert file.SOPClassUID == ENHANCED_CT
    file.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    refused(
        tmp_path / "ct.dcm",
        r"7 slices share a position.*\(TemporalPositionIndex is 1 or 2\): export one of them as a series of its own\.",
    )


def test_phases_in_several_files_are_told_apart_by_name(tmp_path, slices):
    later = legacy_slices(marked_hu(), GRIDS["axial"])
    for acquisition, phase in enumerate((slices, later), 1):
        for one in phase:
            one.SeriesInstanceUID, one.AcquisitionNumber = slices[0].SeriesInstanceUID, acquisition
    refused(
        save(tmp_path / "ct", [*slices, *later]),
        r"\(AcquisitionNumber is 1 or 2\): keep one of them in a folder of its own\.",
    )


def test_frames_of_one_file_need_the_memory_of_the_file_too(tmp_path, monkeypatch, slices):
    enhanced(marked_hu(), GRIDS["axial"]).save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    folder = save(tmp_path / "legacy", slices)
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: marked_hu().size * 6)
    assert CTVolume.read(folder).shape[0] == 7
    refused(tmp_path / "ct.dcm", r"8×9×7 voxels and needs 0\.0 GB")


def test_a_ct_beyond_int16_is_never_held_twice(tmp_path):
    hu = np.tile(marked_hu()[:1], (64, 12, 12))
    slices = legacy_slices(hu, GRIDS["axial"])
    slices[-1].RescaleSlope = 40
    folder = save(tmp_path / "ct", slices)
    CTVolume.read(folder, hu_offset=0)  # with all that is imported on the way
    tracemalloc.start()
    ct = CTVolume.read(folder, hu_offset=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ct.hu.dtype == np.float32
    assert peak < 5.5 * hu.size  # 4 bytes of a float, not 2 of an int16 beside them
