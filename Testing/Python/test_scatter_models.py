"""The fast scatter models: what must hold for any view, and how near they come to the Monte Carlo."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from shapes import centred_affine
from test_scatter import slab
from test_scatter_physics import camera

from DeepDRRLogic import CArm, MaterialVolume, Spectrum, XRaySimulator
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import material
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.scatter import make_scatter, network, paper
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.kernel import KernelScatter
from DeepDRRLogic.scatter.layers import cut
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.scatter.network import NetworkScatter
from DeepDRRLogic.scatter.paper import PaperNetworkScatter
from DeepDRRLogic.scatter.superposition import groups, superpose

IDEAL, NINETY = Detector.ideal(), Spectrum.preset("90kV")
NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
NETWORK = pytest.param(NetworkScatter, marks=NEEDS_TORCH)
PAPER = pytest.param(PaperNetworkScatter, marks=NEEDS_TORCH)
FAST = pytest.mark.parametrize("model", [KernelScatter, NETWORK, PAPER])


def scatter_of(model, volume, view, spectrum=NINETY, detector=IDEAL, **settings):
    found = model(volume, threads=1, **settings)
    return found.estimate(np.zeros((0, 1, 1), np.float32), (), view, spectrum, detector)


@pytest.fixture(scope="module")
def a_patient():
    body = phantom(0, 4.0, region="chest")  # no training scene has this patient
    return MaterialVolume.from_ct(body.ct, body.labels)


def oblique_view(volume, **changes):
    x, y, z = volume.center_ras.tolist()
    arm = CArm(isocenter_ras_mm=(x, y, z), primary_angle_deg=25.0, secondary_angle_deg=10.0, width=64, height=48)
    return arm.at(pixel_pitch_mm=5.0, source_to_isocenter_mm=650.0, **changes).camera()


def mirrored(view):
    flip = np.array([[-1.0, 0.0, view.width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return Camera(flip @ view.intrinsics, view.camera_from_ras, view.width, view.height, view.source_to_detector_mm)


def test_layers_hold_the_mass_on_every_ray():
    volume, view = slab(10, 60), camera(300.0)
    layers = cut(volume, view, 1)
    along = np.linalg.norm(view.rays() / view.rays()[..., 2:], axis=-1)
    assert layers.areal_g_cm2.sum(axis=(0, 1)) == pytest.approx(10.0 * along, rel=1e-3)
    assert layers.gaps_mm.min() == pytest.approx(1000 - 950 + 100 / 24, abs=1.0)


def test_where_the_collimator_is_closed_there_is_no_primary():
    half = cut(slab(10, 60), camera(300.0), 1, (0.0, 0.0, 0.5, 1.0))
    transmission = superpose(half, NINETY).transmission
    assert transmission[:, :16].min() > 0.0
    assert transmission[:, 16:].max() == 0.0


@pytest.mark.parametrize("depth_cm", [1.0, 8.0, 25.0])
def test_a_few_energy_groups_carry_the_energy_of_the_whole_spectrum(depth_cm):
    energies, share = groups(NINETY)
    water = material("water")
    exact = NINETY.photons * NINETY.energies_kev * np.exp(-depth_cm * water.mass_attenuation_cm2_g(NINETY.energies_kev))
    found = share * energies * np.exp(-depth_cm * water.mass_attenuation_cm2_g(energies))
    assert found.sum() == pytest.approx(exact.sum(), rel=0.06)


def test_a_beam_too_soft_for_any_depth_has_groups_too():
    energies, share = groups(Spectrum.monoenergetic(5.0))
    assert energies == pytest.approx([5.0]) and share == pytest.approx([1.0])


def test_single_scatter_of_a_slab_follows_from_cross_sections_alone():
    """Without any fitted number, against the Monte Carlo; a thin slab, so that nothing is left to approximation."""
    from DeepDRRLogic.scatter.superposition import Fitted

    volume, view, beam = slab(3, 60, exit_mm=700.0), camera(300.0), Spectrum.monoenergetic(60.0)
    physics = Fitted(rayleigh=1, rayleigh_exit=1, compton=1, compton_exit=1)
    truth = simulate(volume, view, beam, IDEAL, photons=20_000, tally=4, voxel_mm=None)
    found = superpose(cut(volume, view, 1), beam, physics).energy_kev
    assert found[0].mean() == pytest.approx(truth.signal("rayleigh").mean(), rel=0.04)
    assert found[1].mean() == pytest.approx(truth.signal("compton").mean(), rel=0.06)


@pytest.fixture(scope="module")
def truth_of_a_patient(a_patient):
    return simulate(
        a_patient, oblique_view(a_patient), NINETY, IDEAL, photons=40_000, tally=(16, 12), voxel_mm=None, seed=5
    )


def nmse(found, exact, error):
    """Less what the noise of the exact picture adds to it."""
    return (((found - exact) ** 2).sum() - (error**2).sum()) / (exact**2).sum()


ALLOWED = pytest.mark.parametrize(
    ("model", "allowed"),
    [
        (KernelScatter, 0.1),
        pytest.param(NetworkScatter, 0.03, marks=NEEDS_TORCH),
        pytest.param(PaperNetworkScatter, 0.1, marks=NEEDS_TORCH),
    ],
)


@ALLOWED
def test_a_patient_scatters_as_the_monte_carlo_says(model, allowed, a_patient, truth_of_a_patient):
    found = scatter_of(model, a_patient, oblique_view(a_patient).resampled(16, 12)).signal[0]
    assert nmse(found, truth_of_a_patient.signal(), truth_of_a_patient.signal_error()) < allowed


@FAST
def test_rayleigh_scatter_alone_is_that_of_the_monte_carlo(model, a_patient, truth_of_a_patient):
    view = oblique_view(a_patient).resampled(16, 12)
    alone, everything = (scatter_of(model, a_patient, view, rayleigh_only=x).signal[0] for x in (True, False))
    exact, error = truth_of_a_patient.signal("rayleigh"), truth_of_a_patient.signal_error("rayleigh")
    assert nmse(alone, exact, error) < 0.1
    assert (alone < everything).all()


@pytest.mark.parametrize(
    ("model", "allowed"), [(KernelScatter, 0.1), pytest.param(NetworkScatter, 0.03, marks=NEEDS_TORCH)]
)
def test_with_air_in_a_third_of_the_view_scatter_is_that_of_the_monte_carlo(model, allowed, a_patient):
    view = oblique_view(a_patient, detector_shift_mm=(220.0, 0.0)).resampled(16, 12)
    assert (superpose(cut(a_patient, view, 1), NINETY).transmission > 0.9).mean() > 0.3
    truth = simulate(a_patient, view, NINETY, IDEAL, photons=40_000, tally=(16, 12), voxel_mm=None, seed=6)
    found = scatter_of(model, a_patient, view).signal[0]
    assert found.min() > 0.0
    assert nmse(found, truth.signal(), truth.signal_error()) < allowed


@FAST
def test_a_mirrored_view_has_the_mirrored_scatter(model, a_patient):
    view = oblique_view(a_patient)
    one, other = (scatter_of(model, a_patient, v).signal[0] for v in (view, mirrored(view)))
    assert np.abs(one[:, ::-1] - other).max() < 1e-3 * one.max()


def test_a_detector_off_the_central_ray_sees_the_same_to_the_side_as_below():
    volume, view = slab(20, 60), camera(300.0, pixels=32)

    def scatter(axis):
        intrinsics = view.intrinsics.copy()
        intrinsics[axis, 2] += 10.0
        off = Camera(intrinsics, view.camera_from_ras, view.width, view.height, view.source_to_detector_mm)
        return scatter_of(KernelScatter, volume, off).signal[0]

    np.testing.assert_allclose(scatter(1), scatter(0).T, rtol=1e-3)


@FAST
def test_scatter_is_positive_and_smooth(model, a_patient):
    found = scatter_of(model, a_patient, oblique_view(a_patient)).signal[0]
    assert found.min() > 0.0
    assert np.abs(np.diff(found, axis=1)).max() < 0.1 * found.max()


@FAST
def test_an_empty_beam_scatters_nothing(model):
    shape = (4, 4, 4)
    affine = centred_affine(shape, (50.0,) * 3, (0, 0, 500))
    empty = MaterialVolume(np.zeros(shape, np.float32), np.zeros(shape, np.uint8), (material("water"),), affine)
    assert scatter_of(model, empty, camera()).signal.max() < 1e-4


# The paper's network reaches at most 60 of 128 pixels far: beside a body it finds too little.
@pytest.mark.parametrize("model", [KernelScatter, NETWORK])
def test_beside_the_body_there_is_less_scatter_than_behind_it_but_some(model):
    volume = slab(10, 12, exit_mm=850.0)
    moved = volume.ras_from_ijk.copy()
    moved[0, 3] -= 90.0
    aside = MaterialVolume(volume.density_g_cm3, volume.labels, volume.materials, moved)
    found = scatter_of(model, aside, camera(400.0)).signal[0]
    truth = simulate(aside, camera(400.0), NINETY, IDEAL, photons=20_000, tally=4, voxel_mm=None).signal()
    assert 0.0 < found[:, 24:].mean() < found[:, 4:16].mean()
    assert found[8:24, 24:].mean() == pytest.approx(truth[1:3, 3].mean(), rel=0.4)


@FAST
def test_behind_a_plate_of_steel_next_to_nothing_arrives(model):
    volume = slab(2, 60, exit_mm=700.0)
    plate = MaterialVolume(
        8.0 * volume.density_g_cm3,
        volume.labels,
        (material("stainless_steel"), *volume.materials[1:]),
        volume.ras_from_ijk,
    )
    found = scatter_of(model, plate, camera(300.0)).signal
    assert found.max() < 1e-3 * NINETY.mean_energy_kev and found.min() >= 0.0


@FAST
def test_a_collimated_beam_scatters_less_and_where_it_is(model):
    volume, view = slab(15, 60), camera(300.0)
    whole = scatter_of(model, volume, view).signal[0]
    half = scatter_of(model, volume, view, field=(0.0, 0.0, 0.5, 1.0)).signal[0]
    assert half.sum() < 0.7 * whole.sum()
    assert half[:, :16].sum() > 2.0 * half[:, 16:].sum()
    with pytest.raises(ValueError, match="field"):
        model(volume, field=(0.0, 0.0, 2.0, 1.0))


@FAST
def test_a_grid_takes_about_as_much_as_the_monte_carlo_says(model):
    volume, view, grid = slab(20, 60), camera(300.0), AntiScatterGrid(ratio=8)
    bare, behind = (
        simulate(volume, view, NINETY, IDEAL, photons=15_000, tally=2, grid=g, voxel_mm=None).signal().mean()
        for g in (None, grid)
    )
    found, less = (scatter_of(model, volume, view, grid=g).signal.mean() for g in (None, grid))
    assert less / found == pytest.approx(behind / bare, rel=0.3)


def test_more_scatter_passes_along_the_strips_of_a_grid_than_across_them():
    volume, view, pencil = slab(20, 60), camera(300.0, pixels=33), (0.45, 0.45, 0.55, 0.55)
    grids = (AntiScatterGrid(lines="v"), AntiScatterGrid(lines="u"))
    columns, rows = (scatter_of(KernelScatter, volume, view, field=pencil, grid=grid).signal[0] for grid in grids)
    assert columns[2, 16] > 1.5 * columns[16, 2]
    np.testing.assert_allclose(rows, columns.T, rtol=1e-3)


@FAST
def test_counting_channels_get_the_photons_that_the_monte_carlo_counts(model):
    volume, view = slab(15, 60), camera(300.0)
    detector = Detector.energy_bins((20.0, 45.0, math.inf), absorber=None)
    truth = simulate(volume, view, NINETY, detector, photons=15_000, tally=2, voxel_mm=None).exposure()
    found = scatter_of(model, volume, view, detector=detector)
    shares, exact = (x.photons.mean(axis=(1, 2)) / x.photons.mean(axis=(1, 2)).sum() for x in (found, truth))
    assert shares == pytest.approx(exact, abs=0.1)
    assert found.mean_energy_kev.mean() == pytest.approx(truth.mean_energy_kev.mean(), rel=0.04)


@pytest.mark.parametrize("name", ["kernel", pytest.param("network", marks=NEEDS_TORCH)])
def test_a_bone_edge_loses_the_contrast_that_the_scatter_to_primary_ratio_says(name):
    plain, view = slab(15, 60, bone=True), camera(300.0, pixels=64)
    volume = replace(plain, density_g_cm3=np.where(plain.labels == 1, np.float32(1.9), plain.density_g_cm3))
    bare, veiled = (XRaySimulator(volume, noise=None, scatter=s, threads=1)(view).signal for s in (None, name))

    def bone_and_beside(picture):
        row = picture[28:36].mean(axis=0)
        return row[39:42].mean(), 0.5 * (row[32:35].mean() + row[46:49].mean())

    (bone, beside), (veiled_bone, veiled_beside) = bone_and_beside(bare), bone_and_beside(veiled)
    ratio = veiled_beside / beside - 1.0
    assert ratio > 1.0
    # The scatter itself is all but flat across the edge, so it takes the contrast down to 1 / (1 + ratio) of it.
    kept = (1.0 - veiled_bone / veiled_beside) / (1.0 - bone / beside)
    assert kept == pytest.approx(1.0 / (1.0 + ratio), rel=0.15)


def test_noise_is_that_of_primary_and_scatter_together():
    volume, view, counter = slab(15, 60), camera(300.0, pixels=128), Detector.photon_counting(absorber=None)
    quiet = NoiseModel.of(counter)
    image = XRaySimulator(volume, detector=counter, scatter="kernel", noise=quiet, photons_per_pixel=1e4, threads=1)(
        view
    )
    still = XRaySimulator(volume, detector=counter, scatter="kernel", noise=None, photons_per_pixel=1e4, threads=1)(
        view
    )
    middle = (image.signal - still.signal)[32:96, 32:96]
    assert middle.var() == pytest.approx(still.signal[32:96, 32:96].mean(), rel=0.1)


@FAST
def test_the_image_says_how_its_scatter_was_made(model, a_patient):
    said = model(a_patient, threads=1, grid=AntiScatterGrid()).to_dict()
    assert said["model"] == model.name and said["grid"]["ratio"] == 10.0 and said["field"] == [0.0, 0.0, 1.0, 1.0]


@NEEDS_TORCH
def test_weights_are_small():
    folder = Path(network.__file__).parents[1] / "data" / "scatter"
    sizes = [(folder / name).stat().st_size for name in (network.WEIGHTS, paper.WEIGHTS)]
    assert sum(sizes) < 5_000_000


@NEEDS_TORCH
@pytest.mark.parametrize("stored", [network.stored_network, paper.stored_paper_network])
def test_weights_are_checked_before_they_are_used(stored, monkeypatch):
    stored.cache_clear()
    monkeypatch.setattr(network, "checksum", lambda name: "0" * 64)
    with pytest.raises(ValueError, match="damaged"):
        stored()
    stored.cache_clear()


@NEEDS_TORCH
def test_the_network_of_the_paper_has_its_ten_layers_and_they_do_what_they_say():
    import torch

    from DeepDRRLogic.scatter import convnet

    net = paper.stored_paper_network()
    assert len(net.local) == 6 and len(net.smoothing) == 4
    pictures = torch.from_numpy(np.random.default_rng(0).random((2, 2, 128, 128), np.float32))
    kernel = convnet.unfolded((convnet.GAIN * net.smoothing[0].quarter).exp())
    assert kernel.shape == (2, 31, 31)
    with torch.inference_mode():
        directly = torch.nn.functional.conv2d(pictures, kernel[:, None], padding=15, groups=2)
        assert torch.allclose(net.smoothing[0](pictures), directly, rtol=1e-4)
        seen = torch.rand(1, len(convnet.CHANNELS), 40, 40, generator=torch.Generator().manual_seed(0))
        for turn in (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.rot90(1, (2, 3))):
            assert torch.allclose(net(turn(seen)), turn(net(seen)), rtol=1e-3)


def test_models_are_made_by_name(a_patient):
    names = ["kernel"] if find_spec("torch") is None else ["kernel", "network", "network-paper"]
    assert [make_scatter(name, [a_patient], 1).to_dict()["model"] for name in names] == names


def test_without_torch_the_network_names_the_remedy(monkeypatch):
    network.stored_network.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ValueError, match="kernel"):
        network.stored_network()
    network.stored_network.cache_clear()


def test_the_command_line_adds_scatter(tmp_path, monkeypatch, capsys):
    from DeepDRRLogic.cli import main
    from DeepDRRLogic.image import XRayImage

    def render(scatter, name):
        options = [
            "--phantom-spacing",
            "5",
            "--preset",
            "deepdrr_paper",
            "--size",
            "48",
            "--no-noise",
            "--threads",
            "1",
        ]
        with pytest.raises(SystemExit) as ending:
            main(["render", "phantom:pelvis", *options, *scatter, "-o", name])
        return ending.value.code

    monkeypatch.chdir(tmp_path)
    assert not render([], "bare.npz") and not render(["--scatter", "kernel"], "veiled.npz")
    bare, veiled = XRayImage.load("bare.npz"), XRayImage.load("veiled.npz")
    assert (veiled.signal > bare.signal).all() and veiled.metadata["scatter"]["model"] == "kernel"
    assert render(["--scatter", "fog"], "none.npz")
    assert "kernel, network, network-paper, montecarlo" in " ".join(capsys.readouterr().err.split())


def of_the_monte_carlo(model, spectrum, detector, gap_mm, side_cm=60):
    """Photons of every channel in the middle of a view of 15 cm of water, in units of the Monte Carlo's."""
    volume, view = slab(15, side_cm, exit_mm=1000.0 - gap_mm), camera(300.0)
    truth = simulate(volume, view, spectrum, detector, photons=60_000, tally=4, voxel_mm=None, threads=1).exposure()
    found = scatter_of(model, volume, view, spectrum, detector)
    inner = slice(found.photons.shape[1] // 4, -found.photons.shape[1] // 4)
    return found.photons[:, inner, inner].mean(axis=(1, 2)) / truth.photons[:, 1:3, 1:3].mean(axis=(1, 2))


@NEEDS_TORCH
@pytest.mark.parametrize("gap_mm", [50.0, 300.0])
@pytest.mark.parametrize("beam", ["80kV", "120kV", 40.0, 60.0, 100.0], ids=str)
def test_behind_water_the_network_finds_the_photons_of_the_monte_carlo(beam, gap_mm):
    spectrum = Spectrum.preset(beam) if isinstance(beam, str) else Spectrum.monoenergetic(beam)
    assert of_the_monte_carlo(NetworkScatter, spectrum, IDEAL, gap_mm) == pytest.approx(1.0, abs=0.2)


@NEEDS_TORCH
def test_the_network_finds_them_in_every_channel():
    detector = Detector.energy_bins((20.0, 45.0, 65.0, math.inf), absorber=None)
    found = of_the_monte_carlo(NetworkScatter, Spectrum.preset("120kV"), detector, 100.0)
    assert found == pytest.approx(np.ones(3), abs=0.3)


@NEEDS_TORCH
def test_what_the_network_does_not_know_is_said(caplog):
    scatter_of(NetworkScatter, slab(4, 20), camera(300.0))
    assert "trained on" not in caplog.text
    scatter_of(NetworkScatter, slab(4, 20), camera(900.0))
    scatter_of(NetworkScatter, slab(4, 20), camera(300.0), Spectrum.monoenergetic(200.0))
    assert "A detector of 900 mm is beyond" in caplog.text
    assert "A mean energy of 200 keV is beyond" in caplog.text
