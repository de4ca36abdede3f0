"""Segmentation in a process of its own: the same as in this one, told how far it is, and ended with its children."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from slicer_scene import BONE, add_ct, body_hu, layer_of

from DeepDRRLogic import segmentation
from DeepDRRSlicerLib import background
from DeepDRRSlicerLib.background import SegmentationJob
from DeepDRRSlicerLib.ct_nodes import ct_volume
from DeepDRRSlicerLib.material_nodes import segment_materials


def test_segmentation_in_its_own_process_gives_the_same(logic, ct):
    job = logic.startSegmentation(ct, "threshold", bone_min_hu=500.0)
    state = _wait(job)
    assert (state.finished, state.failed, state.fraction) == (True, False, 1.0)
    beside = logic.finishSegmentation(job, ct)
    here = logic.segment(ct, bone_min_hu=500.0)
    np.testing.assert_array_equal(layer_of(beside, BONE), layer_of(here, BONE))
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


def _wait(job):
    end = time.monotonic() + 60
    while not (state := job.poll()).finished:
        assert time.monotonic() < end, job.log
        time.sleep(0.05)
    return state
