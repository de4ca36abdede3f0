"""A live session whose time is the test's own and whose worker works at once, or when it is told to."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np
from slicer_scene import QUIET, Clock, arrayFromVolume

from DeepDRRSlicerLib.carm_nodes import CArmNodes
from DeepDRRSlicerLib.live import LiveSession
from DeepDRRSlicerLib.scene_logic import SceneLogic


class AtOnce:
    """A worker that does the work when it is asked to."""

    def submit(self, work, *arguments, **options):
        done = Future()
        try:
            done.set_result(work(*arguments, **options))
        except ValueError as error:
            done.set_exception(error)
        return done

    def shutdown(self, **_):
        pass


class Stage:
    """A CT, its C-arm, the live session around them, and what it has told of itself."""

    def __init__(self, logic: SceneLogic, ct: Any, segmentation: Any) -> None:
        self.logic, self.scene, self.ct, self.segmentation = logic, logic.scene, ct, segmentation
        self.carm = logic.carm(volumeNode=ct, width=512, height=512, pixel_pitch_mm=0.6)
        self.clock = Clock()
        self.frames: list[str] = []
        self.errors: list[str] = []
        self.seen = True
        self.session = LiveSession(
            logic,
            self.clock.call_later,
            clock=self.clock,
            is_visible=lambda: self.seen,
            on_frame=lambda arm, quality, seconds: self.frames.append(quality),
            on_error=self.errors.append,
        )
        self.session._worker = AtOnce()
        self.follow()

    def follow(self, *carms: CArmNodes, technique: Any = QUIET) -> None:
        """Show these C-arms, the stage's own unless others are given."""
        self.session.set_scene(self.ct, self.segmentation, list(carms) or [self.carm], technique)

    def lateral(self) -> CArmNodes:
        """A second C-arm, which is followed, too."""
        lateral = self.logic.carm("Lateral", "biplane_lateral", self.ct, width=128, height=128, pixel_pitch_mm=2.0)
        self.follow(self.carm, lateral)
        return lateral

    @property
    def picture(self) -> np.ndarray:
        return arrayFromVolume(self.carm.image_node())[0]

    def at_rest(self) -> None:
        self.session.enabled = True
        self.clock.run(2.0)
        self.frames.clear()

    def held_work(self) -> list[tuple[Future, Any, tuple[Any, ...]]]:
        """What the worker is given from now on, which it does not do by itself: (future, work, arguments)."""
        pending = []

        def submit(work, *arguments):
            pending.append((Future(), work, arguments))
            return pending[-1][0]

        self.session._worker.submit = submit
        return pending
