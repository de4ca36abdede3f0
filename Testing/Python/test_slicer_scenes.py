"""Scenes: saved and read back in a new process, closed, imported, swept; and the console without Slicer."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from slicer.util import arrayFromVolume
from slicer_scene import MODULE, add_ct, body_hu, layer_of, make_scene

from DeepDRRLogic import segmentation
from DeepDRRSlicerLib import background, dependencies
from DeepDRRSlicerLib.background import SegmentationJob
from DeepDRRSlicerLib.carm_nodes import CArmNodes
from DeepDRRSlicerLib.ct_nodes import ct_volume
from DeepDRRSlicerLib.material_nodes import segment_materials, set_material
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.technique import Technique

HERE = Path(__file__).resolve().parent
SHOT = Technique(kvp=75.0, seed=3, collimator="circle:70px", window="pelvis")

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


@pytest.fixture
def scene():
    return make_scene()


@pytest.fixture
def logic(scene):
    return SceneLogic()


@pytest.fixture
def ct(scene):
    return add_ct(scene, body_hu())


def test_a_saved_scene_comes_back_in_a_new_process_and_shoots_the_same(scene, logic, ct, tmp_path):
    segmentation = logic.segment(ct, "threshold")
    layer_of(segmentation, "DeepDRR_bone")[18:20] = 2
    set_material(segmentation, "DeepDRR_bone", material="cortical_bone", density_g_cm3=1.7, priority=2)
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
    said = json.loads(_run(script).splitlines()[-1])
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


def test_an_image_without_its_ct_says_so(scene, logic, ct, tmp_path):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    image = logic.render(ct, None, arm, SHOT)
    fresh = SceneLogic()
    np.testing.assert_array_equal(fresh.xray(image).camera.projection, arm.projection())
    scene.RemoveNode(ct)
    with pytest.raises(ValueError, match="shoot again"):
        SceneLogic().export(image, tmp_path / "x.png")


def test_a_scene_can_be_closed_and_begun_again(scene, logic, ct):
    logic.render(
        ct, logic.segment(ct, "threshold"), logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0), SHOT
    )
    scene.Clear(0)
    assert logic.carms() == []
    fresh = add_ct(scene, body_hu())
    image = logic.render(fresh, None, logic.carm(volumeNode=fresh, width=64, height=64, pixel_pitch_mm=4.0), SHOT)
    assert arrayFromVolume(image).max() > 1.0


def test_a_scene_read_again_has_its_own_exposures_and_not_those_made_since(scene, logic, ct, tmp_path):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    saved = logic.xray(logic.render(ct, None, arm, SHOT)).signal.copy()
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    later = logic.xray(logic.render(ct, None, arm, Technique(kvp=120.0))).signal
    assert not np.allclose(later, saved, rtol=0.1)
    scene.Clear(0)
    assert scene.ReadFromMRB(path)
    again = logic.xray(logic.carms()[0].image_node())
    np.testing.assert_allclose(again.signal, saved, rtol=1e-6)


def test_what_was_computed_for_a_scene_goes_with_it(scene, logic, ct):
    image = logic.render(ct, None, logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0), SHOT)
    kept = [weakref.ref(logic.patient(ct)), weakref.ref(logic.xray(image))]
    scene.Clear(0)
    logic.sceneClosed()
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_what_was_computed_for_a_ct_goes_with_it_and_its_images_stay(scene, logic, ct):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
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


def test_a_deleted_segmentation_leaves_the_ct_to_thresholds(scene, logic, ct):
    segmentation = logic.segment(ct, "threshold")
    set_material(segmentation, "DeepDRR_bone", material="lead")
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    with_lead = arrayFromVolume(logic.render(ct, None, arm, SHOT)).max()
    scene.RemoveNode(segmentation)
    assert arrayFromVolume(logic.render(ct, None, arm, SHOT)).max() < 0.7 * with_lead


def test_a_sweep_can_be_played_and_the_arm_follows_where_playback_of_its_joint_is_switched_on(scene, logic, ct):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    arm.set(primary_angle_deg=15.0)
    done = []
    browser = logic.sweep(
        ct, None, arm, SHOT, startDeg=-30, stopDeg=30, frames=3, width=None, progress=lambda *p: done.append(p)
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert browser.GetNumberOfItems() == 3
    assert arm.arm().primary_angle_deg == pytest.approx(15.0)
    images = browser.GetMasterSequenceNode()
    shown = browser.GetProxyNode(images)
    assert np.array_equal(arrayFromVolume(shown), arrayFromVolume(images.GetNthDataNode(0)))
    for index, angle in enumerate((-30.0, 0.0, 30.0)):
        frame = arrayFromVolume(images.GetNthDataNode(index))
        arm.set(primary_angle_deg=angle)
        np.testing.assert_array_equal(arrayFromVolume(logic.render(ct, None, arm, SHOT)), frame)
    arm.set(primary_angle_deg=15.0)
    browser.SetSelectedItemNumber(2)
    np.testing.assert_array_equal(arrayFromVolume(shown), arrayFromVolume(images.GetNthDataNode(2)))
    assert arm.arm().primary_angle_deg == pytest.approx(15.0)
    browser.SetPlayback(slicer.util.getNode("C-arm sweep primary"), True)
    assert arm.arm().primary_angle_deg == pytest.approx(30.0, abs=1e-4)


def test_a_sweep_makes_no_node_that_nobody_asked_for(scene, logic, ct):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    logic.render(ct, None, arm, SHOT)
    before = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    logic.sweep(ct, None, arm, SHOT, frames=2, width=None)
    made = [node for n in range(scene.GetNumberOfNodes()) if (node := scene.GetNthNode(n)) not in before]
    assert sorted(node.GetClassName() for node in made) == [
        "vtkMRMLScalarVolumeDisplayNode",
        "vtkMRMLScalarVolumeNode",
        "vtkMRMLSequenceBrowserNode",
        "vtkMRMLSequenceNode",
        "vtkMRMLSequenceNode",
    ]


def test_where_the_user_aims_outlives_a_sweep_its_browsers_changes_and_a_saved_scene(scene, logic, ct, tmp_path):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    arm.set(primary_angle_deg=33.0)
    browser = logic.sweep(ct, None, arm, SHOT, startDeg=-30, stopDeg=30, frames=3, width=None)
    browser.SetName("Orbit")
    browser.SetSelectedItemNumber(1)
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)
    path = str(tmp_path / "swept.mrb")
    assert scene.WriteToMRB(path)
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)
    scene.Clear(0)
    assert scene.ReadFromMRB(path)
    (arm,) = logic.carms()
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)
    browser = slicer.util.getNode("Orbit")
    browser.SetSelectedItemNumber(2)
    images = browser.GetMasterSequenceNode()
    shown = arrayFromVolume(browser.GetProxyNode(images))
    np.testing.assert_array_equal(shown, arrayFromVolume(images.GetNthDataNode(2)))
    assert arm.arm().primary_angle_deg == pytest.approx(33.0)


def test_a_scene_closed_while_a_sweep_is_recorded_ends_it(scene, logic, ct):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    closed = []

    def close(*_):
        closed.append(scene.Clear(0))

    assert logic.sweep(ct, None, arm, SHOT, frames=2, progress=close, cancelled=lambda: bool(closed)) is None
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0


def test_a_cancelled_sweep_leaves_nothing_behind(scene, logic, ct):
    arm = logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)
    logic.render(ct, None, arm, SHOT)
    before = scene.GetNumberOfNodes()
    assert logic.sweep(ct, None, arm, SHOT, frames=5, cancelled=lambda: True) is None
    assert scene.GetNumberOfNodes() == before
    with pytest.raises(ValueError, match="does not turn"):
        logic.sweep(ct, None, arm, SHOT, joint="lift")


def test_segmentation_in_its_own_process_gives_the_same(logic, ct):
    job = logic.startSegmentation(ct, "threshold", bone_min_hu=500.0)
    state = _wait(job)
    assert (state.finished, state.failed, state.fraction) == (True, False, 1.0)
    beside = logic.finishSegmentation(job, ct)
    here = logic.segment(ct, bone_min_hu=500.0)
    np.testing.assert_array_equal(layer_of(beside, "DeepDRR_bone"), layer_of(here, "DeepDRR_bone"))
    assert not job._folder.exists()


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("options", [{}, {"bone_min_hu": 500.0}])
def test_the_usual_method_is_the_same_in_the_console_and_in_a_process(logic, ct, monkeypatch, installed, options):
    made, used = segmentation.segment(ct_volume(ct), "threshold"), []
    methods = {
        function: lambda ct, used_name=name, **_: used.append(used_name) or made
        for name, (_, function) in segmentation._METHODS.items()
    }
    monkeypatch.setattr("DeepDRRLogic.segmentation.networks_installed", lambda: installed)
    monkeypatch.setattr("DeepDRRLogic.segmentation.import_module", lambda name: SimpleNamespace(**methods))
    monkeypatch.setattr("DeepDRRSlicerLib.scene_logic.SegmentationJob", lambda ct, method, given: used.append(method))
    logic.segment(ct, **options)
    logic.startSegmentation(ct, **options)
    assert used == ["vnet" if installed and not options else "threshold"] * 2
    assert logic.segmentationMethods() == ("auto", "vnet", "threshold")


def test_materials_of_a_ct_that_is_gone_are_given_to_no_other(scene, logic, ct):
    job = logic.startSegmentation(ct, "threshold")
    assert not _wait(job).failed
    its_id = ct.GetID()
    scene.Clear(0)
    assert add_ct(scene, body_hu()).GetID() == its_id
    with pytest.raises(ValueError, match="The CT that was segmented is gone"):
        logic.finishSegmentation(job, ct)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_segmentation_deleted_while_it_is_made_is_made_anew(scene, logic, ct):
    deleted = logic.segment(ct, "threshold")
    job = logic.startSegmentation(ct, "threshold")
    scene.RemoveNode(deleted)
    _wait(job)
    made = logic.finishSegmentation(job, ct, deleted)
    assert scene.IsNodePresent(made)
    assert len(segment_materials(made)) == 3


def test_segmentation_that_fails_says_why(logic, ct):
    job = logic.startSegmentation(ct, "threshold", air_max_hu=500.0)
    state = _wait(job)
    assert state.failed
    assert "air below that of bone" in state.message
    with pytest.raises(ValueError, match="air below that of bone"):
        logic.finishSegmentation(job, ct)


@pytest.mark.skipif(sys.platform == "win32", reason="looks processes up as POSIX does")
def test_a_cancelled_segmentation_ends_with_its_children(ct, tmp_path, monkeypatch):
    pid = tmp_path / "pid"
    slow = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid)!r}, 'w').write(str(p.pid))\n"
        "print('progress 1 4', flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr("DeepDRRSlicerLib.background._command", lambda folder: [sys.executable, "-u", "-c", slow])
    job = SegmentationJob(ct_volume(ct), "threshold")
    end = time.monotonic() + 20
    while job.poll().fraction is None and time.monotonic() < end:
        time.sleep(0.02)
    assert job.poll().fraction == 0.25
    job.cancel()
    assert job.poll().finished
    assert job.poll().message == "Cancelled"
    child = Path(f"/proc/{pid.read_text()}/stat")
    end = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.02)
    assert not child.exists() or child.read_text().split()[2] == "Z"
    assert not job._folder.exists()


def test_missing_packages_are_found_offered_and_refused_in_words(tmp_path):
    needed = tmp_path / "requirements.txt"
    needed.write_text("# what is needed\nnumpy>=1.0\nnumpy>=99.0\nno-such-package-of-ours  # never there\n")
    lines = dependencies.missing(needed)
    assert lines == ["numpy>=99.0", "no-such-package-of-ours"]
    asked = []
    with pytest.raises(ValueError, match="Without them no X-ray can be made"):
        dependencies.install(lines, lambda text: bool(asked.append(text)))
    assert "no-such-package-of-ours" in asked[0]
    dependencies.install([], lambda text: pytest.fail("asked for nothing"))


def test_windows_opens_no_console_for_a_segmentation(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x8000000, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **options: calls.append(options))
    monkeypatch.setattr(subprocess, "run", lambda *_, **options: calls.append(options))
    monkeypatch.setattr(background, "_command", lambda folder: ["python"])
    background._start(tmp_path)
    background._end(SimpleNamespace(pid=1, wait=lambda: None))
    assert [options["creationflags"] for options in calls] == [0x8000200, 0x8000000]


def _pip_fails(*_, **__):
    raise subprocess.CalledProcessError(1, "pip install")


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_an_installation_that_fails_is_said_in_words(monkeypatch, version):
    packaging = SimpleNamespace(pip_ensure=_pip_fails) if version == "5.12" else None
    monkeypatch.setattr(dependencies, "_packaging", lambda: packaging)
    monkeypatch.setattr("slicer.util.pip_install", _pip_fails, raising=False)
    with pytest.raises(ValueError, match=r"no-such-package-of-ours\. Installing them failed: .*pip install"):
        dependencies.install(["no-such-package-of-ours"], lambda text: True)


def test_pytorch_that_can_not_be_installed_is_said_in_words(monkeypatch):
    utils = SimpleNamespace(PyTorchUtilsLogic=lambda: SimpleNamespace(installTorch=_pip_fails))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
    with pytest.raises(ValueError, match=r"The V-Net needs PyTorch, and installing it failed: .*pip install"):
        dependencies.install_torch("The V-Net", "choose another method")


def test_what_the_module_asks_for_is_there_in_the_tests():
    assert dependencies.missing() == []


def test_the_library_imports_nothing_heavy():
    script = (
        f"import sys; sys.path[:0] = [{str(MODULE)!r}, {str(MODULE.parent)!r}]\n"
        "import DeepDRRSlicerLib.scene_logic, DeepDRRSlicerLib.live, DeepDRRSlicerLib.dependencies\n"
        "print(sorted({'numba', 'torch', 'xraylib', 'SimpleITK', 'spekpy', 'qt'} & set(sys.modules)))"
    )
    assert _run(script).strip() == "[]"


def test_from_a_source_folder_the_simulator_beside_it_is_found(tmp_path):
    _run(
        f"import sys; from pathlib import Path; root, module = Path({str(MODULE.parent)!r}), {str(MODULE)!r}\n"
        "sys.path[:] = [module, *(p for p in sys.path if not (Path(p) / 'DeepDRRLogic').is_dir())]\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
        "from importlib.util import find_spec\n"
        "assert find_spec('DeepDRRLogic') is None, 'the simulator is found without its help'\n"
        "import DeepDRRSlicerLib.technique, DeepDRRLogic\n"
        "assert Path(DeepDRRLogic.__file__).parents[1] == root\n",
        cwd=tmp_path,
    )


def test_the_console_lines_of_the_readme_work_without_slicer(tmp_path):
    text = (MODULE.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(# In Slicer's Python console.*?)```", text, re.DOTALL)
    assert found, "the README has lost its console lines"
    prelude = (
        f"import sys; sys.path[:0] = [{str(MODULE)!r}, {str(MODULE.parent)!r}]\n"
        "import slicer; slicer.mrmlScene = slicer.vtkMRMLScene()\n"
        "from DeepDRRLogic import segmentation; segmentation.networks_installed = lambda: False  # quicker\n"
    )
    _run(prelude + found[1].replace("/tmp/", f"{tmp_path}/"), cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"xray.png", "xray.png.json"}


def test_c_arms_are_told_from_other_transforms(scene):
    plain = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Plain")
    assert not CArmNodes.is_root(plain)
    with pytest.raises(ValueError, match="not a C-arm"):
        CArmNodes.of(plain)


def _wait(job):
    end = time.monotonic() + 60
    while not (state := job.poll()).finished:
        assert time.monotonic() < end, job.log
        time.sleep(0.05)
    return state


def _run(script: str, cwd: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
