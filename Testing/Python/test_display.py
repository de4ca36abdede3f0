"""What a viewer sees: windows, polarity, flips, collimators and moving pictures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from DeepDRRLogic.animation import write_animation, write_gif, write_mp4
from DeepDRRLogic.collimator import CircularCollimator, RectangularCollimator, parse_collimator
from DeepDRRLogic.display import (
    DisplaySettings,
    auto_window,
    preset_window,
    render_display,
    resolve_window,
    to_uint8,
    to_uint16,
    window_presets,
)
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.image import XRayImage

FIXED = (4.0, 8.0)


def a_camera(width: int = 40, height: int = 30, pitch_u: float = 0.5, pitch_v: float = 0.5) -> Camera:
    intrinsics = [[-1000 / pitch_u, 0, (width - 1) / 2], [0, 1000 / pitch_v, (height - 1) / 2], [0, 0, 1]]
    return Camera(np.array(intrinsics), np.eye(4), width, height, 1000.0)


def an_image_of(attenuation: Any, unattenuated: float = 1.0, camera: Camera | None = None) -> XRayImage:
    attenuation = np.atleast_2d(np.asarray(attenuation, float))
    plane = np.ones(attenuation.shape)
    return XRayImage(
        signal=unattenuated * np.exp(-attenuation),
        unattenuated_signal=(unattenuated,),
        photons=plane,
        mean_energy_kev=plane,
        camera=camera or a_camera(attenuation.shape[1], attenuation.shape[0]),
    )


def a_ramp(width: int = 40, height: int = 30) -> XRayImage:
    """Attenuation from 0 at the left to 8 at the right, and a little more at the bottom than at the top."""
    return an_image_of(np.linspace(0, 7, width) + np.linspace(0, 1, height)[:, None])


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("window", ["chest", "abdomen", "pelvis", "extremity", "full", (2.0, 5.0)])
def test_a_fixed_window_gives_the_same_grey_whatever_else_is_in_the_image(log: bool, window: Any) -> None:
    settings = DisplaySettings(log=log, window=window)
    alone = an_image_of(np.full((4, 5), 2.5))
    crowded = an_image_of([[2.5, 0, 9], [30, 2.5, 0.1]], unattenuated=3e7)
    grey = {int(alone.display(settings)[0, 0]), *crowded.display(settings)[[0, 1], [0, 1]].tolist()}
    assert len(grey) == 1


def test_automatic_windows_change_the_picture_but_never_the_data() -> None:
    image = a_ramp()
    before = image.signal.tobytes()
    auto, named = image.display(), image.display(DisplaySettings(window="auto"))
    assert np.array_equal(auto, named)
    assert not np.array_equal(auto, image.display(DisplaySettings(window="full")))
    image.display(DisplaySettings(polarity="bones_dark", collimator=CircularCollimator(5)), bits=16)
    assert image.signal.tobytes() == before


def test_the_automatic_window_looks_only_at_the_open_field_behind_the_patient() -> None:
    attenuation = np.zeros((30, 40))
    attenuation[10:20, 10:30] = np.linspace(2, 5, 20)
    attenuation[:, :3] = 40
    image = an_image_of(attenuation)
    field = RectangularCollimator(5, 0, 39, 29)
    center, width = resolve_window(image, DisplaySettings(collimator=field))
    assert center - width / 2 == pytest.approx(2, abs=0.3)
    assert center + width / 2 == pytest.approx(5, abs=0.1)
    center, width = resolve_window(image, DisplaySettings())
    assert center + width / 2 == pytest.approx(40, abs=0.1)


def test_pixels_without_a_photon_do_not_set_the_automatic_window() -> None:
    attenuation = np.tile(np.linspace(2, 6, 40), (30, 1))
    starved = an_image_of(attenuation)
    signal = starved.signal.copy()
    signal[::5, ::7] = 0
    starved = replace(starved, signal=signal)
    center, width = resolve_window(starved, DisplaySettings())
    assert center + width / 2 == pytest.approx(6, abs=0.1)


def test_the_automatic_linear_window_shows_the_same_range_as_the_logarithmic_one() -> None:
    values = np.linspace(1, 4, 1001)
    center, width = auto_window(values)
    linear_center, linear_width = auto_window(np.exp(-values), log=False)
    assert np.exp(-(center - width / 2)) == pytest.approx(linear_center + linear_width / 2, rel=1e-4)
    assert np.exp(-(center + width / 2)) == pytest.approx(linear_center - linear_width / 2, rel=1e-4)


def test_a_blank_exposure_can_be_displayed() -> None:
    blank = an_image_of(np.zeros((5, 6)))
    for log in (True, False):
        assert not blank.display(DisplaySettings(log=log)).any()


def test_polarity_makes_bones_bright_or_dark_in_log_and_linear_alike() -> None:
    image = an_image_of([[1.0, 3.0, 5.0]])
    for log in (True, False):
        bright = image.display(DisplaySettings(log=log, window="full")).astype(int)
        dark = image.display(DisplaySettings(log=log, window="full", polarity="bones_dark")).astype(int)
        assert (np.diff(bright) > 0).all(), log
        assert (np.diff(dark) < 0).all(), log
        assert np.array_equal(bright, 255 - dark)


def test_flips_turn_the_finished_picture_about_its_middle() -> None:
    image = a_ramp()
    upright = image.display(DisplaySettings(window=FIXED))
    for horizontal, vertical in [(True, False), (False, True), (True, True)]:
        settings = DisplaySettings(window=FIXED, flip_horizontal=horizontal, flip_vertical=vertical)
        turned = image.display(settings)
        expected = upright[:, ::-1] if horizontal else upright
        assert np.array_equal(turned, expected[::-1] if vertical else expected)
        assert turned.flags.c_contiguous


def test_collimators_are_set_in_detector_pixels_whatever_the_flips() -> None:
    corner = RectangularCollimator(0, 0, 3, 2)
    settings = DisplaySettings(window=FIXED, polarity="bones_dark", collimator=corner, flip_horizontal=True)
    picture = a_ramp().display(settings)
    assert (picture[:3, -4:] > 0).all()
    picture[:3, -4:] = 0
    assert not picture.any()


def test_greys_are_rounded_to_the_nearest_and_saturate_outside() -> None:
    window = (127.5, 255.0)
    values = [-np.inf, -1e30, 0, 0.49, 0.51, 127.49, 127.51, 254.4, 254.6, 255, 1e30, np.inf, np.nan]
    expected = [0, 0, 0, 0, 1, 127, 128, 254, 255, 255, 255, 255, 0]
    assert to_uint8(values, window).tolist() == expected
    assert to_uint16([0, 1, 2, 65535], (32767.5, 65535.0)).tolist() == [0, 1, 2, 65535]
    assert to_uint16([0.0, 0.5, 1.0], (0.5, 1.0)).tolist() == [0, 32768, 65535]


@given(
    value=st.floats(-1e3, 1e3),
    center=st.floats(-100, 100),
    width=st.floats(1e-3, 1e3),
    bits=st.sampled_from([8, 16]),
)
def test_every_grey_stands_for_its_value_within_half_a_step(
    value: float, center: float, width: float, bits: int
) -> None:
    largest = 2**bits - 1
    grey = int((to_uint8 if bits == 8 else to_uint16)([value], (center, width))[0])
    inside = min(max(value, center - width / 2), center + width / 2)
    assert abs(center - width / 2 + grey / largest * width - inside) <= width / largest * 0.5 + 1e-9


def test_presets_cover_the_same_attenuation_in_log_and_linear() -> None:
    assert window_presets()[0] == "auto"
    for name in window_presets()[1:]:
        center, width = preset_window(name)
        linear_center, linear_width = preset_window(name, log=False)
        assert linear_center - linear_width / 2 == pytest.approx(np.exp(-(center + width / 2)))
        assert linear_center + linear_width / 2 == pytest.approx(np.exp(-(center - width / 2)))


def test_the_sum_of_channels_is_shown_unless_one_is_asked_for() -> None:
    two = replace(
        an_image_of(np.ones((2, 3))),
        signal=np.stack((np.full((2, 3), 30 * np.exp(-1)), np.full((2, 3), 10 * np.exp(-3)))),
        unattenuated_signal=(30.0, 10.0),
    )
    expected = {None: -np.log((30 * np.exp(-1) + 10 * np.exp(-3)) / 40), 0: 1.0, 1: 3.0}
    for channel, attenuation in expected.items():
        grey = render_display(two, DisplaySettings(window=FIXED, channel=channel), bits=16)
        assert grey[0, 0] == round(attenuation / 8 * 65535)
    with pytest.raises(ValueError, match="channel is 2; this image has channels 0 to 1"):
        two.display(DisplaySettings(channel=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": (1, 2, 3)}, r"window has shape \(3,\)"),
        ({"window": "thorax"}, "Unknown window 'thorax'; known are auto, full, chest"),
        ({"window": (1.0, 0.0)}, "width must be positive"),
        ({"window": (np.nan, 1.0)}, "window holds NaN"),
        ({"polarity": "inverted"}, "must be 'bones_bright' or 'bones_dark'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DisplaySettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collimator": "circle:80mm"}, r"collimator = 'circle:80mm': give one like parse_collimator\("),
        ({"channel": "1"}, "channel = '1': give one like 0"),
        ({"channel": 1.5}, r"channel = 1\.5: give one like 0"),
    ],
)
def test_settings_of_another_kind_are_refused_by_name(changes: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        DisplaySettings(**changes)


def test_windows_are_known_whatever_their_case() -> None:
    assert DisplaySettings(window="Chest") == DisplaySettings(window="chest")
    assert preset_window("CHEST") == preset_window("chest")
    with pytest.raises(ValueError, match="Unknown fixed window 'auto'; known are full, chest"):
        preset_window("auto")


def test_a_channel_out_of_an_array_can_be_saved_with_the_picture(tmp_path: Path) -> None:
    a_ramp().save(tmp_path / "ramp.png", settings=DisplaySettings(channel=np.arange(1)[0]))
    assert (tmp_path / "ramp.png").exists()


def test_a_rectangular_field_is_exact_to_the_pixel() -> None:
    mask = RectangularCollimator(3, 4, 10, 12.5).field_mask(a_camera())
    expected = np.zeros((30, 40), bool)
    expected[4:13, 3:11] = True
    assert np.array_equal(mask, expected)


def test_a_circular_field_is_exact_to_the_pixel() -> None:
    mask = CircularCollimator(5, (10, 12)).field_mask(a_camera())
    expected = np.array([[(u - 10) ** 2 + (v - 12) ** 2 <= 25 for u in range(40)] for v in range(30)])
    assert np.array_equal(mask, expected)
    assert mask[12, 15] and mask[16, 13] and not mask[12, 16]
    middle = CircularCollimator(7).field_mask(a_camera())
    assert np.array_equal(middle, middle[::-1, ::-1])


def test_millimetres_are_measured_on_the_detector_from_its_middle() -> None:
    camera = a_camera(41, 31, pitch_u=0.5, pitch_v=1.0)
    mask = RectangularCollimator(-2, -3, 4, 5, "mm").field_mask(camera)
    expected = np.zeros((31, 41), bool)
    expected[12:21, 16:29] = True
    assert np.array_equal(mask, expected)
    circle = CircularCollimator(6, unit="mm").field_mask(camera)
    assert circle[15].sum() == 25
    assert circle[:, 20].sum() == 13


@pytest.mark.parametrize("polarity", ["bones_bright", "bones_dark"])
@pytest.mark.parametrize("bits", [8, 16])
def test_outside_the_field_the_picture_is_black_at_either_polarity(polarity: Any, bits: Any) -> None:
    image = an_image_of(np.full((30, 40), 4.0))
    field = CircularCollimator(8)
    picture = image.display(DisplaySettings(window=FIXED, polarity=polarity, collimator=field), bits=bits)
    assert np.array_equal(picture > 0, field.field_mask(image.camera))


def test_a_closed_collimator_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves no pixel of the 40×30 detector open"):
        RectangularCollimator(100, 100, 120, 120).field_mask(a_camera())
    with pytest.raises(ValueError, match=r"radius is -1\.0 px; it must be positive"):
        CircularCollimator(-1)
    with pytest.raises(ValueError, match="from the smaller to the larger"):
        RectangularCollimator(5, 0, 1, 9)


@pytest.mark.parametrize(
    ("text", "collimator"),
    [
        ("circle:80mm", CircularCollimator(80, unit="mm")),
        ("circle:200px@320,240", CircularCollimator(200, (320, 240))),
        ("Circle:200@320,240px", CircularCollimator(200, (320, 240))),
        ("rect:-60,-80,60,80mm", RectangularCollimator(-60, -80, 60, 80, "mm")),
        ("rect:10,20,300,400", RectangularCollimator(10, 20, 300, 400)),
    ],
)
def test_collimators_are_read_from_words(text: str, collimator: Any) -> None:
    assert parse_collimator(text) == collimator


@pytest.mark.parametrize("text", ["", "square:3", "circle:", "circle:1,2", "rect:1,2,3", "circle:-4mm", "rect:1,2,3,x"])
def test_words_that_are_no_collimator_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a collimator.*circle:80mm"):
        parse_collimator(text)


def test_a_word_without_numbers_is_told_from_a_number_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"^'foo' is not a collimator\. Write"):
        parse_collimator("foo")
    with pytest.raises(ValueError, match=r"^'circle:-4mm' is not a collimator: .*it must be positive"):
        parse_collimator("circle:-4mm")


def frames_of_noise(count: int = 5, width: int = 21, height: int = 13) -> list[Any]:
    return list(np.random.default_rng(1).integers(0, 256, (count, height, width), dtype=np.uint8))


def test_a_gif_keeps_every_grey_of_every_frame_and_the_rate(tmp_path: Path) -> None:
    frames = frames_of_noise()
    write_gif(frames, tmp_path / "orbit.gif", fps=12.5)
    with Image.open(tmp_path / "orbit.gif") as file:
        assert file.n_frames == 5
        assert file.info["loop"] == 0
        for number, frame in enumerate(frames):
            file.seek(number)
            assert file.info["duration"] == 80
            assert np.array_equal(np.asarray(file.convert("L")), frame)


def test_a_gif_keeps_equal_frames_however_long_they_last(tmp_path: Path) -> None:
    still, last = np.zeros((2, 3), np.uint8), np.full((2, 3), 9, np.uint8)
    write_gif((frame for frame in [*[still] * 8, last]), tmp_path / "still.gif", fps=0.01)
    with Image.open(tmp_path / "still.gif") as file:
        assert file.n_frames == 9
        for number in range(9):
            file.seek(number)
            assert file.info["duration"] == 100_000
            assert np.array_equal(np.asarray(file.convert("L")), last if number == 8 else still)


def test_an_mp4_shows_the_frames_even_at_odd_sizes(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    frames = [np.full((37, 51), grey, np.uint8) for grey in (20, 120, 220)]
    write_mp4(frames, tmp_path / "orbit.mp4", fps=10)
    reader = ffmpeg.read_frames(str(tmp_path / "orbit.mp4"), pix_fmt="gray", bits_per_pixel=8)
    assert next(reader)["size"] == (52, 38)
    shown = [np.frombuffer(data, np.uint8).reshape(38, 52)[:32, :48].mean() for data in reader]
    assert shown == pytest.approx([20, 120, 220], abs=4)


def test_mp4_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match=r"pip install imageio-ffmpeg.*\.gif"):
        write_animation(frames_of_noise(), tmp_path / "orbit.mp4", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("frames", "name", "fps", "message"),
    [
        ([], "a.gif", 10, "at least one"),
        ([np.zeros((2, 2), np.uint16)], "a.gif", 10, "Frame 0 is uint16"),
        (
            [np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)],
            "a.gif",
            10,
            r"Frame 1 has shape \(2, 3\)",
        ),
        (frames_of_noise(), "a.gif", 0, "fps is 0"),
        (frames_of_noise(), "a.gif", 0.001, "fps is 0.001"),
        (frames_of_noise(), "a.gif", 60, "from 0.01 to 50"),
        (frames_of_noise(), "a.avi", 10, r"\.gif or \.mp4"),
    ],
)
def test_what_cannot_be_an_animation_is_refused(
    tmp_path: Path, frames: list[Any], name: str, fps: float, message: str
) -> None:
    (tmp_path / "a.gif").write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        write_animation(frames, tmp_path / name, fps)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_display_imports_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, DeepDRRLogic.image_io, DeepDRRLogic.animation;"
        "print([m for m in ('PIL', 'SimpleITK', 'scipy', 'numba', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
