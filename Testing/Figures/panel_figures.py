"""Screenshots of the module for the README and the tutorial, made in the test host.

Every picture comes about as a user would bring it about: by mouse and keyboard in the shipped panel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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

OUTPUT = ROOT / "Resources" / "Screenshots"


def tidy_three_d(bench: Bench) -> None:
    """No box and letters around the scene, and translucent parts sorted by depth."""
    node = bench.three_d.mrmlViewNode()
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    node.SetUseDepthPeeling(True)


def save(bench: Bench, name: str, top: str) -> None:
    """The window with the panel scrolled such that `top` is at its upper edge."""
    section = getattr(bench.ui, top)
    bench.window._scroll.verticalScrollBar().setValue(section.pos.y() - 4)
    mouse.settle(200)
    for view in (bench.three_d, *(w.sliceView() for w in slicer.app.layoutManager()._slices.values())):
        if view.visible:
            view.forceRender()
    mouse.settle(100)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    bench.window.grab().save(str(OUTPUT / f"{name}.png"))


def materials(bench: Bench) -> None:
    bench.press("phantomButton")
    mouse.settle()
    mouse.choose(bench.ui.methodSelector, "threshold")
    bench.segment()
    slicer.app.layoutManager().resetSliceViews()
    bench.press("segments3DCheck")
    bench.three_d.resetFocalPoint()
    tidy_three_d(bench)
    save(bench, "materials", "ctSection")


def aim(bench: Bench) -> None:
    bench.press("addCarmButton")
    _aim_at_chest(bench)
    bench.wait_for_full_quality(60)
    slicer.app.layoutManager().resetSliceViews()
    bench.press("showImageCheck")
    save(bench, "workplace", "carmSection")


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
    save(bench, "technique", "xraySection")


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
    save(bench, "biplane", "acquireSection")


def main() -> None:
    module = slicerhost.load_scripted_module(ROOT / "DeepDRRSlicer" / "DeepDRRSlicer.py")
    bench = Bench(module, slicerhost.MainWindow(module, 1440, 900))
    for step in (materials, aim, oblique, biplane):
        step(bench)
        if bench.message:
            print(f"{step.__name__}: {bench.message}")


if __name__ == "__main__":
    main()
