"""Trabecular bone and fat as segments: told apart by eye, fat seen through, and there only where asked for."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from slicer_scene import make_scene

from DeepDRRSlicerLib import ct_nodes, material_nodes
from DeepDRRSlicerLib.scene_logic import SceneLogic

FINE = ["air", "soft_tissue", "bone", "trabecular_bone", "adipose"]


@pytest.fixture
def logic():
    return SceneLogic(make_scene())


@pytest.fixture
def ct(logic):
    return ct_nodes.phantom_node(logic.scene, "chest", 4.0)


def materials(segmentation):
    return [segment.material for segment in material_nodes.segment_materials(segmentation)]


def test_a_process_of_its_own_splits_tissues_too(logic, ct):
    job = logic.startSegmentation(ct, "threshold", tissues=True)
    while not job.poll().finished:
        time.sleep(0.02)
    segmentation = logic.finishSegmentation(job, ct)
    assert materials(segmentation) == FINE
    assert materials(logic.segment(ct, "threshold", segmentation)) == FINE[:3], "nothing of the run before is left"


def test_all_five_are_told_apart_by_colour(logic, ct):
    segments = material_nodes.segment_materials(logic.segment(ct, "threshold", tissues=True))
    colours = {segment.material: 255 * np.array(segment.color) for segment in segments}
    for one, other in itertools.combinations(FINE[1:], 2):
        assert np.abs(colours[one] - colours[other]).max() > 40, (one, other)


def test_fat_is_fainter_than_soft_tissue_and_trabecular_bone_as_solid_as_bone(logic, ct):
    display = logic.segment(ct, "threshold", tissues=True).GetDisplayNode()

    def shown(name):
        of = (display.GetSegmentOpacity3D, display.GetSegmentOpacity2DFill, display.GetSegmentOpacity2DOutline)
        return np.array([opacity("DeepDRR_" + name) for opacity in of])

    assert np.all(shown("adipose") > 0.0) and np.all(shown("adipose") <= shown("soft_tissue"))
    for name in ("bone", "trabecular_bone"):
        assert shown(name) == pytest.approx([1.0, 0.6, 1.0])
