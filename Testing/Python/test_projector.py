"""The CPU projector against exact answers: analytic shapes, and exact integration of arbitrary volumes."""

from __future__ import annotations

import time
import tracemalloc
from functools import cache

import numpy as np
import pytest
from shapes import (
    away_from_edges,
    centred_affine,
    chord_of_box_mm,
    chord_of_sphere_mm,
    sphere,
    view,
    volume_of,
)

from DeepDRRLogic.affine import apply, rigid, rotation
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import material, material_names
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.projector import make_projector
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.reference import project_exactly
from DeepDRRLogic.threads import in_slabs, thread_count
from DeepDRRLogic.volume import MaterialVolume

VIEWS = [(0, 0), (90, 0), (180, 0), (-35, 20), (45, 0), (10, -40), (5, 70)]
OBLIQUE = rotation((1, 2, 3), 33.0)
LEFT_HANDED = np.diag([-1.0, 1.0, 1.0]) @ rotation((0, 1, 1), 20.0)
TURNS = {"straight": None, "oblique": OBLIQUE, "left-handed": LEFT_HANDED}
BALL_CENTER = (8.3, -5.1, 6.7)


def centroid(picture):
    v, u = np.indices(picture.shape)
    return np.array([(u * picture).sum(), (v * picture).sum()]) / picture.sum()


def assert_close_inside(measured, chord_mm, density=1.0):
    exact = chord_mm * density / 10
    inside = away_from_edges(chord_mm)
    assert inside.sum() > 100
    error = np.abs(measured - exact)[inside] / exact[inside]
    assert np.percentile(error, 99) < 0.005
    return error


def distance(measured, exact):
    """Relative difference of two pictures in the mean square."""
    return np.linalg.norm(measured - exact) / np.linalg.norm(exact)


def random_volume(seed=0, shape=(64, 70, 76), spacing=(1.2, 1.0, 1.5), turn=None):
    rng = np.random.default_rng(seed)
    density, organ = (low_pass(rng.normal(size=shape)) for _ in range(2))
    return volume_of(1 + density, np.digitize(organ, (-0.3, 0.3)), centred_affine(shape, spacing, turn=turn))


def low_pass(noise, passes=2):
    """Noise with the grain of anatomy: a few voxels, values mostly within ±1."""
    for _ in range(passes):
        for axis in range(3):
            noise = (np.roll(noise, 1, axis) + noise + np.roll(noise, -1, axis)) / 3
    return np.clip(noise / noise.std() / 3, -1, 1)


@cache
def a_ball(turned):
    affine = centred_affine((80, 80, 80), (1.0, 1.1, 0.9), center_ras=(5, -3, 8), turn=TURNS[turned])
    return sphere(31.0, BALL_CENTER, (80, 80, 80), affine)


@pytest.mark.parametrize("angles", VIEWS)
@pytest.mark.parametrize("turned", TURNS)
def test_a_ball_has_the_area_density_and_the_place_of_a_ball(angles, turned):
    camera = view(*angles, isocenter=(5, -3, 8))
    picture = CpuProjector(a_ball(turned)).project(camera)[1]
    chord = chord_of_sphere_mm(camera, 31.0, BALL_CENTER)
    assert_close_inside(picture, chord)
    assert np.abs(centroid(picture) - centroid(chord)).max() < 0.05


@pytest.mark.parametrize("angles", VIEWS)
def test_a_slab_that_fills_its_volume_reaches_from_face_to_face(angles):
    shape = (40, 50, 60)
    affine = centred_affine(shape, (1.5, 1.0, 1.25), turn=OBLIQUE)
    camera = view(*angles)
    picture = CpuProjector(volume_of(np.full(shape, 1.9), np.full(shape, 2), affine)).project(camera)[2]
    lengths = exact_box(camera, affine, shape)
    assert_close_inside(picture, lengths, 1.9)
    assert np.abs(centroid(picture) - centroid(lengths)).max() < 0.05


def exact_box(camera, affine, shape):
    """Chord through the whole extent of a volume, in mm: the box is axis-aligned in the volume's own millimetres."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    mm_from_ras = np.diag([*spacing, 1.0]) @ np.linalg.inv(affine)
    return chord_of_box_mm(camera, -0.5 * spacing, (np.array(shape[::-1]) - 0.5) * spacing, mm_from_ras)


@pytest.mark.parametrize("angles", VIEWS)
def test_an_off_axis_box_of_bone_in_soft_tissue_keeps_both_apart(angles):
    shape = (90, 90, 90)
    affine = centred_affine(shape)
    density, labels = np.ones(shape), np.ones(shape)
    density[20:62, 25:70, 35:80], labels[20:62, 25:70, 35:80] = 1.8, 2
    camera = view(*angles)
    air, soft, bone = CpuProjector(volume_of(density, labels, affine)).project(camera)
    low, high = apply(affine, [34.5, 24.5, 19.5]), apply(affine, [79.5, 69.5, 61.5])
    bone_mm = chord_of_box_mm(camera, low, high)
    assert_close_inside(bone, bone_mm, 1.8)
    assert np.abs(centroid(bone) - centroid(bone_mm)).max() < 0.05
    assert_close_inside(soft + bone / 1.8, chord_of_box_mm(camera, (-45, -45, -45), (45, 45, 45)))
    assert not air.any()


@pytest.mark.parametrize("shift", [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.25, -0.5, 0.5)])
def test_half_a_voxel_is_half_a_voxel(shift):
    shape = (50, 50, 50)
    at_rest, moved = (
        centred_affine(shape, (2, 2, 2)),
        centred_affine(shape, (2, 2, 2), center_ras=2 * np.array(shift)),
    )
    camera = view(25, 10, size=(300, 300))
    ball = sphere(30.0, (0, 0, 0), shape, at_rest)
    there = CpuProjector(volume_of(ball.density_g_cm3, ball.labels, moved)).project(camera)[1]
    expected = chord_of_sphere_mm(camera, 30.0, 2 * np.array(shift))
    assert np.abs(centroid(there) - centroid(expected)).max() < 0.05


@pytest.mark.parametrize("angles", VIEWS)
@pytest.mark.parametrize("turned", TURNS)
def test_any_volume_agrees_with_exact_integration(angles, turned):
    volume = random_volume(turn=TURNS[turned])
    camera = view(*angles, size=(40, 30), pitch=3.0)
    measured, exact = CpuProjector(volume).project(camera), project_exactly(volume, camera)
    # Three materials that change places every few voxels are the worst there is; patients are much smoother.
    assert distance(measured.sum(axis=0), exact.sum(axis=0)) < 0.003
    for one, other in zip(measured, exact, strict=True):
        assert distance(one, other) < 0.015


@cache
def a_patient():
    torso = phantom(spacing_mm=4.0)
    return MaterialVolume.from_ct(torso.ct, torso.labels)


@pytest.mark.parametrize("angles", VIEWS)
def test_a_patient_agrees_with_exact_integration(angles):
    volume = a_patient()
    camera = view(*angles, isocenter=volume.center_ras, size=(320, 240), pitch=1.2)
    pixels = np.random.default_rng(0).integers(0, (320, 240), (300, 2))
    measured = CpuProjector(volume).project(camera)[:, pixels[:, 1], pixels[:, 0]]
    exact = project_exactly(volume, camera, pixels)
    attenuation = np.array([m.mass_attenuation_cm2_g(60.0) for m in volume.materials]).reshape(3)
    error = np.abs(attenuation @ (measured - exact)) / (attenuation @ exact).clip(0.05)
    assert np.percentile(error, 99) < 0.005
    assert distance(measured[1], exact[1]) < 0.002
    assert distance(measured[2], exact[2]) < 0.015


def test_the_reference_adds_up_the_voxels_that_a_ray_crosses():
    shape = (5, 6, 7)
    density = np.random.default_rng(1).uniform(0.5, 2, shape)
    volume = volume_of(density, np.ones(shape), centred_affine(shape, (2.0, 3.0, 4.0)))
    camera = Camera(np.diag([-1e9, 1e9, 1.0]), view().camera_from_ras, 1, 1, 1020.0)
    through_middle = project_exactly(volume, camera, interpolation="nearest")[1, 0, 0]
    assert through_middle == pytest.approx(density[2, :, 3].sum() * 0.3, rel=1e-6)


def test_the_reference_integrates_a_linear_ramp_exactly():
    shape = (9, 9, 9)
    ramp = np.broadcast_to(np.arange(9)[None, :, None] + 1.0, shape)
    volume = volume_of(ramp, np.ones(shape), centred_affine(shape))
    camera = Camera(np.diag([-1e9, 1e9, 1.0]), view().camera_from_ras, 1, 1, 1020.0)
    # The ends of the volume are half a voxel beyond the outermost centres and hold their value.
    exact = (0.5 * 1 + 0.5 * (1 + 9) * 8 + 0.5 * 9) / 10
    assert project_exactly(volume, camera)[1, 0, 0] == pytest.approx(exact, rel=1e-9)


def test_two_volumes_that_overlap_each_keep_their_own_labels():
    shape = (80, 80, 80)
    affine = centred_affine(shape)
    soft = sphere(32.0, (-5, 0, 0), shape, affine, label=1)
    bone = sphere(28.0, (5, 0, 0), shape, affine, label=2, density=1.9)
    camera = view(20, 10)
    first, second = CpuProjector(soft).project(camera), CpuProjector(bone).project(camera)
    assert_close_inside(first[1], chord_of_sphere_mm(camera, 32.0, (-5, 0, 0)))
    assert_close_inside(second[2], chord_of_sphere_mm(camera, 28.0, (5, 0, 0)), 1.9)
    assert not first[2].any() and not second[1].any()


def test_a_volume_that_does_not_fill_the_beam_leaves_the_rest_blank():
    shape = (20, 20, 20)
    camera = view(30, 15, isocenter=(25, 10, -8))
    picture = CpuProjector(volume_of(np.ones(shape), np.ones(shape), centred_affine(shape))).project(camera)
    lengths = exact_box(camera, centred_affine(shape), shape)
    shifts = [(8 * v, 8 * u) for v in (-1, 0, 1) for u in (-1, 0, 1)]
    far_away = ~np.any([np.roll(lengths > 0, shift, (0, 1)) for shift in shifts], axis=0)
    assert lengths.any() and far_away.sum() > 1000
    assert not picture[:, far_away].any()


@cache
def big_voxels():
    """Water all over, from -160 to 160 mm; voxel borders at whole multiples of 4 mm."""
    shape = (80, 80, 80)
    return volume_of(np.ones(shape), np.ones(shape), centred_affine(shape, (4, 4, 4)))


@pytest.mark.parametrize("past_the_border_mm", [0, 1, 2, 3])
@pytest.mark.parametrize("angles", [(0, 0), (180, 0), (90, 0), (20, 15)])
def test_nothing_is_added_behind_the_source(angles, past_the_border_mm):
    outside = view(*angles, size=(9, 7), pitch=20.0)
    camera = outside.moved(rigid(translation_mm=(530 + past_the_border_mm) * outside.principal_axis_ras))
    measured, exact = CpuProjector(big_voxels()).project(camera)[1], project_exactly(big_voxels(), camera)[1]
    assert exact[3, 4] == pytest.approx(16 - past_the_border_mm / 10, abs=0.01) or angles == (20, 15)
    np.testing.assert_allclose(measured, exact, rtol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 20, 20), (20, 1, 20), (20, 20, 1), (2, 3, 4)])
@pytest.mark.parametrize("angles", VIEWS)
def test_thin_volumes_are_as_thick_as_their_voxels(shape, angles):
    affine = centred_affine(shape, (6.0, 5.0, 7.0))
    camera = view(*angles)
    picture = CpuProjector(volume_of(np.ones(shape), np.ones(shape), affine)).project(camera)[1]
    fine = exact_box(camera.resampled(4 * camera.width, 4 * camera.height), affine, shape)
    assert picture.sum() == pytest.approx(fine.sum() / 16 / 10, rel=0.05)


@pytest.mark.parametrize("to_the_face_mm", [-2.0, 0.0, 1.0, 3.0])
def test_a_source_in_the_plane_of_a_slice_sees_as_one_beside_it(to_the_face_mm):
    """Close to a face of the volume, with rays so wide that some follow the slices in one of which the source lies."""
    shape = (7, 7, 7)
    volume = volume_of(np.ones(shape), np.ones(shape), centred_affine(shape, (10, 10, 10)))
    from_afar = view(size=(41, 41), pitch=120.0)
    there = from_afar.moved(rigid(translation_mm=(0.0, 530.0 - 35.0 - to_the_face_mm, 0.0)))
    np.testing.assert_allclose(there.source_ras, (0.0, -35.0 - to_the_face_mm, 0.0), atol=1e-9)
    beside = there.moved(rigid(translation_mm=(1e-3, 0.0, 1e-3)))
    in_plane, nearby = (CpuProjector(volume).project(camera)[1].sum() for camera in (there, beside))
    assert nearby > 0
    assert in_plane == pytest.approx(nearby, rel=1e-3)


def test_the_number_of_threads_changes_nothing():
    volume, camera = random_volume(), view(-35, 20)
    alone, together = (CpuProjector(volume, threads=n).project(camera) for n in (1, 3))
    assert np.array_equal(alone, together)


def test_a_rigid_motion_of_everything_changes_nothing():
    volume, camera = random_volume(), view(15, 25)
    motion = rigid(rotation((3, -1, 2), 71.0), (120.0, -40.0, 33.0))
    moved = volume_of(volume.density_g_cm3, volume.labels, motion @ volume.ras_from_ijk)
    before, after = CpuProjector(volume).project(camera), CpuProjector(moved).project(camera.moved(motion))
    assert np.abs(before - after).max() < 1e-4 * before.max()


def test_the_projector_needs_little_more_memory_than_the_volume():
    shape = (120, 160, 160)
    volume = volume_of(np.ones(shape), np.ones(shape), centred_affine(shape))
    own = volume.density_g_cm3.nbytes + volume.labels.nbytes
    CpuProjector(random_volume()).project(view())
    tracemalloc.start()
    CpuProjector(volume).project(view(size=(64, 48)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert own + peak < 1.5 * own


def test_a_label_without_material_is_named():
    volume = random_volume()
    labels = volume.labels.copy()
    labels[3, 4, 5] = 7
    with pytest.raises(ValueError, match=r"[Ll]abel.* 7|7.*label"):
        CpuProjector(volume_of(volume.density_g_cm3, labels, volume.ras_from_ijk))


def test_an_unknown_device_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'abacus'.*cpu"):
        make_projector(random_volume(), device="abacus")


def test_auto_finds_a_device():
    camera = view(size=(20, 20))
    volume = random_volume()
    assert np.array_equal(make_projector(volume).project(camera), CpuProjector(volume).project(camera))


def test_more_materials_than_a_voxel_can_tell_apart_are_refused():
    names = tuple(material(name) for name in material_names()[:17])
    cube = np.ones((2, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"17 materials.*16.*merge"):
        CpuProjector(MaterialVolume(cube, np.zeros((2, 2, 2), np.uint8), names, np.eye(4)))


def test_every_material_keeps_its_own_scale():
    names = tuple(material(name) for name in ("air", "soft_tissue", "stainless_steel"))
    density = np.zeros((30, 30, 30), np.float32)
    labels = np.zeros((30, 30, 30), np.uint8)
    for first, label, value in ((0, 0, 0.0004), (10, 1, 1.0), (20, 2, 8.0)):
        density[first : first + 10], labels[first : first + 10] = value, label
    volume = MaterialVolume(density, labels, names, centred_affine((30, 30, 30), (3, 3, 3)))
    picture = CpuProjector(volume).project(view())
    for row, label, value in ((178, 0, 0.0004), (120, 1, 1.0), (62, 2, 8.0)):
        assert picture[label, row, 160] == pytest.approx(9.0 * value, rel=2e-3)


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2"])
def test_threads_are_counted_in_whole_numbers(threads):
    with pytest.raises(ValueError, match=rf"threads = '?{threads}'?: give a whole number from 1"):
        thread_count(threads)


def test_after_an_error_no_further_slab_is_begun():
    begun = []

    def work(start, stop):
        begun.append(start)
        time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_slabs(work, 40, threads=2, slab=1)
    assert len(begun) < 10
