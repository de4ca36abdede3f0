"""The result of an exposure: its physics, its place in the patient's space, and its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from DeepDRRLogic.affine import rigid, rotation
from DeepDRRLogic.collimator import RectangularCollimator
from DeepDRRLogic.display import DisplaySettings, render_display, resolve_window
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.image_io import SUFFIXES, sidecar_path

WIDTH, HEIGHT = 23, 17


@pytest.fixture
def an_oblique_mirrored_camera() -> Camera:
    turn = rotation([0.3, -0.7, 0.2], 37.3) @ rotation([1, 0, 0], -90)
    intrinsics = [[-1020 / 0.35, 0, 9.25], [0, 1020 / 0.4, 8.5], [0, 0, 1]]
    return Camera(np.array(intrinsics), rigid(turn, [12.5, -80.25, 503.1]), WIDTH, HEIGHT, 1020.0)


def an_image(camera: Camera, channels: int = 1, **changes: Any) -> XRayImage:
    """Attenuation that grows to the right, with a column of lead (no signal) and free beam at the left."""
    random = np.random.default_rng(5)
    attenuation = np.linspace(0, 6, WIDTH) * np.ones((channels, HEIGHT, 1))
    reference = 1000.0 * (1 + np.arange(channels))
    signal = reference[:, None, None] * np.exp(-attenuation)
    signal[:, :, -1] = 0
    fields: dict[str, Any] = {
        "signal": signal,
        "unattenuated_signal": tuple(reference),
        "photons": random.poisson(500, (HEIGHT, WIDTH)),
        "mean_energy_kev": random.uniform(40, 80, (HEIGHT, WIDTH)),
        "area_densities": random.uniform(0, 30, (3, HEIGHT, WIDTH)),
        "material_names": ("air", "soft tissue", "bone"),
        "camera": camera,
        "metadata": {
            "seed": 7,
            "spectrum": {"kvp": 120.0, "filter_mm": 4.3},
            "views": ["ap", "µ"],
            "none": None,
        },
    }
    return XRayImage(**{**fields, **changes})


def every_file(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_log_is_the_line_integral_of_attenuation(an_oblique_mirrored_camera: Camera) -> None:
    image = an_image(an_oblique_mirrored_camera, channels=2)
    expected = np.broadcast_to(np.linspace(0, 6, WIDTH)[:-1], (2, HEIGHT, WIDTH - 1))
    np.testing.assert_allclose(image.log()[..., :-1], expected, atol=2e-6)
    np.testing.assert_allclose(image.transmission()[..., :-1], np.exp(-expected), rtol=1e-6)
    assert image.log().dtype == np.float32


def test_log_of_a_pixel_does_not_depend_on_the_other_pixels(an_oblique_mirrored_camera: Camera) -> None:
    image = an_image(an_oblique_mirrored_camera)
    brighter = image.signal.copy()
    brighter[5:, :] *= 1000
    assert np.array_equal(image.log()[:5], replace(image, signal=brighter).log()[:5])


def test_log_is_finite_and_largest_where_nothing_was_measured(an_oblique_mirrored_camera: Camera) -> None:
    signal = np.full((HEIGHT, WIDTH), 1e-20)
    signal[0, 0], signal[0, 1] = 0.0, -3.0
    log = an_image(an_oblique_mirrored_camera, signal=signal).log()
    assert np.isfinite(log).all()
    assert log[0, 0] == log[0, 1] == pytest.approx(87.34, abs=0.01)
    assert log[1, 1] == pytest.approx(-np.log(1e-23), rel=1e-6)
    limited = an_image(an_oblique_mirrored_camera, signal=signal).log(least_transmission=1e-4)
    assert limited.max() == limited[0, 0] == pytest.approx(-np.log(1e-4), rel=1e-6)
    with pytest.raises(ValueError, match="least_transmission"):
        an_image(an_oblique_mirrored_camera).log(least_transmission=0.0)


def test_a_single_channel_is_kept_as_a_plane(an_oblique_mirrored_camera: Camera) -> None:
    image = an_image(an_oblique_mirrored_camera)
    assert image.signal.shape == (HEIGHT, WIDTH)
    assert image.channels.shape == (1, HEIGHT, WIDTH)
    assert an_image(an_oblique_mirrored_camera, channels=3).signal.shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("signal", np.ones((WIDTH, HEIGHT)), r"\(23, 17\).*\(17, 23\)"),
        ("signal", np.full((HEIGHT, WIDTH), np.nan), "signal holds 391 values that are NaN"),
        ("photons", np.ones((HEIGHT, WIDTH + 1)), "photons has shape"),
        ("unattenuated_signal", (1.0, 2.0), "2 values for 1 channel"),
        ("unattenuated_signal", (0.0,), "must be positive"),
        ("material_names", ("air",), "1 material names"),
        ("metadata", {"a": [1, {"b": object()}]}, r"metadata\['a'\]\[1\]\['b'\]"),
        ("metadata", {"dose": float("nan")}, r"metadata\['dose'\] is nan"),
    ],
)
def test_what_cannot_be_an_image_is_refused_by_name(
    an_oblique_mirrored_camera: Camera, field: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        an_image(an_oblique_mirrored_camera, **{field: value})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_densities", [True, False])
def test_an_image_loads_exactly_as_it_was_saved(
    tmp_path: Path, an_oblique_mirrored_camera: Camera, channels: int, with_densities: bool
) -> None:
    metadata = {"affine": np.eye(4), "numpy": np.float32(0.1), "third": 1 / 3, "edges": (20, np.inf)}
    image = an_image(an_oblique_mirrored_camera, channels, metadata=metadata)
    if not with_densities:
        image = replace(image, area_densities=None)
    image.save(tmp_path / "shot.npz")
    loaded = XRayImage.load(tmp_path / "shot.npz")
    assert loaded == image
    assert loaded.signal.tobytes() == image.signal.tobytes()
    assert (loaded.area_densities is None) == (not with_densities)
    assert loaded.camera.projection.tobytes() == image.camera.projection.tobytes()
    assert loaded.metadata["third"] == 1 / 3
    assert [float(edge) for edge in loaded.metadata["edges"]] == [20, np.inf]


def test_an_image_is_shown_in_a_line_and_not_pixel_by_pixel(an_oblique_mirrored_camera: Camera) -> None:
    shown = "XRayImage(23×17 pixels of 0.35×0.4 mm, 2 channel(s), materials air, soft tissue, bone)"
    assert repr(an_image(an_oblique_mirrored_camera, 2)) == shown


def test_images_that_differ_anywhere_are_not_equal(an_oblique_mirrored_camera: Camera) -> None:
    image = an_image(an_oblique_mirrored_camera)
    nudged = image.signal.copy()
    nudged[3, 3] = np.nextafter(nudged[3, 3], np.float32(np.inf))
    shifted = an_oblique_mirrored_camera.moved(rigid(None, [1e-9, 0, 0]))
    others = [{"signal": nudged}, {"camera": shifted}, {"metadata": {}}, {"unattenuated_signal": (1001.0,)}]
    others += [{name: getattr(image, name) + 1} for name in ("photons", "mean_energy_kev", "area_densities")]
    assert image == replace(image)
    assert all(image != replace(image, **change) for change in others)


def test_the_sidecar_gives_the_camera_and_all_metadata_back(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    image = an_image(an_oblique_mirrored_camera)
    for suffix in SUFFIXES:
        image.save(tmp_path / f"shot{suffix}")
        values = json.loads(sidecar_path(tmp_path / f"shot{suffix}").read_text())
        camera = Camera.from_dict(values["camera"])
        np.testing.assert_allclose(camera.projection, image.camera.projection, rtol=0, atol=1e-12)
        assert camera == image.camera
        assert np.array_equal(values["projection_pixel_from_ras"], image.camera.projection)
        assert values["metadata"] == image.metadata
        assert values["unattenuated_signal"] == [1000.0]


@pytest.mark.parametrize("suffix", [".png", ".dcm", ".nrrd"])
def test_the_matrices_beside_a_mirrored_picture_are_those_of_its_pixels(
    tmp_path: Path, an_oblique_mirrored_camera: Camera, suffix: str
) -> None:
    image = an_image(an_oblique_mirrored_camera)
    image.save(tmp_path / f"shot{suffix}", settings=DisplaySettings(flip_horizontal=True, flip_vertical=True))
    values = json.loads(sidecar_path(tmp_path / f"shot{suffix}").read_text())
    point = np.array([3.0, 40.0, 20.0])
    u, v = image.camera.project(point)
    shown_u, shown_v, scale = np.array(values["projection_pixel_from_ras"]) @ np.append(point, 1.0)
    mirrored = suffix != ".nrrd"  # measurements are never mirrored
    expected = (WIDTH - 1 - u, HEIGHT - 1 - v) if mirrored else (u, v)
    np.testing.assert_allclose((shown_u / scale, shown_v / scale), expected, atol=1e-9)
    on_detector = np.array(values["ras_from_pixel"]) @ (*expected, 0.0, 1.0)
    np.testing.assert_allclose(on_detector, image.camera.ras_from_pixel @ (u, v, 0.0, 1.0), atol=1e-9)
    assert Camera.from_dict(values["camera"]) == image.camera


def test_a_picture_has_the_collimator_of_its_exposure_unless_it_is_given_another(
    tmp_path: Path, an_oblique_mirrored_camera: Camera
) -> None:
    inf = float("inf")
    opening = RectangularCollimator(-inf, -inf, inf, 8.0)
    image = an_image(an_oblique_mirrored_camera, metadata={"collimator": opening.words})
    image.save(tmp_path / "shot.png")
    shown = np.asarray(Image.open(tmp_path / "shot.png"))
    assert not shown[9:].any() and shown[:9].any()
    assert json.loads((tmp_path / "shot.png.json").read_text())["content"]["display"]["collimator"]["u0"] == "-inf"
    image.save(tmp_path / "shot.png", settings=DisplaySettings(window="full"))
    assert not np.asarray(Image.open(tmp_path / "shot.png"))[9:].any()
    assert not image.display(DisplaySettings(polarity="bones_dark"))[9:].any()
    open_wide = RectangularCollimator(-inf, -inf, inf, inf)
    image.save(tmp_path / "shot.png", settings=DisplaySettings(collimator=open_wide))
    assert np.asarray(Image.open(tmp_path / "shot.png"))[9:].any()


def test_a_collimator_in_words_of_ones_own_shows_the_whole_picture(an_oblique_mirrored_camera: Camera) -> None:
    image = an_image(an_oblique_mirrored_camera, metadata={"collimator": "two blades"})
    assert image.collimator is None
    assert image.display()[9:].any()


def test_nrrd_pixels_lie_on_the_detector_in_space(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    import SimpleITK as sitk

    camera = an_oblique_mirrored_camera
    image = an_image(camera)
    image.save(tmp_path / "shot.nrrd")
    volume = sitk.ReadImage(str(tmp_path / "shot.nrrd"))
    assert volume.GetSize() == (WIDTH, HEIGHT, 1)
    assert volume.GetSpacing()[:2] == pytest.approx(camera.pixel_pitch_mm, abs=1e-9)
    assert volume.GetSpacing()[2] == pytest.approx(1.0, abs=1e-9)
    assert np.linalg.det(np.reshape(volume.GetDirection(), (3, 3))) == pytest.approx(-1)
    for pixel in [(0, 0), (WIDTH - 1, 0), (3, HEIGHT - 1)]:
        lps = np.array(volume.TransformIndexToPhysicalPoint((*pixel, 0)))
        ras = lps * [-1, -1, 1]
        # Truth without the matrix under test: the ray through the pixel, as long as the detector is far.
        direction = camera.rays(pixel)
        length = camera.source_to_detector_mm / (direction @ camera.principal_axis_ras)
        np.testing.assert_allclose(ras, camera.source_ras + length * direction, rtol=0, atol=1e-5)
        np.testing.assert_allclose(camera.project(ras), pixel, atol=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(volume)[0], image.signal)


def test_nrrd_holds_area_densities_as_components(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    import SimpleITK as sitk

    image = an_image(an_oblique_mirrored_camera)
    image.save(tmp_path / "shot.nrrd", quantity="area_densities")
    volume = sitk.ReadImage(str(tmp_path / "shot.nrrd"))
    assert np.array_equal(np.moveaxis(sitk.GetArrayFromImage(volume)[0], -1, 0), image.area_densities)


def test_nrrd_declares_its_space(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    an_image(an_oblique_mirrored_camera).save(tmp_path / "shot.nrrd", quantity="log")
    header = (tmp_path / "shot.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert "space: left-posterior-superior" in header
    assert '"holds": "log"' in header


@pytest.mark.parametrize("quantity", ["signal", "log", "transmission"])
def test_tiff_holds_the_float_values_of_every_channel(
    tmp_path: Path, an_oblique_mirrored_camera: Camera, quantity: Any
) -> None:
    from PIL import Image

    image = an_image(an_oblique_mirrored_camera, channels=3)
    image.save(tmp_path / "shot.tif", quantity=quantity)
    with Image.open(tmp_path / "shot.tif") as file:
        assert file.n_frames == 3
        for page in range(3):
            file.seek(page)
            assert np.array_equal(np.asarray(file), image.quantity(quantity)[page])
    assert json.loads(sidecar_path(tmp_path / "shot.tif").read_text())["content"]["holds"] == quantity


def test_tiff_knows_the_size_of_the_pixels(an_oblique_mirrored_camera: Camera, tmp_path: Path) -> None:
    from PIL import Image

    an_image(an_oblique_mirrored_camera).save(tmp_path / "shot.tif")
    with Image.open(tmp_path / "shot.tif") as file:
        per_cm = file.tag_v2[282], file.tag_v2[283]
        assert file.tag_v2[296] == 3  # centimetres
    assert [10 / float(n) for n in per_cm] == pytest.approx([0.35, 0.4], rel=1e-4)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("polarity", ["bones_bright", "bones_dark"])
def test_png_reads_back_as_displayed_and_its_greys_become_values_again(
    tmp_path: Path, an_oblique_mirrored_camera: Camera, log: bool, polarity: Any
) -> None:
    from PIL import Image

    image = an_image(an_oblique_mirrored_camera)
    settings = DisplaySettings(log=log, polarity=polarity)
    image.save(tmp_path / "shot.png", settings=settings)
    with Image.open(tmp_path / "shot.png") as file:
        assert file.mode == "I;16"
        grey = np.asarray(file)
        text = file.text
    assert np.array_equal(grey, render_display(image, settings, bits=16))
    center, width = resolve_window(image, settings)
    assert float(text["DeepDRR window_center"]) == center
    content = json.loads(sidecar_path(tmp_path / "shot.png").read_text())["content"]
    assert (content["window_center"], content["window_width"]) == (center, width)
    black, white = content["value_at_black"], content["value_at_white"]
    recovered = black + grey / 65535 * (white - black)
    values = image.log() if log else image.transmission()
    inside = np.abs(values - center) < width / 2
    assert inside.mean() > 0.5
    np.testing.assert_allclose(recovered[inside], values[inside], atol=0.51 * width / 65535)


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    with pytest.raises(ValueError, match=r"shot\.bmp.*\.png, \.tif, \.tiff, \.nrrd, \.npz, \.json"):
        an_image(an_oblique_mirrored_camera).save(tmp_path / "shot.bmp")
    assert not every_file(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    with pytest.raises(ValueError, match=r"the folder .*nowhere does not exist"):
        an_image(an_oblique_mirrored_camera).save(tmp_path / "nowhere" / "shot.png")


def test_unknown_quantities_and_missing_densities_are_named(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    image = replace(an_image(an_oblique_mirrored_camera), area_densities=None)
    for suffix in SUFFIXES:
        with pytest.raises(ValueError, match=r"Unknown quantity 'dose'.*transmission"):
            image.save(tmp_path / f"x{suffix}", quantity="dose")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"Unknown quantity 'dose'.*transmission"):
        image.quantity("dose")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no area densities"):
        image.quantity("area_densities")


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".json"])
@pytest.mark.parametrize("broken_step", ["_write_json", "_write_png", "_write_tiff", "_write_nrrd", "_write_npz"])
def test_a_failure_while_writing_leaves_the_old_files_and_no_others(
    tmp_path: Path,
    an_oblique_mirrored_camera: Camera,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    broken_step: str,
) -> None:
    from DeepDRRLogic import image_io

    image = an_image(an_oblique_mirrored_camera)
    path = tmp_path / f"shot{suffix}"
    image.save(path)
    before = every_file(tmp_path)
    assert set(before) == {path.name, path.name + ".json"}

    def write_half_and_fail(*arguments: Any) -> None:
        next(value for value in arguments if isinstance(value, Path)).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(image_io, broken_step, write_half_and_fail)
    if (
        broken_step == "_write_json"
        or broken_step == f"_write_{suffix[1:4].replace('tif', 'tiff').replace('nrr', 'nrrd')}"
    ):
        with pytest.raises(OSError, match="No space left"):
            replace(image, signal=image.signal * 2).save(path)
        assert every_file(tmp_path) == before
    monkeypatch.undo()
    replace(image, signal=image.signal * 2).save(path)
    assert set(every_file(tmp_path)) == set(before)
    assert every_file(tmp_path) != before or suffix == ".png"


def test_only_the_lossless_format_can_be_loaded(tmp_path: Path, an_oblique_mirrored_camera: Camera) -> None:
    an_image(an_oblique_mirrored_camera).save(tmp_path / "shot.png")
    with pytest.raises(ValueError, match=r"only \.npz keeps every field"):
        XRayImage.load(tmp_path / "shot.png")
    with pytest.raises(ValueError, match="no such file"):
        XRayImage.load(tmp_path / "shot.npz")


@pytest.mark.parametrize("damage", ["garbage", "cut", "other"])
def test_a_damaged_file_is_refused_without_a_crash(
    tmp_path: Path, an_oblique_mirrored_camera: Camera, damage: str
) -> None:
    path = tmp_path / "shot.npz"
    an_image(an_oblique_mirrored_camera).save(path)
    if damage == "garbage":
        path.write_bytes(b"this is no archive")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match=r"shot\.npz is not an X-ray image of this program, or is damaged"):
        XRayImage.load(path)


def test_a_file_of_a_later_version_is_refused(
    an_oblique_mirrored_camera: Camera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("DeepDRRLogic.image_io.FORMAT_VERSION", 2)
        an_image(an_oblique_mirrored_camera).save(tmp_path / "shot.npz")
    with pytest.raises(ValueError, match=r"shot\.npz is not an X-ray image of this program.*version 2"):
        XRayImage.load(tmp_path / "shot.npz")
