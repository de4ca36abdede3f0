"""What files say of themselves: voxels that are no numbers, headers that leave something open, suffixes in capitals."""

from __future__ import annotations

import gzip
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS

from DeepDRRLogic import nifti
from DeepDRRLogic.volume import CTVolume
from DeepDRRLogic.volume_io import ras_from_ijk_of, read_volume

SHAPE = (7, 9, 8)
LPS = "space: left-posterior-superior\nspace origin: (1,2,3)\n"
DIRECTIONS = "space directions: (1,0,0) (0,1,0) (0,0,2)\n"
TURNED = "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"


def some_hu():
    return np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)


def write_nifti(path, values, *, endian="<", version=1, scale=(0.0, 0.0), forms=None):
    """A file of floats or int16 by hand, since ITK writes one endianness and one version only."""
    kind = {"i2": 4, "f4": 16, "f8": 64}[values.dtype.str[1:]]
    header = bytearray(352 if version == 1 else 544)

    def put(form, at, *numbers):
        struct.pack_into(endian + form, header, at, *numbers)

    affine = [1, 0, 0, -10, 0, 1, 0, -20, 0, 0, 2, -30]
    sizes, bits = (3, *values.shape[::-1], 1, 1, 1, 1), 8 * values.dtype.itemsize
    if version == 1:
        fields = [("i", 0, 348), ("8h", 40, *sizes), ("2h", 70, kind, bits), ("8f", 76, 1, 1, 1, 2, 0, 0, 0, 0)]
        fields += [("f", 108, 352), ("2f", 112, *scale), ("B", 123, 2), ("2h", 252, 0, 1), ("12f", 280, *affine)]
        header[344:348] = b"n+1\0"
    else:
        fields = [("i", 0, 540), ("2h", 12, kind, bits), ("8q", 16, *sizes), ("8d", 104, 1, 1, 1, 2, 0, 0, 0, 0)]
        fields += [("q", 168, 544), ("2d", 176, *scale), ("2i", 344, 0, 1), ("12d", 400, *affine), ("i", 500, 2)]
        header[4:12] = b"n+2\0\r\n\x1a\n"
    for field in fields:
        put(*field)
    for field in forms or ():
        put(*field)
    content = bytes(header) + values.astype(endian + values.dtype.str[1:]).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def with_three_that_are_no_numbers(hu):
    hu = hu.copy()
    hu[2, 5, 3], hu[4, 0, 0], hu[6, 8, 7] = np.nan, np.inf, -np.inf
    return hu


THREE = r"3 of 504 voxels are NaN or infinite, the first at .* = \(3, 5, 2\)"


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_nan_and_infinity_in_a_nifti_are_no_water(tmp_path, monkeypatch, suffix, kind, endian):
    monkeypatch.setattr(nifti, "_VOXELS_PER_BLOCK", 100)
    hu = some_hu().astype(kind)
    write_nifti(tmp_path / f"good.{suffix}", hu, endian=endian)
    np.testing.assert_array_equal(CTVolume.read(tmp_path / f"good.{suffix}").hu, hu)
    write_nifti(tmp_path / f"bad.{suffix}", with_three_that_are_no_numbers(hu), endian=endian)
    with pytest.raises(ValueError, match=THREE):
        CTVolume.read(tmp_path / f"bad.{suffix}")


def test_nan_and_infinity_are_found_in_the_second_version_of_nifti_too(tmp_path):
    """Which not every ITK can read."""
    hu = some_hu().astype("f4")
    for name, values in (("good.nii", hu), ("bad.nii", with_three_that_are_no_numbers(hu))):
        write_nifti(tmp_path / name, values, version=2)
    for name, values in (("good.nii", hu), ("bad.nii", with_three_that_are_no_numbers(hu))):
        read = nifti.read_floats(tmp_path / name, nifti.read_header(tmp_path / name))
        np.testing.assert_array_equal(read.reshape(hu.shape), values)


@pytest.mark.parametrize("scale", [(0.0, 0.0), (1.0, 0.0), (0.0, 7.0), (0.37, -1024.0)])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_floats_in_a_nifti_are_read_once_and_as_itk_reads_them(tmp_path, monkeypatch, kind, scale):
    path = tmp_path / "ct.nii.gz"
    write_nifti(path, (some_hu() + 0.25).astype(kind), scale=scale)
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    monkeypatch.setattr(nifti, "_VOXELS_PER_BLOCK", 100)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda *_: pytest.fail("decompressed a second time"))
    values, _, _ = read_volume(path)
    assert values.dtype == by_itk.dtype
    np.testing.assert_array_equal(values, by_itk)


def test_floats_of_a_nifti_that_breaks_off_are_called_damaged(tmp_path, monkeypatch):
    write_nifti(tmp_path / "ct.nii", some_hu().astype("f4"))
    header = nifti.read_header(tmp_path / "ct.nii")
    (tmp_path / "ct.nii").write_bytes((tmp_path / "ct.nii").read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"ct.nii is damaged"):
        nifti.read_floats(tmp_path / "ct.nii", header)


RIGID = np.array([[1.0, 0, 0, -10], [0, 1, 0, -20], [0, 0, 2, -30]])
SHIFTED = RIGID.copy()
SHIFTED[0, 3] += 40
MIRRORED = RIGID * [[-1], [1], [1]]
LARGER = RIGID * 1.1
SHEARED = RIGID.copy()
SHEARED[0, 1] = 0.2


def write_forms(path, sform_code, qform_code, sform, *, version=1, voxel=(1.0, 1.0, 1.0, 2.0)):
    """A NIfTI whose qform is RIGID."""
    at_voxel, at_codes, form = (76, 252, "f") if version == 1 else (104, 344, "d")
    at_quaternion = at_codes + (4 if version == 1 else 8)
    place = [0.0, 0.0, 0.0, -10.0, -20.0, -30.0, *np.ravel(sform)]
    codes = ("2h" if version == 1 else "2i", at_codes, qform_code, sform_code)
    write_nifti(
        path,
        some_hu(),
        version=version,
        forms=[("4" + form, at_voxel, *voxel), codes, ("18" + form, at_quaternion, *place)],
    )
    return path


@pytest.mark.parametrize("sform", [SHIFTED, MIRRORED], ids=["shifted", "mirrored"])
@pytest.mark.parametrize("qform_code", range(5))
@pytest.mark.parametrize("sform_code", range(5))
def test_a_nifti_that_names_two_places_lies_where_itk_puts_it(tmp_path, sform_code, qform_code, sform):
    path = write_forms(tmp_path / "ct.nii", sform_code, qform_code, sform)
    ct = CTVolume.read(path)
    np.testing.assert_allclose(ct.ras_from_ijk, ras_from_ijk_of(sitk.ReadImage(str(path))), atol=1e-6)
    used, code = ("sform", sform_code) if sform_code == 1 or not qform_code else ("qform", qform_code)
    differ = f"sform (code {sform_code}) and qform (code {qform_code}) differ by up to"
    both = bool(sform_code and qform_code)
    assert sum(differ in note and f"the {used} is used, as in 3D Slicer" in note for note in ct.notes) == both
    assert any("handedness" in note for note in ct.notes) == (both and sform is MIRRORED)
    assert any("of a template" in note for note in ct.notes) == (code > 2)


def test_a_ct_in_the_size_of_a_template_keeps_the_patients_size(tmp_path):
    ct = CTVolume.read(write_forms(tmp_path / "ct.nii", 4, 1, LARGER))
    np.testing.assert_allclose(ct.ras_from_ijk[:3], RIGID)
    assert len(ct.notes) == 1
    assert "(code 4) and qform (code 1) differ by up to 3 mm" in ct.notes[0]


def test_two_sizes_of_a_voxel_are_refused_or_noted(tmp_path):
    with pytest.raises(ValueError, match=r"voxels are 1.1×1.1×2.2 mm by the sform and 1×1×2 mm by pixdim, which"):
        CTVolume.read(write_forms(tmp_path / "ct.nii", 1, 1, LARGER))
    ct = CTVolume.read(write_forms(tmp_path / "ct.nii", 1, 0, LARGER))
    np.testing.assert_allclose(ct.spacing_mm, (1.1, 1.1, 2.2), rtol=1e-6)
    assert "1×1×2 mm by pixdim, which 3D Slicer uses; the sform is used" in ct.notes[0]
    assert CTVolume.read(write_forms(tmp_path / "ct.nii", 1, 0, LARGER, voxel=(1.0, 0.0, 0.0, 0.0))).notes == ()


@pytest.mark.parametrize(("sform_code", "qform_code"), [(1, 0), (1, 1), (1, 3), (2, 2), (3, 0)])
def test_a_tilt_that_only_the_sform_can_say_is_refused(tmp_path, sform_code, qform_code):
    with pytest.raises(ValueError, match=r"The sform of ct.nii is sheared"):
        CTVolume.read(write_forms(tmp_path / "ct.nii", sform_code, qform_code, SHEARED))


def test_a_sheared_template_does_not_keep_a_scanner_from_being_used(tmp_path):
    np.testing.assert_allclose(CTVolume.read(write_forms(tmp_path / "ct.nii", 4, 1, SHEARED)).ras_from_ijk[:3], RIGID)


def test_a_voxel_of_negative_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"-1×1×2 mm \(pixdim\).*write the file again with positive sizes"):
        CTVolume.read(write_forms(tmp_path / "ct.nii", 1, 1, RIGID, voxel=(1.0, -1.0, 1.0, 2.0)))


@pytest.mark.parametrize("version", [1, 2])
def test_a_quaternion_turns_as_nifti_says(tmp_path, version):
    """The inverse of the rotation of an oblique, left-handed grid."""
    turned = GRIDS["oblique left-handed"]
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    w, x, y, z = quaternion_of(turned[:3, :3] / spacing * [1, 1, -1])
    path = write_forms(tmp_path / "ct.nii", 0, 1, RIGID, version=version, voxel=(-1.0, *spacing))
    content, form = bytearray(path.read_bytes()), "<6f" if version == 1 else "<6d"
    struct.pack_into(
        form, content, 256 if version == 1 else 352, x * np.sign(w), y * np.sign(w), z * np.sign(w), 1, 2, 3
    )
    path.write_bytes(content)
    found = nifti.read_header(path).qform
    np.testing.assert_allclose(found[:3, :3], turned[:3, :3], atol=1e-5)
    np.testing.assert_allclose(found[:3, 3], (1, 2, 3))


def quaternion_of(turn):
    """(w, x, y, z): the eigenvector of Bar-Itzhack's matrix."""
    (a, b, c), (d, e, f), (g, h, i) = turn
    matrix = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    x, y, z, w = np.linalg.eigh(matrix)[1][:, -1]
    return w, x, y, z


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scale", [(np.nan, np.nan), (1.0, np.inf)])
def test_a_nifti_scaled_by_no_number_is_refused(tmp_path, version, scale):
    write_nifti(tmp_path / "ct.nii", some_hu(), version=version, scale=scale)
    with pytest.raises(ValueError, match=r"ct.nii scales its voxels by (nan|1) and adds (nan|inf)"):
        CTVolume.read(tmp_path / "ct.nii")


@pytest.mark.parametrize(("code", "mm"), [(0, 1.0), (2 | 8, 1.0), (1 | 8, 1000.0), (3 | 16, 0.001)])
def test_a_nifti_may_be_in_metres_or_microns_whatever_its_unit_of_time(tmp_path, code, mm):
    path = tmp_path / "ct.nii"
    write_nifti(path, some_hu())
    content = bytearray(path.read_bytes())
    content[123] = code
    path.write_bytes(content)
    ct = CTVolume.read(path)
    np.testing.assert_allclose(ct.spacing_mm, np.array([1.0, 1.0, 2.0]) * mm)
    np.testing.assert_allclose(ct.ras_from_ijk[:3, 3], np.array([-10.0, -20.0, -30.0]) * mm)


def nrrd(path, fields):
    sizes = " ".join(map(str, SHAPE[::-1]))
    header = f"NRRD0004\n# by hand: nobody's\ntype: short\ndimension: 3\n{fields}sizes: {sizes}\nendian: little\n"
    path.write_bytes(f"{header}encoding: raw\n\n".encode() + some_hu().tobytes())


def metaimage(path, fields):
    sizes = " ".join(map(str, SHAPE[::-1]))
    header = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{fields}"
    header += f"DimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(header.encode() + some_hu().tobytes())


@pytest.mark.parametrize(
    ("write", "name", "fields", "missing"),
    [
        (nrrd, "ct.nrrd", LPS + DIRECTIONS, ()),
        (nrrd, "ct.nrrd", LPS + 'space units: "mm" "mm" "mm"\n' + DIRECTIONS, ()),
        (nrrd, "ct.nrrd", "space: RAS\n" + DIRECTIONS, ()),
        (nrrd, "ct.nrrd", "spacings: 1 1 2\n", ("lies",)),
        (nrrd, "ct.nrrd", "space dimension: 3\n" + DIRECTIONS, ("lies",)),
        (nrrd, "CT.NRRD", "", ("lies", "large")),
        (metaimage, "ct.mha", TURNED + "ElementSpacing = 1 1 2\n", ()),
        (metaimage, "ct.mha", TURNED + "ElementSize = 1 1 2\n", ()),
        (metaimage, "ct.mha", TURNED, ("large",)),
        (metaimage, "ct.mha", "ElementSpacing = 1 1 2\n", ("lies",)),
        (metaimage, "CT.MHA", "", ("lies", "large")),
    ],
)
def test_what_a_header_leaves_open_is_noted(tmp_path, write, name, fields, missing):
    write(tmp_path / name, fields)
    ct = CTVolume.read(tmp_path / name)
    np.testing.assert_array_equal(ct.hu, some_hu())
    assert len(ct.notes) == len(missing)
    for word, note in zip(missing, ct.notes, strict=True):
        assert f"does not say how {'the volume ' if word == 'lies' else ''}{word}" in note
    assert ct.spacing_mm[2] == (1.0 if "large" in missing else 2.0)


def test_what_is_written_here_leaves_nothing_open(tmp_path):
    for name in ("ct.nrrd", "ct.mha", "ct.nii"):
        CTVolume(some_hu(), np.eye(4)).write(tmp_path / name)
        assert CTVolume.read(tmp_path / name).notes == ()


def test_a_nrrd_in_metres_is_refused(tmp_path):
    nrrd(tmp_path / "ct.nrrd", LPS + 'space units: "m" "m" "m"\n' + DIRECTIONS)
    with pytest.raises(ValueError, match=r"ct.nrrd is measured in m \(space units\): convert it to mm"):
        CTVolume.read(tmp_path / "ct.nrrd")


@pytest.mark.parametrize("name", ["Head.1.NRRD", "Head.NII", "Head.NII.GZ", "Head.MHA"])
def test_suffixes_in_capitals_are_written_and_read(tmp_path, name):
    ct = CTVolume(some_hu(), np.diag([-1.0, -1.0, 2.0, 1.0]))
    ct.write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again = CTVolume.read(tmp_path / name)
    np.testing.assert_array_equal(again.hu, ct.hu)
    np.testing.assert_allclose(again.ras_from_ijk, ct.ras_from_ijk, atol=1e-6)


def test_a_long_name_leaves_room_for_a_temporary_one(tmp_path):
    name = "y" * 240 + ".nrrd"
    CTVolume(some_hu(), np.eye(4)).write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_threads_may_write_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)  # as in two containers that share a disk
    ct = CTVolume(some_hu(), np.eye(4))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: ct.write(tmp_path / "ct.nrrd"), range(40)))
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nrrd"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "ct.nrrd"))), ct.hu)
