"""What must hold for any camera, any affine and any volume."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapes import MATERIALS

from DeepDRRLogic.affine import rigid, rotation
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.projector import make_projector
from DeepDRRLogic.projector.reference import project_exactly
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

angles = st.floats(-720, 720)
axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1)
turns = st.builds(rotation, axes, angles)
places = st.tuples(*[st.floats(-300, 300)] * 3)
motions = st.builds(rigid, turns, places)
unhurried = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def affines(draw, *spacings_mm):
    """Any handedness and spacing, somewhere near the origin."""
    spacing = draw(st.tuples(*[st.floats(*spacings_mm)] * 3))
    mirror = np.diag([draw(st.sampled_from([-1.0, 1.0])), 1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = draw(turns) @ mirror @ np.diag(spacing)
    affine[:3, 3] = draw(places)
    return affine


@st.composite
def volumes(draw):
    """Anything from one voxel to a small box, of any handedness and spacing, somewhere near the origin."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    affine = draw(affines(0.2, 20))
    noise = np.random.default_rng(draw(st.integers(0, 2**16)))
    density = noise.uniform(0, draw(st.sampled_from([0.0, 1e-3, 2.0, 19.3])), shape)
    return MaterialVolume(density.astype(np.float32), noise.integers(0, 3, shape).astype(np.uint8), MATERIALS, affine)


@st.composite
def cameras(draw, volume):
    """A C-arm that points at or near the volume; now and then its source is inside."""
    source_to_detector = draw(st.floats(200, 2000))
    return CArm(
        isocenter_ras_mm=tuple(volume.center_ras + np.array(draw(places)) * draw(st.sampled_from([0.0, 0.05, 1.0]))),
        primary_angle_deg=draw(angles), secondary_angle_deg=draw(angles), roll_deg=draw(angles),
        source_to_detector_mm=source_to_detector,
        source_to_isocenter_mm=source_to_detector * draw(st.floats(0.02, 0.98)),
        width=draw(st.integers(1, 40)), height=draw(st.integers(1, 30)), pixel_pitch_mm=draw(st.floats(0.1, 30)),
    ).camera()  # fmt: skip


@st.composite
def scenes(draw):
    volume = draw(volumes())
    return volume, draw(cameras(volume))


@st.composite
def aimed_scenes(draw, inside):
    """A block of changing density and material, and a small beam through its middle; source or detector `inside`."""
    shape, affine = draw(st.tuples(*[st.integers(5, 9)] * 3)), draw(affines(0.5, 4))
    noise = np.random.default_rng(draw(st.integers(0, 2**16)))
    density = draw(st.sampled_from([1e-3, 1.0, 19.3])) * noise.uniform(0.9, 1.1, shape)
    labels = noise.integers(0, 3, shape).astype(np.uint8)
    volume = MaterialVolume(density.astype(np.float32), labels, MATERIALS, affine)
    size_mm, diagonal_mm = min(volume.extent_mm), float(np.linalg.norm(volume.extent_mm))
    within, beyond = 0.5 * size_mm * draw(st.floats(0.05, 0.95)), diagonal_mm * draw(st.floats(0.6, 3))
    to_source, to_detector = within if inside == "source" else beyond, within if inside == "detector" else beyond
    arm = CArm(
        isocenter_ras_mm=tuple(volume.center_ras),
        primary_angle_deg=draw(angles), secondary_angle_deg=draw(angles), roll_deg=draw(angles),
        source_to_detector_mm=to_source + to_detector, source_to_isocenter_mm=to_source, width=9, height=7,
    )  # fmt: skip
    return volume, arm.at(pixel_pitch_mm=0.05 * size_mm * arm.magnification).camera()


@pytest.mark.parametrize("inside", ["", "source", "detector"])
@unhurried
@given(st.data())
def test_the_middle_of_any_picture_is_that_of_exact_integration(inside, data):
    volume, camera = data.draw(aimed_scenes(inside))
    pixels = np.array([(u, v) for v in (2, 3, 4) for u in (2, 4, 6)])
    exact = project_exactly(volume, camera, pixels).sum(axis=0)
    measured = make_projector(volume, "cpu", threads=1).project(camera).sum(axis=0)[pixels[:, 1], pixels[:, 0]]
    assert exact.min() > 0
    # A ray that enters over an edge of the block, or leaves so, is wrong by up to a quarter of a voxel there.
    assert np.linalg.norm(measured - exact) < 0.1 * np.linalg.norm(exact)


@unhurried
@given(scenes(), st.sampled_from(["60kV", "120kV"]))
def test_no_scene_breaks_physics(scene, kilovolts):
    volume, camera = scene
    image = XRaySimulator(volume, noise=None, spectrum=Spectrum.preset(kilovolts), threads=1)(camera)
    assert all(np.isfinite(part).all() for part in (image.signal, image.photons, image.mean_energy_kev, image.log()))
    assert image.area_densities.min() >= 0
    assert image.photons.min() >= 0 and image.signal.min() >= 0 and image.mean_energy_kev.min() >= 0
    transmission = image.transmission()
    assert transmission.min() >= 0 and transmission.max() <= 1 + 1e-6


@unhurried
@given(scenes())
def test_no_ray_meets_more_than_the_longest_way_through_the_densest_voxel(scene):
    volume, camera = scene
    corners = volume.corners_ras
    diagonal_cm = np.linalg.norm(corners[:, None] - corners[None], axis=-1).max() / 10
    total = XRaySimulator(volume, noise=None, threads=1).project(camera).sum(axis=0)
    # Resampling with a kernel that keeps edges sharp may overshoot them, by less than a seventh.
    assert total.max() <= 1.15 * diagonal_cm * volume.density_g_cm3.max() + 1e-6


@unhurried
@given(scenes(), motions)
def test_a_rigid_motion_of_patient_and_camera_changes_nothing(scene, motion):
    volume, camera = scene
    moved = MaterialVolume(
        volume.density_g_cm3, volume.labels, volume.materials, np.asarray(motion @ volume.ras_from_ijk)
    )
    before = XRaySimulator(volume, noise=None, threads=1).project(camera)
    after = XRaySimulator(moved, noise=None, threads=1).project(camera.moved(motion))
    scale = max(float(before.max()), 1e-6)
    # A ray that grazes the border may fall to either side of it; all others must agree.
    assert np.quantile(np.abs(before - after) / scale, 0.98) < 1e-4


@unhurried
@given(scenes(), st.floats(0.1, 3))
def test_area_density_is_proportional_to_density(scene, factor):
    volume, camera = scene
    # What becomes as hard as metal is sampled more finely.
    soft = np.minimum(volume.density_g_cm3, np.float32(1.0))
    volume = MaterialVolume(soft, volume.labels, MATERIALS, volume.ras_from_ijk)
    denser = MaterialVolume(volume.density_g_cm3 * np.float32(factor), volume.labels, MATERIALS, volume.ras_from_ijk)
    once, often = (XRaySimulator(one, noise=None, threads=1).project(camera) for one in (volume, denser))
    np.testing.assert_allclose(often, factor * once, rtol=1e-3, atol=1e-5 * max(float(often.max()), 1e-6))


@unhurried
@given(scenes(), st.integers(0, 2**31))
def test_noise_never_makes_anything_but_numbers(scene, seed):
    volume, camera = scene
    image = XRaySimulator(volume, photons_per_pixel=50.0, threads=1)(camera, seed)
    assert np.isfinite(image.signal).all()
    assert np.isfinite(image.log()).all()
