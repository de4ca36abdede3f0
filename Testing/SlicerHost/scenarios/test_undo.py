"""What the scene's Undo takes back, and that panel, model and X-ray go back with it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from bench import paint
from slicerhost import mouse

from DeepDRRSlicerLib import carm_display, material_nodes
from DeepDRRSlicerLib.undoing import ONE_EDIT_S, Edits


@pytest.fixture
def undo(aimed):
    """Slicer keeps undo switched off until an application wants it."""
    scene = slicer.mrmlScene
    before, edits, now = scene.GetUndoFlag(), aimed.panel.edits, [100.0]
    scene.SetUndoOn()
    scene.ClearUndoStack()
    aimed.panel.edits = Edits(clock=lambda: now[0])  # however slow the machine, events follow each other at once
    aimed.set_live(True)
    aimed.wait_for_full_quality()

    def undo():
        assert scene.GetNumberOfUndoLevels() > 0, "nothing was saved to come back to"
        scene.Undo()
        mouse.settle()

    undo.now = now
    yield undo
    aimed.panel.edits = edits
    scene.ClearUndoStack()
    scene.SetUndoFlag(before)


def shown_angles(bench):
    return tuple(getattr(bench.ui, f"{name}Slider").value for name in ("primary", "secondary", "roll"))


def model_parts():
    nodes = slicer.util.getNodesByClass("vtkMRMLModelNode")
    return [node for node in nodes if node.GetAttribute(carm_display.PART) is not None]


def editor(bench):
    return bench.ui.editGroup.findChild(slicer.qMRMLSegmentEditorWidget)


def test_a_typed_angle_is_one_undo_and_image_and_panel_go_back(aimed, undo):
    first = aimed.wait_for_full_quality()
    mouse.type_number(aimed.ui.primarySlider, 25)
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 1, "its two digits are one edit"
    mouse.type_number(aimed.ui.secondarySlider, -10)
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 2
    assert np.abs(aimed.wait_for_full_quality() - first).max() > 0.5

    undo()
    assert np.allclose(aimed.angles(), (25, 0, 0), atol=1e-9)
    assert shown_angles(aimed) == (25.0, 0.0, 0.0)
    assert aimed.ui.readoutLabel.text.startswith("LAO 25.0°, CRAN 0.0°")
    undo()
    assert np.allclose(aimed.angles(), (0, 0, 0), atol=1e-9)
    assert shown_angles(aimed) == (0.0, 0.0, 0.0)
    assert np.allclose(aimed.wait_for_full_quality(), first, atol=1e-5)


def test_the_same_angle_typed_after_a_pause_is_another_edit(aimed, undo):
    mouse.type_number(aimed.ui.primarySlider, 25)
    undo.now[0] += 1.1 * ONE_EDIT_S
    mouse.type_number(aimed.ui.primarySlider, 30)
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 2
    undo()
    assert np.allclose(aimed.angles(), (25, 0, 0), atol=1e-9)


def test_the_same_angle_typed_again_after_undo_is_an_edit_of_its_own(aimed, undo):
    mouse.type_number(aimed.ui.primarySlider, 25)
    undo()
    mouse.type_number(aimed.ui.primarySlider, 30)
    undo()
    assert np.allclose(aimed.angles(), (0, 0, 0), atol=1e-9)
    assert aimed.ui.primarySlider.value == 0.0


def test_a_slider_on_its_way_saves_one_state(aimed, undo):
    slider = aimed.ui.primarySlider.findChild(type(aimed.ui.primarySlider._slider))
    aimed.show(slider)
    middle = (slider.width / 2, slider.height / 2)
    mouse.drag(slider, middle, (middle[0] + 40, middle[1]))
    assert aimed.angles()[0] > 10
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 1
    undo()
    assert np.allclose(aimed.angles(), (0, 0, 0), atol=1e-9)


def test_a_machine_chosen_is_undone_with_its_detector_its_model_and_its_image(aimed, undo):
    first, arm, parts = aimed.wait_for_full_quality(), aimed.carm.arm(), len(model_parts())
    mouse.choose(aimed.ui.machineSelector, "Radiography room")
    assert aimed.carm.preset == "radiography_room"
    assert aimed.carm.arm().source_to_detector_mm != arm.source_to_detector_mm
    undo()
    assert aimed.carm.preset == "deepdrr_paper" and aimed.carm.arm() == arm
    assert aimed.ui.machineSelector.currentText == "DeepDRR paper"
    assert aimed.ui.sourceDetectorSpin.value == pytest.approx(arm.source_to_detector_mm)
    assert len(model_parts()) == parts
    assert np.allclose(aimed.wait_for_full_quality(), first, atol=1e-5)


def test_a_named_view_is_undone(aimed, undo):
    mouse.choose(aimed.ui.viewSelector, "Lateral left")
    undo()
    assert np.allclose(aimed.angles(), (0, 0, 0), atol=1e-9)
    assert aimed.ui.readoutLabel.text.startswith("LAO 0.0°")


def test_a_removed_carm_comes_back_whole(aimed, undo):
    first, parts = aimed.wait_for_full_quality(), len(model_parts())
    mouse.type_number(aimed.ui.primarySlider, 25)
    aimed.press("removeCarmButton")
    assert aimed.carm is None and not model_parts()
    undo()
    assert [carm.is_valid() for carm in aimed.logic.carms()] == [True]
    assert aimed.carm is not None, "the panel goes on with it"
    assert np.allclose(aimed.angles(), (25, 0, 0), atol=1e-9)
    assert len(model_parts()) == parts
    undo()
    assert np.allclose(aimed.wait_for_full_quality(), first, atol=1e-5)


def test_an_added_carm_is_undone_with_all_its_parts(aimed, undo):
    parts = len(model_parts())
    aimed.press("addCarmButton")
    assert len(aimed.logic.carms()) == 2
    undo()
    assert len(aimed.logic.carms()) == 1
    assert len(model_parts()) == parts, "parts of a machine are left that is gone"
    assert aimed.carm is not None, "the panel goes on with the one that is left"


def test_a_dragged_handle_is_one_undo_and_redo_drags_it_again(aimed, undo):
    first = aimed.wait_for_full_quality()
    start = max(aimed.handle("secondary"))  # the rightmost point of the ring, where it runs up and down
    mouse.drag(aimed.three_d, start, (start[0] - 4, start[1] + 40))
    dragged, node = aimed.angles(), aimed.carm.node("secondary")
    assert abs(dragged[1]) > 2.0
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 1, "a drag of many steps is one edit"

    undo()
    assert np.allclose(aimed.angles(), (0, 0, 0), atol=1e-9)
    assert aimed.ui.secondarySlider.value == 0.0
    assert np.allclose(aimed.wait_for_full_quality(), first, atol=1e-5)
    assert slicer.mrmlScene.GetNumberOfRedoLevels() == 1

    slicer.mrmlScene.Redo()
    mouse.settle()
    assert np.allclose(aimed.angles(), dragged, atol=1e-9)
    assert aimed.carm.node("secondary") is node
    assert aimed.ui.secondarySlider.value == pytest.approx(dragged[1], abs=0.06)


def test_a_handle_hovered_over_saves_nothing(aimed, undo):
    aimed.handle("secondary")
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 0


def test_redo_of_an_added_and_of_a_removed_carm(aimed, undo):
    carms, first, one = aimed.logic.carms(), aimed.carm.name, len(model_parts())
    aimed.press("addCarmButton")
    two = len(model_parts())
    undo()
    slicer.mrmlScene.Redo()
    mouse.settle()
    assert len(aimed.logic.carms()) == 2 and len(model_parts()) == two > one
    assert all(carm.arm().isocenter_ras_mm == carms[0].arm().isocenter_ras_mm for carm in aimed.logic.carms())
    aimed.press("removeCarmButton")
    undo()
    assert len(aimed.logic.carms()) == 2 and len(model_parts()) == two
    slicer.mrmlScene.Redo()
    mouse.settle()
    assert [carm.name for carm in aimed.logic.carms()] != [first], "the one at work was removed"
    assert len(aimed.logic.carms()) == 1 and len(model_parts()) == two - one
    mouse.type_number(aimed.ui.primarySlider, 12)
    assert np.allclose(aimed.angles(), (12, 0, 0), atol=1e-9), "the panel works on with the one that is left"


def test_with_undo_off_as_slicer_starts_nothing_is_kept_and_nothing_fails(aimed):
    scene = slicer.mrmlScene
    assert not scene.GetUndoFlag()
    aimed.set_live(True)
    mouse.type_number(aimed.ui.primarySlider, 25)
    start = max(aimed.handle("secondary"))  # the rightmost point of the ring, where it runs up and down
    mouse.drag(aimed.three_d, start, (start[0] - 4, start[1] + 40))
    aimed.press("addCarmButton")
    aimed.press("removeCarmButton")
    before = aimed.angles()
    assert scene.GetNumberOfUndoLevels() == 0
    scene.Undo()
    mouse.settle()
    assert aimed.angles() == before and aimed.message == ""


def test_a_material_is_undone_by_the_segment_editor_and_the_xray_follows(aimed, undo):
    first = aimed.wait_for_full_quality()
    box = aimed.ui.materialTable.cellWidget(2, 1)
    aimed.show(box)
    mouse.choose(box, dict(material_nodes.material_choices())["titanium"])
    assert material_nodes.segment_materials(aimed.parameters.segmentation)[2].material == "titanium"
    assert np.abs(aimed.wait_for_full_quality() - first).max() > 0.3
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 0, "the scene would copy every voxel"

    editor(aimed).undo()
    mouse.settle()
    assert material_nodes.segment_materials(aimed.parameters.segmentation)[2].material == "bone"
    assert aimed.ui.materialTable.cellWidget(2, 1).currentText == dict(material_nodes.material_choices())["bone"]
    assert np.allclose(aimed.wait_for_full_quality(), first, atol=1e-5)
    editor(aimed).redo()
    assert material_nodes.segment_materials(aimed.parameters.segmentation)[2].material == "titanium"


def test_corrections_by_hand_that_a_new_segmentation_replaced_come_back(aimed, undo):
    ct, segmentation = aimed.parameters.ctVolume, aimed.parameters.segmentation
    bone = segmentation.GetSegmentation().GetNthSegmentID(2)
    middle = np.zeros(slicer.util.arrayFromVolume(ct).shape, bool)
    middle[tuple(slice(n // 2 - 3, n // 2 + 3) for n in middle.shape)] = True
    paint(segmentation, bone, ct, middle)
    corrected = aimed.wait_for_full_quality()
    aimed.press("segmentButton")
    mouse.wait_for(lambda: aimed.ui.segmentButton.visible, 60)
    assert aimed.parameters.segmentation is segmentation
    assert "Undo" in aimed.message and "Correct the segments by hand" in aimed.message
    bone = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Bone")
    assert not slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, bone, ct)[middle].any()
    assert np.abs(aimed.wait_for_full_quality() - corrected).max() > 0.02

    editor(aimed).undo()
    mouse.settle()
    bone = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Bone")
    assert slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, bone, ct)[middle].all()
    assert np.allclose(aimed.wait_for_full_quality(), corrected, atol=1e-5)
