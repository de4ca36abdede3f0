"""What the 3D view shows of patient and C-arm without being asked to."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import ct_nodes, viewpoint


def model(bench):
    return bench.panel.aim._patient.node


def is_shown(bench):
    return model(bench) is not None and bool(model(bench).GetDisplayNode().GetVisibility())


def middle(node):
    low_high = np.zeros(6)
    node.GetRASBounds(low_high)
    return low_high.reshape(3, 2).mean(axis=1)


def from_where(bench):
    camera = bench.three_d.cameraNode()
    return [*camera.GetPosition(), *camera.GetFocalPoint()]


def test_a_fresh_ct_shows_its_bones_once_there_is_a_c_arm(bench, chest_file):
    ct = bench.load(chest_file)
    bench.set_live(False)
    assert model(bench) is None
    bench.add_carm()
    assert is_shown(bench) and 5_000 < model(bench).GetPolyData().GetNumberOfPolys() < 30_000
    assert np.abs(middle(model(bench)) - ct_nodes.center_ras(ct)).max() < 30.0
    assert not bench.parameters.segmentation, "nothing was segmented for it"
    bench.press("removeCarmButton")
    assert model(bench) is None and "Chest bones" not in slicer.util.getNodes("*")


def test_it_is_unticked_for_good(aimed):
    aimed.press("showPatientCheck")
    assert not is_shown(aimed) and not aimed.logic.getParameterNode().showPatient
    mouse.choose(aimed.ui.machineSelector, "Mobile flat panel")
    aimed.press("addCarmButton")
    assert not is_shown(aimed)
    aimed.press("showPatientCheck")
    assert is_shown(aimed)


def test_segments_in_3d_take_its_place(aimed):
    aimed.press("segments3DCheck")
    assert not is_shown(aimed)
    aimed.press("segments3DCheck")
    assert is_shown(aimed)


def test_it_lies_where_the_ct_lies_and_goes_with_it(aimed):
    before = middle(model(aimed))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Motion")
    moved = np.eye(4)
    moved[:3, 3] = 100.0, 0.0, 50.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    aimed.parameters.ctVolume.SetAndObserveTransformNodeID(transform.GetID())
    assert middle(model(aimed)) == pytest.approx(before + moved[:3, 3], abs=0.1)
    slicer.mrmlScene.RemoveNode(aimed.parameters.ctVolume)
    mouse.settle()
    assert model(aimed) is None


def test_it_stays_with_a_ct_whose_transform_is_hardened_or_whose_origin_moves(aimed):
    ct, before = aimed.parameters.ctVolume, middle(model(aimed))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Motion")
    moved = np.eye(4)
    moved[:3, 3] = 100.0, 0.0, 50.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    ct.SetAndObserveTransformNodeID(transform.GetID())
    ct.HardenTransform()
    assert middle(model(aimed)) == pytest.approx(before + moved[:3, 3], abs=0.1)
    ct.SetOrigin(*np.add(ct.GetOrigin(), (0.0, 30.0, 0.0)))
    assert middle(model(aimed)) == pytest.approx(np.add(before, (100.0, 30.0, 50.0)), abs=0.1)


def test_bones_that_are_taken_out_of_the_ct_go(aimed):
    ct = aimed.parameters.ctVolume
    aimed.set_live(False)
    values = slicer.util.arrayFromVolume(ct)
    values[: len(values) // 2][values[: len(values) // 2] > 100] = 40
    height = np.ptp(slicer.util.arrayFromModelPoints(model(aimed))[:, 2])
    slicer.util.arrayFromVolumeModified(ct)
    assert not is_shown(aimed), "what is no longer so is not shown"
    mouse.wait_for(lambda: is_shown(aimed))
    assert np.ptp(slicer.util.arrayFromModelPoints(model(aimed))[:, 2]) < 0.7 * height


def test_a_ct_that_is_emptied_loses_them(aimed):
    ct = aimed.parameters.ctVolume
    aimed.set_live(False)
    slicer.util.arrayFromVolumeModified(ct)
    ct.GetImageData().Initialize()
    aimed.panel.aim._patient._renew(None)
    assert model(aimed) is None


def test_segments_that_are_switched_off_do_not_take_its_place(aimed):
    aimed.press("segments3DCheck")
    assert not is_shown(aimed)
    aimed.parameters.segmentation.GetDisplayNode().SetVisibility3D(False)
    aimed.widget.panel.aim.update()
    assert is_shown(aimed)


def test_without_its_display_node_it_gets_another(aimed):
    slicer.mrmlScene.RemoveNode(model(aimed).GetDisplayNode())
    aimed.widget.panel.aim.update()
    assert is_shown(aimed)


def test_what_is_no_ct_has_none(aimed):
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "MR")
    slicer.util.updateVolumeFromArray(other, np.random.default_rng(1).uniform(0, 60000, (20, 20, 20)))
    aimed.parameters.ctVolume = other
    assert model(aimed) is None


def test_a_scene_is_saved_without_it_and_shows_it_again(aimed, tmp_path):
    path = str(tmp_path / "scene.mrml")
    assert slicer.util.saveScene(path)
    assert "Chest bones" not in (tmp_path / "scene.mrml").read_text()
    assert is_shown(aimed), "saving changes nothing"


def test_a_machine_that_is_too_large_for_the_view_is_looked_at_anew_and_another_not(aimed):
    camera, carm = aimed.three_d.cameraNode(), aimed.carm
    viewpoint.look_at_carm(carm)
    assert viewpoint.sees(camera, carm)
    before = from_where(aimed)
    mouse.choose(aimed.ui.machineSelector, "Mobile flat panel")
    assert viewpoint.sees(camera, carm) and from_where(aimed) == before, "the user's camera stays"
    while viewpoint.sees(camera, carm):
        camera.GetCamera().Dolly(1.05)
    camera.GetCamera().Dolly(1.0 / 1.05)  # it just fits
    assert viewpoint.sees(camera, carm)
    near = from_where(aimed)
    mouse.choose(aimed.ui.machineSelector, "Radiography room")
    assert viewpoint.sees(camera, carm) and from_where(aimed) != near


def test_who_looks_closely_at_a_part_goes_on_looking_there(aimed):
    camera = aimed.three_d.cameraNode()
    camera.GetCamera().Dolly(6.0)
    assert not viewpoint.sees(camera, aimed.carm)
    near = from_where(aimed)
    mouse.choose(aimed.ui.machineSelector, "Radiography room")
    assert from_where(aimed) == near


def test_cameras_without_a_view_are_none_to_turn_and_views_without_perspective_are_fitted_too(aimed):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode", "Somebody's")
    camera, carm = aimed.three_d.cameraNode(), aimed.carm
    camera.SetParallelProjection(1)
    viewpoint.look_at_carm(carm)
    while viewpoint.sees(camera, carm):
        camera.SetParallelScale(camera.GetParallelScale() / 1.05)
    camera.SetParallelScale(camera.GetParallelScale() * 1.05)  # it just fits
    assert viewpoint.sees(camera, carm)
    mouse.choose(aimed.ui.machineSelector, "Radiography room")
    assert viewpoint.sees(camera, carm)
    camera.SetParallelProjection(0)


def test_the_shape_of_the_view_counts(aimed):
    width, height = aimed.three_d.renderWindow().GetSize()
    assert viewpoint._aspect(aimed.three_d.cameraNode()) == pytest.approx(width / height) != 1.0
