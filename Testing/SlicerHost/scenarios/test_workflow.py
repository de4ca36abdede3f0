"""From a CT to an X-ray and back, by mouse and keyboard."""

from __future__ import annotations

import sys

import numpy as np
import slicer
from bench import paint
from slicerhost import mouse


def test_load_segment_edit_aim_drag_shoot_save_and_reload(bench, chest_file, tmp_path):
    ct = bench.load(chest_file)
    assert ct is not None and bench.ui.ctSelector.currentNode() is ct
    assert bench.ui.verdictLabel.text.endswith("3.00×3.00×3.00 mm, HU ok")

    segmentation = bench.segment()
    table = bench.ui.materialTable
    assert [table.item(row, 0).text() for row in range(table.rowCount)] == ["Air", "Soft tissue", "Bone"]

    bench.add_carm()
    first = bench.wait_for_full_quality()

    bench.show(bench.ui.primarySlider)
    mouse.type_number(bench.ui.primarySlider, 25)
    assert np.allclose(bench.angles(), (25, 0, 0), atol=1e-9)
    turned = bench.wait_for_full_quality()
    assert np.abs(turned - first).max() > 0.5

    middle = np.zeros(slicer.util.arrayFromVolume(ct).shape, bool)
    middle[tuple(slice(n // 2 - 3, n // 2 + 3) for n in middle.shape)] = True
    bone = segmentation.GetSegmentation().GetNthSegmentID(2)
    paint(segmentation, bone, ct, middle)
    assert "full" not in bench.ui.statusLabel.text
    edited = bench.wait_for_full_quality()
    change = np.abs(edited - turned)
    assert change.max() > 0.02, "bone was painted in, and the X-ray did not follow"

    position = bench.handle("secondary")
    assert position, "the ring for CRAN/CAUD can not be found with the mouse"
    start = position[len(position) // 2]
    mouse.drag(bench.three_d, start, (start[0] + 25, start[1] + 40))
    primary, secondary, roll = bench.angles()
    assert abs(secondary) > 2.0
    assert np.allclose((primary, roll), (25, 0), atol=1e-6), "a ring turns its own joint only"
    assert abs(bench.ui.secondarySlider.value - secondary) < 0.06, "the number in the panel follows the hand"
    assert np.abs(bench.wait_for_full_quality() - edited).max() > 0.5

    bench.set_live(False)
    shot = bench.shoot()
    angles, node_name = bench.angles(), bench.carm.image_node().GetName()
    path = tmp_path / "xray.mrb"
    assert slicer.util.saveScene(str(path))
    bench.clear()
    assert bench.parameters.ctVolume is None and bench.carm is None

    slicer.util.loadScene(str(path))
    mouse.settle()
    assert np.allclose(bench.angles(), angles, atol=1e-9)
    assert bench.carm.image_node().GetName() == node_name
    assert np.allclose(bench.image(), shot, atol=1e-6), "the saved X-ray itself came back"
    assert [table.item(row, 0).text() for row in range(table.rowCount)] == ["Air", "Soft tissue", "Bone"]
    assert np.abs(bench.shoot() - shot).max() < 1e-4, "the same scene takes the same X-ray"


def test_a_slider_dragged_with_the_mouse_turns_the_arm_and_shows_previews_on_the_way(aimed):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    slider = aimed.ui.primarySlider.findChild(type(aimed.ui.primarySlider._slider))
    aimed.show(slider)
    seen = []
    mouse.drag(
        slider,
        (slider.width / 2, slider.height / 2),
        (slider.width / 2 + 40, slider.height / 2),
        on_step=lambda: seen.append((aimed.carm.image_node().GetImageData().GetDimensions(), aimed.angles()[0])),
    )
    assert aimed.angles()[0] > 10
    assert any(size[0] < 620 for size, _ in seen), "no preview was shown while the slider moved"
    assert aimed.wait_for_full_quality().shape == (480, 620)


def test_the_ring_around_the_central_ray_rolls_the_detector_and_nothing_else(aimed):
    aimed.set_live(True)
    first = aimed.wait_for_full_quality()
    ring = aimed.handle("roll")
    assert ring, "the roll's ring can not be found with the mouse"
    start = max(ring)  # its rightmost point: there the ring runs up and down
    mouse.drag(aimed.three_d, start, (start[0] - 4, start[1] + 40))
    primary, secondary, roll = aimed.angles()
    assert abs(roll) > 5.0
    assert np.allclose((primary, secondary), 0.0, atol=1e-6)
    assert abs(aimed.ui.rollSlider.value - roll) < 0.06
    assert np.abs(aimed.wait_for_full_quality() - first).max() > 0.5


def test_dragging_the_whole_arm_moves_the_isocentre_and_turns_nothing(aimed):
    before, angles = np.array(aimed.carm.arm().isocenter_ras_mm), aimed.angles()
    arrows = aimed.handle("root")
    assert arrows
    start = arrows[len(arrows) // 2]
    mouse.drag(aimed.three_d, start, (start[0] + 30, start[1] + 12))
    after = np.array(aimed.carm.arm().isocenter_ras_mm)
    assert np.linalg.norm(after - before) > 5
    assert np.allclose(aimed.angles(), angles, atol=1e-6)
    shown = [getattr(aimed.ui, f"isocenter{axis}Spin").value for axis in "RAS"]
    assert np.allclose(shown, after, atol=0.06)


def test_dragging_beside_the_handles_turns_the_view_and_not_the_arm(aimed):
    camera = aimed.three_d.cameraNode()
    position, angles = camera.GetPosition(), aimed.angles()
    mouse.drag(aimed.three_d, (8, 8), (60, 40))
    assert not np.allclose(camera.GetPosition(), position)
    assert aimed.angles() == angles


def test_an_angle_set_from_python_is_the_same_state_as_one_typed(aimed):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    events = []
    node = aimed.carm.node("primary")
    tag = node.AddObserver(slicer.vtkMRMLTransformNode.TransformModifiedEvent, lambda *_: events.append(1))
    aimed.carm.set(primary_angle_deg=-40.0)
    mouse.settle()
    assert aimed.ui.primarySlider.value == -40.0
    assert aimed.ui.readoutLabel.text.startswith("RAO 40.0°, CRAN 0.0°")
    assert len(events) == 1, "setting a joint once was answered by setting it again"
    aimed.carm.set(primary_angle_deg=-38.987, secondary_angle_deg=0.512)
    mouse.settle()
    assert aimed.ui.primarySlider.value == -39.0, "the panel shows one decimal"
    assert np.allclose(aimed.angles(), (-38.987, 0.512, 0), atol=1e-9), "the panel wrote back what it shows"
    aimed.carm.set(primary_angle_deg=-40.0, secondary_angle_deg=0.0)
    mouse.settle()
    by_python = aimed.wait_for_full_quality()
    mouse.type_number(aimed.ui.primarySlider, 0)
    aimed.wait_for_full_quality()
    mouse.type_number(aimed.ui.primarySlider, -40)
    assert np.allclose(aimed.wait_for_full_quality(), by_python, atol=1e-5)
    node.RemoveObserver(tag)


def test_the_users_window_and_zoom_stay_while_the_arm_moves(aimed):
    aimed.shoot()
    display = aimed.carm.image_node().GetDisplayNode()
    display.SetWindowLevelMinMax(1.0, 3.0)
    node = aimed.xray_view.mrmlSliceNode()
    node.SetFieldOfView(120.0, 120.0 * node.GetFieldOfView()[1] / node.GetFieldOfView()[0], 1.0)
    mouse.type_number(aimed.ui.secondarySlider, 15)
    aimed.shoot()
    assert np.allclose((display.GetWindowLevelMin(), display.GetWindowLevelMax()), (1.0, 3.0))
    assert np.isclose(node.GetFieldOfView()[0], 120.0)
    aimed.open("xraySection")
    aimed.press("resetWindowButton")
    assert not np.allclose((display.GetWindowLevelMin(), display.GetWindowLevelMax()), (1.0, 3.0))


def test_the_modules_own_test_passes_here_too(bench):
    sys.modules["DeepDRRSlicer"].DeepDRRSlicerTest().runTest()
