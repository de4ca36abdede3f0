"""Scenes: saved and read back in a new process, closed and imported, and what goes with their nodes."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from slicer.util import arrayFromVolume
from slicer_scene import BONE, MODULE, SHOT, add_ct, body_hu, layer_of, run_python

from DeepDRRSlicerLib.carm_nodes import CArmNodes
from DeepDRRSlicerLib.material_nodes import segment_materials, set_material
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.technique import Technique

HERE = Path(__file__).resolve().parent
_READ_BACK = """
import json, sys
sys.path[:0] = [{here!r}, {module!r}, {root!r}]
from slicer_scene import make_scene
import numpy as np
import slicer
from slicer.util import arrayFromVolume
from DeepDRRSlicerLib.carm_nodes import CArmNodes
from DeepDRRSlicerLib.material_nodes import segment_materials
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.xray_nodes import technique_of_image

scene = make_scene()
assert scene.ReadFromMRB({path!r})
logic = SceneLogic()
ct, segmentation = slicer.util.getNode("CT"), slicer.util.getNode("CT materials")
arms = {{arm.name: arm for arm in logic.carms()}}
arm = arms["C-arm"]
image = arm.image_node()
saved = arrayFromVolume(image)[0].copy()
again = arrayFromVolume(logic.render(ct, segmentation, arm, technique_of_image(image)))[0]
print(json.dumps({{
    "angles": [arm.arm().primary_angle_deg, arm.arm().secondary_angle_deg, arm.arm().roll_deg],
    "isocenter": arm.arm().isocenter_ras_mm,
    "width": arm.arm().width,
    "machines": {{name: a.preset for name, a in arms.items()}},
    "lift": arm.joint_value("lift"),
    "materials": [[s.material, s.density_g_cm3, s.enabled, s.priority] for s in segment_materials(segmentation)],
    "same": bool(np.array_equal(saved, again)),
    "models": slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLModelNode"),
    "window": [image.GetDisplayNode().GetWindowLevelMin(), image.GetDisplayNode().GetWindowLevelMax()],
}}))
"""


def test_a_saved_scene_comes_back_in_a_new_process_and_shoots_the_same(scene, logic, ct, tmp_path):
    segmentation = logic.segment(ct, "threshold")
    layer_of(segmentation, BONE)[18:20] = 2
    set_material(segmentation, BONE, material="cortical_bone", density_g_cm3=1.7, priority=2)
    arm = logic.carm(volumeNode=ct, width=96, height=80, pixel_pitch_mm=3.0)
    arm.set_joint("lift", 12.0)
    arm.set(primary_angle_deg=200.0, secondary_angle_deg=-17.0, roll_deg=8.0)
    logic.carm("Lateral", "biplane_lateral", ct)
    logic.render(ct, segmentation, arm, SHOT)
    path = str(tmp_path / "scene.mrb")
    models = scene.GetNumberOfNodesByClass("vtkMRMLModelNode")
    assert models > 10
    assert scene.WriteToMRB(path)
    script = _READ_BACK.format(here=str(HERE), module=str(MODULE), root=str(MODULE.parent), path=path)
    said = json.loads(run_python(script).splitlines()[-1])
    assert said["angles"] == pytest.approx([200.0, -17.0, 8.0], abs=1e-6)
    assert said["isocenter"] == pytest.approx(list(arm.arm().isocenter_ras_mm), abs=1e-6)
    assert said["lift"] == pytest.approx(12.0)
    assert said["width"] == 96
    assert said["machines"] == {"C-arm": "mobile_flat_panel", "Lateral": "biplane_lateral"}
    assert said["materials"] == [
        [s.material, s.density_g_cm3, s.enabled, s.priority] for s in segment_materials(segmentation)
    ]
    assert said["models"] == models
    assert said["window"] == pytest.approx([2.5, 8.5])
    assert said["same"]


def test_an_image_without_its_ct_says_so(scene, logic, ct, arm, tmp_path):
    image = logic.render(ct, None, arm, SHOT)
    fresh = SceneLogic()
    np.testing.assert_array_equal(fresh.xray(image).camera.projection, arm.projection())
    scene.RemoveNode(ct)
    with pytest.raises(ValueError, match="shoot again"):
        SceneLogic().export(image, tmp_path / "x.png")


def test_a_scene_can_be_closed_and_begun_again(scene, logic, ct, segmentation, arm):
    logic.render(ct, segmentation, arm, SHOT)
    scene.Clear(0)
    assert logic.carms() == []
    fresh = add_ct(scene, body_hu())
    image = logic.render(fresh, None, logic.carm(volumeNode=fresh, width=64, height=64, pixel_pitch_mm=4.0), SHOT)
    assert arrayFromVolume(image).max() > 1.0


def test_a_scene_read_again_has_its_own_exposures_and_not_those_made_since(scene, logic, ct, arm, tmp_path):
    saved = logic.xray(logic.render(ct, None, arm, SHOT)).signal.copy()
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    later = logic.xray(logic.render(ct, None, arm, Technique(kvp=120.0))).signal
    assert not np.allclose(later, saved, rtol=0.1)
    scene.Clear(0)
    assert scene.ReadFromMRB(path)
    again = logic.xray(logic.carms()[0].image_node())
    np.testing.assert_allclose(again.signal, saved, rtol=1e-6)


def test_what_was_computed_for_a_scene_goes_with_it(scene, logic, ct, arm):
    image = logic.render(ct, None, arm, SHOT)
    kept = [weakref.ref(logic.patient(ct)), weakref.ref(logic.xray(image))]
    scene.Clear(0)
    logic.sceneClosed()
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_what_was_computed_for_a_ct_goes_with_it_and_its_images_stay(scene, logic, ct, arm):
    image, other = logic.render(ct, None, arm, SHOT), logic.keepCopy(arm.image_node())
    patient, kept = weakref.ref(logic.patient(ct)), weakref.ref(logic.xray(image))
    scene.RemoveNode(ct)
    logic.tidyUp()
    gc.collect()
    assert patient() is None
    assert logic.xray(image) is kept(), "it can still be exported"
    scene.RemoveNode(image)
    scene.RemoveNode(other)
    logic.tidyUp()
    gc.collect()
    assert kept() is None


def test_an_imported_scene_adds_its_c_arms_to_those_there_are(scene, logic, ct, tmp_path):
    logic.carm("Mine", volumeNode=ct).set(primary_angle_deg=10.0)
    path = str(tmp_path / "other.mrb")
    scene.WriteToMRB(path)
    scene.Clear(0)
    logic.carm("Here").set(primary_angle_deg=-20.0)
    assert scene.ReadFromMRB(path, False)
    angles = {arm.name: arm.arm().primary_angle_deg for arm in logic.carms()}
    assert angles == {"Here": pytest.approx(-20.0), "Mine": pytest.approx(10.0)}
    for arm in logic.carms():
        assert arm.node("roll") is not None
        assert arm.is_valid()


def test_a_deleted_segmentation_leaves_the_ct_to_thresholds(scene, logic, ct, arm):
    segmentation = logic.segment(ct, "threshold")
    set_material(segmentation, BONE, material="lead")
    with_lead = arrayFromVolume(logic.render(ct, None, arm, SHOT)).max()
    scene.RemoveNode(segmentation)
    assert arrayFromVolume(logic.render(ct, None, arm, SHOT)).max() < 0.7 * with_lead


def test_c_arms_are_told_from_other_transforms(scene):
    plain = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Plain")
    assert not CArmNodes.is_root(plain)
    with pytest.raises(ValueError, match="not a C-arm"):
        CArmNodes.of(plain)
