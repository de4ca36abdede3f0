"""Segmentation: thresholds decide as they say, and segmentations travel to 3D Slicer and back."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk

from DeepDRRLogic.affine import rotation
from DeepDRRLogic.materials import iodinated_blood, material
from DeepDRRLogic.segmentation import (
    read_segmentation,
    segment,
    segment_by_thresholds,
    segmentation_methods,
    write_segmentation,
)
from DeepDRRLogic.segmentation.seg_nrrd import MATERIAL_TAG
from DeepDRRLogic.segmentation.terminology import terminology_entry
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = rotation([1, -2, 0.5], 37) @ np.diag([-0.8, 0.9, 2.5])
OBLIQUE[:3, 3] = (-231.1, 412.9, -1201.5)


def ct_of(values, kind=np.int16):
    hu = np.broadcast_to(np.asarray(values, kind), (2, 2, len(values))).copy()
    return CTVolume(hu, OBLIQUE)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_value_at_the_limit_belongs_to_the_lower_material(kind):
    labels = segment_by_thresholds(ct_of([-1024, -801, -800, -799, 0, 349, 350, 351, 3071], kind))
    np.testing.assert_array_equal(labels.labels[0, 0], [0, 0, 0, 1, 1, 1, 1, 2, 2])
    assert [m.name for m in labels.materials] == ["air", "soft_tissue", "bone"]
    np.testing.assert_array_equal(labels.ras_from_ijk, OBLIQUE)


def test_limits_between_whole_numbers_are_respected():
    fractional = ct_of([-800.25, -799.75, 350.25, 350.75], np.float32)
    np.testing.assert_array_equal(segment_by_thresholds(fractional, -800, 350.5).labels[0, 0], [0, 1, 1, 2])
    whole = ct_of([-801, -800, 350, 351])
    np.testing.assert_array_equal(segment_by_thresholds(whole, -800.5, 350.5).labels[0, 0], [0, 1, 1, 2])
    np.testing.assert_array_equal(segment_by_thresholds(whole, -1e9, 1e9).labels[0, 0], [1, 1, 1, 1])


def test_thresholds_and_materials_can_be_chosen():
    labels = segment(ct_of([-500, 0, 250]), air_max_hu=-400, bone_min_hu=200, soft="muscle", bone="cortical bone")
    np.testing.assert_array_equal(labels.labels[1, 1], [0, 1, 2])
    assert [m.name for m in labels.materials] == ["air", "muscle", "cortical_bone"]


@pytest.mark.parametrize("limits", [(350, -800), (100, 100), (np.nan, 350), (-800, np.inf)])
def test_thresholds_in_the_wrong_order_are_refused(limits):
    with pytest.raises(ValueError, match="that of air below that of bone"):
        segment_by_thresholds(ct_of([0, 0]), *limits)


@pytest.mark.parametrize("name", ["air_max_hu", "bone_min_hu"])
def test_a_threshold_that_is_no_number_is_named(name):
    with pytest.raises(TypeError, match=rf"^{name} = '200': give one like"):
        segment(ct_of([0, 0]), "threshold", **{name: "200"})


def test_what_thresholds_do_without_may_be_said_and_none_is_the_default():
    ct = ct_of([-1000, 0, 349, 350, 351])
    options = {"keep_table": True, "progress": print, "cancelled": lambda: True, "device": "cpu", "bone_min_hu": None}
    np.testing.assert_array_equal(segment(ct, "threshold", **options).labels, segment(ct, "threshold").labels)
    with pytest.raises(ValueError, match="Thresholds know no probabilities: leave out probabilities, or use"):
        segment(ct, "threshold", probabilities=np.empty((3, *ct.shape), np.float16))


def test_an_unknown_method_lists_those_there_are():
    assert "threshold" in segmentation_methods()
    with pytest.raises(ValueError, match=r"'guess' is not available in this version; there are: .*threshold"):
        segment(ct_of([0, 0]), method="guess")


def test_an_array_is_no_ct():
    with pytest.raises(TypeError, match=r"^ct = array\(.*give one like CTVolume\.read"):
        segment(np.zeros((2, 2, 2)), "threshold")


def test_a_segmented_ct_weighs_what_its_parts_do():
    volume = MaterialVolume.from_ct(ct := ct_of([-1000, 0, 1000]), segment(ct, "threshold"), 70.0)
    water = float(material("water").mass_attenuation_cm2_g(70.0))
    bone = float(material("bone").mass_attenuation_cm2_g(70.0))
    np.testing.assert_allclose(volume.density_g_cm3[0, 0, [0, 2]], [0, 2 * water / bone], rtol=1e-6)


def example_labels(*names):
    values = np.zeros((5, 6, 7), np.uint8)
    for label in range(1, len(names)):
        values[label : label + 2, 1:5, label : label + 3] = label
    return MaterialLabels(values, tuple(material(name) for name in names), OBLIQUE)


def by_name(labels):
    """The material's name in every voxel: what must survive, whatever the numbers."""
    return np.array([m.name for m in labels.materials])[labels.labels]


@pytest.mark.parametrize(
    "names",
    [
        ("air", "soft_tissue", "bone"),
        ("air", "titanium", "lung", "iodinated_blood"),
        ("soft_tissue", "air", "bone"),
    ],
)
@pytest.mark.parametrize("air_segment", [False, True])
def test_materials_survive_a_round_trip(tmp_path, names, air_segment):
    labels = example_labels(*names)
    write_segmentation(labels, tmp_path / "x.seg.nrrd", air_segment=air_segment)
    back = read_segmentation(tmp_path / "x.seg.nrrd")
    np.testing.assert_array_equal(by_name(back), by_name(labels))
    np.testing.assert_allclose(back.ras_from_ijk, OBLIQUE, atol=1e-9)
    assert {m.name for m in back.materials} == {m.name for m in labels.materials}


def test_the_header_is_what_slicer_documents(tmp_path):
    write_segmentation(example_labels("air", "soft_tissue", "bone"), tmp_path / "x.seg.nrrd")
    content = (tmp_path / "x.seg.nrrd").read_bytes()
    text = content.split(b"\n\n")[0].decode()
    assert "encoding: gzip" in text
    assert "type: unsigned char" in text
    assert "space: left-posterior-superior" in text
    image = sitk.ReadImage(str(tmp_path / "x.seg.nrrd"))
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    expected = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segment0_ID": "DeepDRR_soft_tissue",
        "Segment0_Name": "Soft tissue",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment0_Extent": "1 3 1 4 1 2",
        "Segment1_Name": "Bone",
        "Segment1_LabelValue": "2",
        "Segment1_Extent": "2 4 1 4 2 3",
        "Segment1_Tags": "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^85756007^Tissue~SCT^272673000^Bone~^^~Anatomic codes - DICOM master "
        "list~^^~^^|DeepDRR.Material:bone|",
    }
    assert {key: header.get(key) for key in expected} == expected
    assert "Segment2_ID" not in header
    color = [float(x) for x in header["Segment1_Color"].split()]
    np.testing.assert_allclose(color, np.array(material("bone").color_rgb) / 255, atol=1e-5)
    assert sorted(np.unique(sitk.GetArrayFromImage(image))) == [0, 1, 2]


def test_terminology_names_tissue_bone_gas_and_foreign_bodies(tmp_path):
    path = tmp_path / "x.seg.nrrd"
    write_segmentation(example_labels("air", "soft_tissue", "bone", "titanium"), path, air_segment=True)
    image = sitk.ReadImage(str(path))
    for n, code in enumerate(("74947009^Gas", "85756007^Tissue", "272673000^Bone", "19227008^Foreign body")):
        assert code in image.GetMetaData(f"Segment{n}_Tags")


def test_a_material_that_is_nowhere_keeps_its_empty_segment(tmp_path):
    labels = MaterialLabels(np.zeros((2, 3, 4), np.uint8), (material("air"), material("bone")), np.eye(4))
    write_segmentation(labels, tmp_path / "x.seg.nrrd")
    assert sitk.ReadImage(str(tmp_path / "x.seg.nrrd")).GetMetaData("Segment0_Extent") == "0 -1 0 -1 0 -1"
    assert [m.name for m in read_segmentation(tmp_path / "x.seg.nrrd").materials] == ["air", "bone"]


def slicer_file(path, layers, segments):
    """As Slicer writes it: layers [k, j, i, layer], and segments of (name, value, layer, tags), None if left out."""
    image = sitk.GetImageFromArray(layers, isVector=layers.ndim == 4)
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "2 3 -1")
    for n, (name, value, layer, tags) in enumerate(segments):
        fields = {"ID": f"Segment_{n}", "Name": name, "LabelValue": value, "Layer": layer, "Tags": tags}
        for key, text in fields.items():
            if text is not None:
                image.SetMetaData(f"Segment{n}_{key}", str(text))
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def test_a_segment_drawn_in_slicer_is_known_by_tag_before_name(tmp_path):
    layers = np.zeros((2, 2, 4), np.uint8)
    layers[..., 1], layers[..., 2], layers[..., 3] = 5, 9, 1
    segments = [
        ("Femur", 5, 0, "TerminologyEntry:a~b^c^d|DeepDRR.Material:bone|"),
        ("Cortical bone", 9, 0, "Note:no material|"),
        ("Blood", 1, 0, ""),
    ]
    labels = read_segmentation(slicer_file(tmp_path / "x.seg.nrrd", layers, segments))
    assert by_name(labels)[0, 0].tolist() == ["air", "bone", "cortical_bone", "blood"]


def test_the_later_of_overlapping_segments_wins(tmp_path):
    layers = np.zeros((2, 2, 4, 2), np.uint8)
    layers[..., :3, 0] = 1
    layers[..., 2:, 1] = 1
    segments = [("Muscle", 1, 0, ""), ("Titanium", 1, 1, "")]
    labels = read_segmentation(slicer_file(tmp_path / "x.seg.nrrd", layers, segments))
    assert by_name(labels)[1, 1].tolist() == ["muscle", "muscle", "titanium", "titanium"]


def test_a_file_of_slicer_4_has_a_layer_for_each_segment(tmp_path):
    layers = np.zeros((2, 2, 4, 2), np.uint8)
    layers[..., :2, 0] = 1
    layers[..., 2:, 1] = 1
    segments = [("Muscle", None, None, ""), ("Titanium", None, None, "")]
    labels = read_segmentation(slicer_file(tmp_path / "x.seg.nrrd", layers, segments))
    assert by_name(labels)[1, 1].tolist() == ["muscle", "muscle", "titanium", "titanium"]


def test_materials_that_are_given_come_before_what_a_segment_says_of_itself(tmp_path):
    layers = np.zeros((2, 2, 3), np.uint8)
    layers[..., 1], layers[..., 2] = 1, 2
    segments = [("Femur", 1, 0, f"{MATERIAL_TAG}:bone|"), ("Stem", 2, 0, f"{MATERIAL_TAG}:titanium|")]
    path = slicer_file(tmp_path / "x.seg.nrrd", layers, segments)
    given = {"femur": material("cortical_bone"), "titanium": material("cobalt_chrome")}
    assert by_name(read_segmentation(path, given))[0, 0].tolist() == ["air", "cortical_bone", "cobalt_chrome"]


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        ("Segment_1", terminology_entry("muscle"), "muscle"),
        ("Segment_1", "list~SCT^1^Thing~99DEEPDRR^titanium^Titanium~^^~~^^~^^", "titanium"),
        ("Blood", "list~SCT^1^Thing~99DEEPDRR^iodinated_blood^Blood~^^~~^^~^^", "iodinated_blood"),
        ("Titanium", terminology_entry("soft_tissue"), "titanium"),
        ("Cortical bone", terminology_entry("bone"), "cortical_bone"),
    ],
)
def test_a_segment_without_a_tag_is_what_its_terminology_says(tmp_path, name, entry, expected):
    path = slicer_file(
        tmp_path / "x.seg.nrrd", np.ones((2, 2, 2), np.uint8), [(name, 1, 0, f"TerminologyEntry:{entry}|")]
    )
    assert by_name(read_segmentation(path))[0, 0, 0] == expected


def test_tissue_of_which_slicer_makes_every_new_segment_says_nothing(tmp_path):
    segments = [("Plate", 1, 0, f"TerminologyEntry:{terminology_entry('soft_tissue')}|")]
    path = slicer_file(tmp_path / "x.seg.nrrd", np.ones((2, 2, 2), np.uint8), segments)
    with pytest.raises(ValueError, match="segment 'Plate' is not known"):
        read_segmentation(path)


def test_air_alone_is_written_only_as_a_segment_of_its_own(tmp_path):
    labels = MaterialLabels(np.zeros((2, 3, 4), np.uint8), (material("air"),), np.eye(4))
    with pytest.raises(ValueError, match=r"the only material is air, which is no segment\. Pass air_segment=True"):
        write_segmentation(labels, tmp_path / "x.seg.nrrd")
    assert not list(tmp_path.iterdir())
    write_segmentation(labels, tmp_path / "x.seg.nrrd", air_segment=True)
    assert set(by_name(read_segmentation(tmp_path / "x.seg.nrrd")).flat) == {"air"}


def label_map(path, values, kind=np.uint8):
    """A scalar image of 2×2×n voxels whose rows are these values."""
    image = sitk.GetImageFromArray(np.broadcast_to(np.asarray(values, kind), (2, 2, len(values))).copy())
    image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_a_label_map_is_read_by_what_its_values_stand_for(tmp_path, suffix, kind):
    path = label_map(tmp_path / f"labels{suffix}", [0, 5, 117, 5], kind)
    labels = read_segmentation(path, {5: "soft_tissue", 117: material("bone"), 9: "titanium"})
    assert by_name(labels)[1, 1].tolist() == ["air", "soft_tissue", "bone", "soft_tissue"]
    np.testing.assert_allclose(labels.ras_from_ijk[:3, 3], (-10, -20, 30))


def test_the_background_of_a_label_map_is_air_unless_it_is_named(tmp_path):
    path = label_map(tmp_path / "labels.nii.gz", [-1, 0, 3, 3], np.int16)
    given = {-1: "air", 0: "adipose", 3: "muscle"}
    labels = read_segmentation(path, given)
    assert by_name(labels)[0, 0].tolist() == ["air", "adipose", "muscle", "muscle"]
    assert labels.materials[0].name == "air"  # of what lies beyond, see MaterialLabels.resampled


def test_values_of_no_material_are_listed(tmp_path):
    path = label_map(tmp_path / "labels.nii.gz", np.arange(40), np.int16)
    with pytest.raises(
        ValueError, match=r"labels\.nii\.gz holds values that stand for no material, 2, 3, 5, .*22 and 17 more"
    ):
        read_segmentation(path, {1: "soft_tissue", 4: "bone"})
    with pytest.raises(ValueError, match=r"Unknown material 'gold'; known are air"):
        read_segmentation(path, {1: "gold"})
    for given in ({1: "bone", "Femur": "bone"}, {1.0: "bone", "Femur": "bone"}, {1.0: "bone"}):
        shown = ", ".join(map(repr, given))
        with pytest.raises(
            ValueError, match=rf"has the keys {shown}: keys are whole numbers or names, all of one kind"
        ):
            read_segmentation(path, given)
    with pytest.raises(TypeError, match=r"^materials\[1\] = 2\.5: give one like \"bone\""):
        read_segmentation(path, {1: 2.5})


@pytest.mark.parametrize("values", [[0.0, 0.5], [0.0, np.nan], [0.0, 1e6]])
def test_an_image_of_other_values_is_no_label_map(tmp_path, values):
    path = label_map(tmp_path / "image.nrrd", values, np.float32)
    with pytest.raises(ValueError, match=r"those of a label map are whole numbers in a range of 65536"):
        read_segmentation(path, {1: "bone"})


def test_the_values_of_a_segmentation_may_be_named_like_its_segments(tmp_path):
    path = slicer_file(tmp_path / "x.seg.nrrd", np.full((2, 2, 2), 7, np.uint8), [("Plate", 7, 0, "")])
    for given in ({7: "titanium"}, {"plate": "titanium"}):
        assert by_name(read_segmentation(path, given))[0, 0, 0] == "titanium"


def test_an_unknown_segment_can_be_given_its_material(tmp_path):
    layers = np.ones((2, 2, 2), np.uint8)
    path = slicer_file(tmp_path / "x.seg.nrrd", layers, [("Aorta", 1, 0, "")])
    with pytest.raises(ValueError, match=r"segment 'Aorta' is not known.*soft_tissue"):
        read_segmentation(path)
    blood = iodinated_blood(15)
    labels = read_segmentation(path, materials={"Aorta": blood})
    assert labels.materials[labels.labels[0, 0, 0]] == blood


@pytest.mark.parametrize(
    ("given", "unknown"),
    [
        ({"Boone": "titanium"}, "'Boone'"),
        ({"femur": "bone", "Stemm": "titanium", "": "lung"}, "'Stemm' or ''"),
    ],
)
def test_names_that_no_segment_has_are_refused(tmp_path, given, unknown):
    layers = np.zeros((2, 2, 3), np.uint8)
    layers[..., 1], layers[..., 2] = 1, 2
    segments = [("Femur", 1, 0, f"{MATERIAL_TAG}:bone|"), ("Muscle", 2, 0, "")]
    path = slicer_file(tmp_path / "x.seg.nrrd", layers, segments)
    with pytest.raises(
        ValueError, match=rf"no segment is named or tagged {unknown}; there are Femur \(bone\), Muscle\."
    ):
        read_segmentation(path, given)
    for known in (" femur ", "BONE", "muscle"):
        read_segmentation(path, {known: "titanium"})


@pytest.mark.parametrize("materials", ["bone", ["bone"], ("bone",)])
def test_materials_that_are_no_mapping_are_shown(tmp_path, materials):
    path = label_map(tmp_path / "labels.nrrd", [0, 1])
    with pytest.raises(TypeError, match=r'^materials = .*bone.*: give one like \{"Femur": "bone"\}'):
        read_segmentation(path, materials)


def test_a_folder_is_no_segmentation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place, materials in ((".", None), (tmp_path, {1: "bone"})):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(place))} is a folder: give the file"):
            read_segmentation(place, materials)


def test_files_that_are_no_segmentation_are_named(tmp_path):
    with pytest.raises(ValueError, match="There is no"):
        read_segmentation(tmp_path / "none.seg.nrrd")
    path = tmp_path / "ct.nrrd"
    ct_of([0, 1]).write(path)
    with pytest.raises(ValueError, match=r'names no segments.*materials=\{1: "soft_tissue", 2: "bone"\}'):
        read_segmentation(path)
    with pytest.raises(ValueError, match=r'is no \.seg\.nrrd.*materials=\{1: "soft_tissue", 2: "bone"\}'):
        read_segmentation(label_map(tmp_path / "labels.nii.gz", [0, 1]))
    (tmp_path / "cut.seg.nrrd").write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="damaged"):
        read_segmentation(tmp_path / "cut.seg.nrrd")
    with pytest.raises(ValueError, match=r"suffix of a segmentation is \.seg\.nrrd"):
        write_segmentation(example_labels("air", "bone"), tmp_path / "x.nii.gz")


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(image, name, **options):
        raise RuntimeError("disk full")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(ValueError, match="disk full"):
        write_segmentation(example_labels("air", "bone"), tmp_path / "x.seg.nrrd")
    assert not list(tmp_path.iterdir())
