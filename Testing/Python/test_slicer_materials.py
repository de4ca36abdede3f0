"""Segments as materials: an edit changes the X-ray where it should, and only there."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from slicer.util import arrayFromVolume
from slicer_scene import add_ct, add_segment, add_transform, body_hu, edited, layer_of, make_scene

from DeepDRRLogic.affine import rigid, rotation
from DeepDRRLogic.materials import material
from DeepDRRLogic.segmentation import segment
from DeepDRRLogic.segmentation.terminology import terminology_entry, terminology_material
from DeepDRRLogic.volume import CTVolume, MaterialVolume
from DeepDRRSlicerLib import material_nodes
from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL, segment_materials, set_material
from DeepDRRSlicerLib.mrml import ras_from_ijk, world_from_parent
from DeepDRRSlicerLib.patient import Patient, keep_thresholds, preview_factors
from DeepDRRSlicerLib.scene_logic import THRESHOLDS, SceneLogic
from DeepDRRSlicerLib.technique import Technique

QUIET = Technique(noise=False)
BONE, SOFT = "DeepDRR_bone", "DeepDRR_soft_tissue"


@pytest.fixture
def scene():
    return make_scene()


@pytest.fixture
def logic(scene):
    return SceneLogic(scene)


@pytest.fixture
def ct(scene):
    return add_ct(scene, body_hu())


@pytest.fixture
def segmentation(logic, ct):
    return logic.segment(ct, "threshold")


@pytest.fixture
def carm(logic, ct):
    return logic.carm(volumeNode=ct, width=96, height=96, pixel_pitch_mm=3.0)


def shot(logic, ct, segmentation, carm) -> np.ndarray:
    return arrayFromVolume(logic.render(ct, segmentation, carm, QUIET))[0].copy()


def shadow(carm, ct, box) -> np.ndarray:
    """Pixels that the corners of a box of voxels, one wider than it to all sides, span."""
    corners = np.array([[(s.start - 1.5, s.stop + 0.5)[b >> n & 1] for n, s in enumerate(box[::-1])] for b in range(8)])
    ras = corners @ ras_from_ijk(ct)[:3, :3].T + ras_from_ijk(ct)[:3, 3]
    u, v = carm.camera().project(ras).T
    rows, columns = np.mgrid[: carm.camera().height, : carm.camera().width]
    return (columns > u.min() - 1) & (columns < u.max() + 1) & (rows > v.min() - 1) & (rows < v.max() + 1)


def test_each_material_becomes_a_segment_with_tag_terminology_and_colour(segmentation, ct):
    found = {s.segment_id: s for s in segment_materials(segmentation)}
    assert [s.material for s in found.values()] == ["air", "soft_tissue", "bone"]
    bone = segmentation.GetSegmentation().GetSegment(BONE)
    assert "272673000" in bone.GetTerminology()
    np.testing.assert_allclose(found[BONE].color, np.array(material("bone").color_rgb) / 255)
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReferenceID(role) == ct.GetID()


def test_a_segmentation_gives_the_volume_that_its_labels_would(logic, ct, segmentation):
    volume = logic.patient(ct, segmentation).volume
    hu = CTVolume(arrayFromVolume(ct), ras_from_ijk(ct))
    wanted = MaterialVolume.from_ct(hu, segment(hu, "threshold"))
    np.testing.assert_array_equal(volume.density_g_cm3, wanted.density_g_cm3)
    names = [m.name for m in volume.materials]
    expected = [m.name for m in wanted.materials]
    np.testing.assert_array_equal(np.array(names)[volume.labels], np.array(expected)[wanted.labels])


def test_an_edited_segment_changes_the_picture_in_its_shadow_and_nowhere_else(logic, ct, segmentation, carm):
    before = shot(logic, ct, segmentation, carm)
    layer = layer_of(segmentation, BONE)
    box = (slice(18, 22), slice(22, 27), slice(27, 33))
    layer[box] = segmentation.GetSegmentation().GetSegment(SOFT).GetLabelValue()
    edited(segmentation, BONE)
    changed = logic.known_patient(ct, segmentation).update()
    assert changed == box
    after = shot(logic, ct, segmentation, carm)
    inside = shadow(carm, ct, box)
    assert (before - after)[inside].max() > 0.05
    # The projector rounds to 1/4095 of a material's densest voxel, and that has just become bone's.
    assert np.abs(before - after)[~inside].max() < 1e-3


def test_an_edit_gives_what_starting_anew_would(logic, ct, segmentation):
    logic.patient(ct, segmentation)
    layer = layer_of(segmentation, BONE)
    layer[5:30, 6:20, 7:50] = 3
    edited(segmentation, BONE)
    brought_up_to_date = logic.patient(ct, segmentation)
    anew = Patient(ct, segmentation)
    anew.update()
    np.testing.assert_array_equal(brought_up_to_date.volume.density_g_cm3, anew.volume.density_g_cm3)
    np.testing.assert_array_equal(brought_up_to_date.volume.labels, anew.volume.labels)


def test_the_coarse_volume_follows_an_edit(scene, monkeypatch):
    monkeypatch.setattr("DeepDRRSlicerLib.patient._PREVIEW_VOXELS", 20_000)
    ct = add_ct(scene, body_hu((41, 50, 61)))
    logic = SceneLogic(scene)
    segmentation = logic.segment(ct, "threshold")
    patient = logic.patient(ct, segmentation)
    assert patient.preview.shape == (21, 25, 31)
    layer_of(segmentation, BONE)[3:9, 11:40, 5:61] = 3
    edited(segmentation, BONE)
    patient.update()
    anew = patient.volume.downsampled(preview_factors(patient.volume))
    np.testing.assert_array_equal(patient.preview.density_g_cm3, anew.density_g_cm3)
    np.testing.assert_array_equal(patient.preview.labels, anew.labels)


def test_the_coarse_volume_goes_where_the_ct_is_put(logic, ct, segmentation, monkeypatch):
    monkeypatch.setattr("DeepDRRSlicerLib.patient._PREVIEW_VOXELS", 20_000)
    patient = logic.patient(ct, segmentation)
    ct.SetOrigin(7.0, 8.0, 9.0)
    patient.update()
    np.testing.assert_allclose(patient.preview.center_ras, patient.volume.center_ras)


def test_nothing_is_done_where_nothing_has_changed(logic, ct, segmentation):
    patient = logic.patient(ct, segmentation)
    version = patient.version
    assert patient.update() is None
    segmentation.GetSegmentation().GetSegment(BONE).SetName("Knochen")
    patient.update()
    assert patient.version == version


def test_a_metal_segment_displaces_the_tissue_it_was_painted_over(logic, ct, segmentation, carm):
    before = shot(logic, ct, segmentation, carm)
    values = np.zeros((40, 50, 60), np.uint8)
    box = (slice(18, 22), slice(23, 26), slice(12, 16))
    values[box] = 1
    add_segment(segmentation, "Screw", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    volume = logic.patient(ct, segmentation).volume
    assert np.all(volume.density_g_cm3[box] == np.float32(material("titanium").density_g_cm3))
    assert {volume.materials[n].name for n in np.unique(volume.labels[box])} == {"titanium"}
    after = shot(logic, ct, segmentation, carm)
    assert (after - before)[shadow(carm, ct, box)].max() > 0.3
    assert np.abs(after - before)[~shadow(carm, ct, box)].max() < 1e-5


def test_a_metal_segment_displaces_tissue_that_was_painted_later_too(logic, ct, segmentation):
    values = np.ones((40, 50, 60), np.uint8)
    add_segment(segmentation, "Plate", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    add_segment(segmentation, "Muscle", values, ras_from_ijk(ct), {TAG_MATERIAL: "muscle"})
    assert _at_centre(logic.patient(ct, segmentation).volume) == "titanium"


def test_segments_that_are_moved_take_their_material_along(scene, logic, ct, segmentation):
    before = logic.patient(ct, segmentation).volume.labels.copy()
    transform = add_transform(scene, rigid(None, (4.0, 0.0, 0.0)))  # two voxels
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    after = logic.patient(ct, segmentation).volume
    inner = (slice(16, 24), slice(20, 30))
    np.testing.assert_array_equal(after.labels[*inner, 22:38], before[*inner, 20:36])
    assert (after.labels != before).any()


def test_the_higher_priority_wins_where_segments_overlap(logic, ct, segmentation):
    values = np.ones((40, 50, 60), np.uint8)
    add_segment(segmentation, "Over", values, ras_from_ijk(ct), {TAG_MATERIAL: "water"})
    names = lambda: {m.name for m in logic.patient(ct, segmentation).volume.materials}  # noqa: E731
    assert _at_centre(logic.patient(ct, segmentation).volume) == "water"
    set_material(segmentation, "Over", priority=-1)
    assert _at_centre(logic.patient(ct, segmentation).volume) == "bone"
    assert "water" in names()


def test_a_segment_switched_off_is_cut_out_of_the_patient(logic, ct, segmentation, carm):
    set_material(segmentation, BONE, enabled=False)
    volume = logic.patient(ct, segmentation).volume
    bone = arrayFromVolume(ct) > 800
    assert np.all(volume.density_g_cm3[bone] == 0.0)
    assert np.all(volume.density_g_cm3[arrayFromVolume(ct) == 40] > 0.9)
    set_material(segmentation, BONE, enabled=True)
    assert np.all(logic.patient(ct, segmentation).volume.density_g_cm3[bone] > 1.0)


def test_a_density_can_be_overridden_and_given_back_to_the_ct(logic, ct, segmentation):
    bone = arrayFromVolume(ct) > 800
    from_ct = logic.patient(ct, segmentation).volume.density_g_cm3[bone].copy()
    set_material(segmentation, BONE, density_g_cm3=2.5)
    assert np.all(logic.patient(ct, segmentation).volume.density_g_cm3[bone] == 2.5)
    set_material(segmentation, BONE, density_g_cm3="ct")
    np.testing.assert_array_equal(logic.patient(ct, segmentation).volume.density_g_cm3[bone], from_ct)


def test_what_was_erased_from_every_segment_is_tissue_or_air_by_its_value(logic, ct, segmentation):
    layer_of(segmentation, BONE)[:] = 0
    edited(segmentation, BONE)
    volume = logic.patient(ct, segmentation).volume
    assert _at_centre(volume) == "soft_tissue"
    assert np.all(volume.density_g_cm3[arrayFromVolume(ct) == -1000] == 0.0)


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


@pytest.mark.parametrize("entry", [anatomy("71341001", "Femur"), anatomy("1", "Anything"), ""])
def test_bones_stay_bone_under_segments_of_which_nobody_said_what_they_are(scene, logic, ct, entry):
    theirs = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Theirs")
    theirs.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    bones = arrayFromVolume(ct) > 800
    add_segment(theirs, "Leg", bones.astype(np.uint8), ras_from_ijk(ct))
    theirs.GetSegmentation().GetSegment("Leg").SetTerminology(entry)
    assert logic.segment(ct, "threshold", theirs) is theirs
    volume = logic.patient(ct, theirs).volume
    assert {volume.materials[n].name for n in np.unique(volume.labels[bones])} == {"bone"}
    set_material(theirs, "Leg", material="soft_tissue")
    volume = logic.patient(ct, theirs).volume
    assert {volume.materials[n].name for n in np.unique(volume.labels[bones])} == {"soft_tissue"}


def test_bones_of_one_leg_are_not_taken_for_the_cts_materials(scene, ct):
    """All other bones would be soft tissue."""
    theirs = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Theirs")
    theirs.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    add_segment(theirs, "Leg", np.ones((4, 4, 4), np.uint8), ras_from_ijk(ct))
    theirs.GetSegmentation().GetSegment("Leg").SetTerminology(anatomy("71341001", "Femur"))
    assert material_nodes.segmentation_of(ct) is None


def test_without_segments_the_ct_is_split_by_the_thresholds_kept_with_it(logic, ct, carm):
    usual = shot(logic, ct, THRESHOLDS, carm)
    keep_thresholds(ct, bone_min_hu=2000.0)
    boneless = logic.patient(ct, None).volume
    assert "bone" not in {boneless.materials[n].name for n in np.unique(boneless.labels)}
    assert (usual - shot(logic, ct, THRESHOLDS, carm)).max() > 0.05
    keep_thresholds(ct)
    np.testing.assert_array_equal(shot(logic, ct, THRESHOLDS, carm), usual)


def test_another_ct_without_segments_is_another_patient(scene, logic, ct):
    patient = logic.patient(ct, None)
    before = patient.volume
    slicer.util.updateVolumeFromArray(ct, body_hu() - 20)
    patient.update()
    assert patient.volume is not before


@pytest.mark.parametrize("bad", [{"material": "kryptonite"}, {"density_g_cm3": -1.0}, {"density_g_cm3": 99.0}])
def test_materials_that_cannot_be_are_refused_and_change_nothing(segmentation, bad):
    before = segment_materials(segmentation)
    with pytest.raises(ValueError, match=r"Unknown material|cannot be"):
        set_material(segmentation, BONE, **bad)
    assert segment_materials(segmentation) == before


def test_a_segmentation_on_another_grid_and_under_a_transform_lands_on_the_ct(scene, logic, ct, segmentation):
    """A cube of metal on a turned 1.5 mm grid: where it is in the world is where the density is."""
    turned = rigid(rotation([1.0, 1.0, 0.0], 30.0), [4.0, -6.0, 8.0])
    values = np.zeros((20, 20, 20), np.uint8)
    values[5:15, 5:15, 5:15] = 1
    grid = np.diag([1.5, 1.5, 1.5, 1.0])
    grid[:3, 3] = -14.25
    implant = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Implant")
    add_segment(implant, "Cube", values, grid, {TAG_MATERIAL: "titanium"})
    implant.SetAndObserveTransformNodeID(add_transform(scene, turned).GetID())
    volume = logic.patient(ct, implant).volume
    k, j, i = np.nonzero(volume.density_g_cm3 > 4.0)
    world = np.stack((i, j, k), axis=1) @ ras_from_ijk(ct)[:3, :3].T + ras_from_ijk(ct)[:3, 3]
    local = (world - turned[:3, 3]) @ turned[:3, :3]
    assert np.abs(local).max() <= 7.5 + 1e-6
    assert len(k) * 8.0 == pytest.approx(15.0**3, rel=0.05)


def ball_surface(scene, representation="Closed surface"):
    """A segmentation of one surface, as an implant read from an STL file is."""
    ball = vtk.vtkSphereSource()
    ball.SetRadius(15.0)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Ball")
    node.GetSegmentation().SetSourceRepresentationName(representation)
    segment_of_ball = slicer.vtkSegment()
    segment_of_ball.SetName("Ball")
    segment_of_ball.SetTag(TAG_MATERIAL, "cobalt_chrome")
    segment_of_ball.AddRepresentation(representation, ball.GetOutput())
    node.GetSegmentation().AddSegment(segment_of_ball, "Ball")
    return node


def test_a_surface_becomes_matter_too(scene, logic, ct):
    volume = logic.patient(ct, ball_surface(scene)).volume
    matter = (volume.density_g_cm3 > 8.0).sum() * 8.0
    assert matter == pytest.approx(4 / 3 * np.pi * 15.0**3, rel=0.03)


def test_running_again_keeps_the_segments_that_a_person_added(logic, ct, segmentation):
    values = np.ones((40, 50, 60), np.uint8)
    add_segment(segmentation, "Plate", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    logic.segment(ct, segmentationNode=segmentation, bone_min_hu=1000.0)
    names = {s.segment_id for s in segment_materials(segmentation)}
    assert {"Plate", BONE, SOFT, "DeepDRR_air"} == names
    assert not (layer_of(segmentation, BONE) == 3).any()


def test_a_surface_that_is_segmented_into_is_still_there_as_voxels(scene, logic, ct):
    node = ball_surface(scene)
    logic.segment(ct, "threshold", node)
    assert {BONE, "Ball"} < {s.segment_id for s in segment_materials(node)}
    volume = logic.patient(ct, node).volume
    assert (volume.density_g_cm3 > 8.0).sum() * 8.0 == pytest.approx(4 / 3 * np.pi * 15.0**3, rel=0.03)
    assert any(m.name == "bone" for m in volume.materials)


def test_what_cannot_become_voxels_is_left_alone(scene, logic, ct):
    node = ball_surface(scene, "Planar contour")  # of which Slicer makes voxels only with SlicerRT
    with pytest.raises(ValueError, match="Ball cannot be turned into voxels"):
        logic.segment(ct, "threshold", node)
    assert [s.segment_id for s in segment_materials(node)] == ["Ball"]
    assert node.GetSegmentation().GetSegment("Ball").GetRepresentation("Planar contour").GetNumberOfPoints() > 100


def test_running_again_keeps_what_was_said_of_the_segments(logic, ct, segmentation):
    set_material(segmentation, BONE, material="cortical_bone", density_g_cm3=1.5, priority=3)
    set_material(segmentation, "DeepDRR_air", enabled=False)
    segmentation.GetSegmentation().GetSegment(BONE).SetName("Skeleton")
    segmentation.GetSegmentation().GetSegment(BONE).SetColor(0.25, 0.5, 0.75)
    before = segment_materials(segmentation)
    assert before[2].name == "Skeleton"
    logic.segment(ct, "threshold", segmentation)
    assert segment_materials(segmentation) == before


@pytest.mark.parametrize("whose", ["ct", "segmentation", "both"])
def test_running_again_moves_nothing_that_a_person_added(scene, logic, ct, segmentation, whose):
    values = np.zeros((40, 50, 60), np.uint8)
    values[10:20, 20:30, 30:40] = 1
    add_segment(segmentation, "Plate", values, ras_from_ijk(ct), {TAG_MATERIAL: "titanium"})
    motion = rigid(rotation([0.0, 0.0, 1.0], 90.0), [30.0, -12.0, 9.0])
    for node in {"ct": (ct,), "segmentation": (segmentation,), "both": (ct, segmentation)}[whose]:
        node.SetAndObserveTransformNodeID(add_transform(scene, motion).GetID())

    before, volume = world_from_parent(segmentation), logic.patient(ct, None).volume
    logic.segment(ct, "threshold", segmentation)
    np.testing.assert_array_equal(world_from_parent(segmentation), before)
    set_material(segmentation, "Plate", material="soft_tissue", priority=-1)
    assert logic.patient(ct, segmentation).volume.labels.tolist() == volume.labels.tolist(), "ours lie on the CT"


def test_a_drawn_tumour_is_not_taken_for_the_cts_materials(scene, logic, ct, carm):
    def drawn(name, tags):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
        values = np.zeros((40, 50, 60), np.uint8)
        values[18:20, 20:22, 20:22] = 1
        add_segment(node, "Tumour", values, ras_from_ijk(ct), tags)
        node.GetSegmentation().GetSegment("Tumour").SetTerminology(terminology_entry("soft_tissue"))
        return node

    by_thresholds = shot(logic, ct, THRESHOLDS, carm)
    drawn("Tumour", {})
    assert material_nodes.segmentation_of(ct) is None
    np.testing.assert_array_equal(shot(logic, ct, None, carm), by_thresholds)
    named = drawn("Named", {TAG_MATERIAL: "soft_tissue"})
    assert material_nodes.segmentation_of(ct) is named
    assert np.abs(shot(logic, ct, None, carm) - by_thresholds).max() > 0.1
    np.testing.assert_array_equal(shot(logic, ct, THRESHOLDS, carm), by_thresholds)
    with pytest.raises(ValueError, match="'tresholds' is no segmentation"):
        logic.render(ct, "tresholds", carm, QUIET)


def test_materials_go_only_where_nothing_is_lost(scene, logic, ct, segmentation):
    other = add_ct(scene, body_hu((30, 30, 30)), name="Other")
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
    assert material_nodes.may_be_filled(segmentation, ct)
    assert not material_nodes.may_be_filled(segmentation, other)
    assert material_nodes.may_be_filled(empty, other)
    assert not material_nodes.may_be_filled(ball_surface(scene), ct)
    assert not material_nodes.may_be_filled(None, ct)
    scene.RemoveNode(ct)
    assert material_nodes.reference_volume(segmentation) is None
    assert not material_nodes.may_be_filled(segmentation, other), "its corrections are of a CT that is gone"


def test_the_material_table_offers_what_the_simulator_knows():
    choices = dict(material_nodes.material_choices())
    assert choices["titanium"]
    assert not material_nodes.has_ct_density("titanium")
    assert material_nodes.has_ct_density("bone")


def _at_centre(volume: MaterialVolume) -> str:
    k, j, i = (n // 2 for n in volume.shape)
    return volume.materials[volume.labels[k, j, i]].name
