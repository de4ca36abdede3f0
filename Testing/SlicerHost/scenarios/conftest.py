"""One host, one window and one panel for all scenarios; each begins with an empty scene."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(ROOT / "Testing" / "SlicerHost"), str(ROOT / "DeepDRRSlicer"), str(ROOT)]

import slicerhost  # noqa: E402

slicerhost.start()

from bench import Bench  # noqa: E402


@pytest.fixture(scope="session")
def the_panel():
    module = slicerhost.load_scripted_module(ROOT / "DeepDRRSlicer" / "DeepDRRSlicer.py")
    return module, slicerhost.MainWindow(module)


@pytest.fixture(autouse=True)
def errors_in_callbacks(monkeypatch):
    """Slots and observers that raise would only print: here they fail the scenario."""
    raised = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: raised.append("".join(traceback.format_exception(*error))))
    yield raised
    assert not raised, "\n".join(raised)


@pytest.fixture
def bench(the_panel):
    module, window = the_panel
    bench = Bench(module, window)
    bench.clear()
    bench.parameters.method = "threshold"  # the V-Net, where it is installed, would take a minute
    yield bench
    assert bench.popups() == [], "the module opened a dialog"
    bench.clear()


@pytest.fixture(scope="session")
def chest_file(the_panel, tmp_path_factory):
    """A small CT on disk: the phantom's chest, 3 mm."""
    import slicer

    from DeepDRRSlicerLib import ct_nodes

    node = ct_nodes.phantom_node(slicer.mrmlScene, "chest", 3.0)
    path = tmp_path_factory.mktemp("ct") / "Chest.nrrd"
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName(str(path))
    assert node.GetStorageNode().WriteData(node)
    slicer.mrmlScene.RemoveNode(node)
    return path


@pytest.fixture
def aimed(bench, chest_file):
    """A CT, its segments, and a C-arm with a small detector; live is off until a scenario switches it on."""
    ct = bench.load(chest_file)
    bench.set_live(False)
    bench.parameters.segmentation = bench.logic.segment(ct, "threshold")
    bench.add_carm()
    return bench
