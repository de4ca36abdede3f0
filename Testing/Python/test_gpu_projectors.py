"""The GPU projectors against the exact answers that the CPU projector is held to.

The CUDA kernels run by emulation, which interpolates as textures do: with weights in steps of 1/256, and densities in
16 bits.
"""

from __future__ import annotations

import numpy as np
import pytest
from emulated_gpu import emulated_gpu, emulation
from shapes import away_from_edges, centred_affine, chord_of_box_mm, chord_of_sphere_mm, sphere, view, volume_of
from test_projector import BALL_CENTER, OBLIQUE, TURNS, VIEWS, a_ball, centroid, distance, exact_box, random_volume
from test_projector_metal import plate

from DeepDRRLogic.affine import apply, rigid, rotation
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import material
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.reference import project_exactly
from DeepDRRLogic.volume import MaterialVolume

SMALL = {"size": (96, 72), "pitch": 2.5}
FEW_VIEWS = [(0, 0), (45, 0), (-35, 20), (5, 70)]


@pytest.fixture(scope="module")
def gpu():
    with emulation():
        yield emulated_gpu()


@pytest.fixture(params=["cuda", "torch"])
def projector(request):
    """Makes the backend's projector of a volume."""
    if request.param == "cuda":
        gpu = request.getfixturevalue("gpu")
        return lambda volume: CudaProjector(volume, gpu=gpu)
    pytest.importorskip("torch", reason="torch is not installed")
    from DeepDRRLogic.projector.torch_backend import TorchProjector

    return lambda volume: TorchProjector(volume, "cpu")


@pytest.mark.parametrize("angles", FEW_VIEWS)
@pytest.mark.parametrize("turn", TURNS)
def test_a_ball_has_the_area_density_and_the_place_of_a_ball(projector, angles, turn):
    camera = view(*angles, isocenter=(5, -3, 8), size=(128, 96), pitch=1.9)
    picture = projector(a_ball(turn)).project(camera)[1]
    chord = chord_of_sphere_mm(camera, 31.0, BALL_CENTER)
    assert_close_inside(picture, chord, pixels=5)
    assert np.abs(centroid(picture) - centroid(chord)).max() < 0.05


def assert_close_inside(measured, chord_mm, density=1.0, pixels=6):
    """Within 0.5 % at the 99th percentile of the pixels away from silhouettes."""
    inside = away_from_edges(chord_mm, pixels)
    assert inside.sum() > 100
    assert np.percentile(np.abs(10 * measured[inside] / (density * chord_mm[inside]) - 1), 99) < 0.005


@pytest.mark.parametrize("angles", VIEWS)
def test_a_slab_that_fills_its_volume_reaches_from_face_to_face(projector, angles):
    shape = (40, 50, 60)
    affine = centred_affine(shape, (1.5, 1.0, 1.25), turn=OBLIQUE)
    camera = view(*angles, **SMALL)
    picture = projector(volume_of(np.full(shape, 1.9), np.full(shape, 2), affine)).project(camera)[2]
    # Entry and exit are those of the extent, to float precision and for every single ray.
    assert np.allclose(picture, exact_box(camera, affine, shape) * 0.19, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("angles", FEW_VIEWS)
def test_an_off_axis_box_of_bone_in_soft_tissue_keeps_both_apart(projector, angles):
    shape = (90, 90, 90)
    affine = centred_affine(shape)
    density, labels = np.ones(shape), np.ones(shape)
    density[20:62, 25:70, 35:80], labels[20:62, 25:70, 35:80] = 1.8, 2
    camera = view(*angles, size=(160, 120), pitch=1.5)
    air, soft, bone = projector(volume_of(density, labels, affine)).project(camera)
    low, high = apply(affine, [34.5, 24.5, 19.5]), apply(affine, [79.5, 69.5, 61.5])
    bone_mm = chord_of_box_mm(camera, low, high)
    assert_close_inside(bone, bone_mm, 1.8)
    assert np.abs(centroid(bone) - centroid(bone_mm)).max() < 0.05
    everything_mm = chord_of_box_mm(camera, (-45, -45, -45), (45, 45, 45))
    assert np.allclose(soft + bone / 1.8, everything_mm / 10, rtol=2e-3, atol=2e-3)
    assert not air.any()


@pytest.mark.parametrize("shift", [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.25, -0.5, 0.5)])
def test_half_a_voxel_is_half_a_voxel(projector, shift):
    shape = (50, 50, 50)
    at_rest = sphere(30.0, (0, 0, 0), shape, centred_affine(shape, (2, 2, 2)), fine=2)
    moved = centred_affine(shape, (2, 2, 2), center_ras=2 * np.array(shift))
    camera = view(25, 10, **SMALL)
    there = projector(volume_of(at_rest.density_g_cm3, at_rest.labels, moved)).project(camera)[1]
    expected = chord_of_sphere_mm(camera, 30.0, 2 * np.array(shift))
    assert np.abs(centroid(there) - centroid(expected)).max() < 0.03


def test_two_volumes_that_overlap_each_keep_their_own_labels(projector):
    shape = (80, 80, 80)
    affine, camera = centred_affine(shape), view(20, 10, size=(128, 96), pitch=1.9)
    soft = projector(sphere(32.0, (-5, 0, 0), shape, affine, label=1)).project(camera)
    bone = projector(sphere(28.0, (5, 0, 0), shape, affine, label=2, density=1.9)).project(camera)
    assert_close_inside(soft[1], chord_of_sphere_mm(camera, 32.0, (-5, 0, 0)), pixels=5)
    assert_close_inside(bone[2], chord_of_sphere_mm(camera, 28.0, (5, 0, 0)), 1.9, pixels=5)
    assert not soft[2].any() and not bone[1].any()


def test_a_volume_that_does_not_fill_the_beam_leaves_the_rest_blank(projector):
    shape, camera = (20, 20, 20), view(30, 15, isocenter=(25, 10, -8), **SMALL)
    picture = projector(volume_of(np.ones(shape), np.ones(shape), centred_affine(shape))).project(camera)
    lengths = exact_box(camera, centred_affine(shape), shape)
    # Rays end at the volume's faces: to the very pixel nothing is smeared beyond them.
    assert lengths.any() and (lengths == 0).sum() > 1000
    assert not picture[:, lengths == 0].any() and picture[1][lengths > 0.1].all()


@pytest.mark.parametrize("angles", VIEWS)
@pytest.mark.parametrize("turn", TURNS)
def test_any_volume_agrees_with_exact_integration(projector, angles, turn):
    volume = random_volume(turn=TURNS[turn], shape=(40, 44, 42))
    camera = view(*angles, size=(20, 15), pitch=4.0)
    measured, exact = projector(volume).project(camera), project_exactly(volume, camera)
    assert distance(measured.sum(axis=0), exact.sum(axis=0)) < 0.0015
    for one, other in zip(measured, exact, strict=True):
        assert distance(one, other) < 0.012


@pytest.mark.parametrize("angles", FEW_VIEWS)
def test_a_patient_agrees_with_exact_integration(projector, angles, patient):
    camera = view(*angles, isocenter=patient.center_ras, size=(80, 60), pitch=4.8)
    pixels = np.random.default_rng(0).integers(0, (80, 60), (300, 2))
    measured = projector(patient).project(camera)[:, pixels[:, 1], pixels[:, 0]]
    exact = project_exactly(patient, camera, pixels)
    attenuation = np.array([m.mass_attenuation_cm2_g(60.0) for m in patient.materials]).reshape(3)
    error = np.abs(attenuation @ (measured - exact)) / (attenuation @ exact).clip(0.05)
    assert np.percentile(error, 99) < 0.005
    assert distance(measured[1], exact[1]) < 0.002
    assert distance(measured[2], exact[2]) < 0.015


@pytest.fixture(scope="module")
def patient():
    torso = phantom(spacing_mm=4.0)
    return MaterialVolume.from_ct(torso.ct, torso.labels)


def test_the_cpu_projector_gives_the_same_picture(projector, patient):
    camera = view(30, 10, isocenter=patient.center_ras, size=(80, 60), pitch=4.8)
    here, cpu = projector(patient).project(camera), CpuProjector(patient).project(camera)
    attenuation = np.array([m.mass_attenuation_cm2_g(60.0) for m in patient.materials]).reshape(3, 1, 1)
    assert distance((attenuation * here).sum(axis=0), (attenuation * cpu).sum(axis=0)) < 0.002


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("angle", [0, 45, 90])
def test_a_plate_of_metal_has_the_edges_of_a_plate(projector, angle, border):
    volume, camera = plate(3, border), view(angle, size=(80, 40), pitch=0.8)
    assert distance(projector(volume).project(camera)[1], project_exactly(volume, camera)[1]) < 0.005


def test_nothing_is_added_behind_the_source(projector):
    shape = (40, 40, 40)
    volume = volume_of(np.ones(shape), np.ones(shape), centred_affine(shape, (8, 8, 8)))
    camera = view(**SMALL).moved(rigid(translation_mm=(0, 530, 0)))
    exact = project_exactly(volume, camera, [(64, 48)])[1]
    assert projector(volume).project(camera)[1, 48, 64] == pytest.approx(exact[0], rel=1e-3)


def test_nothing_is_added_behind_the_detector(projector):
    shape = (40, 40, 40)
    volume = volume_of(np.ones(shape), np.ones(shape), centred_affine(shape, (8, 8, 8)))
    camera = view(**SMALL).moved(rigid(translation_mm=(0, -490, 0)))
    exact = project_exactly(volume, camera, [(64, 48)])[1]
    assert projector(volume).project(camera)[1, 48, 64] == pytest.approx(exact[0], rel=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 20, 20), (20, 1, 20), (20, 20, 1), (2, 3, 4)])
@pytest.mark.parametrize("angles", [(0, 0), (90, 0), (-35, 20), (5, 70)])
def test_thin_volumes_are_as_thick_as_their_voxels(projector, shape, angles):
    affine = centred_affine(shape, (6.0, 5.0, 7.0))
    camera = view(*angles, **SMALL)
    picture = projector(volume_of(np.ones(shape), np.ones(shape), affine)).project(camera)[1]
    assert np.allclose(picture, exact_box(camera, affine, shape) / 10, rtol=2e-3, atol=2e-3)


def test_rays_along_an_axis_and_beside_the_volume_are_exact(projector):
    shape = (5, 6, 7)
    density = np.random.default_rng(1).uniform(0.5, 2, shape)
    volume = volume_of(density, np.ones(shape), centred_affine(shape, (2.0, 3.0, 4.0)))
    through = Camera(np.diag([-1e9, 1e9, 1.0]), view().camera_from_ras, 1, 1, 1020.0)
    measured = projector(volume).project(through)[1, 0, 0]
    assert measured == pytest.approx(project_exactly(volume, through)[1, 0, 0], rel=1e-3)
    beside = through.moved(rigid(translation_mm=(50, 0, 0)))
    assert not projector(volume).project(beside).any()


def test_empty_volumes_and_margins_make_a_blank_exposure(projector):
    shape = (12, 14, 16)
    nothing = volume_of(np.zeros(shape), np.ones(shape), centred_affine(shape))
    assert not projector(nothing).project(view(**SMALL)).any()


def test_only_the_box_that_holds_matter_is_kept_and_stays_in_place(projector):
    shape, affine = (30, 34, 38), centred_affine((30, 34, 38), (3, 3, 3), turn=OBLIQUE)
    density = np.zeros(shape)
    density[7:16, 9:12, 20:31] = 1.5
    labels = np.where(density > 0, 2, 1)
    labels[:, :, :25] = np.where(density[:, :, :25] > 0, 1, 0)
    volume, camera = volume_of(density, labels, affine), view(20, 30, size=(60, 45), pitch=4.0)
    measured, exact = projector(volume).project(camera), project_exactly(volume, camera)
    assert distance(measured, exact) < 0.01
    # The last column of a volume is never cut off: it is half a voxel thicker than its centre.
    density[:, :, -1] = 1.0
    volume = volume_of(density, np.ones(shape), affine)
    assert distance(projector(volume).project(camera), project_exactly(volume, camera)) < 0.01


def test_a_rigid_motion_of_everything_changes_nothing(projector):
    volume, camera = random_volume(shape=(40, 44, 48)), view(15, 25, size=(40, 30), pitch=4.0)
    motion = rigid(rotation((3, -1, 2), 71.0), (120.0, -40.0, 33.0))
    moved = volume_of(volume.density_g_cm3, volume.labels, motion @ volume.ras_from_ijk)
    before, after = projector(volume).project(camera), projector(moved).project(camera.moved(motion))
    # A texture interpolates with weights in steps of 1/256: between two voxels it may be off by that.
    assert np.abs(before - after).max() < 1e-3 * before.max()


@pytest.mark.parametrize("count", [1, 5, 16])
def test_every_material_keeps_its_own_density(projector, count):
    rng = np.random.default_rng(count)
    materials = tuple(
        material(name)
        for name in (
            "air", "soft tissue", "bone", "lung", "adipose", "muscle", "blood", "water", "iodine", "lead",
            "aluminium", "titanium", "stainless_steel", "copper", "pmma", "cobalt_chrome",
        )[:count]
    )  # fmt: skip
    shape = (20, 18, 16)
    volume = MaterialVolume(
        rng.uniform(0.2, 2.0, shape).astype(np.float32), rng.integers(0, count, shape).astype(np.uint8),
        materials, centred_affine(shape, (4, 4, 4)),
    )  # fmt: skip
    camera = view(12, 7, size=(20, 15), pitch=6.0)
    measured, exact = projector(volume).project(camera), project_exactly(volume, camera)
    assert measured.shape == exact.shape
    # Voxels of random material are white noise to a sampled ray; mixing two materials up would be an error of 1.
    assert all(distance(one, other) < 0.12 for one, other in zip(measured, exact, strict=True))
