"""Volumes: every file format lands where it says, every wrong input is named, and mass is neither made nor
lost."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from DeepDRRLogic import memory
from DeepDRRLogic.affine import apply, rotation
from DeepDRRLogic.materials import material
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MARK_IJK, MARK_HU = (3, 5, 2), 2345
AIR, SOFT, BONE, WATER = (material(name) for name in ("air", "soft_tissue", "bone", "water"))


def affine_of(axes, spacing, origin=(-231.123456, 412.98765, -1201.55555)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(axes, float) * spacing
    matrix[:3, 3] = origin
    return matrix


OBLIQUE = rotation([1, -2, 0.5], 37) @ np.diag([-1, -1, 1])
GRIDS = {
    "LPS": affine_of(np.diag([-1, -1, 1]), (0.7, 0.8, 2.5)),
    "left-handed LAS": affine_of(np.diag([-1, 1, 1]), (0.703125, 0.703125, 2.5)),
    "sagittal": affine_of([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (0.9, 0.9, 3.0)),
    "oblique": affine_of(OBLIQUE, (0.703125, 0.8333333, 2.5123456)),
    "oblique left-handed": affine_of(OBLIQUE @ np.diag([1, 1, -1]), (0.703125, 0.8333333, 2.5123456)),
}


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


def body_like_hu(offset=0, noise=20.0):
    """Room air around a soft-tissue body with a lung and a bone, with noise."""
    hu = np.full((24, 40, 40), -1000.0)
    hu[:, 8:32, 5:35] = 40
    hu[:, 7, 5:35] = -480  # the skin, partly air
    hu[:, 12:20, 10:18] = -850
    hu[:, 25:29, 18:22] = 1200
    return np.rint(hu + np.random.default_rng(1).normal(0, noise, hu.shape) + offset).astype(np.int16)


def mr_like():
    rng = np.random.default_rng(2)
    tissue = rng.normal(700, 250, (24, 40, 40)).clip(0)
    tissue[:, :10] = rng.rayleigh(15, (24, 10, 40))
    return tissue.astype(np.int16)


NOT_HU = {
    "label map": (np.random.default_rng(3).integers(0, 90, (9, 9, 9)), "label map"),
    "sparse label map": (np.random.default_rng(3).integers(0, 3, (9, 9, 9)) * 5000, "label map"),
    "MR": (mr_like(), "MR"),
    "normalised": (body_like_hu() / np.float32(2000), "not Hounsfield"),
    "constant": (np.full((9, 9, 9), 40), "all voxels are 40"),
    "offset": (body_like_hu(1024).clip(0).astype(np.uint16), "hu_offset=-1024"),
    "offset with padding": (np.where(np.arange(40) < 3, -2000, body_like_hu(1024)), "hu_offset=-1024"),
    "counts": (np.random.default_rng(3).normal(0, 1, (9, 9, 9)) * 1e6, "not Hounsfield"),
}


@pytest.mark.parametrize(("values", "message"), NOT_HU.values(), ids=NOT_HU)
def test_what_is_no_ct_is_refused_unless_said_to_be_known(values, message):
    with pytest.raises(ValueError, match=message):
        CTVolume.from_array(values, np.eye(4))
    np.testing.assert_allclose(CTVolume.from_array(values, np.eye(4), hu_offset=0).hu, values, rtol=1e-6)


def test_a_plausible_ct_is_accepted_whatever_its_noise():
    for noise in (0, 20, 80):
        np.testing.assert_array_equal(
            CTVolume.from_array(body_like_hu(noise=noise), np.eye(4)).hu, body_like_hu(noise=noise)
        )


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


def test_the_report_measures_a_known_body():
    info = CTVolume(body_like_hu(), GRIDS["oblique left-handed"], name="body").info()
    assert (info.size, info.hu_min, info.hu_max) == ((40, 40, 24), body_like_hu().min(), body_like_hu().max())
    assert info.hu_mean == pytest.approx(body_like_hu().mean(), abs=1)
    # 24 of 40 rows by 30 of 40 columns are body; 8 by 8 of them are lung, half of it below -850 HU but none
    # above -800.
    assert info.body_fraction == pytest.approx((24 * 30 - 64) / 1600, abs=0.002)
    assert info.air_fraction == pytest.approx((1600 - 25 * 30 + 64) / 1600, abs=0.002)
    assert dict(info.hu_percentiles)[50] == pytest.approx(np.median(body_like_hu()), abs=3)
    report = str(info)
    assert "40 × 40 × 24" in report
    assert "oblique, left-handed" in report
    assert info.warnings == ()


def test_the_report_warns_of_what_looks_wrong():
    def warnings(hu, spacing=(1.0, 1.0, 1.0)):
        return " | ".join(CTVolume(hu, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])).info().warnings)

    body = body_like_hu()
    assert warnings(body) == ""
    assert "only 3 voxels" in warnings(body[:3])
    assert "slices 5 mm apart" in warnings(body, (1, 1, 5))
    assert "20 times longer" in warnings(body, (0.5, 0.5, 10))
    assert "is its unit mm" in warnings(body, (0.001, 0.001, 0.001))
    assert "3.6 m long" in warnings(body, (15, 15, 150))
    assert "bone is clipped" in warnings(body.clip(None, 300))
    assert "dense matter is clipped" in warnings(np.where(body > 1190, 3071, body).astype(np.int16))
    assert "hardly any air" in warnings(body.clip(-100, None))
    assert "air lies at -900" in warnings(np.where(body < -800, -900, body).astype(np.int16))
    assert "hu_offset=-1024" in warnings(body + np.int16(1024))
    assert "left or right border is body" in warnings(body[:, :, 10:30])
    assert "front or back border is body" in warnings(body[:, 10:30])


def labels_of(values, materials=(AIR, SOFT, BONE), ras_from_ijk=None):
    return MaterialLabels(np.asarray(values, np.uint8), materials, np.eye(4) if ras_from_ijk is None else ras_from_ijk)


def test_labels_are_indices_into_their_materials():
    with pytest.raises(ValueError, match=r"0 to 3, but 3 materials.*air, soft_tissue, bone"):
        labels_of(np.arange(8).reshape(2, 2, 2) % 4)
    with pytest.raises(ValueError, match="each once"):
        labels_of(np.zeros((2, 2, 2)), (AIR, AIR))
    with pytest.raises(ValueError, match="whole numbers"):
        MaterialLabels(np.zeros((2, 2, 2)), (AIR,), np.eye(4))


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_each_material_reproduces_the_attenuation_of_its_ct_number(kind):
    """ρ·(µ/ρ)_m at the CT's energy is (1 + HU/1000)·µ_water for every label, and 0 HU of water is 1 g/cm³."""
    energy = 65.0
    hu = np.tile(np.array([-1000, -500, 0, 800], kind)[:, None, None], (1, 4, 2))
    materials = (WATER, SOFT, BONE, material("titanium"))
    labels = labels_of(np.tile(np.arange(4)[None, :, None], (4, 1, 2)), materials)
    volume = MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), labels, energy)
    for label, its in enumerate(materials):
        mu = volume.density_g_cm3[:, label, 0] * float(its.mass_attenuation_cm2_g(energy))
        mu_water = float(WATER.mass_attenuation_cm2_g(energy))
        np.testing.assert_allclose(mu, np.array([0.0, 0.5, 1.0, 1.8]) * mu_water, rtol=1e-6)
    assert np.all(volume.density_g_cm3[2, 0] == 1.0)
    assert volume.density_g_cm3.dtype == np.float32
    assert volume.density_g_cm3.flags.c_contiguous


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_noisy_room_air_weighs_nothing_but_air_in_lungs_does(kind):
    hu = np.rint(np.random.default_rng(0).normal(-1000, 12, (20, 20, 20))).astype(kind)
    hu[0] = -900
    air = labels_of(np.zeros(hu.shape), (AIR, SOFT))
    volume = MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), air)
    assert np.all(volume.density_g_cm3[1:] == 0.0)
    assert np.all(volume.density_g_cm3[0] > 0.09)
    assert MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), air, room_air_max_hu=-1000).density_g_cm3[1:].max() > 0
    # The limit itself is room air, the next value is not.
    edge = np.full((2, 2, 2), -950, kind)
    edge[1] = -949
    density = MaterialVolume.from_ct(CTVolume(edge, np.eye(4)), labels_of(np.zeros((2, 2, 2)), (AIR,))).density_g_cm3
    assert density[0].max() == 0.0 < density[1].min()
    # What is labelled soft tissue is never emptied.
    soft = MaterialVolume.from_ct(CTVolume(edge, np.eye(4)), labels_of(np.ones((2, 2, 2)), (AIR, SOFT)))
    assert soft.density_g_cm3.min() > 0.04


def test_whole_and_fractional_hounsfield_units_give_the_same_density():
    labels = labels_of(np.random.default_rng(0).integers(0, 3, body_like_hu().shape))
    whole = MaterialVolume.from_ct(CTVolume(body_like_hu(), np.eye(4)), labels)
    fractional = MaterialVolume.from_ct(CTVolume(body_like_hu().astype(np.float32), np.eye(4)), labels)
    np.testing.assert_array_equal(whole.density_g_cm3, fractional.density_g_cm3)


def test_a_ct_and_its_labels_in_the_wrong_order_are_refused():
    ct, labels = CTVolume(body_like_hu(), np.eye(4)), labels_of(np.zeros(body_like_hu().shape))
    with pytest.raises(TypeError, match=r"^ct = MaterialLabels\(.*give one like CTVolume\.read"):
        MaterialVolume.from_ct(labels, ct)
    with pytest.raises(TypeError, match=r"^labels = array\(.*give one like segment\(ct\)"):
        MaterialVolume.from_ct(ct, labels.labels)


def test_volumes_are_shown_in_a_line_and_not_voxel_by_voxel():
    ct = CTVolume(np.zeros((2, 3, 4), np.int16), np.diag([-0.5, -0.5, 1.25, 1.0]), "chest")
    labels = labels_of(np.zeros(ct.shape), ras_from_ijk=ct.ras_from_ijk)
    place = "4×3×2 voxels of 0.5×0.5×1.25 mm, LPS)"
    assert repr(ct) == f"CTVolume('chest', {place}"
    assert repr(labels) == f"MaterialLabels(air, soft_tissue, bone, {place}"
    assert repr(MaterialVolume.from_ct(ct, labels)) == f"MaterialVolume('chest', air, soft_tissue, bone, {place}"


def test_labels_of_another_grid_are_refused():
    ct = CTVolume(body_like_hu(), np.eye(4))
    with pytest.raises(ValueError, match=r"40×40×24.*10×20×24"):
        MaterialVolume.from_ct(ct, labels_of(np.zeros((24, 20, 10))))
    moved = np.eye(4)
    moved[2, 3] = 0.5
    with pytest.raises(ValueError, match=r"0\.5 mm apart"):
        MaterialVolume.from_ct(ct, labels_of(np.zeros(ct.shape), ras_from_ijk=moved))


def test_labels_move_to_another_grid_by_where_they_lie():
    values = np.zeros((6, 6, 6))
    values[2:4, 2:4, 1:3] = 2
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 5.0  # voxel (i, j, k) of the flipped grid lies where (5 - i, j, k) of the other does
    ct = CTVolume(np.zeros((6, 6, 8), np.int16), flipped)
    moved = labels_of(values).resampled(ct)
    np.testing.assert_array_equal(moved.labels[:, :, :6], values[:, :, ::-1])
    assert not moved.labels[:, :, 6:].any()
    with pytest.raises(ValueError, match="outside the labels"):
        labels_of(values, (SOFT, WATER, BONE)).resampled(ct)


def test_labels_that_lie_elsewhere_are_refused():
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = 0.0, 0.0, 2000.0
    with pytest.raises(ValueError, match=r"around RAS \[2.0, 2.0, 2.0\].*\[2.0, 2.0, 2002.0\].*do not meet"):
        labels_of(np.zeros((6, 6, 6))).resampled(CTVolume(np.zeros((6, 6, 6), np.int16), elsewhere))


def test_densities_must_be_finite_and_positive():
    for wrong in (-0.1, np.nan, np.inf, 1001.0):
        density = np.ones((2, 2, 2))
        density[1, 1, 1] = wrong
        with pytest.raises(ValueError, match="give values from 0 to 100"):
            MaterialVolume(density, np.zeros((2, 2, 2), np.uint8), (SOFT,), np.eye(4))
    with pytest.raises(ValueError, match="must agree"):
        MaterialVolume(np.ones((2, 2, 2)), np.zeros((2, 2, 3), np.uint8), (SOFT,), np.eye(4))


def full_of(material_, shape, ras_from_ijk=None, density=1.0):
    where = np.eye(4) if ras_from_ijk is None else ras_from_ijk
    return MaterialVolume(np.full(shape, density, np.float32), np.zeros(shape, np.uint8), (material_,), where)


def test_an_implant_replaces_only_what_its_matter_fills():
    """An L of metal in a box: the box's empty part must not erase the patient."""
    metal = np.zeros((8, 8, 8), np.float32)
    metal[:, :2, :] = metal[:, :, :2] = 4.43
    implant = MaterialVolume(
        metal, np.zeros(metal.shape, np.uint8), (material("titanium"),), affine_of(np.eye(3), 1, (6, 6, 6))
    )
    patient = full_of(SOFT, (20, 20, 20))
    carved = patient.replaced_by(implant)
    expected = np.ones((20, 20, 20))
    expected[6:14, 6:14, 6:14] = metal == 0
    np.testing.assert_array_equal(carved.density_g_cm3, expected)
    assert patient.density_g_cm3.min() == 1.0
    assert carved.materials == patient.materials


def test_a_turned_fine_implant_carves_its_own_volume():
    ras_from_ijk = np.eye(4)
    ras_from_ijk[:3, :3] = rotation([1, 2, 3], 40) * 0.4
    ras_from_ijk[:3, 3] = [20, 20, 20] - ras_from_ijk[:3, :3] @ [24.5, 24.5, 24.5]
    rod = full_of(material("titanium"), (50, 50, 50), ras_from_ijk, density=4.43)
    carved = full_of(SOFT, (40, 40, 40)).replaced_by(rod)
    gone = carved.density_g_cm3 == 0
    assert gone.sum() == pytest.approx(20**3, rel=0.02)
    np.testing.assert_allclose(np.argwhere(gone).mean(axis=0), 20, atol=0.1)
    k, j, i = np.argwhere(gone).T
    inside = (rod.ijk_from_ras @ np.stack([i, j, k, np.ones_like(i)]))[:3]
    assert inside.min() >= -0.5 and inside.max() <= 49.5


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_downsampling_keeps_mass_and_first_moment(shape, factor, seed):
    rng = np.random.default_rng(seed)
    volume = MaterialVolume(
        rng.random(shape, np.float32),
        rng.integers(0, 2, shape, np.uint8),
        (SOFT, BONE),
        GRIDS["oblique left-handed"],
    )
    coarse = volume.downsampled(factor)
    assert coarse.shape == tuple(-(-n // f) for n, f in zip(shape, factor[::-1], strict=True))
    assert coarse.mass_g == pytest.approx(volume.mass_g, rel=1e-5)
    # Within every block the mean sits at the block's centre; so does a uniform volume's mass if sizes divide.
    np.testing.assert_allclose(coarse.corners_ras[0], volume.corners_ras[0], atol=1e-9)
    if all(n % f == 0 for n, f in zip(shape, factor[::-1], strict=True)):
        np.testing.assert_allclose(coarse.corners_ras, volume.corners_ras, atol=1e-9)


def test_a_block_is_the_mean_of_its_voxels_and_takes_the_label_of_most_mass():
    density = np.zeros((2, 2, 4), np.float32)
    labels = np.ones((2, 2, 4), np.uint8)
    density[..., :2] = 1.0  # eight voxels of soft tissue, but ...
    labels[0, 0, 0], density[0, 0, 0] = 2, 8.0  # ... one of bone outweighs the other seven
    density[..., 2:] = 0.1
    labels[1, 1, 2:] = 2
    volume = MaterialVolume(density, labels, (AIR, SOFT, BONE), np.eye(4))
    coarse = volume.downsampled(2)
    np.testing.assert_allclose(coarse.density_g_cm3, [[[15 / 8, 0.1]]], rtol=1e-6)
    np.testing.assert_array_equal(coarse.labels, [[[2, 1]]])
    np.testing.assert_allclose(coarse.ras_from_ijk @ [1, 0, 0, 1], [2.5, 0.5, 0.5, 1])


@pytest.mark.parametrize("factor", [0, -1, 1.5, (1, 2), (1, 2, 0)])
def test_downsampling_factors_are_whole_numbers_from_one(factor):
    with pytest.raises(ValueError, match="Downsampling factor"):
        full_of(SOFT, (4, 4, 4)).downsampled(factor)


def test_a_pyramid_makes_voxels_rounder_before_it_makes_slices_thicker():
    volume = full_of(SOFT, (16, 64, 64), affine_of(np.eye(3), (0.7, 0.7, 2.5)))
    levels = volume.pyramid(4)
    assert levels[0] is volume
    assert [level.shape for level in levels] == [(16, 64, 64), (16, 32, 32), (16, 16, 16), (8, 8, 8)]
    assert all(level.mass_g == pytest.approx(volume.mass_g, rel=1e-5) for level in levels)
    with pytest.raises(ValueError, match="at least 1"):
        volume.pyramid(0)


def test_a_downsampling_factor_may_be_a_number_of_numpy():
    volume = full_of(SOFT, (4, 4, 4))
    assert volume.downsampled(np.int64(2)).shape == volume.downsampled(2).shape == (2, 2, 2)
