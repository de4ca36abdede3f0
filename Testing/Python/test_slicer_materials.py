"""Which material a segment is, and which segments are a CT's materials."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume
from slicer_scene import BONE, QUIET, add_segment, shot

from DeepDRRLogic.materials import material
from DeepDRRLogic.segmentation.terminology import terminology_entry, terminology_material
from DeepDRRSlicerLib import material_nodes
from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL, segment_materials, set_material
from DeepDRRSlicerLib.mrml import ras_from_ijk
from DeepDRRSlicerLib.scene_logic import THRESHOLDS


def test_each_material_becomes_a_segment_with_tag_terminology_and_colour(segmentation, ct):
    found = {s.segment_id: s for s in segment_materials(segmentation)}
    assert [s.material for s in found.values()] == ["air", "soft_tissue", "bone"]
    bone = segmentation.GetSegmentation().GetSegment(BONE)
    assert "272673000" in bone.GetTerminology()
    np.testing.assert_allclose(found[BONE].color, np.array(material("bone").color_rgb) / 255)
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReferenceID(role) == ct.GetID()


def test_the_material_is_that_of_the_tag_then_the_terminology_never_the_name(segmentation, ct):
    values = np.ones((4, 4, 4), np.uint8)
    add_segment(segmentation, "Titanium plate", values, ras_from_ijk(ct))
    add_segment(segmentation, "Unnamed", values, ras_from_ijk(ct))
    segmentation.GetSegmentation().GetSegment("Unnamed").SetTerminology(terminology_entry("bone"))
    found = {s.segment_id: s.material for s in segment_materials(segmentation)}
    assert found["Titanium plate"] == "soft_tissue"
    assert found["Unnamed"] == "bone"
    set_material(segmentation, "Titanium plate", material="Stainless Steel")
    assert {s.segment_id: s.material for s in segment_materials(segmentation)}["Titanium plate"] == "stainless_steel"


def test_terminology_names_a_material_or_none():
    assert terminology_material(terminology_entry("air")) == "air"
    assert terminology_material("list~SCT^1^Thing~99DEEPDRR^cobalt_chrome^Cobalt chrome~^^~~^^~^^") == "cobalt_chrome"
    assert terminology_material("list~SCT^1^Thing~SCT^2^Other~^^~~^^~^^") is None
    assert terminology_material("") is None


def anatomy(code, meaning, category="123037004^Anatomical Structure"):
    """An entry as TotalSegmentator and others write them."""
    context, site = "Segmentation category and type - Total Segmentator", "Anatomic codes - DICOM master list"
    return f"{context}~SCT^{category}~SCT^{code}^{meaning}~SCT^7771000^Left~{site}~^^~^^"


@pytest.mark.parametrize(
    ("entry", "material_name"),
    [
        (anatomy("71341001", "Femur"), "bone"),
        (anatomy("66794005", "L1 vertebra"), "bone"),
        (anatomy("3572006", "Vertebral body"), "bone"),
        (anatomy("43993008", "Twelfth rib"), "bone"),
        (anatomy("29836001", "Hip"), "bone"),
        (anatomy("89546000", "Skull"), "bone"),
        (anatomy("312779009", "Bone structure of head and/or neck"), "bone"),
        (anatomy("39607008", "Lung"), "lung"),
        (anatomy("24136001", "Hip joint"), None),
        (anatomy("10200004", "Liver"), None),
        (anatomy("78277001", "Temporal lobe"), None),
        (anatomy("40388003", "Implant of hip", "260787004^Physical object"), None),
        (anatomy("85756007", "Tissue", "85756007^Tissue"), None),
        ("", None),
    ],
)
def test_bones_of_other_tools_are_bone_and_the_rest_is_a_guess(ct, segmentation, entry, material_name):
    add_segment(segmentation, "Theirs", np.ones((4, 4, 4), np.uint8), ras_from_ijk(ct))
    segmentation.GetSegmentation().GetSegment("Theirs").SetTerminology(entry)
    found = {s.segment_id: s for s in segment_materials(segmentation)}
    assert found["Theirs"].material == (material_name or "soft_tissue")
    assert found["Theirs"].is_guess == (material_name is None)
    assert not any(s.is_guess for s in found.values() if s.segment_id != "Theirs")


def segments_of_others(scene, ct, segment, values, entry, tags=None):
    """A segmentation of this CT with one segment, which is not ours."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Theirs")
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    add_segment(node, segment, values, ras_from_ijk(ct), tags)
    node.GetSegmentation().GetSegment(segment).SetTerminology(entry)
    return node


@pytest.mark.parametrize("entry", [anatomy("71341001", "Femur"), anatomy("1", "Anything"), ""])
def test_bones_stay_bone_under_segments_of_which_nobody_said_what_they_are(scene, logic, ct, entry):
    bones = arrayFromVolume(ct) > 800
    theirs = segments_of_others(scene, ct, "Leg", bones.astype(np.uint8), entry)
    assert logic.segment(ct, "threshold", theirs) is theirs
    volume = logic.patient(ct, theirs).volume
    assert {volume.materials[n].name for n in np.unique(volume.labels[bones])} == {"bone"}
    set_material(theirs, "Leg", material="soft_tissue")
    volume = logic.patient(ct, theirs).volume
    assert {volume.materials[n].name for n in np.unique(volume.labels[bones])} == {"soft_tissue"}


def test_bones_of_one_leg_are_not_taken_for_the_cts_materials(scene, ct):
    """All other bones would be soft tissue."""
    segments_of_others(scene, ct, "Leg", np.ones((4, 4, 4), np.uint8), anatomy("71341001", "Femur"))
    assert material_nodes.segmentation_of(ct) is None


def test_a_drawn_tumour_is_not_taken_for_the_cts_materials(scene, logic, ct, arm):
    values = np.zeros((40, 50, 60), np.uint8)
    values[18:20, 20:22, 20:22] = 1
    tumour = scene, ct, "Tumour", values, terminology_entry("soft_tissue")
    by_thresholds = shot(logic, ct, THRESHOLDS, arm)
    segments_of_others(*tumour)
    assert material_nodes.segmentation_of(ct) is None
    np.testing.assert_array_equal(shot(logic, ct, None, arm), by_thresholds)
    named = segments_of_others(*tumour, {TAG_MATERIAL: "soft_tissue"})
    assert material_nodes.segmentation_of(ct) is named
    assert np.abs(shot(logic, ct, None, arm) - by_thresholds).max() > 0.1
    np.testing.assert_array_equal(shot(logic, ct, THRESHOLDS, arm), by_thresholds)
    with pytest.raises(ValueError, match="'tresholds' is no segmentation"):
        logic.render(ct, "tresholds", arm, QUIET)


@pytest.mark.parametrize("bad", [{"material": "kryptonite"}, {"density_g_cm3": -1.0}, {"density_g_cm3": 99.0}])
def test_materials_that_cannot_be_are_refused_and_change_nothing(segmentation, bad):
    before = segment_materials(segmentation)
    with pytest.raises(ValueError, match=r"Unknown material|cannot be"):
        set_material(segmentation, BONE, **bad)
    assert segment_materials(segmentation) == before


def test_the_material_table_offers_what_the_simulator_knows():
    choices = dict(material_nodes.material_choices())
    assert choices["titanium"]
    assert not material_nodes.has_ct_density("titanium")
    assert material_nodes.has_ct_density("bone")
