"""Segmenting, the table of materials, and correcting segments by hand."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import slicer
from PySide6 import QtCore
from PySide6.QtTest import QTest
from slicerhost import mouse

from DeepDRRSlicerLib import ct_nodes, material_nodes
from DeepDRRSlicerLib.background import JobState
from DeepDRRSlicerLib.widget_materials import MaterialsSection


def test_thresholds_the_wrong_way_round_are_said_in_words(bench, chest_file):
    bench.load(chest_file)
    mouse.type_number(bench.ui.airMaxSlider, 0)
    mouse.type_number(bench.ui.boneMinSlider, 0)
    bench.press("segmentButton")
    mouse.wait_for(lambda: bench.ui.segmentButton.visible, 60)
    assert "air_max_hu" in bench.message and "Traceback" not in bench.message
    assert bench.parameters.segmentation is None
    assert "#fdecea" in bench.ui.messageLabel.styleSheet


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
def test_the_usual_method_without_pytorch_is_thresholds_and_says_so(bench, chest_file):
    bench.load(chest_file)
    mouse.choose(bench.ui.methodSelector, "auto")
    assert bench.ui.airMaxSlider.visible, "thresholds will be used: they can be set"
    bench.press("segmentButton")
    mouse.wait_for(lambda: bench.ui.segmentButton.visible, 60)
    assert bench.parameters.segmentation is not None
    assert "thresholds" in bench.message and "#e8f1fb" in bench.ui.messageLabel.styleSheet


def test_the_usual_method_with_pytorch_is_the_network(bench, chest_file, monkeypatch):
    asked = []
    monkeypatch.setattr("DeepDRRLogic.segmentation.networks_installed", lambda: True)
    monkeypatch.setattr("DeepDRRSlicerLib.dependencies.torch_is_missing", lambda: False)
    monkeypatch.setattr("DeepDRRSlicerLib.dependencies.missing_for_network", list)
    monkeypatch.setattr("DeepDRRSlicerLib.scene_logic.SegmentationJob", lambda ct, *job: asked.append(job) or Idle())
    bench.load(chest_file)
    mouse.choose(bench.ui.methodSelector, "auto")
    assert not bench.ui.airMaxSlider.visible
    bench.press("segmentButton")
    assert asked == [("vnet", {})], "the V-Net reports progress only where it is called by its name"
    bench.press("cancelSegmentButton")


def test_a_segmentation_under_way_ends_with_its_scene_and_reaches_no_other_ct(bench, chest_file):
    its_id = bench.load(chest_file).GetID()
    bench.press("segmentButton")
    section = next(s for s in bench.panel.sections if isinstance(s, MaterialsSection))
    job = section._job
    slicer.mrmlScene.Clear(0)
    mouse.settle()
    assert bench.ui.segmentButton.visible and not bench.ui.cancelSegmentButton.visible
    assert bench.load(chest_file).GetID() == its_id, "another patient's CT, under the same ID"
    mouse.wait_for(lambda: job.poll().finished, 60)
    mouse.settle(500)
    assert job.poll().message == "Cancelled"
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert bench.ui.segmentButton.enabled


class Idle:
    """A job that is never done."""

    def poll(self):
        return JobState(None, "", False, False)

    def cancel(self):
        pass


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
def test_the_network_without_pytorch_says_where_to_get_it(bench, chest_file):
    bench.load(chest_file)
    mouse.choose(bench.ui.methodSelector, "vnet")
    assert not bench.ui.airMaxSlider.visible, "the thresholds belong to the other method"
    bench.press("segmentButton")
    assert "PyTorch" in bench.message and "Extensions Manager" in bench.message
    assert bench.ui.segmentButton.visible


def test_a_cancelled_segmentation_leaves_everything_as_it_was(bench, chest_file):
    bench.load(chest_file)
    bench.press("segmentButton")
    assert bench.ui.cancelSegmentButton.visible and not bench.ui.segmentButton.visible
    bench.press("cancelSegmentButton")
    assert bench.parameters.segmentation is None
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert "cancelled" in bench.message and bench.ui.segmentButton.visible


def test_a_segment_switched_off_in_the_table_is_gone_from_the_xray(aimed):
    with_bone = aimed.shoot()
    table = aimed.ui.materialTable
    aimed.show(table)
    place = table.visualItemRect(table.item(2, 0))
    QTest.mouseClick(
        table.viewport(),
        QtCore.Qt.LeftButton,
        QtCore.Qt.NoModifier,
        QtCore.QPoint(place.left() + 10, place.center().y()),
    )
    mouse.settle()
    segments = material_nodes.segment_materials(aimed.parameters.segmentation)
    assert [segment.enabled for segment in segments] == [True, True, False]
    without = aimed.shoot()
    assert (with_bone - without).max() > 0.3 and np.median(with_bone - without) >= -0.02


def test_a_material_chosen_from_the_list_changes_the_xray(aimed):
    before = aimed.shoot()
    box = aimed.ui.materialTable.cellWidget(2, 1)
    aimed.show(box)
    wanted = dict(material_nodes.material_choices())["titanium"]
    mouse.choose(box, wanted)
    assert material_nodes.segment_materials(aimed.parameters.segmentation)[2].material == "titanium"
    assert np.abs(aimed.shoot() - before).max() > 0.3


def test_a_density_typed_into_the_table_is_taken_and_nonsense_is_refused(aimed):
    table = aimed.ui.materialTable
    table.item(1, 2).setText("1,5")
    assert material_nodes.segment_materials(aimed.parameters.segmentation)[1].density_g_cm3 == 1.5
    table.item(1, 2).setText("heavy")
    assert '"heavy" is no density' in aimed.message
    assert table.item(1, 2).text() == "1.5"
    table.item(1, 2).setText("from CT")
    assert material_nodes.segment_materials(aimed.parameters.segmentation)[1].density_g_cm3 is None


def test_a_segment_that_the_user_adds_becomes_a_material(aimed):
    segmentation = aimed.parameters.segmentation
    segmentation.GetSegmentation().AddEmptySegment("screw", "Screw", (0.6, 0.6, 0.7))
    mouse.settle()
    table = aimed.ui.materialTable
    assert table.rowCount == 4 and table.item(3, 0).text() == "Screw"
    before = aimed.shoot()
    ct = aimed.parameters.ctVolume
    mask = np.zeros(slicer.util.arrayFromVolume(ct).shape, np.uint8)
    mask[tuple(slice(n // 2 - 2, n // 2 + 2) for n in mask.shape)] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "screw", ct)
    material_nodes.set_material(segmentation, "screw", material="titanium", priority=5)
    change = aimed.shoot() - before
    assert change.max() > 0.2
    u, v = aimed.logic.projectPoints(np.array([ct_nodes.center_ras(ct)]), aimed.carm)[0]
    rows, columns = np.nonzero(change > 0.2)
    assert abs(columns.mean() - u) < 8 and abs(rows.mean() - v) < 8


def test_the_segment_editor_is_made_when_opened_and_knows_ct_and_segments(aimed):
    aimed.show(aimed.ui.editGroup)
    mouse.click(aimed.ui.editGroup, 8, 8)
    editor = aimed.ui.editGroup.findChild(slicer.qMRMLSegmentEditorWidget)
    assert editor.segmentationNode() is aimed.parameters.segmentation
    assert editor.sourceVolumeNode() is aimed.parameters.ctVolume


def test_the_segment_editor_lets_go_of_views_and_keys_when_it_is_put_away(aimed):
    def begin_to_paint():
        editor.mrmlSegmentEditorNode().SetActiveEffectName("Paint")
        assert editor._has_shortcuts

    def assert_idle():
        assert not editor.mrmlSegmentEditorNode().GetActiveEffectName()
        assert not editor._has_shortcuts

    group, module = aimed.ui.editGroup, aimed.module.widgetRepresentation()
    group.collapsed = False
    editor = group.findChild(slicer.qMRMLSegmentEditorWidget)
    begin_to_paint()
    module.exit()
    assert_idle()
    module.enter()
    begin_to_paint()
    group.collapsed = True
    assert_idle()
    module.exit()
    module.enter()
    assert_idle()
    group.collapsed = False
    begin_to_paint()
    slicer.mrmlScene.Clear(0)
    assert editor.segmentationNode() is None
    assert not editor.mrmlSegmentEditorNode().GetActiveEffectName()
    assert editor._has_shortcuts, "it is still open"
    group.collapsed = True


def test_trabecular_bone_and_fat_are_told_apart_where_the_panel_says_so(bench, chest_file):
    def names():
        return [bench.ui.materialTable.item(row, 0).text() for row in range(bench.ui.materialTable.rowCount)]

    bench.load(chest_file)
    bench.add_carm()
    bench.set_live(False)
    bench.press("tissuesCheck")
    assert bench.logic.getParameterNode().tissues, "kept in the scene"
    segmentation = bench.segment()
    assert names() == ["Air", "Soft tissue", "Bone", "Trabecular bone", "Adipose"]
    made_of = [segment.material for segment in material_nodes.segment_materials(segmentation)]
    assert made_of == ["air", "soft_tissue", "bone", "trabecular_bone", "adipose"]
    bench.parameters.technique.kvp = 60.0
    fine = bench.shoot()
    bench.press("tissuesCheck")
    assert bench.segment() is segmentation
    assert names() == ["Air", "Soft tissue", "Bone"]
    less = bench.shoot() - fine
    assert np.percentile(less, 99) > 0.05, "bone that is all compact attenuates more"
