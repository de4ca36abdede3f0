"""Which side of the patient an X-ray's edges look to, as a radiologist would letter the film."""

from __future__ import annotations

import threading

import numpy as np
import pydicom
import pytest
from slicer.util import arrayFromVolume, vtkMatrixFromArray
from slicer_scene import QUIET, add_ct, add_transform, body_hu, make_scene

from DeepDRRLogic.affine import patient_letters
from DeepDRRLogic.carm import CArm
from DeepDRRSlicerLib import exposing, xray_nodes
from DeepDRRSlicerLib.scene_logic import SceneLogic
from DeepDRRSlicerLib.side_letters import sides_of
from DeepDRRSlicerLib.sides import edges


def lettered(primary, secondary=0.0, roll=0.0, **fields):
    arm = CArm(isocenter_ras_mm=(10.0, -20.0, 300.0), width=64, height=48, pixel_pitch_mm=4.0, **fields)
    return " ".join(edges(arm.with_angles(primary, secondary, roll).camera().ras_from_pixel))


@pytest.mark.parametrize(
    ("primary", "secondary", "left_right_upper_lower"),
    [
        (0.0, 0.0, "R L H F"),  # AP
        (180.0, 0.0, "R L H F"),  # PA, read as AP is
        (90.0, 0.0, "A P H F"),
        (-90.0, 0.0, "P A H F"),
        (45.0, 0.0, "RA LP H F"),
        (10.0, 0.0, "R L H F"),
        (0.0, 30.0, "R L HP FA"),
        (0.0, -30.0, "R L HA FP"),
    ],
)
def test_the_letters_of_usual_views(primary, secondary, left_right_upper_lower):
    got = lettered(primary, secondary).split()
    assert [sorted(word) for word in got] == [sorted(word) for word in left_right_upper_lower.split()], got
    assert [word[0] for word in got][2:] == ["H", "F"], "the largest part comes first"


def test_a_picture_read_from_the_other_side_has_its_letters_exchanged():
    left, right, upper, lower = lettered(0.0, read_from="source").split()
    assert {left, right} == {"R", "L"}
    assert lettered(0.0, read_from="detector").split() == [right, left, upper, lower]


def test_a_turned_picture_has_them_turned():
    assert lettered(0.0, roll=90.0).split() in (["H", "F", "L", "R"], ["F", "H", "R", "L"])
    assert sorted(lettered(0.0, roll=180.0).split()[:2]) == ["L", "R"]
    assert lettered(0.0, roll=180.0).split()[:2] == lettered(0.0).split()[1::-1]


@pytest.mark.parametrize(("degrees", "word"), [(0, "L"), (19, "L"), (21, "LP"), (44, "LP"), (46, "PL"), (71, "P")])
def test_a_second_letter_from_twenty_degrees(degrees, word):
    angle = np.radians(degrees)
    assert patient_letters([-3.0 * np.cos(angle), -3.0 * np.sin(angle), 0.0]) == word


@pytest.fixture
def shot():
    logic = SceneLogic(make_scene())
    ct = add_ct(logic.scene, body_hu())
    carm = logic.carm(volumeNode=ct, width=32, height=24, pixel_pitch_mm=10.0)
    return logic, ct, carm, logic.render(ct, None, carm)


def test_a_patient_turned_by_a_transform_is_lettered_as_it_lies(shot):
    logic, ct, carm, image = shot
    assert sides_of(image) == ("R", "L", "H", "F")
    prone = add_transform(logic.scene, np.diag([-1.0, 1.0, -1.0, 1.0]))  # head first to feet first
    ct.SetAndObserveTransformNodeID(prone.GetID())
    assert sides_of(image) == ("R", "L", "H", "F"), "the picture is of before"
    assert sides_of(logic.render(ct, None, carm)) == ("L", "R", "F", "H")
    turned = np.array([[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    prone.SetMatrixTransformToParent(vtkMatrixFromArray(turned))
    assert sides_of(logic.render(ct, None, carm))[2:] == ("H", "F")
    assert set(sides_of(image)[:2]) == {"A", "P"}


def test_copies_and_sweeps_keep_their_letters(shot):
    logic, ct, carm, image = shot
    assert sides_of(logic.keepCopy(image)) == sides_of(image)
    browser = logic.sweep(ct, None, carm, startDeg=0.0, stopDeg=90.0, frames=2, width=32)
    picture = browser.GetProxyNode(browser.GetMasterSequenceNode())
    assert sides_of(picture) == ("R", "L", "H", "F")
    browser.SetSelectedItemNumber(1)
    assert set(sides_of(picture)[:2]) == {"A", "P"}


def turned_about(ct):
    """The patient on the table turned round: what was on its left is on its right."""
    turn = add_transform(ct.GetScene(), np.diag([-1.0, -1.0, 1.0, 1.0]))
    ct.SetAndObserveTransformNodeID(turn.GetID())


def preview(logic, ct, carm):
    """A picture in few pixels, in the C-arm's own node, as live X-rays are."""
    patient = logic.patient(ct)
    exposure = exposing.prepare(patient, carm.camera(), QUIET, carm.arm())
    image = exposing.expose(exposure, "preview", 16)
    logic.preview(logic.imageOf(carm), image, patient, carm, QUIET)
    return logic.imageOf(carm)


def test_a_patient_turned_while_it_is_exposed_is_lettered_as_it_lay_when_that_began(shot, monkeypatch):
    logic, ct, carm, _ = shot
    expose, turned = exposing.expose, threading.Event()

    def expose_late(*args, **kwargs):
        assert turned.wait(30.0)
        return expose(*args, **kwargs)

    def turn(_fraction):
        if not turned.is_set():
            turned_about(ct)
            turned.set()

    monkeypatch.setattr(exposing, "expose", expose_late)
    assert sides_of(logic.render(ct, None, carm, progress=turn)) == ("R", "L", "H", "F")
    assert sides_of(logic.render(ct, None, carm)) == ("L", "R", "H", "F")


@pytest.mark.parametrize("scale", [1.0, 1.1], ids=["rigid", "scaled"])
def test_every_frame_of_a_sweep_shows_and_letters_its_patient_as_it_lay(scale):
    logic = SceneLogic(make_scene())
    hu = body_hu()
    hu[:, :, : hu.shape[2] // 3] = -1000.0
    ct = add_ct(logic.scene, hu)
    lies = add_transform(logic.scene, np.diag([scale, scale, scale, 1.0]))
    ct.SetAndObserveTransformNodeID(lies.GetID())
    carm = logic.carm(volumeNode=ct, width=32, height=24, pixel_pitch_mm=10.0)

    def turn(done, _total):
        if done == 1:
            lies.SetMatrixTransformToParent(vtkMatrixFromArray(np.diag([-scale, -scale, scale, 1.0])))

    browser = logic.sweep(ct, None, carm, QUIET, startDeg=0.0, stopDeg=1.0, frames=3, width=32, progress=turn)
    picture = browser.GetProxyNode(browser.GetMasterSequenceNode())
    letters, brighter_half = [], []
    for n in range(3):
        browser.SetSelectedItemNumber(n)
        letters.append("".join(sides_of(picture)))
        left, right = np.hsplit(arrayFromVolume(picture)[0], 2)
        brighter_half.append("left" if left.mean() > right.mean() else "right")
    assert letters == ["RLHF", "LRHF", "LRHF"]
    assert brighter_half[0] != brighter_half[1] == brighter_half[2]


def test_a_preview_that_is_made_whole_of_a_patient_turned_since_is_lettered_anew(shot, tmp_path):
    logic, ct, carm, _ = shot
    image = preview(logic, ct, carm)
    assert xray_nodes.is_preview(image) and sides_of(image) == ("R", "L", "H", "F")
    turned_about(ct)
    assert sides_of(image) == ("R", "L", "H", "F"), "the picture is of before"
    assert sides_of(logic.keepCopy(image)) == sides_of(image) == ("L", "R", "H", "F")
    assert sides_of(preview(logic, ct, carm)) == ("L", "R", "H", "F")
    logic.export(image, tmp_path / "x.dcm")
    assert not xray_nodes.is_preview(image) and sides_of(image) == ("L", "R", "H", "F")


def test_a_file_says_the_same_as_the_view(shot, tmp_path):
    logic, ct, carm, image = shot

    def orientation(node):
        logic.export(node, tmp_path / "x.dcm")
        return list(pydicom.dcmread(tmp_path / "x.dcm").PatientOrientation)

    assert orientation(image) == ["L", "F"]
    turned_about(ct)
    assert orientation(image) == ["L", "F"], "the picture is of before"
    again = logic.render(ct, None, carm)
    assert orientation(again) == ["R", "F"] == [sides_of(again).right, sides_of(again).lower]


def test_nothing_is_said_of_what_nobody_knows(shot):
    _, ct, _, image = shot
    assert sides_of(None) is None and sides_of(ct) is None
    image.RemoveAttribute("DeepDRR.Patient")
    assert sides_of(image) is None
