"""Cameras against geometry done by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from DeepDRRLogic import affine
from DeepDRRLogic.affine import rigid, rotation
from DeepDRRLogic.geometry import Camera

# The first example of a test may meet a busy machine; time is not what these tests are about.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

AXES = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, -2.0, 0.5), (0.3, 0.4, -1.0)])
ANGLES = st.floats(-720, 720)
LENGTHS = st.floats(-500, 500)


@st.composite
def motions(draw):
    return rigid(rotation(draw(AXES), draw(ANGLES)), [draw(LENGTHS) for _ in range(3)])


@st.composite
def cameras(draw, skew=True):
    focal = draw(st.floats(500, 20000))
    fx = focal * draw(st.floats(0.5, 2)) * draw(st.sampled_from([-1, 1]))
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    K = np.array(
        [
            [fx, draw(st.floats(-300, 300)) if skew else 0.0, draw(st.floats(-1000, 3000))],
            [0, focal, draw(st.floats(-1000, 3000))],
            [0, 0, 1],
        ]
    )
    return Camera(K, draw(motions()), width, height, draw(st.floats(200, 2000)))


def simple_camera(fx: float = 1000.0) -> Camera:
    """Source at the RAS origin, looking to the patient's back with u to his left and v to his feet."""
    camera_from_ras = rigid([[-1, 0, 0], [0, 0, -1], [0, -1, 0]])
    return Camera(np.array([[fx, 0, 49.5], [0, 1000, 29.5], [0, 0, 1]]), camera_from_ras, 100, 60, 500.0)


def test_a_point_is_projected_as_similar_triangles_say():
    # 10 mm to the left and 5 mm to the feet at a depth of 200 mm: 10/200 and 5/200 of the focal length.
    assert simple_camera().project([-10, -200, -5]) == pytest.approx([49.5 + 50, 29.5 + 25])


def test_a_negative_focal_length_mirrors_the_picture_left_to_right_only():
    assert simple_camera(-1000).project([-10, -200, -5]) == pytest.approx([49.5 - 50, 29.5 + 25])
    assert simple_camera(-1000).is_mirrored
    assert not simple_camera().is_mirrored


def test_points_at_and_behind_the_source_have_no_pixel():
    pixels = simple_camera().project([[0, 0, 0], [5, 100, 0], [10, 0, 0], [0, -1, 0]])
    assert np.isnan(pixels[:3]).all()
    assert pixels[3] == pytest.approx([49.5, 29.5])


def test_projection_keeps_the_shape_of_the_points():
    camera = simple_camera()
    points = np.random.default_rng(0).uniform(-50, 50, (4, 3, 3)) - [0, 300, 0]
    together = camera.project(points)
    assert together.shape == (4, 3, 2)
    assert together[2, 1] == pytest.approx(camera.project(points[2, 1]))


def test_the_third_row_of_the_projection_is_depth_in_millimetres():
    point = np.array([3, -321, 7])
    u_depth, v_depth, depth = simple_camera().projection @ [*point, 1]
    assert depth == pytest.approx(321)
    assert simple_camera().project(point) == pytest.approx([u_depth / 321, v_depth / 321])


def test_detector_pixels_stand_where_the_picture_says():
    camera = simple_camera()
    ras_from_pixel = camera.ras_from_pixel
    assert camera.pixel_pitch_mm == pytest.approx((0.5, 0.5))
    assert ras_from_pixel[:3, 0] == pytest.approx([-0.5, 0, 0])
    assert ras_from_pixel[:3, 1] == pytest.approx([0, 0, -0.5])
    assert ras_from_pixel[:3, 2] == pytest.approx([0, -1, 0])
    assert ras_from_pixel[:3, 3] == pytest.approx([49.5 * 0.5, -500, 29.5 * 0.5])
    assert camera.detector_center_ras == pytest.approx([0, -500, 0])


def test_the_detector_of_a_mirrored_picture_is_left_handed():
    assert affine.is_left_handed(simple_camera(-1000).ras_from_pixel)
    assert not affine.is_left_handed(simple_camera(1000).ras_from_pixel)


@given(cameras(), st.floats(-200, 3200), st.floats(-200, 3200))
def test_a_point_on_the_detector_projects_to_its_own_pixel(camera, u, v):
    point = affine.apply(camera.ras_from_pixel, [u, v, 0])
    assert camera.project(point) == pytest.approx([u, v], abs=1e-9 * max(1, abs(camera.intrinsics).max()))
    depth = (point - camera.source_ras) @ camera.principal_axis_ras
    assert depth == pytest.approx(camera.source_to_detector_mm)


def test_detector_pixels_return_to_a_billionth_on_a_real_detector():
    camera = simple_camera(-1000)
    v, u = np.mgrid[:60, :100].astype(float)
    points = affine.apply(camera.ras_from_pixel, np.stack((u, v, np.zeros_like(u)), axis=-1))
    assert np.abs(camera.project(points) - np.stack((u, v), axis=-1)).max() < 1e-9


@given(cameras(), st.floats(0, 2000), st.floats(0, 2000), st.floats(1, 3000))
def test_every_point_of_a_ray_projects_to_the_pixel_of_the_ray(camera, u, v, distance_mm):
    direction = camera.rays([u, v])
    assert np.linalg.norm(direction) == pytest.approx(1)
    assert camera.project(camera.source_ras + distance_mm * direction) == pytest.approx([u, v], abs=1e-5)


def test_rays_of_the_whole_picture_are_those_of_its_pixels():
    camera = simple_camera(-1000)
    rays = camera.rays()
    assert rays.shape == (60, 100, 3)
    assert rays[7, 93] == pytest.approx(camera.rays([93, 7]))
    assert rays[29:31, 49:51].mean(axis=(0, 1)) == pytest.approx([0, -1, 0], abs=1e-6)


@given(cameras(), st.floats(1e-6, 1e6))
def test_a_projection_matrix_at_any_scale_gives_back_its_camera(camera, scale):
    P = scale * camera.projection
    again = Camera.from_projection(P, camera.width, camera.height, camera.source_to_detector_mm)
    size = np.abs(camera.intrinsics).max()
    assert again.intrinsics == pytest.approx(camera.intrinsics, abs=1e-9 * size)
    assert again.camera_from_ras == pytest.approx(camera.camera_from_ras, abs=1e-6)
    assert again.source_ras == pytest.approx(camera.source_ras, abs=1e-6)
    assert again.is_mirrored == camera.is_mirrored


@given(cameras(), st.sampled_from([-1.0, -0.02, 1.0, 77.0]))
def test_a_point_of_the_patient_settles_the_sign_of_a_projection_matrix(camera, scale):
    patient = camera.source_ras + 400 * camera.principal_axis_ras + 20 * camera.camera_from_ras[0, :3]
    again = Camera.from_projection(
        scale * camera.projection,
        camera.width,
        camera.height,
        camera.source_to_detector_mm,
        in_front_ras=patient,
    )
    assert again.principal_axis_ras == pytest.approx(camera.principal_axis_ras, abs=1e-8)
    assert again.project(patient) == pytest.approx(camera.project(patient), abs=1e-5)
    assert again.is_mirrored == camera.is_mirrored


def test_a_projection_matrix_with_the_other_sign_is_the_mirrored_camera_that_looks_backwards():
    camera = simple_camera()
    backwards = Camera.from_projection(-camera.projection, 100, 60, 500)
    assert backwards.is_mirrored
    assert backwards.principal_axis_ras == pytest.approx(-camera.principal_axis_ras)
    assert backwards.project([0, 200, 0]) == pytest.approx([49.5, 29.5])


def test_a_projection_matrix_written_by_hand_is_understood():
    # Source at (0, 0, -1000), beam to the head, u to the right, v to the front, 2 pixels per mm at 1000 mm.
    P = [[2000, 0, 300, 300e3], [0, 2000, 200, 200e3], [0, 0, 1, 1000]]
    camera = Camera.from_projection(P, 601, 401, 1000)
    assert camera.source_ras == pytest.approx([0, 0, -1000])
    assert camera.pixel_pitch_mm == pytest.approx((0.5, 0.5))
    assert not camera.is_mirrored
    assert camera.detector_center_ras == pytest.approx([0, 0, 0])


def test_importing_without_a_distance_says_which_one_was_assumed(caplog):
    camera = Camera.from_projection(simple_camera().projection, 100, 60)
    assert camera.source_to_detector_mm == 1000
    assert "1000 mm" in caplog.text


@pytest.mark.parametrize(
    ("projection", "message"),
    [
        (np.zeros((3, 4)), "parallel projection"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], "parallel projection"),
        ([[1, 0, 0, 0], [2, 0, 0, 0], [0, 0, 1, 1]], "singular"),
        ([[1e3, 0, 5, 0], [0, 0, 7, 0], [0, 0, 1, 0]], "singular"),
        (np.full((3, 4), np.nan), "NaN"),
        (np.eye(4), r"shape \(4, 4\)"),
    ],
)
def test_a_matrix_that_is_no_central_projection_is_refused(projection, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_projection(projection, 10, 10, 1000)


def test_a_point_beside_the_source_cannot_settle_the_sign():
    with pytest.raises(ValueError, match="centre of the CT"):
        Camera.from_projection(simple_camera().projection, 100, 60, 500, in_front_ras=[50, 0, 0])


@given(cameras(), motions(), LENGTHS, LENGTHS, LENGTHS)
def test_moving_camera_and_point_together_changes_no_pixel(camera, motion, x, y, z):
    camera_point = np.array([x, y, 1000 + z])
    point = affine.apply(camera.ras_from_camera, camera_point)
    moved = camera.moved(motion)
    assert moved.project(affine.apply(motion, point)) == pytest.approx(camera.project(point), abs=1e-5)
    assert moved.source_ras == pytest.approx(affine.apply(motion, camera.source_ras), abs=1e-7)
    assert moved.ras_from_pixel == pytest.approx(motion @ camera.ras_from_pixel, abs=1e-6)


@given(cameras(), st.integers(1, 500), st.integers(1, 500))
def test_resampling_keeps_the_corners_of_the_detector(camera, width, height):
    small = camera.resampled(width, height)

    def corners(of):
        u, v = [-0.5, of.width - 0.5], [-0.5, of.height - 0.5]
        return affine.apply(of.ras_from_pixel, [[a, b, 0] for a in u for b in v])

    assert corners(small) == pytest.approx(corners(camera), abs=1e-6)
    assert (small.width, small.height) == (width, height)
    assert small.camera_from_ras == pytest.approx(camera.camera_from_ras)


def test_halving_the_pixels_puts_new_centres_between_old_ones():
    camera = simple_camera()
    half = camera.resampled(50, 30)
    point = affine.apply(camera.ras_from_pixel, [0.5, 0.5, 0])
    assert half.project(point) == pytest.approx([0, 0], abs=1e-9)


@given(cameras())
def test_a_camera_survives_json(camera):
    again = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
    assert again == camera
    assert hash(again) == hash(camera)


def test_cameras_differ_when_any_part_does():
    camera = simple_camera()
    assert camera != simple_camera(-1000)
    assert camera != camera.moved(rigid(translation_mm=[0, 0, 1e-6]))
    assert camera != camera.resampled(100, 61)
    assert camera != "camera"


def test_arrays_of_a_camera_cannot_be_changed_from_outside():
    K = np.array([[1000.0, 0, 0], [0, 1000, 0], [0, 0, 1]])
    camera = Camera(K, np.eye(4), 10, 10, 1000)
    K[0, 0] = 1
    assert camera.intrinsics[0, 0] == 1000
    with pytest.raises(ValueError, match="read-only"):
        camera.camera_from_ras[0, 0] = 2
    camera.principal_axis_ras[:] = 0
    assert camera.principal_axis_ras == pytest.approx([0, 0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intrinsics": np.diag([1000.0, 1000.0, 2.0])}, "upper triangular"),
        ({"intrinsics": [[1, 0, 0], [1, 1, 0], [0, 0, 1]]}, "upper triangular"),
        ({"intrinsics": np.diag([0.0, 1000.0, 1.0])}, "focal lengths are 0.0"),
        ({"intrinsics": np.diag([np.nan, 1.0, 1.0])}, "intrinsics holds NaN"),
        ({"intrinsics": np.eye(4)}, r"intrinsics has shape \(4, 4\)"),
        ({"intrinsics": "K"}, "not an array of numbers"),
        ({"camera_from_ras": np.diag([-1.0, 1, 1, 1])}, "reflection"),
        ({"camera_from_ras": np.diag([2.0, 2, 2, 1])}, "orthonormal"),
        ({"camera_from_ras": rigid(translation_mm=[1, 2, 3]).T}, "Transpose"),
        ({"width": 0}, "width is 0"),
        ({"height": 2.5}, "height is 2.5"),
        ({"height": float("nan")}, "height is nan"),
        ({"width": "512"}, "width is '512'"),
        ({"source_to_detector_mm": -1000.0}, "behind the source"),
        ({"source_to_detector_mm": float("inf")}, "positive distance"),
        ({"source_to_detector_mm": None}, "source_to_detector_mm is None"),
    ],
)
def test_what_is_no_camera_is_refused_with_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_dict(simple_camera().to_dict() | change)


def test_what_is_no_dictionary_is_no_camera():
    with pytest.raises(TypeError, match=r"values = None: give one like camera.to_dict"):
        Camera.from_dict(None)


def test_a_dictionary_with_other_keys_is_refused_by_name():
    values = simple_camera().to_dict()
    values["widht"] = values.pop("width")
    with pytest.raises(ValueError, match=r"missing \['width'\], unknown \['widht'\]"):
        Camera.from_dict(values)


def test_points_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="points_ras has shape"):
        simple_camera().project([[1, 2], [3, 4]])


def test_importing_geometry_imports_nothing_heavy():
    code = (
        "import sys, DeepDRRLogic.geometry, DeepDRRLogic.carm;"
        "heavy = {'numba', 'torch', 'scipy', 'SimpleITK', 'pydicom', 'matplotlib', 'xraylib', 'spekpy'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
