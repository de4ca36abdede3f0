"""The command line: what it writes, what it says, and how it ends."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import BEAD_RAS, PAPER, SMALL, run, write_cylinder
from PIL import Image

from DeepDRRLogic import segmentation
from DeepDRRLogic.cli import main, scene
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.scatter.montecarlo import MonteCarloScatter
from DeepDRRLogic.segmentation import read_segmentation, segment_by_thresholds, write_segmentation
from DeepDRRLogic.volume import MaterialLabels


@pytest.fixture(scope="session")
def a_ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cylinder of soft tissue along the body axis, a bead of bone to the right of and above its middle."""
    return write_cylinder(tmp_path_factory.mktemp("ct") / "cylinder.nrrd")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(name: str) -> XRayImage:
    return XRayImage.load(name)


def rendered(ct: Path, *options: object) -> XRayImage:
    assert run("render", ct, *SMALL, *options, "-q", "-o", "shot.npz") == 0
    return loaded("shot.npz")


def bead_pixel(image: XRayImage) -> tuple[int, int]:
    densities = image.area_densities
    assert densities is not None
    v, u = np.unravel_index(int(densities[image.material_names.index("bone")].argmax()), image.signal.shape)
    return int(u), int(v)


def test_help_comes_without_loading_what_takes_time() -> None:
    lines = ("import sys", "from DeepDRRLogic.cli import main", "try:", "    main(['--help'])")
    code = "\n".join((*lines, "finally:", "    print(*sys.modules)"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    *_, modules = result.stdout.splitlines()
    assert result.returncode == 0
    assert all(f" {name} " in result.stdout for name in ("render", "sweep", "segment", "info", "spectrum", "presets"))
    assert not {"numpy", "numba", "SimpleITK", "scipy", "matplotlib", "xraylib"} & set(modules.split())


@pytest.mark.parametrize("command", ["render", "sweep", "segment", "info", "spectrum", "presets"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"deepdrr {command}" in shown
    assert command == "presets" or "Examples" in shown


def test_render_writes_the_picture_and_says_only_its_name(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, "--view", "lateral_left", "--kv", 120, "--seed", 5, *SMALL) == 0
    assert capsys.readouterr().out == "cylinder_lateral_left.png\n"
    with Image.open("cylinder_lateral_left.png") as picture:
        assert (picture.size, picture.mode) == ((62, 48), "I;16")
    sidecar = json.loads(Path("cylinder_lateral_left.png.json").read_text())
    assert sidecar["metadata"]["seed"] == 5
    assert sidecar["metadata"]["spectrum"]["kvp"] == 120
    assert sidecar["metadata"]["patient"]["source"] == str(a_ct)
    assert sidecar["metadata"]["carm"]["primary_angle_deg"] == 90
    camera = Camera.from_dict(sidecar["camera"])
    np.testing.assert_allclose(camera.principal_axis_ras, [-1, 0, 0], atol=1e-12)


def test_ap_and_pa_show_the_patients_right_on_the_left_and_the_head_up(a_ct: Path) -> None:
    for view in ("ap", "pa"):
        image = rendered(a_ct, "--view", view, "--method", "threshold")  # a dense ball might be contrast medium
        u, v = bead_pixel(image)
        assert u < 62 / 2 - 4 and v < 48 / 2 - 3, view
        np.testing.assert_allclose(image.camera.project(BEAD_RAS), (u, v), atol=1.5)


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


def test_a_sidecar_takes_the_same_picture_again(a_ct: Path) -> None:
    assert run("render", a_ct, *SMALL, "--rao", 33, "--roll", 12, "-q", "-o", "a.npz", "-o", "a.png") == 0
    assert run("render", a_ct, "--camera", "a.png.json", "-q", "-o", "b.npz", "-o", "b.png") == 0
    first, again = loaded("a.npz"), loaded("b.npz")
    assert first.camera == again.camera
    assert np.array_equal(first.signal, again.signal)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_one_run_writes_every_format_and_area_densities(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import SimpleITK as sitk

    names = ["x.png", "x.tif", "x.nrrd", "x.npz"]
    outputs = [word for name in names for word in ("-o", name)]
    assert run("render", a_ct, *SMALL, *outputs, "--save-area-densities") == 0
    names.append("x_area_densities.nrrd")
    assert capsys.readouterr().out.split() == names
    assert sorted(path.name for path in Path().iterdir()) == sorted(names + [f"{name}.json" for name in names])
    image = loaded("x.npz")
    with Image.open("x.tif") as file:
        assert np.array_equal(np.asarray(file), image.log())
    densities = sitk.GetArrayFromImage(sitk.ReadImage("x_area_densities.nrrd"))[0]
    assert np.array_equal(np.moveaxis(densities, -1, 0), image.area_densities)


def test_linear_files_hold_the_raw_signal(a_ct: Path) -> None:
    assert run("render", a_ct, *SMALL, "--linear", "-q", "-o", "x.tif", "-o", "x.npz") == 0
    with Image.open("x.tif") as file:
        assert np.array_equal(np.asarray(file), loaded("x.npz").signal)


def test_picture_options_reach_the_picture(a_ct: Path) -> None:
    options = [
        "--window",
        "4,8",
        "--polarity",
        "bones_dark",
        "--flip-horizontal",
        "--collimator",
        "circle:60mm",
    ]
    assert run("render", a_ct, *SMALL, *options, "--bits", 8, "-q", "-o", "x.png", "-o", "x.npz") == 0
    with Image.open("x.png") as file:
        grey = np.asarray(file)
    image = loaded("x.npz")
    expected = 255 - np.rint(np.clip(image.log() / 8, 0, 1) * 255)
    u, v = np.arange(62) - 30.5, (np.arange(48) - 23.5)[:, None]
    expected[u**2 + v**2 > (60 / image.camera.pixel_pitch_mm[0]) ** 2] = 0
    assert np.array_equal(grey, expected[:, ::-1])


def test_an_image_intensifier_shows_its_round_field(a_ct: Path) -> None:
    assert run("render", a_ct, "--preset", "mobile_image_intensifier", "--size", 64, "-q", "-o", "x.png") == 0
    with Image.open("x.png") as file:
        grey = np.asarray(file)
    assert not grey[0, 0] and not grey[-1, -1] and grey[32, 32]


def test_tube_load_sets_the_photon_number_by_the_inverse_square_law(a_ct: Path) -> None:
    from DeepDRRLogic.spectrum import Spectrum

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


def test_segmentation_by_file_gives_the_image_of_the_thresholds_it_was_made_with(a_ct: Path) -> None:
    assert run("segment", a_ct, "-q", "-o", "cylinder.seg.nrrd") == 0
    assert rendered(a_ct, "--segmentation", "cylinder.seg.nrrd").signal == pytest.approx(rendered(a_ct).signal)


def segmentation_of(options: list[Any]) -> dict[str, str]:
    return rendered(*options).metadata["patient"]["segmentation"]


def test_the_image_says_how_the_materials_were_found(a_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert segmentation_of([a_ct, "--method", "threshold"]) == {"method": "threshold"}
    assert segmentation_of([a_ct, "--bone-min-hu", 500]) == {"method": "threshold"}
    assert segmentation_of(["phantom", "--phantom-spacing", 6]) == {"method": "phantom"}
    assert run("segment", a_ct, "--method", "threshold", "-q", "-o", "own.seg.nrrd") == 0
    own = {"method": "file", "file": str(Path("own.seg.nrrd").resolve())}
    assert segmentation_of([a_ct, "--segmentation", "own.seg.nrrd"]) == own
    monkeypatch.setattr(segmentation, "networks_installed", lambda: False)
    assert segmentation_of([a_ct]) == {"method": "threshold"}


def test_the_image_says_by_which_weights_the_materials_were_found(a_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "networks_installed", lambda: True)
    monkeypatch.setattr(segmentation, "segment", lambda ct, *_, **__: segment_by_thresholds(ct))
    weights = Path(segmentation.__file__).parents[1] / "data" / "vnet.safetensors"
    found_by = {"method": "vnet", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert segmentation_of([a_ct]) == segmentation_of([a_ct, "--method", "vnet"]) == found_by


def test_a_segmentation_of_another_place_is_refused(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("segment", a_ct, "--method", "threshold", "-q", "-o", "cylinder.seg.nrrd") == 0
    labels = read_segmentation("cylinder.seg.nrrd")
    moved = labels.ras_from_ijk.copy()
    moved[2, 3] += 2000.0
    write_segmentation(MaterialLabels(labels.labels, labels.materials, moved), "moved.seg.nrrd")
    assert run("render", a_ct, *SMALL, "--segmentation", "moved.seg.nrrd", "-o", "shot.png") == 2
    assert "they do not meet: give the labels of this volume" in capsys.readouterr().err


def test_probabilities_go_into_a_volume_or_nowhere(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("segment", a_ct, "--method", "vnet", "--probabilities", "bone.txt") == 2
    assert "--probabilities bone.txt: give a .nrrd" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_higher_threshold_leaves_no_bone(a_ct: Path) -> None:
    image = rendered(a_ct, "--bone-min-hu", 1800)
    assert image.area_densities is not None
    assert image.area_densities[image.material_names.index("bone")].max() == 0


BAD_INPUT: list[tuple[list[Any], str]] = [
    (["--preset", "toy"], "Unknown C-arm preset 'toy'; known are radiography_room"),
    (["--view", "sideways"], "Unknown view 'sideways'; known are ap, pa"),
    (["--preset", "biplane_frontal", "--lao", 150], "cannot reach this position"),
    (["--lao", 10, "--rao", 10], "--lao and --rao say the same angle"),
    (["--kv", 500], "500"),
    (["--photons", 10, "--mas", 1], "--photons and --mas both set"),
    (["--photons", -5], "-5"),
    (["--detector", "film"], "Unknown detector 'film'"),
    (["--window", "thorax"], "Unknown window 'thorax'"),
    (["--window", "4,x"], "give a name, or CENTER,WIDTH"),
    (["--polarity", "grey"], "'bones_bright' or 'bones_dark'"),
    (["--collimator", "hexagon:3"], "circle:80mm"),
    (["--collimator", "circle:9px@900,20"], "leaves no pixel of the 620×480 detector open"),
    (["--size", "big"], "give pixels such as 620x480"),
    (["--size", "100x100"], "would squeeze the detector's 620×480 pixels; give --size 100x77"),
    (["--bits", 12], "give 8 or 16"),
    (["--device", "abacus"], "abacus"),
    (["--segmentation", "missing.seg.nrrd"], "missing.seg.nrrd"),
    (["--segmentation", "a.seg.nrrd", "--method", "vnet"], "read from --segmentation: leave out --method"),
    (["--segmentation", "a.seg.nrrd", "--keep-table"], "read from --segmentation: leave out --keep-table"),
    (["--kv", 60, "--detector", "energy_bins"], "Channel '75 keV and up' of the detector 'energy_bins' sees none"),
    (["-o", "shot.bmp"], "must end in one of .png"),
    (["-o", "nowhere/shot.png"], "create it first"),
]


@pytest.mark.parametrize(("options", "message"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_ends_with_one_line_and_code_2(
    a_ct: Path, options: list[Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("render", a_ct, *PAPER, *options) == 2
    shown = capfd.readouterr()
    # Nothing was segmented before: it takes long, and warns where there is no PyTorch.
    (line,) = shown.err.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert not shown.out
    assert not list(Path().iterdir())


def test_a_missing_ct_and_wrong_usage_end_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "no_such_ct.nrrd") == 2
    assert "no_such_ct.nrrd" in capsys.readouterr().err
    assert run("render") == 2
    assert run("render", "phantom", "--kilovolt", 90) == 2
    assert run("paint") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_ends_with_code_130(
    a_ct: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scene, "simulator", interrupted)
    assert run("render", a_ct, "--method", "threshold") == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert not list(Path().iterdir())


def test_a_fault_of_the_program_is_not_hidden(a_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "simulator", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["render", str(a_ct)])


def test_warnings_are_heard_even_when_quiet(a_ct: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, *SMALL, "--isocenter", 5000, 0, 0, "-q", "-o", "x.png") == 0
    shown = capfd.readouterr()
    assert "WARNING: No ray meets the volume" in shown.err
    assert not shown.out


def test_quiet_says_nothing(a_ct: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("render", a_ct, *SMALL, "--method", "threshold", "-q", "-o", "x.png") == 0
    shown = capfd.readouterr()
    assert not shown.err and not shown.out


def test_a_sweep_writes_frames_and_a_movie_with_one_window(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orbit = ["--from", -60, "--to", 60, "--frames", 5, "--fps", 10, "-o", "orbit"]
    assert run("sweep", a_ct, *SMALL, *orbit) == 0
    frames = [Path("orbit") / f"frame_{number:04d}.png" for number in range(5)]
    assert capsys.readouterr().out.split() == [*map(str, frames), str(Path("orbit/sweep.gif"))]
    windows, angles, turned = set(), [], []
    for frame in frames:
        sidecar = json.loads(frame.with_name(frame.name + ".json").read_text())
        windows.add((sidecar["content"]["window_center"], sidecar["content"]["window_width"]))
        axis = Camera.from_dict(sidecar["camera"]).principal_axis_ras
        turned.append(sidecar["metadata"]["carm"]["primary_angle_deg"])
        angles.append(np.degrees(np.arctan2(-axis[0], axis[1])))
    assert len(windows) == 1
    np.testing.assert_allclose(angles, [-60, -30, 0, 30, 60], atol=1e-9)
    assert turned == [-60, -30, 0, 30, 60]
    with Image.open("orbit/sweep.gif") as movie, Image.open(frames[3]) as still:
        assert (movie.n_frames, movie.size, movie.info["duration"]) == (5, (62, 48), 100)
        movie.seek(3)
        shown, expected = np.asarray(movie.convert("L")), np.asarray(still) / 257
        assert np.abs(shown - expected).max() <= 1


def test_a_sweep_by_monte_carlo_does_not_follow_photons_for_its_previews(
    a_ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []

    def estimate(self: MonteCarloScatter, densities: Any, *_: Any) -> float:
        followed.append(densities.shape[-1])
        raise ValueError("no photon today")

    monkeypatch.setattr(MonteCarloScatter, "estimate", estimate)
    assert run("sweep", a_ct, *SMALL, "--scatter", "montecarlo", "--frames", 2, "-q", "-o", "orbit.gif") == 2
    assert followed == [62]


def test_a_sweep_into_a_movie_leaves_nothing_else(a_ct: Path) -> None:
    orbit = ["--axis", "secondary", "--from", -20, "--to", 20, "--frames", 3, "-q", "-o", "orbit.gif"]
    assert run("sweep", a_ct, *SMALL, *orbit) == 0
    assert [path.name for path in Path().iterdir()] == ["orbit.gif"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "orbit.avi"], "neither a .gif nor an .mp4"),
        (["-o", "orbit.gif", "--fps", 200], "from 0.01 to 50"),
        (["-o", "orbit.gif", "--fps", 0.001], "from 0.01 to 50"),
        (["-o", "orbit.gif", "--movie", "mp4"], "--movie mp4 is for a folder"),
        (["-o", "orbit", "--movie", "avi"], "give gif, mp4 or none"),
        (["-o", "orbit.gif", "--axis", "roll"], "give primary or secondary"),
        (["-o", "orbit.gif", "--lao", 3], "--lao fixes the angle"),
        (["-o", "orbit.gif", "--collimator", "circle:9px@90,2"], "leaves no pixel of the 62×48 detector open"),
        (["-o", "nowhere/orbit"], "create it first"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_the_materials_are_separated(
    a_ct: Path,
    options: list[Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scene, "patient", lambda *_: pytest.fail("materials were separated"))
    assert run("sweep", a_ct, *SMALL, "--frames", 3, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_an_mp4_is_refused_before_the_ct_is_read_where_its_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert run("sweep", "no_such_ct.nrrd", "-o", "orbit.mp4") == 2
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err


def test_the_empty_path_is_no_ct(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "") == 2
    assert "The path of the CT is empty" in capsys.readouterr().err


def test_info_reports_what_the_ct_is(a_ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", a_ct) == 0
    shown = capsys.readouterr().out
    assert "40 × 40 × 40" in shown
    assert "3.000 × 3.000 × 3.000 mm" in shown
    assert "LPS" in shown


def test_presets_lists_every_name_the_options_take(capsys: pytest.CaptureFixture[str]) -> None:
    from DeepDRRLogic.carm_presets import carm_presets, carm_views
    from DeepDRRLogic.detector import detector_names
    from DeepDRRLogic.display import window_presets
    from DeepDRRLogic.materials import material_names
    from DeepDRRLogic.spectrum import spectrum_presets

    assert run("presets") == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    for names in (
        carm_presets(),
        carm_views(),
        [name.removesuffix("kV") for name in spectrum_presets()],
        detector_names(),
        window_presets(),
        material_names(),
    ):
        assert set(names) <= listed


def test_spectrum_writes_a_table_and_a_plot_of_the_spectra_it_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    from DeepDRRLogic.spectrum import Spectrum

    assert run("spectrum", "--kv", 60, "--kv", 120, "-o", "s.csv", "-o", "s.png") == 0
    shown = capsys.readouterr().out
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("60kV", "120kV"):
        one = Spectrum.preset(name)
        assert f"{one.mean_energy_kev:.2f}" in shown
        assert f"{one.half_value_layer_mm():.2f}" in shown
        bins = [(float(r["energy_kev"]), float(r["photons"])) for r in rows if r["spectrum"] == one.description]
        assert np.array_equal(np.array(bins).T, [one.energies_kev, one.photons])
    with Image.open("s.png") as plot:
        assert plot.width > 800 and len(plot.convert("RGB").getcolors(1 << 24)) > 20


def test_spectrum_refuses_other_files_before_it_computes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spectrum", "-o", "s.pdf") == 2
    assert "give a .png for a plot or a .csv" in capsys.readouterr().err


def test_the_word_phantom_stands_for_a_patient(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("render", "phantom", "--phantom-spacing", 6, *SMALL, "-o", "shot.npz", "-o", "shot.png") == 0
    image = loaded("shot.npz")
    assert image.area_densities is not None
    assert image.area_densities[image.material_names.index("bone")].max() > 1
    assert image.log()[24, 31] > 1.5
    assert image.metadata["patient"]["source"] == "phantom"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["phantom:pelvis:chest"], "says the same twice; give phantom:REGION:SEED"),
        (["phantom:1:2"], "says the same twice"),
        (["phantom:chest:x"], "'x' is neither a region (torso, chest, pelvis) nor a seed, a whole number from 0"),
        (["phantom:chest:-1"], "'-1' is neither a region"),
        (["phantom", "--hu-offset", 0], "The phantom is no file: leave out --hu-offset"),
    ],
)
def test_a_phantom_takes_no_more_words_than_it_has(
    words: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("render", *words, *SMALL) == 2
    assert message in capsys.readouterr().err
