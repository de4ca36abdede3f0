"""Orbits: the C-arm turns, and what it sees is kept as a sequence that can be played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from slicer.util import NodeModify

from . import exposing, waiting
from .carm_nodes import JOINTS, CArmNodes
from .mrml import in_scene
from .technique import SLOW_SCATTER, Technique
from .xray_nodes import image_node, is_xray, picture_of, show_picture

if TYPE_CHECKING:
    from DeepDRRLogic.image import XRayImage

    from .patient import Patient
    from .xray_view import XRayView

_BROWSER = "vtkMRMLSequenceBrowserNode"
_TURNING = JOINTS[2:]


@dataclass(frozen=True)
class Sweep:
    """Which joint turns from where to where, in how many frames of what width in pixels (None: the detector's)."""

    joint: str
    start_deg: float
    stop_deg: float
    frames: int
    width: int | None

    def __post_init__(self) -> None:
        if self.joint not in _TURNING:
            raise ValueError(f"{self.joint!r} does not turn: choose one of {', '.join(_TURNING)}.")
        if self.frames < 2:
            raise ValueError(f"A sweep of {self.frames} frames: give at least 2.")

    @property
    def angles_deg(self) -> tuple[float, ...]:
        return tuple(np.linspace(self.start_deg, self.stop_deg, self.frames).tolist())


def record(
    sweep: Sweep,
    patient: Patient,
    carm: CArmNodes,
    shown_as: Any,
    technique: Technique,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Any | None:
    """A sequence browser with the images and the joint that took them; None where it was cancelled.

    The window of the image that the C-arm already has is used for every frame, so that the sequence does not flicker.
    Afterwards the C-arm is where it was, and stays there while the sequence is played: it follows the frames only
    where playback of the joint's sequence is switched on.
    """
    scene = carm.scene
    name = scene.GenerateUniqueName(f"{carm.name} sweep")
    images = _sequence(scene, name)
    joints = _sequence(scene, f"{name} {sweep.joint}")
    stand_in = image_node(scene, name)
    node, before = carm.node(sweep.joint), carm.joint_value(sweep.joint)
    complete = False
    try:
        for index, angle in enumerate(sweep.angles_deg):
            if cancelled():
                return None
            carm.set_joint(sweep.joint, angle)
            arm = carm.arm()
            patient.update()  # whoever shows the progress may let the user move the CT
            exposure = exposing.prepare(patient, arm.camera(), technique, arm)
            image: XRayImage | None
            if progress is not None and technique.scatter in SLOW_SCATTER:
                image = waiting.exposed(
                    exposure, partial(_go_on, progress, index, sweep.frames), cancelled, sweep.width
                )
            else:
                image = exposing.expose(exposure, width=sweep.width)
            if image is None:
                return None
            show_picture(stand_in, picture_of(image, technique, arm), technique, moving=index > 0)
            images.SetDataNodeAtValue(stand_in, f"{angle:g}")
            joints.SetDataNodeAtValue(node, f"{angle:g}")
            if progress is not None:
                progress(index + 1, sweep.frames)
        if cancelled():
            return None
        complete = True
    finally:
        if carm.is_valid():  # the scene may be closed while the progress is shown
            carm.set_joint(sweep.joint, before)
        if not complete:
            for made in filter(in_scene, (stand_in.GetDisplayNode(), stand_in, images, joints)):
                scene.RemoveNode(made)
    return _browser(scene, name, [(images, stand_in, True), (joints, node, False)])


class Playback:
    """Shows the pictures of sweeps in an X-ray view while they are played.

    Whoever shows a picture there afterwards has the view back. Where playing turns the C-arm too and `is_live()`, the
    view is left to what the C-arm sees.
    """

    def __init__(self, view: XRayView, scene: Any, is_live: Callable[[], bool] = lambda: False) -> None:
        self._view = view
        self._scene = scene
        self._is_live = is_live
        self._frames: dict[Any, tuple[int, int]] = {}
        self._added = scene.AddObserver(scene.NodeAddedEvent, self._node_added)
        browsers = scene.GetNodesByClass(_BROWSER)
        browsers.UnRegister(None)
        for n in range(browsers.GetNumberOfItems()):
            self._watch(browsers.GetItemAsObject(n))

    def close(self) -> None:
        """Watch no longer."""
        self._scene.RemoveObserver(self._added)
        for browser, (observer, _) in self._frames.items():
            browser.RemoveObserver(observer)
        self._frames.clear()

    @vtk.calldata_type(vtk.VTK_OBJECT)  # type: ignore[untyped-decorator]
    def _node_added(self, _scene: Any, _event: str, node: Any) -> None:
        if node.IsA(_BROWSER):
            self._frames = {browser: known for browser, known in self._frames.items() if in_scene(browser)}
            self._watch(node)

    def _watch(self, browser: Any) -> None:
        observer = browser.AddObserver(vtk.vtkCommand.ModifiedEvent, self._played)
        self._frames[browser] = observer, browser.GetSelectedItemNumber()

    def _played(self, browser: Any, _event: str) -> None:
        """A browser has changed: show its frame if that is another one than before."""
        observer, before = self._frames[browser]
        frame = browser.GetSelectedItemNumber()
        self._frames[browser] = observer, frame
        images = browser.GetMasterSequenceNode()
        if frame == before or -1 in (frame, before) or images is None or self._scene.IsBatchProcessing():
            return
        picture = browser.GetProxyNode(images)
        if in_scene(picture) and is_xray(picture) and not (self._is_live() and _turns_the_carm(browser)):
            self._view.show(picture)


def _turns_the_carm(browser: Any) -> bool:
    sequences = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(sequences)
    return any(browser.GetPlayback(sequences.GetItemAsObject(n)) for n in range(sequences.GetNumberOfItems()))


def _go_on(progress: Callable[[int, int], None], done: int, total: int, _fraction: float) -> None:
    """Within a frame there is nothing new to tell, but events are waiting."""
    progress(done, total)


def _sequence(scene: Any, name: str) -> Any:
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("angle")
    sequence.SetIndexUnit("deg")
    sequence.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
    return sequence


def _browser(scene: Any, name: str, played: list[tuple[Any, Any, bool]]) -> Any:
    """played: sequences with the nodes that show them, and whether playing does.

    A browser shows its selected frame again whenever anything about it changes, as when a scene is saved or read: a
    C-arm that it plays would be turned away from where the user aims.
    """
    browser = slicer.vtkMRMLSequenceBrowserNode()
    browser.SetName(name)
    browser = scene.AddNode(browser)
    with NodeModify(browser):  # told of a sequence without its node, the browser would make a node of its own
        for sequence, proxy, is_played in played:
            browser.AddSynchronizedSequenceNodeID(sequence.GetID())
            browser.SetPlayback(sequence, is_played)
            browser.SetSaveChanges(sequence, False)
            browser.SetOverwriteProxyName(sequence, False)
            browser.AddProxyNode(proxy, sequence, False)
        browser.SetSelectedItemNumber(0)
        browser.SetPlaybackRateFps(10.0)
    return browser
