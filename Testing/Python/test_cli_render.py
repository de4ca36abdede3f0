"""The picture that `deepdrr render` takes, and the files it is written to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import BEAD_RAS, SMALL, THRESHOLD, rendered, run
from PIL import Image

from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.spectrum import Spectrum

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def bead_pixel(image: XRayImage) -> tuple[int, int]:
    densities = image.area_densities
    assert densities is not None
    v, u = np.unravel_index(int(densities[image.material_names.index("bone")].argmax()), image.signal.shape)
    return int(u), int(v)


def test_render_writes_the_picture_and_says_only_its_name(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, "--view", "lateral_left", "--kv", 120, "--seed", 5, *SMALL) == 0
    assert capsys.readouterr().out == "ct_lateral_left.png\n"
    with Image.open("ct_lateral_left.png") as picture:
        assert (picture.size, picture.mode) == ((62, 48), "I;16")
    sidecar = json.loads(Path("ct_lateral_left.png.json").read_text())
    assert sidecar["metadata"]["seed"] == 5
    assert sidecar["metadata"]["spectrum"]["kvp"] == 120
    assert sidecar["metadata"]["patient"]["source"] == str(a_ct)
    assert sidecar["metadata"]["carm"]["primary_angle_deg"] == 90
    camera = Camera.from_dict(sidecar["camera"])
    np.testing.assert_allclose(camera.principal_axis_ras, [-1, 0, 0], atol=1e-12)


def test_ap_and_pa_show_the_patients_right_on_the_left_and_the_head_up(a_ct: Path) -> None:
    for view in ("ap", "pa"):
        image = rendered(a_ct, "--view", view)
        u, v = bead_pixel(image)
        assert u < 62 / 2 - 4 and v < 48 / 2 - 3, view
        np.testing.assert_allclose(image.camera.project(BEAD_RAS), (u, v), atol=1.5)


def test_the_same_seed_gives_the_same_image_and_no_noise_none(a_ct: Path) -> None:
    first, same = rendered(a_ct, "--seed", 3), rendered(a_ct, "--seed", 3)
    other = rendered(a_ct, "--seed", 4)
    clean, cleaner = (rendered(a_ct, "--no-noise", "--seed", seed) for seed in (3, 4))
    assert first == same
    assert not np.array_equal(first.signal, other.signal)
    assert np.array_equal(clean.signal, cleaner.signal)
    assert np.abs(first.signal / clean.signal - 1).std() > 1e-4


def test_size_changes_the_pixels_but_not_the_field(a_ct: Path) -> None:
    fine, coarse = rendered(a_ct, "--size", "124x96").camera, rendered(a_ct, "--size", 31).camera
    assert (fine.width, fine.height, coarse.width, coarse.height) == (124, 96, 31, 24)
    assert fine.width * fine.pixel_pitch_mm[0] == pytest.approx(620 * 0.616)
    assert coarse.width * coarse.pixel_pitch_mm[0] == pytest.approx(620 * 0.616)
    square = rendered(a_ct, "--size", "50x60", "--pixel-mm", 2).camera
    assert (square.width, square.height) == (50, 60)
    assert square.pixel_pitch_mm == pytest.approx((2, 2))


def test_one_run_writes_every_format_and_area_densities(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["x.png", "x.tif", "x.nrrd", "x.npz"]
    outputs = [word for name in names for word in ("-o", name)]
    assert run("render", a_ct, *SMALL, "--method", "threshold", *outputs, "--save-area-densities") == 0
    names.append("x_area_densities.nrrd")
    assert capsys.readouterr().out.split() == names
    assert sorted(path.name for path in Path().iterdir()) == sorted(names + [f"{name}.json" for name in names])
    image = XRayImage.load("x.npz")
    with Image.open("x.tif") as file:
        assert np.array_equal(np.asarray(file), image.log())
    densities = sitk.GetArrayFromImage(sitk.ReadImage("x_area_densities.nrrd"))[0]
    assert np.array_equal(np.moveaxis(densities, -1, 0), image.area_densities)


def test_linear_files_hold_the_raw_signal(a_ct: Path) -> None:
    assert run("render", a_ct, *SMALL, *THRESHOLD, "--linear", "-o", "x.tif", "-o", "x.npz") == 0
    with Image.open("x.tif") as file:
        assert np.array_equal(np.asarray(file), XRayImage.load("x.npz").signal)


def test_picture_options_reach_the_picture(a_ct: Path) -> None:
    options = ["--window", "4,8", "--polarity", "bones_dark", "--flip-horizontal", "--collimator", "circle:60mm"]
    assert run("render", a_ct, *SMALL, *THRESHOLD, *options, "--bits", 8, "-o", "x.png", "-o", "x.npz") == 0
    with Image.open("x.png") as file:
        grey = np.asarray(file)
    image = XRayImage.load("x.npz")
    expected = 255 - np.rint(np.clip(image.log() / 8, 0, 1) * 255)
    u, v = np.arange(62) - 30.5, (np.arange(48) - 23.5)[:, None]
    expected[u**2 + v**2 > (60 / image.camera.pixel_pitch_mm[0]) ** 2] = 0
    assert np.array_equal(grey, expected[:, ::-1])


def test_an_image_intensifier_shows_its_round_field(a_ct: Path) -> None:
    arm = ["--preset", "mobile_image_intensifier", "--size", 64]
    assert run("render", a_ct, *arm, *THRESHOLD, "-o", "x.png") == 0
    with Image.open("x.png") as file:
        grey = np.asarray(file)
    assert not grey[0, 0] and not grey[-1, -1] and grey[32, 32]


def test_tube_load_sets_the_photon_number_by_the_inverse_square_law(a_ct: Path) -> None:
    image = rendered(a_ct, "--mas", 2, "--kv", 90)
    area_mm2 = image.camera.pixel_pitch_mm[0] ** 2
    fluence = Spectrum.preset("90kV").photons_per_mas_mm2_at_1m
    assert fluence is not None
    n0 = 2 * area_mm2 * fluence * (1000 / 1200) ** 2
    assert image.metadata["photons_per_pixel"] == pytest.approx(n0, rel=1e-6)
    assert rendered(a_ct, "--photons", 1000).metadata["photons_per_pixel"] == 1000


def test_more_voltage_and_more_filter_make_a_harder_beam(a_ct: Path) -> None:
    energy = [
        float(rendered(a_ct, *options).mean_energy_kev[0, 0])
        for options in (["--kv", 70], ["--kv", 120], ["--kv", 120, "--filter-mm", 4.3, "--copper-mm", 0.5])
    ]
    assert energy[0] + 8 < energy[1] < energy[2] - 4


@pytest.mark.parametrize("detector", ["csi_flat_panel", "photon_counting", "energy_bins"])
def test_every_detector_can_be_chosen_and_saved(a_ct: Path, detector: str) -> None:
    assert rendered(a_ct, "--detector", detector).metadata["detector"]["name"] == detector


def test_the_word_phantom_stands_for_a_patient(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "phantom", "--phantom-spacing", 6, *SMALL, "-o", "shot.npz", "-o", "shot.png") == 0
    image = XRayImage.load("shot.npz")
    assert image.area_densities is not None
    assert image.area_densities[image.material_names.index("bone")].max() > 1
    assert image.log()[24, 31] > 1.5
    assert image.metadata["patient"]["source"] == "phantom"
