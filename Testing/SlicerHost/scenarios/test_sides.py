"""The letters at the edges of the X-ray views: those of the picture that is shown, and in no other view."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from slicerhost import mouse
from test_xray_view_alone import drawn

from DeepDRRSlicerLib import layout, side_letters
from DeepDRRSlicerLib.side_letters import SideLetters
from DeepDRRSlicerLib.widget_live import LiveSection


def live_section(bench):
    return next(section for section in bench.panel.sections if isinstance(section, LiveSection))


def of_views(bench):
    return live_section(bench)._letters


@pytest.fixture
def letters(aimed):
    """What each X-ray view says."""
    return lambda which=0: of_views(aimed)[which].shown


def renderers_of(name):
    view = slicer.app.layoutManager().sliceWidget(name).sliceView()
    renderers = view.renderWindow().GetRenderers()
    return [renderers.GetItemAsObject(n) for n in range(renderers.GetNumberOfItems())]


def text_actors(name):
    props = [prop for renderer in renderers_of(name) for prop in renderer.GetViewProps()]
    return [prop for prop in props if prop.IsA("vtkTextActor")]


def texts(name):
    """The words that are drawn in a slice view, wherever they come from."""
    return sorted(actor.GetInput() for actor in text_actors(name) if actor.GetInput())


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
        check_places(aimed, rows, columns)


def check_places(aimed, rows, columns):
    """That what disappears with the letters is at the middle of each edge."""
    pixels = drawn(aimed)
    of_views(aimed)[0].show(None)
    lettered = np.argwhere((drawn(aimed) != pixels).any(axis=2))
    middle = (lettered - [rows / 2, columns / 2]) / [rows, columns]
    assert np.abs(middle).min(axis=1).max() < 0.05, "on the middle lines"
    assert {tuple(place) for place in np.round(2 * middle).astype(int)} == {(0, -1), (0, 1), (-1, 0), (1, 0)}


def test_slicers_orientation_marker_does_not_take_them_into_its_corner(aimed, letters):
    aimed.shoot()
    node = aimed.panel.xray_view.slice_node
    node.SetOrientationMarkerType(node.OrientationMarkerTypeAxes)
    drawn(aimed)
    cornered = [one for one in renderers_of("XRay") if one.GetViewport() != (0.0, 0.0, 1.0, 1.0)]
    assert [one.GetLayer() for one in cornered] == [2], "the marker's renderer, of the highest layer"
    columns, rows = node.GetDimensions()[:2]
    check_places(aimed, rows, columns)


def test_a_view_that_is_gone_is_let_go_of(aimed, monkeypatch):
    aimed.shoot()
    image, letters = aimed.carm.image_node(), SideLetters("XRay")
    letters.show(image)
    assert letters.shown == ("R", "L", "H", "F")
    with monkeypatch.context() as gone:
        gone.setattr(side_letters, "slicer", SimpleNamespace(app=SimpleNamespace(layoutManager=lambda: None)))
        letters.show(image)
        assert letters.shown is None
        letters.close()
    letters.show(image)
    assert letters.shown == ("R", "L", "H", "F")
    letters.close()


def test_nothing_is_left_in_the_view_when_the_panel_is_closed(aimed):
    aimed.shoot()
    before = len(text_actors("XRay"))
    check = SimpleNamespace(connect=lambda *_: None)
    section = LiveSection(SimpleNamespace(logic=aimed.logic, ui=SimpleNamespace(showImageCheck=check)))
    section._view.show(aimed.carm.image_node())
    assert len(text_actors("XRay")) == before + 4
    section.close()
    assert len(text_actors("XRay")) == before


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
