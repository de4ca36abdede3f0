"""What several test files begin with; Slicer's core is asked for only by those that take its scene."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def a_ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a cylinder of soft tissue with a bead of bone."""
    from command_line import write_cylinder

    return write_cylinder(tmp_path_factory.mktemp("ct") / "ct.nrrd")


@pytest.fixture
def scene():
    """A new scene, which is Slicer's."""
    from slicer_scene import make_scene

    return make_scene()


@pytest.fixture
def logic(scene):
    from DeepDRRSlicerLib.scene_logic import SceneLogic

    return SceneLogic(scene)


@pytest.fixture
def ct(scene):
    """A block of tissue with bone in it."""
    from slicer_scene import add_ct, body_hu

    return add_ct(scene, body_hu())


@pytest.fixture
def segmentation(logic, ct):
    """The CT's air, soft tissue and bone."""
    return logic.segment(ct, "threshold")


@pytest.fixture
def arm(logic, ct):
    """A C-arm of few pixels around the CT."""
    return logic.carm(volumeNode=ct, width=64, height=64, pixel_pitch_mm=4.0)


@pytest.fixture
def stage(logic, ct, segmentation, monkeypatch):
    """A live session around the CT, not yet switched on."""
    from live_stage import Stage

    monkeypatch.setattr("DeepDRRSlicerLib.live.TURN_S", 0.0)
    stage = Stage(logic, ct, segmentation)
    yield stage
    stage.session.close()
