"""Affine matrices: what they mean, and which ones no volume can have."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from DeepDRRLogic import affine
from DeepDRRLogic.affine import check_affine, check_rigid, rigid, rotation

AXES = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, -2.0, 0.5)])
ANGLES = st.floats(-720, 720)
LENGTHS = st.floats(-500, 500)


@given(AXES, ANGLES, LENGTHS)
def test_a_rotation_keeps_its_axis_and_turns_by_its_angle(axis, angle, x):
    turn = rotation(axis, angle)
    assert turn @ axis == pytest.approx(axis, abs=1e-12)
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(np.radians(angle)), abs=1e-12)
    assert check_rigid(rigid(turn, [x, 0, 0]))[0, 3] == x


def test_rotation_about_the_head_axis_takes_front_to_the_patients_left():
    assert rotation([0, 0, 5], 90) @ [0, 1, 0] == pytest.approx([-1, 0, 0], abs=1e-12)
    with pytest.raises(ValueError, match="rotation axis"):
        rotation([0, 0, 0], 10)


@pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "PIR", "SLA", "IAR"])
def test_the_orientation_of_a_volume_is_read_from_its_axes(code):
    directions = {
        "R": (1, 0, 0),
        "L": (-1, 0, 0),
        "A": (0, 1, 0),
        "P": (0, -1, 0),
        "S": (0, 0, 1),
        "I": (0, 0, -1),
    }
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([directions[letter] for letter in code], axis=1) * [0.7, 1.5, 3.0]
    assert affine.orientation(matrix) == code
    assert affine.spacing_mm(matrix) == pytest.approx((0.7, 1.5, 3.0))
    assert not affine.is_oblique(matrix)
    assert affine.is_left_handed(matrix) == (np.linalg.det(matrix) < 0)


def test_a_turned_volume_is_oblique_and_keeps_three_different_letters():
    turned = rigid(rotation([1, 1, 1], 50)) @ np.diag([1, 1, 2, 1])
    assert affine.is_oblique(turned)
    axis_of = dict(zip("RLAPSI", "xxyyzz", strict=True))
    assert {axis_of[letter] for letter in affine.orientation(turned)} == {"x", "y", "z"}
    assert affine.orientation(rigid(rotation([0, 0, 1], 10))) == "RAS"


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1.0, 0, 1, 1]), "singular"),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "singular"),
        ([[1, 0, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]], r"sheared: its axes are 5\.71°"),
        ([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "NaN or infinity"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [9, 8, 7, 1]], "last row"),
    ],
)
def test_an_affine_no_volume_can_have_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        check_affine(matrix)


def test_rounded_direction_cosines_are_no_shear():
    matrix = rigid(rotation([1, 2, 3], 17)).round(4) @ np.diag([0.5, 0.5, 2, 1])
    assert check_affine(matrix) == pytest.approx(matrix)


def test_doctests_of_the_affine_functions_hold():
    assert doctest.testmod(affine) == (0, 4)
