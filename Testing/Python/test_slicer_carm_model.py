"""The C-arm of the 3D view: its shape, its joints, and that what it shows is what the simulator does."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest

vtk = pytest.importorskip("vtk", reason="needs the wheel slicer-core")

from vtk.util.numpy_support import vtk_to_numpy

from DeepDRRLogic.affine import rigid
from DeepDRRLogic.carm import CArm, beam_frame_ras
from DeepDRRLogic.carm_presets import carm_presets
from DeepDRRLogic.collimator import parse_collimator
from DeepDRRSlicerLib.carm_dimensions import Dimensions
from DeepDRRSlicerLib.carm_model import build_parts, group_matrices
from DeepDRRSlicerLib.carm_stand import (
    ARC_HALF_ANGLE_DEG,
    ORBITAL_REACH_DEG,
    STANDS,
    joint_angles_deg,
)
from DeepDRRSlicerLib.kinematics import about, gantry_rotation

# Parts that the beam passes, or that show it.
LIGHT = ("beam", "beam_edges", "central_ray")
PATIENT_HALF_SIZE_MM = (260.0, 160.0, 450.0)


@pytest.fixture(scope="module", params=sorted(carm_presets()))
def arm(request):
    return CArm.preset(request.param, isocenter_ras_mm=(5.0, -12.0, 300.0))


@pytest.fixture(scope="module")
def mobile():
    return CArm.preset("mobile_flat_panel")


parts_of = functools.cache(build_parts)


def points(part):
    return vtk_to_numpy(part.poly_data.GetPoints().GetData()).astype(float)


def gantry_from_camera(camera, source_to_isocenter_mm):
    """The gantry's frame in RAS, seen from the picture that it takes."""
    x, y, z = camera.camera_from_ras[:3, :3]
    return rigid(np.column_stack((x, z, -y)), camera.source_ras + source_to_isocenter_mm * z)


def placed(arm, dimensions=None):
    """Name and points in RAS of every part."""
    dimensions = dimensions or Dimensions.of(arm)
    gantry = gantry_from_camera(arm.camera(), arm.source_to_isocenter_mm)
    matrices = group_matrices(dimensions, gantry)
    return {
        name: points(part) @ matrices[part.group][:3, :3].T + matrices[part.group][:3, 3]
        for name, part in parts_of(dimensions).items()
    }


def rolled(primary, secondary, roll):
    return gantry_rotation((primary, secondary, roll))


def machine_rotation(angles, stand):
    swivel, angular, orbital = angles
    to_stand = about("y", STANDS[stand])
    return to_stand @ about("y", swivel) @ about("x", angular) @ about("z", orbital) @ to_stand.T


@pytest.mark.parametrize("primary", [-200, -90, -30, 0, 45, 90, 180])
@pytest.mark.parametrize("secondary", [-120, -45, 0, 20, 90])
def test_the_gantry_turns_as_the_simulators_angles_say(primary, secondary):
    beam, up = beam_frame_ras(primary, secondary)
    assert gantry_rotation((primary, secondary, 0))[:, 1] == pytest.approx(beam)
    assert gantry_rotation((primary, secondary, 0))[:, 2] == pytest.approx(up)
    arm = CArm(isocenter_ras_mm=(10, 20, 30)).with_angles(primary, secondary)
    gantry = gantry_from_camera(arm.camera(), arm.source_to_isocenter_mm)
    assert gantry[:3, :3] == pytest.approx(gantry_rotation((primary, secondary, 0)))
    assert gantry[:3, 3] == pytest.approx((10, 20, 30))


@pytest.mark.parametrize("stand", STANDS)
@pytest.mark.parametrize("roll", [0, 25, -140])
def test_the_stand_holds_the_c_exactly_where_it_is(stand, roll):
    for primary, secondary in itertools.product(range(-180, 181, 30), range(-225, 226, 45)):
        rotation = rolled(primary, secondary, roll)
        angles = joint_angles_deg(rotation, stand)
        assert machine_rotation(angles, stand) == pytest.approx(rotation, abs=1e-9)
        assert abs(angles[2]) <= ORBITAL_REACH_DEG < ARC_HALF_ANGLE_DEG


def test_beside_the_table_lao_slides_the_c_and_cran_tilts_it():
    assert joint_angles_deg(gantry_rotation((35, 0, 0)), "right") == pytest.approx((0, 0, 35))
    assert joint_angles_deg(gantry_rotation((0, -25, 0)), "right") == pytest.approx((0, -25, 0))
    assert joint_angles_deg(gantry_rotation((0, 170, 0)), "right") == pytest.approx((0, 170, 0))


@pytest.mark.parametrize(("primary", "secondary"), [(30, 20), (-60, 35), (75, -40), (-10, -70)])
def test_the_joints_are_those_of_the_geometry_page(primary, secondary):
    alpha, beta = np.radians((primary, secondary))
    swivel, angular, orbital = np.radians(joint_angles_deg(gantry_rotation((primary, secondary, 0)), "right"))
    assert np.sin(angular) == pytest.approx(np.cos(alpha) * np.sin(beta))
    assert np.tan(swivel) == pytest.approx(np.sin(alpha) * np.tan(beta))
    assert np.sin(orbital) == pytest.approx(np.sin(alpha) / np.cos(angular))


def test_at_the_head_the_c_is_tilted_by_the_primary_angle_and_slid_by_the_secondary():
    for primary, secondary in itertools.product((-110, -30, 0, 60), (-45, 0, 30, 90)):
        assert joint_angles_deg(gantry_rotation((primary, secondary, 0)), "head") == pytest.approx(
            (0, primary, -secondary), abs=1e-6
        )


def test_a_lateral_towards_the_head_wheels_the_machine_as_a_team_does():
    assert joint_angles_deg(gantry_rotation((90, 20, 0)), "right") == pytest.approx((20, 0, 90))


def test_the_stand_moves_smoothly_through_the_angles_of_daily_work():
    steps = [
        joint_angles_deg(gantry_rotation((a, b, 0)), "right")
        for a, b in zip(range(-60, 61), range(-30, 31), strict=False)
    ]
    assert np.abs(np.diff(steps, axis=0)).max() < 2.5


def test_tube_and_detector_are_where_the_simulator_has_them(arm):
    for primary, secondary in ((0, 0), (30, -20), (75, 10)):
        turned = dataclasses.replace(arm, on_limit="warn").with_angles(primary, secondary)
        camera, parts = turned.camera(), placed(turned)
        beam = camera.principal_axis_ras
        depth = {name: (p - camera.source_ras) @ beam for name, p in parts.items()}
        assert depth["source"].min() < 0 < depth["source"].max()
        assert depth["central_ray"].min() == pytest.approx(0.0, abs=5.0)
        assert depth["central_ray"].max() == pytest.approx(arm.source_to_detector_mm, abs=5.0)
        assert arm.source_to_detector_mm < depth["detector_face"].min() < arm.source_to_detector_mm + 5.0
        assert parts["detector_face"].mean(axis=0) - camera.detector_center_ras == pytest.approx(
            beam * (depth["detector_face"].mean() - arm.source_to_detector_mm), abs=2.0
        )


def test_the_beam_ends_on_the_border_of_the_detectors_pixels(arm):
    camera = arm.camera()
    pixels = camera.project(placed(arm)["beam"])
    pixels = pixels[np.linalg.norm(placed(arm)["beam"] - camera.source_ras, axis=1) > 1.0]
    if arm.field_diameter_mm is None:
        assert np.sort(pixels[:, 0])[[0, -1]] == pytest.approx([-0.5, arm.width - 0.5], abs=0.01)
        assert np.sort(pixels[:, 1])[[0, -1]] == pytest.approx([-0.5, arm.height - 0.5], abs=0.01)
    else:
        radius = np.linalg.norm(pixels - [(arm.width - 1) / 2, (arm.height - 1) / 2], axis=1)
        assert radius * arm.pixel_pitch_mm == pytest.approx(arm.field_diameter_mm / 2, abs=0.01)


@pytest.mark.parametrize(
    "words", ["circle:60mm", "circle:300px@250,700", "rect:-60,-80,40,30mm", "rect:100,-50,1400,300"]
)
@pytest.mark.parametrize("machine", ["mobile_flat_panel", "mobile_image_intensifier", "deepdrr_paper"])
def test_the_beam_is_as_wide_as_the_collimator_leaves_it(machine, words):
    arm = CArm.preset(machine, detector_shift_mm=(15.0, -10.0))
    collimator, camera = parse_collimator(words), arm.camera()
    ras = placed(arm, Dimensions.of(arm, collimator=collimator))["beam"]
    rim = camera.project(ras[np.linalg.norm(ras - camera.source_ras, axis=1) > 1.0])
    open_pixels = collimator.field_mask(camera)
    v, u = np.mgrid[0 : arm.height : 7, 0 : arm.width : 7]
    inside, margin = within_convex(np.stack((u, v), axis=-1).reshape(-1, 2), rim)
    told = open_pixels[::7, ::7].ravel()
    assert 0 < told.sum() < told.size
    clear = np.abs(margin) > 1.5  # pixels that the border does not cross
    assert np.array_equal(inside[clear], told[clear])


def within_convex(points, rim):
    """Whether points (n, 2) lie in the hull of a rim, and how far they are from the nearest of its edges' lines."""
    center = rim.mean(axis=0)
    rim = np.unique(np.round(rim, 6), axis=0)
    rim = rim[np.argsort(np.arctan2(*(rim - center).T[::-1]))]
    edge = np.roll(rim, -1, axis=0) - rim
    normal = np.column_stack((-edge[:, 1], edge[:, 0])) / np.linalg.norm(edge, axis=1, keepdims=True)
    distance = (points @ normal.T - np.sum(rim * normal, axis=1)).min(axis=1)
    return distance >= 0, distance


@pytest.mark.parametrize("primary", [0, 180])
def test_a_shifted_detector_is_drawn_shifted_whichever_side_the_picture_is_read_from(primary):
    arm = CArm(detector_shift_mm=(40.0, -25.0), primary_angle_deg=primary)
    face = placed(arm)["detector_face"].mean(axis=0)
    along = arm.camera().principal_axis_ras
    off = face - arm.camera().detector_center_ras
    assert off - (off @ along) * along == pytest.approx([0, 0, 0], abs=1.0)


def test_at_rest_no_part_touches_the_patient(arm):
    for name, ras in placed(arm.at(primary_angle_deg=0.0)).items():
        if name not in LIGHT:
            inside = np.all(np.abs(ras - arm.isocenter_ras_mm) < PATIENT_HALF_SIZE_MM, axis=1)
            assert not inside.any(), name


def test_no_part_is_in_the_beam(arm):
    camera = arm.camera()
    for name, ras in placed(arm).items():
        depth = (ras - camera.source_ras) @ camera.principal_axis_ras
        between = ras[(depth > 115) & (depth < arm.source_to_detector_mm)]
        if name in LIGHT or not len(between):
            continue
        u, v = camera.project(between).T
        seen = (u > 0) & (u < arm.width - 1) & (v > 0) & (v < arm.height - 1)
        if arm.field_diameter_mm:
            seen &= np.hypot(u - arm.width / 2, v - arm.height / 2) * arm.pixel_pitch_mm < arm.field_diameter_mm / 2
        assert not seen.any(), name


@pytest.mark.parametrize("pose", [(0, 0), (90, 0), (-95, 0), (30, 40), (-60, -35), (180, 0), (0, 90)])
def test_the_carriage_holds_the_arc_and_the_wheels_stand_on_the_floor(mobile, pose):
    parts = placed(mobile.with_angles(*pose))
    dimensions = Dimensions.of(mobile)
    carriage = parts["carriage"].mean(axis=0)
    nearest = np.linalg.norm(parts["arc"] - carriage, axis=1).min()
    assert nearest < 120.0
    floor = -dimensions.isocenter_height_mm
    assert parts["wheels"][:, 1].min() == pytest.approx(floor, abs=0.5)
    assert min(ras[:, 1].min() for ras in parts.values()) > floor - 3.0
    ends = [parts[name].mean(axis=0) for name in ("hub", "arm", "mast_head")]
    assert np.linalg.norm(ends[0] - ends[2]) == pytest.approx(344, abs=10)


def test_the_c_turns_clear_of_the_floor_and_the_chassis(mobile):
    chassis_top = 130.0 - Dimensions.of(mobile).isocenter_height_mm
    for primary, secondary in ((0, 0), (-90, 0), (90, 0), (40, 40), (-45, -90), (0, 90), (180, 0)):
        parts = placed(mobile.with_angles(primary, secondary))
        for name in ("arc", "source", "detector"):
            assert parts[name][:, 1].min() > chassis_top, (primary, secondary)


def test_the_lift_follows_the_isocentre_and_the_floor_stays(mobile):
    dimensions = Dimensions.of(mobile)
    low, high = np.eye(4), np.eye(4)
    high[1, 3] = 150.0
    at_rest, raised = (group_matrices(dimensions, m, rest_height_ras_mm=0.0) for m in (low, high))
    assert raised["lift"][1, 3] - at_rest["lift"][1, 3] == pytest.approx(150.0)
    assert raised["base"] == pytest.approx(at_rest["base"])
    high[1, 3] = 900.0
    beyond = group_matrices(dimensions, high, rest_height_ras_mm=0.0)
    assert beyond["lift"][1, 3] - beyond["base"][1, 3] == pytest.approx(dimensions.isocenter_height_mm + 220.0)


@pytest.mark.parametrize(
    ("stand", "side"), [("right", (1, 0, 0)), ("left", (-1, 0, 0)), ("head", (0, 0, 1)), ("feet", (0, 0, -1))]
)
def test_the_machine_stands_where_it_is_told(mobile, stand, side):
    parts = placed(mobile, Dimensions.of(mobile, stand))
    assert parts["cabinet"].mean(axis=0) @ side > 1000.0
    assert parts["arc"].mean(axis=0) @ side > 100.0


def test_a_tube_on_the_ceiling_has_neither_arc_nor_chassis():
    room = CArm.preset("radiography_room")
    assert not {"arc", "carriage", "cabinet"} & set(placed(room))
    assert {"source", "detector", "beam"} <= set(placed(room))
    with pytest.raises(ValueError, match="right, left, head, feet, none"):
        Dimensions.of(room, "ceiling")


def test_every_part_is_watertight_with_normals_that_point_outward(arm):
    for name, part in parts_of(Dimensions.of(arm)).items():
        mesh = part.poly_data
        assert mesh.GetPointData().GetNormals() is not None, name
        if name in LIGHT:
            continue
        triangles = vtk.vtkTriangleFilter()
        triangles.SetInputData(mesh)
        triangles.Update()
        # Where normals are split at an edge, points are double: joined, no edge may be left open.
        clean = vtk.vtkCleanPolyData()
        clean.SetInputConnection(triangles.GetOutputPort())
        edges = vtk.vtkFeatureEdges()
        edges.SetInputConnection(clean.GetOutputPort())
        edges.FeatureEdgesOff()
        edges.ManifoldEdgesOff()
        edges.Update()
        assert edges.GetOutput().GetNumberOfCells() == 0, name
        normals = vtk_to_numpy(mesh.GetPointData().GetNormals())
        assert np.isfinite(normals).all(), name
        assert signed_volume(clean.GetOutput()) > 0, name
        assert facing_with_cells(triangles.GetOutput()) > 0.99, name


def corners(triangles, values):
    """The values at the three corners of every triangle, (n, 3, ...)."""
    return values[vtk_to_numpy(triangles.GetPolys().GetConnectivityArray()).reshape(-1, 3)]


def signed_volume(triangles):
    a, b, c = corners(triangles, vtk_to_numpy(triangles.GetPoints().GetData()).astype(float)).transpose(1, 0, 2)
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


def facing_with_cells(triangles):
    """Share of the facets whose own normal agrees with those of their points."""
    a, b, c = corners(triangles, vtk_to_numpy(triangles.GetPoints().GetData()).astype(float)).transpose(1, 0, 2)
    normals = corners(triangles, vtk_to_numpy(triangles.GetPointData().GetNormals())).mean(axis=1)
    return np.mean(np.einsum("ij,ij->i", np.cross(b - a, c - a), normals) >= -1e-6)


def test_equal_dimensions_are_one_key_and_others_are_not(mobile):
    assert Dimensions.of(mobile) == Dimensions.of(mobile.with_angles(30, 10))
    assert hash(Dimensions.of(mobile)) == hash(Dimensions.of(mobile.with_angles(-30, 0)))
    assert Dimensions.of(mobile) != Dimensions.of(mobile.at(source_to_detector_mm=1100))


def test_the_model_is_light_enough_to_redraw(arm):
    parts = parts_of(Dimensions.of(arm))
    assert sum(part.poly_data.GetNumberOfPolys() for part in parts.values()) < 25_000
