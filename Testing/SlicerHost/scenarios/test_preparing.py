"""The first picture on a computer: the panel says what it waits for, and can be used meanwhile."""

from __future__ import annotations

import threading
import time

import pytest
from slicerhost import mouse

from DeepDRRSlicerLib import preparing
from DeepDRRSlicerLib.widget_live import LiveSection


@pytest.fixture
def unprepared(aimed, monkeypatch):
    """As on a computer where nothing is compiled yet, until the event is set."""
    finish = threading.Event()
    monkeypatch.setattr(preparing, "expose_once", lambda technique: finish.wait(20.0))
    section = next(section for section in aimed.panel.sections if isinstance(section, LiveSection))
    before = section._preparation
    section._preparation = preparing.Preparation(before._call_later, section._prepared)
    yield aimed, finish
    finish.set()
    section._preparation = before


def test_the_panel_says_that_it_prepares_and_stays_usable(unprepared):
    bench, finish = unprepared
    bench.set_live(True)
    mouse.wait_for(lambda: bench.ui.statusLabel.text.startswith("Preparing the projector"))
    started = time.perf_counter()
    mouse.type_number(bench.ui.primarySlider, 30)
    assert bench.angles()[0] == pytest.approx(30.0) and time.perf_counter() - started < 2.0
    assert bench.ui.statusLabel.text.startswith("Preparing the projector") and bench.message == ""
    assert bench.carm.image_node() is None
    finish.set()
    bench.wait_for_full_quality()
    bench.set_live(False)
    bench.set_live(True)
    assert "Preparing" not in bench.ui.statusLabel.text


def test_nothing_is_said_while_live_is_off(unprepared):
    bench, finish = unprepared
    bench.set_live(True)
    mouse.wait_for(lambda: bench.ui.statusLabel.text.startswith("Preparing the projector"))
    bench.set_live(False)
    assert bench.ui.statusLabel.text == ""
    finish.set()
    mouse.settle(200)
    assert bench.carm.image_node() is None
