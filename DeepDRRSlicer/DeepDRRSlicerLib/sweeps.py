"""Orbits: the C-arm turns, and what it sees is kept as a sequence that can be played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from . import exposing
from .carm_nodes import JOINTS, CArmNodes
from .technique import Technique
from .xray_nodes import image_node, picture_of, show_picture

if TYPE_CHECKING:
    from .patient import Patient

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
    Afterwards the C-arm is where it was, until the sequence is played.
    """
    scene = carm.scene
    images = _sequence(scene, f"{carm.name} sweep")
    joints = _sequence(scene, f"{carm.name} sweep {sweep.joint}")
    stand_in = image_node(scene, f"{carm.name} sweep")
    node, before = carm.node(sweep.joint), carm.joint_value(sweep.joint)
    complete = False
    try:
        for index, angle in enumerate(sweep.angles_deg):
            if cancelled():
                return None
            carm.set_joint(sweep.joint, angle)
            arm = carm.arm()
            image = exposing.expose(exposing.prepare(patient, arm.camera(), technique, arm), width=sweep.width)
            show_picture(stand_in, picture_of(image, technique, arm), technique, moving=index > 0)
            images.SetDataNodeAtValue(stand_in, f"{angle:g}")
            joints.SetDataNodeAtValue(node, f"{angle:g}")
            if progress is not None:
                progress(index + 1, sweep.frames)
        complete = True
    finally:
        carm.set_joint(sweep.joint, before)
        if not complete:
            for made in (stand_in.GetDisplayNode(), stand_in, images, joints):
                scene.RemoveNode(made)
    browser = _browser(scene, f"{carm.name} sweep", [(images, stand_in), (joints, node)])
    carm.set_joint(sweep.joint, before)  # which the browser has turned to a frame of its own
    return browser


def _sequence(scene: Any, name: str) -> Any:
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("angle")
    sequence.SetIndexUnit("deg")
    sequence.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
    return sequence


def _browser(scene: Any, name: str, pairs: list[tuple[Any, Any]]) -> Any:
    browser = slicer.vtkMRMLSequenceBrowserNode()
    browser.SetName(name)
    browser = scene.AddNode(browser)
    for sequence, proxy in pairs:
        browser.AddSynchronizedSequenceNodeID(sequence.GetID())
        browser.AddProxyNode(proxy, sequence, False)
        browser.SetSaveChanges(sequence, False)
        browser.SetOverwriteProxyName(sequence, False)
    browser.SetPlaybackRateFps(10.0)
    return browser
