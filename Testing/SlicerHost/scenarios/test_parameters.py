"""What the panel remembers, and what it makes of a scene that was saved on another computer."""

from __future__ import annotations

import pytest
import slicer

from DeepDRRSlicerLib import parameters


@pytest.fixture
def node(bench):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


def test_every_choice_of_the_panel_reaches_the_exposure(node):
    remembered = parameters.DeepDRRSlicerParameterNode(node)
    its = remembered.technique
    its.kvp, its.filtrationAuto, its.aluminiumMm, its.copperMm = 71.0, False, 2.5, 0.3
    its.dose, its.mas, its.detector, its.seed = parameters.MAS, 1.5, "csi_flat_panel", 7
    its.noise, its.log, its.bonesDark, its.collimator, its.window = False, False, True, " circle:60mm ", "chest"
    technique = parameters.technique_of(parameters.DeepDRRSlicerParameterNode(node))
    assert (technique.kvp, technique.aluminium_mm, technique.copper_mm) == (71.0, 2.5, 0.3)
    assert (technique.mas, technique.detector, technique.seed) == (1.5, "csi_flat_panel", 7)
    assert (technique.noise, technique.log, technique.polarity) == (False, False, "bones_dark")
    assert (technique.collimator, technique.window) == ("circle:60mm", "chest")
    its.filtrationAuto, its.dose = True, parameters.PHOTONS
    assert parameters.technique_of(remembered).aluminium_mm is None
    assert parameters.technique_of(remembered).mas is None


def test_a_scene_saved_with_another_computers_gpu_can_be_opened(node):
    parameters.DeepDRRSlicerParameterNode(node).technique.kvp = 66.0
    node.SetParameter("technique.device", "quantum")
    node.SetParameter("method", "magic")
    assert parameters.forget_unknown_choices(node) == ["technique.device", "method"]
    remembered = parameters.DeepDRRSlicerParameterNode(node)
    assert (remembered.technique.device, remembered.method, remembered.technique.kvp) == ("auto", "auto", 66.0)
    assert parameters.forget_unknown_choices(node) == []
