"""Where the command line puts the C-arm: what the picture says of it, and how it is taken again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import BEAD_RAS, PAPER, SMALL, THRESHOLD, rendered, run
from PIL import Image

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.carm_limits import CArmLimits
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.image import XRayImage

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def sidecar(name: str | Path) -> dict[str, Any]:
    return json.loads(Path(f"{name}.json").read_text())


def carm_of(values: dict[str, Any]) -> CArm:
    carm = values["metadata"]["carm"]
    return CArm(**{**carm, "limits": CArmLimits(**carm["limits"])})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["--rao", 30, "--cran", 10], ["--primary", -30, "--secondary", 10]),
        (["--lao", 25, "--caud", 15], ["--primary", 25, "--secondary", -15]),
        (["--view", "inlet"], ["--secondary", 40]),
        (["--view", "lateral_left", "--cran", 5], ["--primary", 90, "--secondary", 5]),
    ],
)
def test_angles_have_several_names(a_ct: Path, one: list[Any], other: list[Any]) -> None:
    assert rendered(a_ct, *one).camera == rendered(a_ct, *other).camera


def test_the_isocentre_is_the_middle_of_the_ct_unless_given(a_ct: Path) -> None:
    middle = rendered(a_ct).camera.project([0, 0, 0])
    np.testing.assert_allclose(middle, [30.5, 23.5], atol=1e-6)
    moved = rendered(a_ct, "--isocenter", *BEAD_RAS).camera.project(BEAD_RAS)
    np.testing.assert_allclose(moved, [30.5, 23.5], atol=1e-6)


def test_a_sidecar_takes_the_same_picture_again(a_ct: Path) -> None:
    assert run("render", a_ct, *SMALL, *THRESHOLD, "--rao", 33, "--roll", 12, "-o", "a.npz", "-o", "a.png") == 0
    assert run("render", a_ct, "--camera", "a.png.json", *THRESHOLD, "-o", "b.npz", "-o", "b.png") == 0
    first, again = XRayImage.load("a.npz"), XRayImage.load("b.npz")
    assert first.camera == again.camera
    assert np.array_equal(first.signal, again.signal)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_an_image_intensifier_takes_the_same_picture_again(a_ct: Path) -> None:
    arm = ["--preset", "mobile_image_intensifier", "--lao", 20, "--size", 60]
    assert run("render", a_ct, *arm, *THRESHOLD, "-o", "a.png") == 0
    assert run("render", a_ct, "--camera", "a.png.json", *THRESHOLD, "-o", "b.png") == 0
    with Image.open("b.png") as again:
        assert again.getpixel((0, 0)) == 0 != again.getpixel((30, 30))
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    first, again = sidecar("a.png"), sidecar("b.png")
    assert first["metadata"]["carm"] == again["metadata"]["carm"]
    assert first["camera"] == again["camera"]


def test_a_camera_without_a_carm_is_enough_and_half_a_carm_is_refused(
    a_ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = CArm(width=32, height=24, pixel_pitch_mm=10).camera().to_dict()
    Path("bare.json").write_text(json.dumps(camera))
    assert run("render", a_ct, "--camera", "bare.json", *THRESHOLD, "-o", "x.png") == 0
    assert "carm" not in sidecar("x.png")["metadata"]
    Path("half.json").write_text(json.dumps({"camera": camera, "metadata": {"carm": {"name": "toy"}}}))
    assert run("render", a_ct, "--camera", "half.json", "-o", "x.png") == 2
    assert "half.json holds no camera" in capsys.readouterr().err


@pytest.mark.parametrize("size", [["--size", 62], ["--size", "100x77"], ["--size", "40x30", "--pixel-mm", 5], []])
def test_the_picture_states_the_pixels_that_it_has(a_ct: Path, size: list[Any]) -> None:
    assert run("render", a_ct, *PAPER, *size, "--rao", 30, *THRESHOLD, "-o", "x.json") == 0
    values = json.loads(Path("x.json").read_text())
    carm = values["metadata"]["carm"]
    assert (carm["width"], carm["height"]) == (values["camera"]["width"], values["camera"]["height"])
    assert values["pixel_pitch_mm"] == pytest.approx([carm["pixel_pitch_mm"]] * 2)
    assert carm_of(values).camera() == Camera.from_dict(values["camera"])


def test_a_sweep_wider_than_its_frames_states_their_pixels(a_ct: Path) -> None:
    orbit = ["sweep", a_ct, *PAPER, *THRESHOLD, "--frames", 2, "--movie", "none", "-o", "orbit"]
    assert run(*orbit) == 0
    values = sidecar("orbit/frame_0000.png")
    assert values["camera"]["width"] == 512
    assert carm_of(values).camera() == Camera.from_dict(values["camera"])


def mirrored(folder: str) -> list[bool]:
    frames = sorted(Path(folder).glob("frame_*.png"))
    return [Camera.from_dict(sidecar(frame)["camera"]).is_mirrored for frame in frames]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--from", 60, "--to", 120], [True] * 4),
        (["--from", 120, "--to", 60], [False] * 4),
        (["--from", 60, "--to", 120, "--read-from", "source"], [False] * 4),
        (["--from", 60, "--to", 120, "--read-from", "front"], [True, True, False, False]),
    ],
)
def test_a_sweep_keeps_the_side_that_it_is_read_from(a_ct: Path, options: list[Any], expected: list[bool]) -> None:
    orbit = ["sweep", a_ct, *SMALL, *THRESHOLD, "--frames", 4, "--movie", "none", "-o", "orbit"]
    assert run(*orbit, *options) == 0
    assert mirrored("orbit") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--view", "ap", "--lao", 20], "--view ap has the primary angle 180, which --lao 20 would replace: give one"),
        (["--view", "inlet", "--caud", 10], "--view inlet has the secondary angle 40, which --caud 10 would replace"),
    ],
)
def test_the_angle_of_a_view_is_not_replaced(
    a_ct: Path, options: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", a_ct, *SMALL, *options, "-o", "x.json") == 2
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_an_angle_that_a_view_has_may_be_given_and_one_that_it_has_not(a_ct: Path) -> None:
    assert run("render", a_ct, *SMALL, *THRESHOLD, "--view", "ap", "--primary", 180, "--cran", 5, "-o", "x.json") == 0
    carm = json.loads(Path("x.json").read_text())["metadata"]["carm"]
    assert (carm["primary_angle_deg"], carm["secondary_angle_deg"]) == (180, 5)


def test_a_sweep_takes_from_a_view_the_angle_that_stays(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orbit = ["sweep", a_ct, *SMALL, *THRESHOLD, "--frames", 2, "--movie", "none", "-o", "orbit"]
    assert run(*orbit, "--view", "lateral_left") == 2
    assert "--view lateral_left fixes the angle that the sweep changes; use --from" in capsys.readouterr().err
    assert run(*orbit, "--view", "inlet") == 0
    assert sidecar("orbit/frame_0000.png")["metadata"]["carm"]["secondary_angle_deg"] == 40


@pytest.mark.parametrize("option", [["--lao", 20], ["--preset", "biplane_frontal"], ["--size", 62], ["--roll", 9]])
def test_what_a_camera_says_is_not_said_again(
    a_ct: Path, option: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    camera = CArm(width=32, height=24, pixel_pitch_mm=10).camera().to_dict()
    Path("bare.json").write_text(json.dumps(camera))
    assert run("render", a_ct, "--camera", "bare.json", *option, "-o", "x.png") == 2
    assert f"--camera bare.json says where all stands: leave out {option[0]}." in capsys.readouterr().err


def test_a_missing_camera_is_named(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, "--camera", "nope.json", "-o", "x.png") == 2
    assert "There is no file nope.json: give the .json file that lies beside an image" in capsys.readouterr().err


def test_a_picture_may_be_read_from_the_other_side(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("detector", "source"):
        assert run("render", a_ct, *SMALL, *THRESHOLD, "--read-from", side, "-o", f"{side}.json") == 0
        camera = Camera.from_dict(json.loads(Path(f"{side}.json").read_text())["camera"])
        assert camera.is_mirrored == (side == "detector")
    assert run("render", a_ct, *SMALL, "--read-from", "behind", "-o", "x.json") == 2
    assert "choose one of front, detector, source" in capsys.readouterr().err
