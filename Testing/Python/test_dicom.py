"""DICOM: slices land where they were acquired, and what is no single upright stack is refused with its
reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from dicom_files import GRIDS, MARK_HU, MARK_IJK, RAS_FROM_LPS, decimal, enhanced, legacy_slices, marked_hu, save
from pydicom.uid import UID, generate_uid

from DeepDRRLogic import memory
from DeepDRRLogic.affine import apply, rotation
from DeepDRRLogic.dicom import list_series
from DeepDRRLogic.volume import CTVolume


def assert_is_marked_ct(ct, ras_from_ijk):
    (found,) = np.argwhere(ct.hu == MARK_HU)
    expected = (ras_from_ijk @ [*MARK_IJK, 1.0])[:3]
    np.testing.assert_allclose(apply(ct.ras_from_ijk, found[::-1]), expected, atol=1e-4)
    assert ct.hu.dtype == np.int16
    # All voxels, each found at its own place on the original grid.
    ijk = np.stack(np.meshgrid(*map(np.arange, ct.shape[::-1]), indexing="ij"), axis=-1)
    original = apply(np.linalg.inv(ras_from_ijk) @ ct.ras_from_ijk, ijk)
    np.testing.assert_allclose(original, np.rint(original), atol=1e-4)
    i, j, k = np.moveaxis(np.rint(original).astype(int), -1, 0)
    np.testing.assert_array_equal(ct.hu.transpose(2, 1, 0), marked_hu()[k, j, i])


@pytest.fixture(params=GRIDS.values(), ids=GRIDS)
def ras_from_ijk(request):
    return request.param


@pytest.fixture
def slices():
    return legacy_slices(marked_hu(), GRIDS["axial"])


def test_legacy_slices_land_where_they_were_acquired(tmp_path, ras_from_ijk):
    folder = save(tmp_path / "ct", legacy_slices(marked_hu(), ras_from_ijk))
    ct = CTVolume.read(folder)
    assert_is_marked_ct(ct, ras_from_ijk)
    assert (ct.name, ct.notes) == ("Body 2.5", ())


def test_enhanced_frames_land_where_they_were_acquired(tmp_path, ras_from_ijk):
    enhanced(marked_hu(), ras_from_ijk).save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    assert_is_marked_ct(CTVolume.read(tmp_path / "ct.dcm"), ras_from_ijk)
    assert_is_marked_ct(CTVolume.read(tmp_path), ras_from_ijk)


def test_one_slice_stands_for_its_series_and_an_enhanced_file_for_itself(tmp_path, slices):
    save(tmp_path, slices)
    other = legacy_slices(marked_hu()[:4], GRIDS["coronal"])
    save_as = [one.save_as(tmp_path / f"other{n}", enforce_file_format=True) for n, one in enumerate(other)]
    assert len(save_as) == 4
    enhanced(marked_hu(), GRIDS["oblique"]).save_as(tmp_path / "enhanced", enforce_file_format=True)
    assert_is_marked_ct(CTVolume.read(tmp_path / "IM0003"), GRIDS["axial"])
    assert_is_marked_ct(CTVolume.read(tmp_path / "enhanced"), GRIDS["oblique"])
    assert CTVolume.read(tmp_path / "other1", hu_offset=0).shape == (4, 9, 8)


def test_slices_in_subfolders_are_found_and_other_files_passed_over(tmp_path, slices):
    save(tmp_path / "study", [])
    for n, one in enumerate(slices):
        save(tmp_path / "study" / f"part{n % 2}", [])
        one.save_as(tmp_path / "study" / f"part{n % 2}" / f"{n}.dcm", enforce_file_format=True)
    (tmp_path / "study" / "readme.txt").write_text("not DICOM")
    assert_is_marked_ct(CTVolume.read(tmp_path / "study"), GRIDS["axial"])


def test_every_slice_has_its_own_rescale_also_a_fractional_one(tmp_path, slices):
    for k, one in enumerate(slices):
        slope = 0.5 if k % 2 else 1.25
        one.RescaleSlope, one.RescaleIntercept = str(slope), "-1024.5"
    ct = CTVolume.read(save(tmp_path / "ct", slices))
    slope = np.where(np.arange(7) % 2, 0.5, 1.25)[:, None, None]
    np.testing.assert_allclose(ct.hu, (marked_hu() + 1024) * slope - 1024.5, rtol=1e-6)
    assert ct.hu.dtype == np.float32


def test_a_single_fractional_rescale_is_kept_too(tmp_path, slices):
    slices[3].RescaleSlope = "0.25"
    ct = CTVolume.read(save(tmp_path / "ct", slices))
    wanted = marked_hu().astype(np.float32)
    wanted[3] = (wanted[3] + 1024) * 0.25 - 1024
    np.testing.assert_array_equal(ct.hu, wanted)


def test_values_beyond_sixteen_bits_are_kept(tmp_path, slices):
    for one in slices:
        one.RescaleSlope = 16
    ct = CTVolume.read(save(tmp_path / "ct", slices), hu_offset=0)
    np.testing.assert_array_equal(ct.hu, (marked_hu().astype(int) + 1024) * 16 - 1024)


@pytest.mark.parametrize(("signed", "padding"), [(1, -2000), (0, 63536)])
def test_padding_becomes_the_lowest_hounsfield_unit(tmp_path, signed, padding):
    hu = marked_hu()
    slices = legacy_slices(hu, GRIDS["axial"])
    for one in slices:
        one.PixelRepresentation, one.PixelPaddingValue = signed, padding
        stored = one.pixel_array.astype(np.int16 if signed else np.uint16)
        stored[0] = padding
        one.PixelData = stored.tobytes()
    ct = CTVolume.read(save(tmp_path / "ct", slices))
    assert np.all(ct.hu[:, 0] == -1024)
    np.testing.assert_array_equal(ct.hu[:, 1:], hu[:, 1:])


@pytest.mark.parametrize(("value", "limit"), [(-3000, -2000), (-2000, -3000)])
def test_padding_may_be_a_range_that_begins_at_either_end(tmp_path, value, limit):
    hu = marked_hu()
    slices = legacy_slices(hu, GRIDS["axial"])
    for one in slices:
        stored = one.pixel_array.astype(np.int16)
        stored[0], stored[1] = -2500, -1900
        one.PixelRepresentation, one.PixelPaddingValue, one.PixelPaddingRangeLimit = 1, value, limit
        one.PixelData = stored.tobytes()
    ct = CTVolume.read(save(tmp_path / "ct", slices), hu_offset=0)
    assert np.all(ct.hu[:, 0] == -1024)
    assert np.all(ct.hu[:, 1] == -1900 - 1024)
    np.testing.assert_array_equal(ct.hu[:, 2:], hu[:, 2:])


def refused(folder, message, **options):
    with pytest.raises(ValueError, match=message):
        CTVolume.read(folder, **options)


def test_missing_slices_are_named_by_position(tmp_path, slices):
    del slices[2], slices[3]  # positions 2 and 4 of 7
    folder = save(tmp_path / "ct", slices)
    refused(folder, r"2 of 7 slices are missing, at -296.50, -291.50 mm.*2.5 mm apart")


def test_doubled_slices_are_named_by_position(tmp_path, slices):
    slices[3].ImagePositionPatient = slices[4].ImagePositionPatient
    refused(save(tmp_path / "ct", slices), r"1 slices share a position.*-291.50 mm")


def test_the_same_file_twice_is_used_once_and_noted(tmp_path, slices):
    folder = save(tmp_path / "ct", slices)
    (folder / "copy").write_bytes((folder / "IM0002").read_bytes())
    ct = CTVolume.read(folder)
    assert_is_marked_ct(ct, GRIDS["axial"])
    assert any("1 slices were there twice" in note for note in ct.notes)


def test_uneven_spacing_is_refused(tmp_path, slices):
    for k, one in enumerate(slices):
        one.ImagePositionPatient = decimal([0, 0, 2.5 * k if k < 4 else 7.5 + 5.0 * (k - 3)])
    refused(save(tmp_path / "ct", slices), "unevenly spaced, from 2.5 to 5 mm")
    for k, one in enumerate(slices):
        one.ImagePositionPatient = decimal([0, 0, 2.5 * k + (0.6 if k == 3 else 0)])
    refused(save(tmp_path / "jitter", slices), "up to 0.6 mm from where even spacing")


def test_positions_rounded_by_the_scanner_are_accepted(tmp_path, slices):
    for k, one in enumerate(slices):
        one.ImagePositionPatient = decimal([0, 0, round(0.625 * k, 1)])
    ct = CTVolume.read(save(tmp_path / "ct", slices))
    assert ct.spacing_mm[2] == pytest.approx(0.625, abs=0.02)


def test_several_series_are_listed_and_one_can_be_chosen(tmp_path, slices):
    save(tmp_path / "ct", slices)
    thin = legacy_slices(marked_hu()[:5], GRIDS["axial"])
    for one in thin:
        one.SeriesDescription, one.SeriesNumber = "Bone 1.0", 5
        one.save_as(tmp_path / "ct" / one.SOPInstanceUID, enforce_file_format=True)
    uids = slices[0].SeriesInstanceUID, thin[0].SeriesInstanceUID
    with pytest.raises(ValueError, match="2 CT series") as error:
        CTVolume.read(tmp_path / "ct")
    for text in (*uids, "'Body 2.5'  7 slices", "'Bone 1.0'  5 slices"):
        assert text in str(error.value)
    for choice in (uids[1], "5", "bone 1.0"):
        assert CTVolume.read(tmp_path / "ct", choice).shape[0] == 5
    refused(tmp_path / "ct", "No CT series", series="lung")
    assert {s.uid: len(s.slices) for s in list_series(tmp_path / "ct")} == {uids[0]: 7, uids[1]: 5}


def test_localizers_and_captures_are_left_out_and_noted(tmp_path, slices):
    folder = save(tmp_path / "ct", slices)
    scout, capture = legacy_slices(marked_hu()[:2], GRIDS["coronal"])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    del capture.ImagePositionPatient
    for name, one in (("scout", scout), ("capture", capture)):
        one.SeriesInstanceUID = slices[0].SeriesInstanceUID
        one.save_as(folder / name, enforce_file_format=True)
    ct = CTVolume.read(folder)
    assert_is_marked_ct(ct, GRIDS["axial"])
    assert "1 localizers were left out" in ct.notes
    assert any("1 images without a place" in note for note in ct.notes)
    scout.SeriesInstanceUID = generate_uid()
    refused(save(tmp_path / "scouts", [scout]), "localizers or images without a place")


def test_another_modality_is_named(tmp_path, slices):
    for one in slices:
        one.Modality = "MR"
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    refused(save(tmp_path / "mr", slices), "no CT, but MR")


def test_a_missing_rescale_is_asked_for(tmp_path, slices):
    for one in slices[:3]:
        del one.RescaleIntercept
    folder = save(tmp_path / "ct", slices)
    refused(folder, r"3 of 7 slices lack rescale.*hu_offset=-1024")
    for one in slices[3:]:
        del one.RescaleIntercept
    ct = CTVolume.read(save(tmp_path / "none", slices), hu_offset=-1024)
    np.testing.assert_array_equal(ct.hu, marked_hu())


def test_values_that_are_not_hounsfield_units_are_refused(tmp_path, slices):
    for one in slices:
        one.RescaleType = "MGML"
    refused(save(tmp_path / "ct", slices), "MGML, not HU")


@pytest.mark.parametrize("kind", ["HU", "HU_MOD", "US", ""])
def test_hounsfield_units_have_several_names(tmp_path, slices, kind):
    for one in slices:
        one.RescaleType = kind
    np.testing.assert_array_equal(CTVolume.read(save(tmp_path / "ct", slices)).hu, marked_hu())


def test_slices_of_different_kinds_are_counted(tmp_path, slices):
    slices[2].Rows, slices[2].Columns = 8, 9
    refused(save(tmp_path / "ct", slices), "different sizes.*8×9: 6; 9×8: 1")
    turned = legacy_slices(marked_hu(), GRIDS["axial"])
    turned[1].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    refused(save(tmp_path / "turned", turned), "different orientations")


def test_an_orientation_that_is_none_is_refused(tmp_path, slices):
    for one in slices:
        one.ImageOrientationPatient = [1, 0, 0, 0.5, 0.5, 0]
    refused(save(tmp_path / "ct", slices), "not two perpendicular unit vectors")


def test_a_lone_slice_and_an_empty_folder_are_refused(tmp_path, slices):
    refused(save(tmp_path / "one", slices[:1]), "only 1 slice")
    refused(save(tmp_path / "none", []), "no DICOM image")


def test_cut_pixels_and_missing_pixels_are_named_with_their_file(tmp_path, slices):
    folder = save(tmp_path / "ct", slices)
    whole = (folder / "IM0004").read_bytes()
    (folder / "IM0004").write_bytes(whole[:-50])
    refused(folder, "IM0004")
    one = pydicom.dcmread(folder / "IM0001")
    del one.PixelData
    (folder / "IM0004").write_bytes(whole)
    one.save_as(folder / "IM0001")
    refused(folder, "IM0001 has no pixels")


@pytest.mark.parametrize("length", [400, 700, 900])
def test_a_file_that_breaks_off_in_its_header_is_named(tmp_path, length):
    path = tmp_path / "ct.dcm"
    enhanced(marked_hu(), GRIDS["axial"]).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:length])
    refused(path, "ct.dcm")


@pytest.mark.parametrize("length", [400, 600])
def test_a_slice_that_breaks_off_in_its_header_is_not_left_out_in_silence(tmp_path, slices, length):
    folder = save(tmp_path / "ct", slices, shuffled=False)
    last = folder / f"IM{len(slices) - 1:04d}"
    last.write_bytes(last.read_bytes()[:length])
    refused(folder, f"{last.name} is damaged")


def test_a_series_that_does_not_fit_is_refused_before_its_pixels_are_read(tmp_path, slices, monkeypatch):
    folder = save(tmp_path / "ct", slices)
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: 1000)
    monkeypatch.setattr("DeepDRRLogic.dicom.series.read_pixels", lambda stack: pytest.fail("pixels were read"))
    refused(folder, "8×9×7 voxels.*Downsampled by 2")


def tilted(angle_deg, axis=(1, 0, 0)):
    """A ball of 600 HU around a known point, in air, seen by a gantry tilted about an axis."""
    turn = rotation(axis, angle_deg)
    lps = np.eye(4)
    lps[:3, :3] = turn
    lps[:3, 2] = [0, 0, 1 / turn[2, 2]]  # the table moves along z, the slices lean
    lps[:3, 3] = (-24, -20, 100)
    k, j, i = np.mgrid[:30, :56, :48]
    center = (lps @ [22.5, 30.2, 15.3, 1])[:3]
    points = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ lps.T
    distance = np.linalg.norm(points[..., :3] - center, axis=-1)
    hu = np.rint(-1000 + 1600 * np.clip(9.5 - distance, 0, 1)).astype(np.int16)
    return SimpleNamespace(hu=hu, ras_from_ijk=RAS_FROM_LPS @ lps, center_ras=center * [-1, -1, 1])


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path):
    scan = tilted(12.5)
    folder = save(tmp_path / "ct", legacy_slices(scan.hu, scan.ras_from_ijk))
    refused(folder, r"tilted by 12\.50°.*correct_tilt=True")


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0)])
@pytest.mark.parametrize("angle_deg", [-20.0, 12.5])
def test_a_corrected_tilt_leaves_a_ball_a_ball_in_its_place(tmp_path, angle_deg, axis):
    scan = tilted(angle_deg, axis)
    ct = CTVolume.read(save(tmp_path / "ct", legacy_slices(scan.hu, scan.ras_from_ijk)), correct_tilt=True)
    weight = (ct.hu.astype(float) + 1000).transpose(2, 1, 0)
    ijk = np.stack(np.meshgrid(*map(np.arange, ct.shape[::-1]), indexing="ij"), axis=-1)
    offset = apply(ct.ras_from_ijk, ijk) - scan.center_ras
    np.testing.assert_allclose(np.average(offset.reshape(-1, 3), axis=0, weights=weight.ravel()), 0, atol=0.05)
    moments = np.average(offset.reshape(-1, 3) ** 2, axis=0, weights=weight.ravel())
    np.testing.assert_allclose(moments, np.mean(moments), rtol=0.02)
    mass = weight.sum() * abs(np.linalg.det(ct.ras_from_ijk[:3, :3]))
    original = (scan.hu + 1000.0).sum() * abs(np.linalg.det(scan.ras_from_ijk[:3, :3]))
    assert mass == pytest.approx(original, rel=1e-3)
    assert any("tilted by" in note for note in ct.notes)


def test_correcting_an_upright_series_changes_nothing(tmp_path, slices):
    assert_is_marked_ct(CTVolume.read(save(tmp_path / "ct", slices), correct_tilt=True), GRIDS["axial"])


@pytest.mark.parametrize("shift_mm", [0.6, 5])
def test_slices_shifted_against_each_other_are_refused(tmp_path, slices, shift_mm):
    slices[3].ImagePositionPatient[0] += shift_mm
    refused(save(tmp_path / "ct", slices), f"shifted sideways by up to {shift_mm} mm")


def test_a_wrong_suffix_does_not_hide_what_a_file_is(tmp_path):
    Path(tmp_path / "picture.png").write_bytes(b"\x89PNG not really")
    refused(tmp_path / "picture.png", "neither DICOM")
