"""The X-ray's slice view and the layouts it stands in, on Slicer's own nodes and logics."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the wheel slicer-core")

from vtk.util.numpy_support import vtk_to_numpy

from DeepDRRLogic.carm import CArm
from DeepDRRSlicerLib import layout
from DeepDRRSlicerLib.xray_view import XRayView, size_mm, slice_to_ras

WIDTH, HEIGHT, PITCH = 96, 64, 3.0
POSES = [(alpha, beta) for alpha in range(-180, 180, 15) for beta in (-89, -45, -20, 0, 20, 45, 90)] + [
    (alpha, 135) for alpha in range(-90, 91, 30)
]


def a_scene():
    scene = slicer.vtkMRMLScene()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    return scene


@pytest.fixture
def scene():
    return a_scene()


@pytest.fixture
def a_view(scene):
    view = XRayView(scene)
    view.slice_node.SetDimensions(480, 320, 1)
    yield view
    view.close()


def a_camera(alpha=0.0, beta=0.0, roll=0.0, width=WIDTH, height=HEIGHT, isocenter=(10.0, -20.0, 300.0)):
    arm = CArm(isocenter_ras_mm=isocenter, width=width, height=height, pixel_pitch_mm=PITCH)
    return arm.with_angles(alpha, beta, roll).camera()


def an_image(scene, camera, values=None):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "X-ray")
    values = np.zeros((camera.height, camera.width), np.float32) if values is None else values
    slicer.util.updateVolumeFromArray(node, values[None])
    place(node, camera)
    return node


def place(node, camera):
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(camera.ras_from_pixel))


def view_pixel(view, point_ras):
    """Where on the view a point appears: to the right, up, and off the plane, in pixels."""
    ras_from_xy = slicer.util.arrayFromVTKMatrix(view.slice_node.GetXYToRAS())
    return (np.linalg.inv(ras_from_xy) @ [*point_ras, 1.0])[:3]


def shown(view, pixel, camera):
    return view_pixel(view, (camera.ras_from_pixel @ [*pixel, 0.0, 1.0])[:3])


def test_there_are_175_poses():
    assert len(set(POSES)) == 175


@pytest.mark.parametrize("roll", [0.0, 30.0])
def test_the_picture_is_upright_and_the_right_way_round_in_every_pose(scene, a_view, roll):
    node = an_image(scene, a_camera())
    a_view.show(node)
    for alpha, beta in POSES:
        camera = a_camera(alpha, beta, roll)
        place(node, camera)
        corner, right, down = (shown(a_view, p, camera) for p in ((0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1)))
        assert (right - corner)[0] > 300, (alpha, beta)
        assert (corner - down)[1] > 200, (alpha, beta)
        assert (right - corner)[1] == pytest.approx(0.0, abs=1e-6)
        assert (down - corner)[0] == pytest.approx(0.0, abs=1e-6)
        assert corner[2] == pytest.approx(0.0, abs=1e-6)
        assert np.linalg.det(slice_to_ras(node)[:3, :3]) == pytest.approx(1.0)


@pytest.mark.parametrize("pose", [(0, 0), (180, 0), (90, 0), (-90, 30), (37, -21), (135, 40), (0, 90)])
def test_the_slice_logic_draws_each_corner_of_the_picture_in_its_corner_of_the_view(scene, pose):
    camera = a_camera(*pose)
    quarters = np.zeros((HEIGHT, WIDTH), np.float32)
    quarters[: HEIGHT // 2, WIDTH // 2 :] = 80.0
    quarters[HEIGHT // 2 :, : WIDTH // 2] = 160.0
    quarters[HEIGHT // 2 :, WIDTH // 2 :] = 240.0
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    view, node = XRayView(scene), an_image(scene, camera, quarters)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0.0, 255.0)
    view.slice_node.SetDimensions(192, 128, 1)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(view.slice_node)
    logic.SetSliceCompositeNode(view.composite_node)
    view.show(node)
    connection = logic.GetImageDataConnection()
    connection.GetProducer().Update()
    drawn = vtk_to_numpy(connection.GetProducer().GetOutputDataObject(0).GetPointData().GetScalars())
    drawn = drawn.reshape(128, 192, -1)[::-1, :, 0].astype(float)
    found = [drawn[v, u] for v, u in ((32, 48), (32, 144), (96, 48), (96, 144))]
    assert found == pytest.approx([0.0, 80.0, 160.0, 240.0], abs=2.0)


def test_the_whole_picture_fills_the_view_at_first(scene, a_view):
    camera = a_camera(25, 10)
    a_view.show(an_image(scene, camera))
    assert shown(a_view, (-0.5, -0.5), camera)[:2] == pytest.approx([0.0, 320.0], abs=1e-6)
    assert shown(a_view, (WIDTH - 0.5, HEIGHT - 0.5), camera)[:2] == pytest.approx([480.0, 0.0], abs=1e-6)


def resize(view, width, height):
    """As the application does when a view's window gets another size."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(view.slice_node.GetScene())
    logic.SetSliceNode(view.slice_node)
    logic.ResizeSliceNode(width, height)


@pytest.mark.parametrize("size", [(300, 420), (640, 200), (900, 600)])
def test_the_whole_picture_stays_in_a_view_that_changes_its_size(scene, a_view, size):
    camera = a_camera(25, 10)
    a_view.show(an_image(scene, camera))
    resize(a_view, *size)
    corners = np.array([shown(a_view, p, camera)[:2] for p in ((-0.5, -0.5), (WIDTH - 0.5, HEIGHT - 0.5))])
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert (low > -1e-6).all()
    assert (high < np.array(size) + 1e-6).all()
    assert np.isclose(high - low, size).any()


def test_a_zoomed_view_keeps_its_zoom_when_it_changes_its_size(scene, a_view):
    a_view.show(an_image(scene, a_camera()))
    a_view.slice_node.SetFieldOfView(90.0, 60.0, 1.0)
    resize(a_view, 600, 200)
    assert a_view.slice_node.GetFieldOfView()[:2] == pytest.approx((180.0, 60.0))


def test_zoom_and_pan_of_the_user_survive_the_next_pose(scene, a_view):
    node = an_image(scene, a_camera())
    a_view.show(node)
    a_view.slice_node.SetFieldOfView(100.0, 66.0, 1.0)
    a_view.slice_node.SetXYZOrigin(12.0, -7.0, 0.0)
    place(node, a_camera(60, -20))
    assert a_view.slice_node.GetFieldOfView() == (100.0, 66.0, 1.0)
    assert a_view.slice_node.GetXYZOrigin() == (12.0, -7.0, 0.0)


def test_finer_pixels_of_the_same_detector_keep_the_zoom_and_another_detector_is_fitted(scene, a_view):
    node = an_image(scene, a_camera())
    a_view.show(node)
    a_view.slice_node.SetFieldOfView(100.0, 66.0, 1.0)
    with slicer.util.NodeModify(node):
        slicer.util.updateVolumeFromArray(node, np.zeros((1, HEIGHT // 2, WIDTH // 2), np.float32))
        place(node, a_camera().resampled(WIDTH // 2, HEIGHT // 2))
    assert a_view.slice_node.GetFieldOfView()[0] == 100.0
    slicer.util.updateVolumeFromArray(node, np.zeros((1, HEIGHT, 2 * WIDTH), np.float32))
    place(node, a_camera(width=2 * WIDTH))
    assert a_view.slice_node.GetFieldOfView()[0] == pytest.approx(2 * WIDTH * PITCH)


def test_the_users_window_is_left_alone(scene, a_view):
    node = an_image(scene, a_camera())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(1.25, 3.5)
    a_view.show(node)
    place(node, a_camera(40, 0))
    assert node.GetDisplayNode().GetWindowLevelMin() == 1.25
    assert node.GetDisplayNode().GetWindowLevelMax() == 3.5


def test_scrolling_and_jumping_do_not_lose_the_picture(scene, a_view):
    camera = a_camera(-30, 15)
    a_view.show(an_image(scene, camera))
    before = shown(a_view, (0, 0), camera)
    ras_from_slice = slicer.util.arrayFromVTKMatrix(a_view.slice_node.GetSliceToRAS())
    a_view.slice_node.SetSliceOffset(a_view.slice_node.GetSliceOffset() + 40.0)
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, 0.0, 0.0, 0.0)
    a_view.slice_node.SetOrientationToAxial()
    assert slicer.util.arrayFromVTKMatrix(a_view.slice_node.GetSliceToRAS()) == pytest.approx(ras_from_slice)
    assert shown(a_view, (0, 0), camera) == pytest.approx(before)


DISTURBANCES = {
    "scroll": lambda node: node.SetSliceOffset(node.GetSliceOffset() + 40.0),
    "jump": lambda node: node.JumpSliceByCentering(0.0, 0.0, 0.0),
    "turn": lambda node: node.SetOrientationToSagittal(),
}


@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES.keys())
def test_after_a_single_disturbance_what_is_drawn_is_the_detectors_plane(scene, a_view, disturb):
    camera = a_camera(-30, 15)
    a_view.show(an_image(scene, camera))
    node = a_view.slice_node
    disturb(node)
    for to_ras, to_slice in ((node.GetXYToRAS(), node.GetXYToSlice()), (node.GetUVWToRAS(), node.GetUVWToSlice())):
        drawn = slicer.util.arrayFromVTKMatrix(to_ras)
        ras_from_slice = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        assert drawn == pytest.approx(ras_from_slice @ slicer.util.arrayFromVTKMatrix(to_slice))
    assert shown(a_view, (0, 0), camera)[2] == pytest.approx(0.0, abs=1e-6)


def test_a_picture_under_a_transform_is_followed(scene, a_view):
    camera = a_camera(20, 0)
    node = an_image(scene, camera)
    a_view.show(node)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    motion = a_camera(70, 30).ras_from_camera
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(motion))
    corner = view_pixel(a_view, (motion @ camera.ras_from_pixel @ [0, 0, 0, 1])[:3])
    right = view_pixel(a_view, (motion @ camera.ras_from_pixel @ [1, 0, 0, 1])[:3])
    assert corner[2] == pytest.approx(0.0, abs=1e-6)
    assert (right - corner)[:2] == pytest.approx([480 / WIDTH, 0.0], abs=1e-6)


def test_showing_the_picture_changes_no_other_view(scene, a_view):
    ct = an_image(scene, a_camera())
    red = scene.CreateNodeByClass("vtkMRMLSliceCompositeNode")
    red.UnRegister(None)
    red.SetLayoutName("Red")
    scene.AddNode(red)
    red.SetBackgroundVolumeID(ct.GetID())
    xray = an_image(scene, a_camera(30, 0))
    a_view.show(xray)
    assert red.GetBackgroundVolumeID() == ct.GetID()
    assert a_view.composite_node.GetBackgroundVolumeID() == xray.GetID()
    assert not a_view.composite_node.GetDoPropagateVolumeSelection()
    assert not a_view.composite_node.GetLinkedControl()
    assert a_view.slice_node.GetViewGroup() != 0


def test_the_picture_lies_whole_on_the_detector_in_3d(scene, a_view):
    camera = a_camera(50, -10)
    node = an_image(scene, camera)
    a_view.show(node)
    assert not a_view.on_detector
    a_view.on_detector = True
    assert not a_view.slice_node.GetSliceEdgeVisibility3D()
    a_view.slice_node.SetFieldOfView(30.0, 20.0, 1.0)
    assert a_view.slice_node.GetSliceVisible()
    assert a_view.slice_node.GetUVWExtents()[:2] == pytest.approx(size_mm(node))
    ras_from_uvw = slicer.util.arrayFromVTKMatrix(a_view.slice_node.GetUVWToRAS())
    middle = (ras_from_uvw @ [*(n / 2 for n in a_view.slice_node.GetUVWDimensions()[:2]), 0, 1])[:3]
    assert middle == pytest.approx(camera.detector_center_ras, abs=1e-6)


def test_two_x_ray_views_show_two_planes(scene, a_view):
    second = XRayView(scene, layout.SECOND_XRAY)
    frontal, lateral = a_camera(0, 0), a_camera(90, 0)
    a_view.show(an_image(scene, frontal))
    second.show(an_image(scene, lateral))
    assert shown(a_view, (5, 5), frontal)[2] == pytest.approx(0.0, abs=1e-6)
    assert shown(second, (5, 5), lateral)[2] == pytest.approx(0.0, abs=1e-6)
    assert a_view.slice_node.GetViewGroup() != second.slice_node.GetViewGroup()
    second.close()


def test_after_closing_the_view_is_free_again(scene, a_view):
    a_view.show(an_image(scene, a_camera()))
    a_view.close()
    a_view.slice_node.SetOrientationToAxial()
    assert a_view.slice_node.GetOrientation() == "Axial"


def test_a_picture_that_is_no_longer_shown_is_no_longer_followed(scene, a_view, monkeypatch):
    first, second = an_image(scene, a_camera()), an_image(scene, a_camera(30))
    a_view.show(first)
    a_view.show(second)
    updates = []
    monkeypatch.setattr(a_view, "update", lambda: updates.append(1))
    first.Modified()
    assert updates == []
    second.Modified()
    assert updates == [1]


def test_an_unknown_view_is_refused(scene):
    with pytest.raises(ValueError, match="XRay2"):
        XRayView(scene, "Red")


def test_a_view_is_made_with_its_singleton_tag_and_used_again(scene, a_view):
    assert a_view.slice_node.GetID() == "vtkMRMLSliceNodeXRay"
    assert XRayView(scene).slice_node is a_view.slice_node
    assert scene.GetNumberOfNodesByClass("vtkMRMLSliceNode") == 1


def test_layouts_are_registered_once_and_can_be_shown():
    node = slicer.vtkMRMLLayoutNode()
    layout.register_layouts(node)
    layout.register_layouts(node)
    for each in layout.LAYOUTS:
        assert each.layout_id > 100
        assert node.GetLayoutDescription(each.layout_id) == each.xml
    layout.show_layout(node, "biplane")
    assert node.GetViewArrangement() == layout.layout_named("biplane").layout_id
    with pytest.raises(ValueError, match="workplace"):
        layout.show_layout(node, "no_such_layout")


def test_layout_numbers_never_change():
    numbers = {each.name: each.layout_id for each in layout.LAYOUTS}
    assert numbers == {"workplace": 5401, "side_by_side": 5402, "xray_large": 5403, "biplane": 5404}


@pytest.mark.parametrize("each", layout.LAYOUTS, ids=lambda each: each.name)
def test_slicers_layout_logic_makes_the_views_of_each_layout(scene, each):
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    node = logic.GetLayoutNode()
    layout.register_layouts(node)
    node.SetViewArrangement(each.layout_id)
    wanted = [view.get("singletontag") for view in ElementTree.fromstring(each.xml).iter("view")]
    views = logic.GetViewNodes()
    shown = [views.GetItemAsObject(n).GetLayoutName() for n in range(views.GetNumberOfItems())]
    assert sorted(shown) == sorted(wanted)
    assert len(set(wanted)) == len(wanted)
    view, style = scene.GetSingletonNode("XRay", "vtkMRMLSliceNode"), layout.XRAY_VIEWS["XRay"]
    assert (view.GetViewGroup(), view.GetLayoutLabel()) == (style.group, style.label)


def test_the_view_looks_the_same_whether_the_layout_or_we_made_its_node(scene, a_view):
    logic = slicer.vtkMRMLLayoutLogic()
    other = a_scene()
    logic.SetMRMLScene(other)
    layout.show_layout(logic.GetLayoutNode(), "workplace")
    theirs, ours = other.GetSingletonNode("XRay", "vtkMRMLSliceNode"), a_view.slice_node
    for property_name in ("ViewGroup", "LayoutLabel", "LayoutName", "Name", "SingletonTag"):
        assert getattr(ours, f"Get{property_name}")() == getattr(theirs, f"Get{property_name}")(), property_name
    assert ours.GetLayoutColor() == pytest.approx(theirs.GetLayoutColor(), abs=1e-6)
