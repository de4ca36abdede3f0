"""Which side of the patient an X-ray's edges look to, as a radiologist would letter the film."""

from __future__ import annotations

import numpy as np
import pytest
from slicer.util import vtkMatrixFromArray
from slicer_scene import add_ct, add_transform, body_hu, make_scene

from DeepDRRLogic.affine import patient_letters
from DeepDRRLogic.carm import CArm
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


def test_nothing_is_said_of_what_nobody_knows(shot):
    _, ct, _, image = shot
    assert sides_of(None) is None and sides_of(ct) is None
    image.RemoveAttribute("DeepDRR.Patient")
    assert sides_of(image) is None
