"""The module as Slicer starts, reloads and tests it; without a main window, and without packages."""

from __future__ import annotations

import sys
import unittest
from types import SimpleNamespace

import pytest
import slicer
from slicerhost import mouse

from DeepDRRSlicerLib import dependencies, layout, sample_data


@pytest.fixture
def module():
    """The shipped DeepDRRSlicer.py."""
    return sys.modules["DeepDRRSlicer"]


@pytest.fixture
def fresh_layout(monkeypatch):
    """The layout node of a Slicer that has just started."""
    node = slicer.vtkMRMLLayoutNode()
    monkeypatch.setattr(layout, "layout_node_of", lambda scene: node)
    return node


@pytest.fixture
def a_start(module, monkeypatch):
    """What happens when Slicer has started; Sample Data and the Terminologies module are not in the host."""
    terminologies = SimpleNamespace(logic=slicer.vtkSlicerTerminologiesModuleLogic)
    monkeypatch.setattr(slicer.modules, "terminologies", terminologies, raising=False)
    monkeypatch.setattr(sample_data, "register_samples", lambda: None)
    return module.register


def test_a_scene_opened_before_the_module_finds_its_layout(bench, a_start, fresh_layout):
    a_start()
    fresh_layout.SetViewArrangement(layout.layout_named("biplane").layout_id)
    assert fresh_layout.GetCurrentLayoutDescription() == layout.layout_named("biplane").xml


def test_a_scene_given_on_the_command_line_finds_its_layout_once_slicer_has_started(bench, a_start, fresh_layout):
    fresh_layout.SetViewArrangement(layout.layout_named("workplace").layout_id)
    assert not fresh_layout.GetCurrentLayoutDescription()
    a_start()
    assert fresh_layout.GetCurrentLayoutDescription() == layout.layout_named("workplace").xml


def test_the_panel_works_without_a_main_window_and_its_layouts(bench, a_start, chest_file, monkeypatch):
    monkeypatch.setattr(layout, "layout_node_of", lambda scene: None)
    a_start()
    bench.widget.initializeParameterNode()
    bench.load(chest_file)
    bench.set_live(False)
    bench.press("addCarmButton")
    assert bench.message == "" and bench.carm is not None
    bench.shoot()
    assert not bench.ui.layoutSelector.enabled
    monkeypatch.undo()
    bench.panel.update()
    mouse.settle()
    assert bench.ui.layoutSelector.enabled


def test_a_reload_leaves_no_class_of_before(bench, module, monkeypatch):
    def library():
        return {name: loaded for name, loaded in sys.modules.items() if name.split(".")[0] == module.LIBRARY}

    base, before = module.ScriptedLoadableModuleWidget, library()
    monkeypatch.setattr(base, "onReload", lambda self: None, raising=False)
    try:
        bench.widget.onReload()
        from DeepDRRSlicerLib import widget_materials, widget_sections

        assert widget_sections.MaterialsSection is widget_materials.MaterialsSection
        assert widget_sections.MaterialsSection is not before["DeepDRRSlicerLib.widget_materials"].MaterialsSection
    finally:
        for name in library():
            del sys.modules[name]
        sys.modules.update(before)


def test_the_modules_own_test_is_skipped_where_packages_are_missing(bench, module, monkeypatch):
    monkeypatch.setattr(dependencies, "missing", lambda: ["no-such-package-of-ours"])
    suite = unittest.TestLoader().loadTestsFromTestCase(module.DeepDRRSlicerTest)
    result = unittest.TestResult()
    suite.run(result)
    assert result.wasSuccessful()
    assert {reason for _, reason in result.skipped} == {dependencies.explain(["no-such-package-of-ours"])}
    assert len(result.skipped) == result.testsRun == suite.countTestCases() > 3
    said = []
    test = module.DeepDRRSlicerTest()
    monkeypatch.setattr(test, "delayDisplay", said.append)
    test.runTest()
    assert len(said) == 1 and said[0].startswith("Skipped") and "no-such-package-of-ours" in said[0]
