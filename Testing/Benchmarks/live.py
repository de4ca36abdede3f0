"""The live X-ray in the panel's test host: live.py [CT]; prints a Markdown table.

Loads a CT (the phantom's chest without one), segments it by thresholds, adds a C-arm, drags a ring of it in the 3D view
with the mouse, then turns the same joint in a layout that shows the X-ray alone. Needs slicer-core and PySide6, draws
offscreen: what the software renderer takes is told apart from the rest.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "Testing" / "SlicerHost"
XRAY_ALONE = 5499
JOINT = "secondary"
MACHINES = {"mobile_flat_panel": "Mobile flat panel", "radiography_room": "Radiography room"}
HEADER = (
    "C-arm, what moves",
    "previews/s",
    "width",
    "previews/s, drawing aside",
    "ours, ms (median / longest)",
    "drawing per preview, ms",
    "longest step of the event loop, drawing aside, ms",
)
REST_HEADER = ("C-arm, scatter", "rest to full quality, s", "longest step meanwhile, drawing aside, ms", "Shoot, s")


@dataclass
class Recorder:
    """What happened since `clear`: our frames, the time spent drawing, and the steps of the event loop."""

    frames: list[tuple[float, str, float, int]] = field(default_factory=list)
    drawn_s: float = 0.0
    steps_s: list[float] = field(default_factory=list)

    def clear(self) -> None:
        self.frames, self.drawn_s, self.steps_s = [], 0.0, []

    def watch(self, session: Any, view_class: Any) -> None:
        """Listen to a live session's frames and to every drawing of a view."""
        shown, draw = session._on_frame, view_class._draw

        def framed(carm: Any, quality: str, seconds: float) -> None:
            shown(carm, quality, seconds)
            width = carm.image_node().GetImageData().GetDimensions()[0]
            self.frames.append((time.perf_counter(), quality, seconds, width))

        def drawn(view: Any) -> None:
            started = time.perf_counter()
            draw(view)
            self.drawn_s += time.perf_counter() - started

        session._on_frame = framed
        view_class._draw = drawn

    def step(self, work: Callable[[], None]) -> None:
        """One event of the user's and all that the event loop does about it; drawing is not counted."""
        from PySide6 import QtWidgets

        started, drawn = time.perf_counter(), self.drawn_s
        work()
        QtWidgets.QApplication.processEvents()
        self.steps_s.append(time.perf_counter() - started - (self.drawn_s - drawn))

    def idle_until(self, done: Callable[[], bool], seconds: float) -> None:
        end = time.perf_counter() + seconds
        while not done() and time.perf_counter() < end:
            self.step(lambda: time.sleep(0.001))

    @property
    def has_full(self) -> bool:
        return any(quality == "full" for _, quality, _, _ in self.frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="?", type=Path, help="any CT that Slicer's loader takes; else the phantom")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each motion lasts")
    parser.add_argument("--scatter", default="none,kernel,network", help="scatter models, with commas between")
    options = parser.parse_args()
    bench, recorder = start(options.ct)
    moving, resting = [], []
    for machine, title in MACHINES.items():
        add_machine(bench, title)
        settle_live(bench, recorder)
        moving.append(
            (f"{machine}, ring dragged beside 3D view and slices", *drag_ring(bench, recorder, options.seconds))
        )
        show_xray_alone()
        settle_live(bench, recorder)
        moving.append((f"{machine}, joint turned, X-ray alone", *turn_joint(bench, recorder, options.seconds)))
        for scatter in options.scatter.split(","):
            resting.append((f"{machine}, {scatter}", *rest_and_shoot(bench, recorder, scatter)))
        bench.parameters.technique.scatter = "none"
        bench.carm.remove()
    shape = bench.parameters.ctVolume.GetImageData().GetDimensions()
    print(f"CT {'×'.join(map(str, shape))}, {os.cpu_count()} CPU cores\n")
    print_table(HEADER, moving)
    print_table(REST_HEADER, resting)


def start(ct: Path | None) -> tuple[Any, Recorder]:
    """The host with the panel, the CT, its segments, and live switched on."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(HOST), str(HOST / "scenarios"), str(ROOT / "DeepDRRSlicer"), str(ROOT)]
    import slicerhost

    slicerhost.start()
    import slicer
    from bench import Bench
    from slicerhost.views import _View

    from DeepDRRSlicerLib.widget_live import LiveSection

    module = slicerhost.load_scripted_module(ROOT / "DeepDRRSlicer" / "DeepDRRSlicer.py")
    bench = Bench(module, slicerhost.MainWindow(module))
    bench.clear()
    recorder = Recorder()
    section = next(section for section in bench.panel.sections if isinstance(section, LiveSection))
    recorder.watch(section._session, _View)
    with tempfile.TemporaryDirectory() as folder:
        bench.load(ct or write_phantom(slicer.mrmlScene, Path(folder)))
    bench.parameters.method = "threshold"
    bench.segment()
    bench.set_live(True)
    return bench, recorder


def write_phantom(scene: Any, folder: Path) -> Path:
    from DeepDRRSlicerLib import ct_nodes

    node = ct_nodes.phantom_node(scene, "chest", 1.0)
    node.AddDefaultStorageNode()
    path = folder / "Chest.nrrd"
    node.GetStorageNode().SetFileName(str(path))
    node.GetStorageNode().WriteData(node)
    scene.RemoveNode(node)
    return path


def add_machine(bench: Any, title: str) -> None:
    bench.add_carm(title)


def show_xray_alone() -> None:
    import slicer

    xml = (
        '<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="XRay">'
        '<property name="orientation" action="default">Coronal</property></view></item></layout>'
    )
    node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    if not node.SetLayoutDescription(XRAY_ALONE, xml):
        node.AddLayoutDescription(XRAY_ALONE, xml)
    node.SetViewArrangement(XRAY_ALONE)


def settle_live(bench: Any, recorder: Recorder) -> None:
    """Turn a little there and back, so that tables are compiled and caches filled, and wait for full quality."""
    for value in (2.0, 0.0):
        recorder.clear()
        bench.carm.set_joint(JOINT, value)
        recorder.idle_until(lambda: recorder.has_full, 60)


def drag_ring(bench: Any, recorder: Recorder, seconds: float) -> tuple[str, ...]:
    """Hold the ring with the mouse and go to and fro along a line across it."""
    from PySide6 import QtCore, QtGui, QtWidgets

    view, position = bench.three_d, bench.handle(JOINT)
    x, y = position[len(position) // 2]
    left, no_button = QtCore.Qt.LeftButton, QtCore.Qt.NoButton

    def send(kind: Any, dx: float, dy: float, button: Any, held: Any) -> None:
        at = QtCore.QPointF(x + dx, y + dy)
        event = QtGui.QMouseEvent(kind, at, view.mapToGlobal(at), button, held, QtCore.Qt.NoModifier)
        QtWidgets.QApplication.sendEvent(view, event)

    def move(turn: float) -> None:
        send(QtCore.QEvent.MouseMove, 25 * math.sin(turn), 40 * math.sin(turn), no_button, left)

    send(QtCore.QEvent.MouseMove, 0, 0, no_button, no_button)
    send(QtCore.QEvent.MouseButtonPress, 0, 0, left, left)
    before = bench.carm.joint_value(JOINT)
    figures = keep_moving(recorder, move, seconds)
    if abs(bench.carm.joint_value(JOINT) - before) < 0.1:
        raise SystemExit("The mouse did not take hold of the ring.")
    send(QtCore.QEvent.MouseButtonRelease, 0, 0, left, no_button)
    return figures


def turn_joint(bench: Any, recorder: Recorder, seconds: float) -> tuple[str, ...]:
    return keep_moving(recorder, lambda turn: bench.carm.set_joint(JOINT, 20 * math.sin(turn)), seconds)


def keep_moving(recorder: Recorder, move: Callable[[float], None], seconds: float) -> tuple[str, ...]:
    """A motion that never rests, after one second that the size of previews may take to adapt."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < 1.0:
        recorder.step(lambda: move(time.perf_counter() - begin))
    recorder.clear()
    counted = time.perf_counter()
    while time.perf_counter() - counted < seconds:
        recorder.step(lambda: move(time.perf_counter() - begin))
    elapsed = time.perf_counter() - counted
    previews = [(own_s, width) for _, quality, own_s, width in recorder.frames if quality == "preview"]
    if len(previews) < 2:
        raise SystemExit(f"{len(previews)} previews in {elapsed:.0f} s: the X-ray does not follow.")
    own = [1e3 * own_s for own_s, _ in previews]
    return (
        f"{len(previews) / elapsed:.1f}",
        f"{statistics.median_low(width for _, width in previews)}",
        f"{len(previews) / (elapsed - recorder.drawn_s):.1f}",
        f"{statistics.median(own):.0f} / {max(own):.0f}",
        f"{1e3 * recorder.drawn_s / len(previews):.0f}",
        f"{1e3 * max(recorder.steps_s):.0f}",
    )


def rest_and_shoot(bench: Any, recorder: Recorder, scatter: str) -> tuple[str, ...]:
    if scatter == "network" and find_spec("torch") is None:
        return "needs PyTorch", "", ""
    bench.parameters.technique.scatter = scatter
    settle_live(bench, recorder)
    begin = time.perf_counter()
    while time.perf_counter() - begin < 1.0:
        recorder.step(lambda: bench.carm.set_joint(JOINT, 20 * math.sin(time.perf_counter() - begin)))
    recorder.clear()
    rested = time.perf_counter()
    recorder.idle_until(lambda: recorder.has_full, 60)
    full_at = next((at for at, quality, _, _ in recorder.frames if quality == "full"), math.nan)
    longest = max(recorder.steps_s)
    started = time.perf_counter()
    bench.panel.shoot()
    shot_s = time.perf_counter() - started
    return f"{full_at - rested:.2f}", f"{1e3 * longest:.0f}", f"{shot_s:.2f}"


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    for row in (header, ("---",) * len(header), *rows):
        print("| " + " | ".join(row) + " |")
    print()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # the host's views outlive their scene where Python takes things down in its own order
