"""Screenshots of the module for the README and the tutorial, made in the test host.

Every picture comes about as a user would bring it about: by mouse and keyboard in the shipped panel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from figure_options import figure_options

ROOT = Path(__file__).resolve().parents[2]
FOLDER = figure_options(__doc__, ROOT / "Resources" / "Screenshots").parse_args().output  # before the host is started

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [
    str(ROOT / "Testing" / "SlicerHost"),
    str(ROOT / "Testing" / "SlicerHost" / "scenarios"),
    str(ROOT / "DeepDRRSlicer"),
    str(ROOT),
]

import slicerhost  # noqa: E402

slicerhost.start()

import slicer  # noqa: E402
from bench import Bench  # noqa: E402
from slicerhost import mouse  # noqa: E402


def tidy_three_d(bench: Bench) -> None:
    """No box and letters around the scene, and translucent parts sorted by depth."""
    node = bench.three_d.mrmlViewNode()
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    node.SetUseDepthPeeling(True)


def save(bench: Bench, path: Path, top: str) -> None:
    """The window with the panel scrolled such that `top` is at its upper edge."""
    section = getattr(bench.ui, top)
    bench.window._scroll.verticalScrollBar().setValue(section.pos.y() - 4)
    mouse.settle(200)
    for view in (bench.three_d, *(w.sliceView() for w in slicer.app.layoutManager()._slices.values())):
        if view.visible:
            view.forceRender()
    mouse.settle(100)
    path.parent.mkdir(parents=True, exist_ok=True)
    bench.window.grab().save(str(path))


def materials(bench: Bench) -> None:
    bench.press("phantomButton")
    mouse.settle()
    mouse.choose(bench.ui.methodSelector, "threshold")
    bench.segment()
    slicer.app.layoutManager().resetSliceViews()
    bench.press("segments3DCheck")
    bench.three_d.resetFocalPoint()
    tidy_three_d(bench)


def aim(bench: Bench) -> None:
    bench.press("addCarmButton")
    _aim_at_chest(bench)
    bench.wait_for_full_quality(60)
    slicer.app.layoutManager().resetSliceViews()
    bench.press("showImageCheck")


def _aim_at_chest(bench: Bench) -> None:
    bench.show(bench.ui.isocenterSSpin)
    mouse.type_number(bench.ui.isocenterSSpin, 330)
    mouse.type_number(bench.ui.primarySlider, 20)


def oblique(bench: Bench) -> None:
    bench.show(bench.ui.secondarySlider)
    mouse.type_number(bench.ui.primarySlider, 40)
    mouse.type_number(bench.ui.secondarySlider, -15)
    bench.open("xraySection")
    bench.press("bonesDarkCheck")
    mouse.settle(300)
    bench.wait_for_full_quality(60)


def biplane(bench: Bench) -> None:
    bench.press("bonesDarkCheck")
    mouse.choose(bench.ui.machineSelector, "Biplane frontal")
    mouse.type_number(bench.ui.primarySlider, 0)
    mouse.type_number(bench.ui.secondarySlider, 0)
    bench.press("addCarmButton")
    mouse.choose(bench.ui.machineSelector, "Biplane lateral")
    _aim_at_chest(bench)
    mouse.type_number(bench.ui.primarySlider, 90)
    mouse.choose(bench.ui.layoutSelector, "Biplane X-ray")
    mouse.settle(500)
    bench.wait_for_full_quality(60)
    mouse.settle(4000)
    slicer.app.layoutManager().resetSliceViews()
    tidy_three_d(bench)


STEPS = (
    (materials, "materials.png", "ctSection"),
    (aim, "workplace.png", "carmSection"),
    (oblique, "technique.png", "xraySection"),
    (biplane, "biplane.png", "acquireSection"),
)


def main() -> None:
    module = slicerhost.load_scripted_module(ROOT / "DeepDRRSlicer" / "DeepDRRSlicer.py")
    bench = Bench(module, slicerhost.MainWindow(module, 1440, 900))
    for step, name, top in STEPS:
        step(bench)
        save(bench, FOLDER / name, top)
        if bench.message:
            print(f"{step.__name__}: {bench.message}")


if __name__ == "__main__":
    main()
