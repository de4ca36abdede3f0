"""The projector is compiled beforehand, by a thread: the first picture finds all that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from slicer_scene import make_scene

from DeepDRRLogic.projector.devices import Choice
from DeepDRRSlicerLib import preparing
from DeepDRRSlicerLib.technique import Technique

ROOT = Path(__file__).resolve().parents[2]
FIRST_PICTURE = """
from numba.core import event
from slicer_scene import make_scene
from DeepDRRSlicerLib import ct_nodes, exposing, preparing
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.technique import Technique

logic = SceneLogic(make_scene())
ct = ct_nodes.phantom_node(logic.scene, "chest", 6.0)
preparing.expose_once(Technique())
with event.install_recorder("numba:compile") as compiled:
    patient = logic.patient(ct)
    exposing.expose(exposing.prepare(patient, logic.carm(volumeNode=ct).camera(), Technique()), "preview", 64)
print("compiled:", *sorted({what.data["dispatcher"].py_func.__name__ for _, what in compiled.buffer}))
"""


class Clockwork:
    """What is asked for later, done when a test says so."""

    def __init__(self):
        self.waiting = []

    def later(self, _milliseconds, what):
        self.waiting.append(what)

    def run(self):
        due, self.waiting = self.waiting, []
        for what in due:
            what()


@pytest.fixture
def bench(monkeypatch):
    """A preparation that goes on until `finish` is set."""
    make_scene()
    clockwork, finish, changes = Clockwork(), threading.Event(), []
    monkeypatch.setattr(preparing, "expose_once", lambda technique: finish.wait(20.0))
    made = preparing.Preparation(clockwork.later, lambda: changes.append((made.takes_long, made.is_done)))
    yield made, clockwork, finish, changes
    finish.set()


def test_the_first_preview_finds_everything_compiled(tmp_path):
    places = [str(ROOT / part) for part in ("DeepDRRSlicer", "Testing/Python", "")]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_PICTURE], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["compiled:"], done.stdout + done.stderr


def test_it_says_so_only_where_it_takes_long(bench, monkeypatch):
    made, clockwork, finish, changes = bench
    made.start(Technique(device="cpu"))
    clockwork.run()
    assert not made.takes_long and not made.is_done and changes == []
    monkeypatch.setattr(preparing, "_LONG_S", 0.0)
    clockwork.run()
    clockwork.run()
    assert made.takes_long and changes == [(True, False)]
    finish.set()
    clockwork.run()
    assert made.is_done and changes[1:] == [(False, True)] and clockwork.waiting == []


def test_it_is_done_once(bench, monkeypatch):
    made, clockwork, finish, changes = bench
    finish.set()
    made.start(Technique(device="cpu"))
    while clockwork.waiting:
        clockwork.run()
    assert made.is_done and changes == [(False, True)]
    monkeypatch.setattr(preparing, "expose_once", None)
    made.start(Technique(device="cpu"))
    assert changes == [(False, True)]


def test_a_gpu_needs_none_and_the_processor_does_when_it_is_chosen_later(bench, monkeypatch):
    made, clockwork, finish, _ = bench
    monkeypatch.setattr(preparing, "choose_device", lambda name: Choice(name, "asked for"))
    made.start(Technique(device="torch"))
    assert made.is_done and clockwork.waiting == []
    made.start(Technique(device="cpu"))
    assert not made.is_done
    finish.set()


def test_where_it_fails_pictures_are_asked_for_all_the_same(bench, monkeypatch):
    made, clockwork, _, _ = bench
    monkeypatch.setattr(preparing, "expose_once", lambda technique: 1 / 0)
    made.start(Technique(device="cpu"))
    clockwork.run()
    assert made.is_done and not made.takes_long
