"""CTs as files: every format lands where it says, and every wrong input is named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS, body_like_hu

from DeepDRRLogic import memory
from DeepDRRLogic.affine import apply
from DeepDRRLogic.volume import CTVolume

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MARK_IJK, MARK_HU = (3, 5, 2), 2345


@pytest.fixture(params=GRIDS.values(), ids=GRIDS)
def ras_from_ijk(request):
    return request.param


def marked_hu():
    """A small CT of distinct values, air included, with one voxel that can be found again."""
    hu = np.random.default_rng(0).integers(-1000, 1500, (7, 9, 8)).astype(np.int16)
    hu[MARK_IJK[::-1]] = MARK_HU
    return hu


def write_nrrd_by_hand(path, hu, ras_from_ijk, space="right-anterior-superior", kind="short"):
    vectors = " ".join("(" + ",".join(f"{x:.17g}" for x in column) + ")" for column in ras_from_ijk[:3, :3].T)
    header = (
        f"NRRD0004\ntype: {kind}\ndimension: 3\nspace: {space}\n"
        f"sizes: {' '.join(map(str, hu.shape[::-1]))}\nspace directions: {vectors}\nkinds: domain domain "
        "domain\n"
        f"endian: little\nencoding: gzip\nspace origin: "
        f"({','.join(f'{x:.17g}' for x in ras_from_ijk[:3, 3])})\n\n"
    )
    path.write_bytes(header.encode() + gzip.compress(hu.tobytes()))


def write_nifti_by_hand(path, hu, ras_from_ijk, sform_code=1):
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *hu.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *np.linalg.norm(ras_from_ijk[:3, :3], axis=0), 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[123] = 2
    struct.pack_into("<2h", header, 252, 0, sform_code)
    struct.pack_into("<12f", header, 280, *ras_from_ijk[:3].ravel())
    header[344:348] = b"n+1\0"
    content = bytes(header) + hu.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_metaimage_by_hand(path, hu, ras_from_ijk):
    lps = RAS_FROM_LPS @ ras_from_ijk
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    numbers = {
        "TransformMatrix": (lps[:3, :3] / spacing).T.ravel(),
        "Offset": lps[:3, 3],
        "ElementSpacing": spacing,
    }
    text = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    text += "".join(f"{key} = {' '.join(f'{x:.17g}' for x in value)}\n" for key, value in numbers.items())
    text += f"DimSize = {' '.join(map(str, hu.shape[::-1]))}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(text.encode() + hu.tobytes())


WRITERS = {
    "nrrd": write_nrrd_by_hand,
    "nii": write_nifti_by_hand,
    "nii.gz": write_nifti_by_hand,
    "mha": write_metaimage_by_hand,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_written_by_hand_lands_where_its_header_says(tmp_path, ras_from_ijk, suffix):
    path = tmp_path / f"ct.{suffix}"
    WRITERS[suffix](path, marked_hu(), ras_from_ijk)
    ct = CTVolume.read(path)
    (found,) = np.argwhere(ct.hu == MARK_HU)
    expected = (ras_from_ijk @ [*MARK_IJK, 1.0])[:3]
    np.testing.assert_allclose(apply(ct.ras_from_ijk, found[::-1]), expected, atol=1e-4)
    np.testing.assert_array_equal(ct.hu, marked_hu())
    np.testing.assert_allclose(ct.ras_from_ijk, ras_from_ijk, atol=1e-4)
    assert ct.name == "ct"
    assert ct.hu.dtype == np.int16


def test_a_left_posterior_nrrd_lands_in_ras(tmp_path, ras_from_ijk):
    path = tmp_path / "ct.nrrd"
    write_nrrd_by_hand(path, marked_hu(), RAS_FROM_LPS @ ras_from_ijk, space="left-posterior-superior")
    np.testing.assert_allclose(CTVolume.read(path).ras_from_ijk, ras_from_ijk, atol=1e-9)


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_written_is_found_by_itk_at_the_same_point(tmp_path, ras_from_ijk, suffix):
    path = tmp_path / f"ct.{suffix}"
    CTVolume(marked_hu(), ras_from_ijk).write(path)
    image = sitk.ReadImage(str(path))
    expected_lps = (RAS_FROM_LPS @ ras_from_ijk @ [*MARK_IJK, 1.0])[:3]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(MARK_IJK), expected_lps, atol=1e-4)
    assert image.GetPixel(MARK_IJK) == MARK_HU
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_fractional_hounsfield_units_survive_a_round_trip(tmp_path):
    hu = marked_hu() + np.float32(0.25)
    CTVolume(hu, np.eye(4)).write(tmp_path / "ct.nii.gz")
    read = CTVolume.read(tmp_path / "ct.nii.gz")
    assert read.hu.dtype == np.float32
    np.testing.assert_array_equal(read.hu, hu)


def test_whole_numbers_beyond_sixteen_bits_are_kept():
    values = np.zeros((2, 3, 4), np.int32)
    values[0, 0, 0], values[1, 2, 3] = -40_000, 3000
    ct = CTVolume(values, np.eye(4))
    assert ct.hu.dtype == np.float32
    np.testing.assert_array_equal(ct.hu, values)


def test_orientation_handedness_and_centre_are_told_from_the_affine():
    ct = CTVolume(marked_hu(), GRIDS["left-handed LAS"])
    assert (ct.orientation, ct.is_left_handed, ct.is_oblique) == ("LAS", True, False)
    np.testing.assert_allclose(ct.spacing_mm, (0.703125, 0.703125, 2.5))
    np.testing.assert_allclose(ct.extent_mm, (8 * 0.703125, 9 * 0.703125, 7 * 2.5))
    np.testing.assert_allclose(ct.center_ras, (GRIDS["left-handed LAS"] @ [3.5, 4, 3, 1])[:3])
    np.testing.assert_allclose(ct.corners_ras.mean(axis=0), ct.center_ras)
    np.testing.assert_allclose(ct.corners_ras[0], (GRIDS["left-handed LAS"] @ [-0.5, -0.5, -0.5, 1])[:3])
    assert CTVolume(marked_hu(), GRIDS["oblique"]).is_oblique


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_counted_and_located(wrong):
    hu = marked_hu().astype(np.float32)
    hu[2, 5, 3] = hu[6, 8, 7] = wrong
    with pytest.raises(ValueError, match=r"2 of 504 voxels.*\(3, 5, 2\)"):
        CTVolume(hu, np.eye(4))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 4, 4), "empty"),
        ((1, 4, 4), "single slice"),
        ((4, 4), "2 dimensions"),
        ((2, 4, 4, 4), "4 dimensions"),
    ],
)
def test_a_volume_needs_three_dimensions_and_two_slices(shape, message):
    with pytest.raises(ValueError, match=message):
        CTVolume(np.zeros(shape, np.int16), np.eye(4))


def test_singular_and_sheared_affines_are_refused():
    with pytest.raises(ValueError, match="singular"):
        CTVolume(marked_hu(), np.diag([1.0, 0.0, 1.0, 1.0]))
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(ValueError, match="sheared"):
        CTVolume(marked_hu(), sheared)


@pytest.mark.parametrize("suffix", ["nrrd", "nii", "mha"])
def test_a_sheared_file_is_refused_and_never_straightened_in_silence(tmp_path, suffix):
    sheared = GRIDS["oblique"].copy()
    sheared[:3, 1] += 0.2 * sheared[:3, 0]
    path = tmp_path / f"ct.{suffix}"
    WRITERS[suffix](path, marked_hu(), sheared)
    with pytest.raises(ValueError, match="sheared"):
        CTVolume.read(path)


def test_a_nifti_that_does_not_say_where_it_lies_is_noted(tmp_path):
    write_nifti_by_hand(tmp_path / "ct.nii", marked_hu(), GRIDS["LPS"], sform_code=0)
    ct = CTVolume.read(tmp_path / "ct.nii")
    assert any("does not say where" in note for note in ct.notes)
    assert "does not say where" in str(ct.info())


def test_colour_and_time_series_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), str(tmp_path / "rgb.nrrd"))
    with pytest.raises(ValueError, match="3 components"):
        CTVolume.read(tmp_path / "rgb.nrrd")
    sitk.WriteImage(sitk.Image([4, 4, 4, 3], sitk.sitkInt16), str(tmp_path / "time.nii"))
    with pytest.raises(ValueError, match=r"4 dimensions \(4×4×4×3\)"):
        CTVolume.read(tmp_path / "time.nii")


def test_a_fourth_dimension_of_one_is_no_time_series(tmp_path):
    image = sitk.JoinSeries(sitk.GetImageFromArray(marked_hu()))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    np.testing.assert_array_equal(CTVolume.read(tmp_path / "ct.nrrd").hu, marked_hu())


def test_an_unsigned_file_with_offset_reads_right_with_hu_offset(tmp_path):
    stored = body_like_hu(1024).clip(0).astype(np.uint16)
    path = tmp_path / "ct.nrrd"
    write_nrrd_by_hand(path, stored, GRIDS["LPS"], kind="ushort")
    with pytest.raises(ValueError, match=r"ct: values run from 0 to .*hu_offset=-1024"):
        CTVolume.read(path)
    ct = CTVolume.read(path, hu_offset=-1024)
    assert ct.hu.dtype == np.int16
    np.testing.assert_array_equal(ct.hu, stored.astype(int) - 1024)


def test_a_file_that_does_not_fit_says_what_would(tmp_path, monkeypatch):
    path = tmp_path / "ct.nrrd"
    CTVolume(body_like_hu(), np.eye(4)).write(path)
    needed = body_like_hu().size * 6
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: needed // 10)
    with pytest.raises(ValueError, match=r"ct.nrrd has 40×40×24 voxels.*Downsampled by 3 to 14×14×8"):
        CTVolume.read(path)
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: needed)
    CTVolume.read(path)


def test_an_image_that_does_not_fit_says_what_would(monkeypatch):
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: 8 * 5 * 6000 * 400)
    memory.require_image_memory(6000, 400, 1, 1)
    with pytest.raises(ValueError, match=r"60000×4000 pixels needs 9\.6 GB; 0\.1 GB are free.*resampled\(6000, 400\)"):
        memory.require_image_memory(60000, 4000, 1, 1)


def test_this_machine_says_how_much_memory_it_has():
    assert memory.available_memory_bytes() > 1e8


def test_the_limit_of_a_container_counts_and_files_in_memory_do_not(tmp_path):
    assert memory._room_in_container(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 100\nslab 5\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._room_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._room_in_container(tmp_path) == 600


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.nrrd", "There is no"),
        ("ct.seg.nrrd", "read_segmentation"),
        ("ct.img", "Analyze"),
        ("ct.txt", "neither"),
    ],
)
def test_paths_that_are_no_ct_are_named(tmp_path, name, message):
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match=message):
        CTVolume.read(tmp_path / name)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_breaks_off_is_called_damaged(tmp_path, suffix):
    path = tmp_path / f"ct.{suffix}"
    CTVolume(marked_hu(), np.eye(4)).write(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        CTVolume.read(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "ct.nrrd"
    path.write_text("the old one")

    def fail(image, name, **options):
        Path(name).write_text("half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(ValueError, match="disk full"):
        CTVolume(marked_hu(), np.eye(4)).write(path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_only_known_formats_and_existing_folders_are_written(tmp_path):
    ct = CTVolume(marked_hu(), np.eye(4))
    with pytest.raises(ValueError, match=r"\.nii\.gz"):
        ct.write(tmp_path / "ct.png")
    with pytest.raises(ValueError, match="does not exist"):
        ct.write(tmp_path / "nowhere" / "ct.nrrd")


def test_an_affine_that_nifti_would_straighten_is_not_written(tmp_path):
    leaning = np.diag([1.0, 1.0, 1.0, 1.0])
    leaning[0, 1] = np.radians(0.09)
    hu = np.zeros((4, 400, 400), np.int16)
    with pytest.raises(ValueError, match="would move voxels"):
        CTVolume(hu, leaning).write(tmp_path / "ct.nii")
    assert not list(tmp_path.iterdir())
    CTVolume(hu, leaning).write(tmp_path / "ct.nrrd")
