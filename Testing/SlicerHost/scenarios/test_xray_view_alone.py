"""The X-ray view shows the X-ray and nothing of the CT's segments, whatever Slicer puts into its other views."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import layout, material_nodes


@pytest.fixture
def shown(aimed):
    """A shot in the X-ray view, beside the CT's slices."""
    aimed.shoot()
    for name in ("Red", "Green", "Yellow"):
        composite = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()
        composite.SetBackgroundVolumeID(aimed.parameters.ctVolume.GetID())
    return aimed


def backgrounds() -> dict[str, str]:
    """What each slice view shows, by the view's name."""
    manager, scene = slicer.app.layoutManager(), slicer.mrmlScene
    views = {name: manager.sliceWidget(name).mrmlSliceCompositeNode() for name in manager.sliceViewNames()}
    ids = {name: composite.GetBackgroundVolumeID() for name, composite in views.items()}
    return {name: scene.GetNodeByID(ids[name]).GetName() for name in views if ids[name]}


def drawn(bench) -> np.ndarray:
    """Pixels (H, W, 3) of the X-ray view."""
    bench.xray_view.forceRender()
    image = bench.xray_view._picture
    rgba = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return rgba[:, : image.width(), :3].copy()


def colour(pixels: np.ndarray) -> float:
    """How far the most coloured pixel is from grey; the view's own label apart."""
    spread = pixels.astype(int).max(axis=2) - pixels.astype(int).min(axis=2)
    return float(np.percentile(spread, 99.9))


def views_of(segmentation) -> set[str]:
    nodes = (slicer.mrmlScene.GetNodeByID(node_id) for node_id in segmentation.GetDisplayNode().GetViewNodeIDs())
    return {node.GetLayoutName() for node in nodes}


def open_editor(bench):
    bench.ui.editGroup.collapsed = False
    return bench.ui.editGroup.findChild(slicer.qMRMLSegmentEditorWidget)


def test_the_segment_editor_leaves_the_x_ray_where_it_is(shown):
    before = backgrounds()
    assert before["XRay"] == "C-arm X-ray" and before["Red"] == "Chest"
    editor = open_editor(shown)
    mouse.settle()
    assert editor.sourceVolumeNode() is shown.parameters.ctVolume
    assert backgrounds() == before


def test_the_segment_editor_module_leaves_the_x_ray_where_it_is(shown):
    """An editor as Slicer sets it up, on a segmentation that may be shown in every view."""
    segmentation = shown.parameters.segmentation
    segmentation.GetDisplayNode().RemoveAllViewNodeIDs()
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(segmentation)
    assert backgrounds()["XRay"] == "C-arm X-ray"


def test_a_volume_shown_in_all_views_leaves_the_x_ray_its_own(shown):
    composite = shown.panel.xray_view.composite_node
    composite.SetBackgroundVolumeID(shown.parameters.ctVolume.GetID())
    assert backgrounds()["XRay"] == "C-arm X-ray"
    kept = shown.logic.keepCopy(shown.carm.image_node())
    composite.SetForegroundVolumeID(kept.GetID())
    assert composite.GetForegroundVolumeID() == kept.GetID(), "a picture laid over it is the user's"


def test_an_x_ray_that_is_deleted_leaves_the_view_empty(shown):
    slicer.mrmlScene.RemoveNode(shown.carm.image_node())
    mouse.settle()
    assert shown.panel.xray_view.composite_node.GetBackgroundVolumeID() is None


def test_segments_are_neither_drawn_over_the_x_ray_nor_painted_there(shown):
    shown.carm.set(source_to_detector_mm=820.0)  # the detector's plane cuts the CT
    segmentation = shown.parameters.segmentation
    shown.shoot()
    assert "XRay" not in views_of(segmentation) and {"Red", "Green", "Yellow", "1"} <= views_of(segmentation)
    plain = colour(drawn(shown))
    segmentation.GetDisplayNode().RemoveAllViewNodeIDs()
    assert colour(drawn(shown)) > plain + 50, "else nothing was tested"


def test_segments_are_shown_in_views_that_come_later_but_in_no_x_ray(shown):
    segmentation = shown.parameters.segmentation
    manager = slicer.app.layoutManager()
    layout.show_layout(layout.layout_node_of(slicer.mrmlScene), "biplane")
    mouse.settle()
    assert "XRay2" in manager.sliceViewNames() and not views_of(segmentation) & {"XRay", "XRay2"}
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView)
    mouse.settle()
    assert {"Red", "1", "Red+", "Green+", "Yellow+"} <= views_of(segmentation)
    assert not views_of(segmentation) & {"XRay", "XRay2"}


def test_segments_of_others_follow_once_they_are_chosen_and_views_that_somebody_chose_stay(shown):
    scene, ours = slicer.mrmlScene, shown.parameters.segmentation
    tumour, mine = (scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name) for name in ("Tumour", "Mine"))
    for node in (tumour, mine):
        node.CreateDefaultDisplayNodes()
        node.GetSegmentation().AddEmptySegment("Tumour", "Tumour")
    mine.GetDisplayNode().SetViewNodeIDs(["vtkMRMLSliceNodeRed", "vtkMRMLSliceNodeXRay"])
    shown.panel.update()
    assert views_of(tumour) == set(), "nobody asked for it: it is shown as Slicer shows it"
    shown.parameters.segmentation = tumour
    assert {"Red", "1"} < views_of(tumour) == views_of(ours) and "XRay" not in views_of(ours)
    shown.parameters.segmentation = mine
    assert views_of(mine) == {"Red", "XRay"}


def test_without_x_ray_views_segments_are_shown_everywhere():
    scene = slicer.vtkMRMLScene()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    red = slicer.vtkMRMLSliceNode()
    red.SetLayoutName("Red")
    scene.AddNode(red)
    material_nodes.keep_off_xrays(scene, segmentation)
    assert segmentation.GetDisplayNode().GetNumberOfViewNodeIDs() == 0


def test_without_segments_the_editor_is_given_no_volume(aimed):
    editor = open_editor(aimed)
    aimed.parameters.segmentation = None
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Other")
    slicer.util.updateVolumeFromArray(other, np.zeros((4, 4, 4), np.int16))
    aimed.parameters.ctVolume = other
    aimed.ui.primarySlider.value = 5.0
    mouse.settle()
    assert editor.segmentationNode() is None and editor.sourceVolumeNode() is not other
    assert aimed.message == ""
