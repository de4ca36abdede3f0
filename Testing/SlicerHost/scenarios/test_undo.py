"""What the scene's Undo takes back, and that panel, model and X-ray go back with it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import carm_display, material_nodes


@pytest.fixture
def undo(aimed):
    """Slicer keeps undo switched off until an application wants it."""
    scene = slicer.mrmlScene
    before = scene.GetUndoFlag()
    scene.SetUndoOn()
    scene.ClearUndoStack()
    aimed.set_live(True)
    aimed.wait_for_full_quality()

    def undo():
        assert scene.GetNumberOfUndoLevels() > 0, "nothing was saved to come back to"
        scene.Undo()
        mouse.settle()

    yield undo
    scene.ClearUndoStack()
    scene.SetUndoFlag(before)


def shown_angles(bench):
    return tuple(getattr(bench.ui, f"{name}Slider").value for name in ("primary", "secondary", "roll"))


def model_parts():
    nodes = slicer.util.getNodesByClass("vtkMRMLModelNode")
    return [node for node in nodes if node.GetAttribute(carm_display.PART) is not None]


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


def test_a_material_saves_no_state_that_would_undo_nothing(aimed, undo):
    """MRML does not undo segmentations (each state would copy all voxels): the angle before is what Undo takes back."""
    mouse.type_number(aimed.ui.primarySlider, 25)
    box = aimed.ui.materialTable.cellWidget(1, 1)
    aimed.show(box)
    name = material_nodes.material_choices()[0][1]
    mouse.choose(box, name)
    changed = material_nodes.segment_materials(aimed.parameters.segmentation)
    assert slicer.mrmlScene.GetNumberOfUndoLevels() == 1
    undo()
    assert np.allclose(aimed.angles(), (0, 0, 0), atol=1e-9)
    assert material_nodes.segment_materials(aimed.parameters.segmentation) == changed
