"""The letters at the edges of the X-ray views: those of the picture that is shown, and in no other view."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from slicerhost import mouse
from test_xray_view_alone import drawn

from DeepDRRSlicerLib import layout
from DeepDRRSlicerLib.widget_live import LiveSection


def of_views(bench):
    return next(section for section in bench.panel.sections if isinstance(section, LiveSection))._letters


@pytest.fixture
def letters(aimed):
    """What each X-ray view says."""
    return lambda which=0: of_views(aimed)[which].shown


def texts(name):
    """The words that are drawn in a slice view, wherever they come from."""
    view = slicer.app.layoutManager().sliceWidget(name).sliceView()
    renderers = view.renderWindow().GetRenderers()
    props = [p for n in range(renderers.GetNumberOfItems()) for p in renderers.GetItemAsObject(n).GetViewProps()]
    return sorted(p.GetInput() for p in props if p.IsA("vtkTextActor") and p.GetInput())


def test_sides_are_named_where_the_x_ray_is_shown_and_follow_the_arm(aimed, letters):
    assert letters() is None
    aimed.shoot()
    assert letters() == ("R", "L", "H", "F")
    assert texts("XRay") == ["F", "H", "L", "R"] and texts("Red") == []
    aimed.set_live(True)
    mouse.type_number(aimed.ui.primarySlider, 45)
    aimed.wait_for_full_quality()
    assert letters()[:2] == ("RA", "LP")
    mouse.choose(aimed.ui.viewSelector, "Lateral left")
    aimed.wait_for_full_quality()
    assert letters() == ("A", "P", "H", "F") and texts("XRay") == ["A", "F", "H", "P"]


def test_they_are_drawn_at_the_middle_of_each_edge_whatever_is_zoomed(aimed, letters):
    aimed.shoot()
    node = aimed.panel.xray_view.slice_node
    columns, rows = node.GetDimensions()[:2]
    for field in (node.GetFieldOfView(), [0.4 * side for side in node.GetFieldOfView()]):
        node.SetFieldOfView(*field[:2], 1.0)
        pixels = drawn(aimed)
        of_views(aimed)[0].show(None)
        lettered = np.argwhere((drawn(aimed) != pixels).any(axis=2))
        middle = (lettered - [rows / 2, columns / 2]) / [rows, columns]
        assert np.abs(middle).min(axis=1).max() < 0.05, "on the middle lines"
        assert {tuple(place) for place in np.round(2 * middle).astype(int)} == {(0, -1), (0, 1), (-1, 0), (1, 0)}


def test_a_view_without_an_x_ray_says_nothing(aimed, letters):
    aimed.shoot()
    slicer.mrmlScene.RemoveNode(aimed.carm.image_node())
    mouse.settle()
    assert letters() is None and texts("XRay") == []
    aimed.shoot()
    assert letters() is not None
    slicer.mrmlScene.Clear(0)
    mouse.settle()
    assert letters() is None and texts("XRay") == []


def test_both_planes_of_a_biplane_machine_are_lettered(aimed, letters):
    aimed.set_live(True)
    aimed.wait_for_full_quality()
    aimed.press("addCarmButton")
    mouse.choose(aimed.ui.viewSelector, "Lateral left")
    layout.show_layout(layout.layout_node_of(slicer.mrmlScene), "biplane")
    mouse.wait_for(lambda: letters(1) is not None and letters(0) != letters(1))
    aimed.wait_for_full_quality()
    assert letters(0) == ("A", "P", "H", "F") and letters(1) == ("R", "L", "H", "F")
    assert texts("XRay") == ["A", "F", "H", "P"] and texts("XRay2") == ["F", "H", "L", "R"]
