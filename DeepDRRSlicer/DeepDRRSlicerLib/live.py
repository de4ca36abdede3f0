"""The X-ray that follows the C-arm: previews while anything moves, full quality soon after it rests.

Whatever happens in the scene only asks for a frame. The first one comes at once (leading edge); what happens within a
frame's time is gathered and shown by the next (trailing timer). A key of all that an image depends on is compared
before anything is rendered. Full quality is made in a thread that touches no scene; its result is shown if it is still
wanted.
Timer and clock are handed in, so that none of this needs Qt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from . import carm_display, exposing, xray_nodes
from .carm_nodes import CArmNodes
from .carm_observer import OnDrag
from .mrml import in_scene
from .observing import SceneWatch
from .pace import GAP_S, Pace
from .technique import SLOW_SCATTER, Technique
from .trouble import CANNOT, words
from .waiting import TURN_S

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.image import XRayImage

    from .exposing import Exposure
    from .patient import Patient
    from .scene_logic import SceneLogic
    from .xray_nodes import Picture

CallLater = Callable[[int, Callable[[], None]], None]
Quality = Literal["", "preview", "full"]

_GAP_MS = round(1000 * GAP_S)
_POLL_MS = 5


class LiveSession:
    """Keeps the images of some C-arms up to date with the scene.

    on_frame(carm, quality, seconds) is called after each image; on_carm(carm) after each change of a C-arm, live or
    not; on_error(text) where no image can be made, once per reason (see `trouble`); on_drag as in CArmObserver.
    `is_visible` false: nothing is rendered.
    """

    def __init__(
        self,
        logic: SceneLogic,
        call_later: CallLater,
        *,
        clock: Callable[[], float] = time.perf_counter,
        is_visible: Callable[[], bool] = lambda: True,
        on_frame: Callable[[CArmNodes, Quality, float], None] | None = None,
        on_carm: Callable[[CArmNodes], None] | None = None,
        on_error: Callable[[str], None] | None = None,
        on_drag: OnDrag | None = None,
    ) -> None:
        self._logic = logic
        self._call_later = call_later
        self._clock = clock
        self._is_visible = is_visible
        self._on_frame = on_frame or (lambda carm, quality, seconds: None)
        self._on_carm = on_carm or (lambda carm: None)
        self._on_error = on_error or (lambda text: None)
        self._watch = SceneWatch(self.request, self._carm_changed, on_drag)
        self._volume: Any | None = None
        self._segmentation: Any | None = None
        self._carms: list[CArmNodes] = []
        self._technique = Technique()
        self._enabled = False
        self._busy = False
        self._wanted_ticks = 0
        self._shown: dict[str, tuple[Hashable, Quality]] = {}
        self._job: _Job | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="DeepDRR")
        self.pace = Pace()
        self._reasons: dict[str, str] = {}

    @property
    def enabled(self) -> bool:
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._enabled = bool(value)
        if self._enabled:
            self.request()

    @property
    def trouble(self) -> str:
        """Why a C-arm's image is not of now, empty where all are."""
        return next((self._reasons[arm.root.GetID()] for arm in self._carms if arm.root.GetID() in self._reasons), "")

    def set_scene(
        self, volumeNode: Any | None, segmentationNode: Any | None, carms: Sequence[CArmNodes], technique: Technique
    ) -> None:
        """What to show from now on; cheap where nothing has changed."""
        if volumeNode is not self._volume:
            self._job = None
            self._reasons.clear()
        self._volume, self._segmentation, self._technique = volumeNode, segmentationNode, technique
        self._carms = list(carms)
        self._watch.observe(volumeNode, segmentationNode, self._carms)
        for carm in self._carms:
            with suppress(ValueError):  # that the words make no sense is said by the X-ray, which needs them too
                carm_display.show_collimator(carm, technique.collimator)
        self.request()

    def request(self) -> None:
        """Something may have changed: show it, now or as soon as the frame before allows."""
        if self._busy or not self._enabled:
            return
        if not self._is_settled() or self.pace.is_too_soon(self._clock()):
            self._tick_in(_GAP_MS)
        elif self._may_render():
            self._frame()

    def shooting(self, carm: CArmNodes) -> Hashable:
        """Somebody is about to shoot: the state that `shot` asks for, with the patient up to date."""
        with suppress(*CANNOT):
            self._logic.patient(self._volume, self._segmentation)
        return self._key(carm)

    def shot(self, carm: CArmNodes, state: Hashable) -> None:
        """Somebody has put the picture of full quality into the C-arm's node: it stays until that state changes."""
        if self._job is not None and self._job.carm.root is carm.root:
            self._job = None
        self._reasons.pop(carm.root.GetID(), None)
        self._shown[carm.root.GetID()] = (state, "full")

    def finished(self, carm: CArmNodes) -> None:
        """Somebody has put the exposure that the preview stood for into the C-arm's node."""
        key, _ = self._shown.get(carm.root.GetID(), (None, ""))
        self.shot(carm, key)
        self._on_frame(carm, "full", 0.0)

    @property
    def is_following(self) -> bool:
        """Whether what changes is shown at once, or why it can not be."""
        return self._may_render()

    def scene_closed(self) -> None:
        """Let go of everything of the scene; a picture under way is dropped."""
        self._shown.clear()
        self.set_scene(None, None, [], Technique())

    def close(self) -> None:
        """Watch and render no longer."""
        self._enabled = False
        self._wanted_ticks += 1
        self._watch.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _ready(self) -> bool:
        self._carms = [carm for carm in self._carms if carm.is_valid()]
        if self._segmentation is not None and not in_scene(self._segmentation):
            self._segmentation = None
        return bool(self._carms) and in_scene(self._volume)

    def _may_render(self) -> bool:
        return self._enabled and self._ready() and self._is_visible()

    def _is_settled(self) -> bool:
        """Not in the middle of the scene's Undo or of reading a file, which bring nodes and transforms one by one."""
        scene = self._logic.scene
        return not scene.IsUndoing() and not scene.IsRedoing() and not scene.IsBatchProcessing()

    def _carm_changed(self, carm: CArmNodes) -> None:
        if self._is_settled():
            with suppress(ValueError):  # where it is scaled or bent; said by the X-ray
                carm_display.update_model(carm)
            self._on_carm(carm)
        self.request()

    def _key(self, carm: CArmNodes) -> Hashable:
        """All that an image depends on; where none can be made, the reason."""
        try:
            patient = self._logic.known_patient(self._volume, self._segmentation)
            return patient.key(), carm.camera(), self._technique
        except ValueError as error:
            return str(error)

    def _frame(self) -> None:
        """Preview all that has changed since it was last shown; then see to the rest."""
        changed = [(carm, key) for carm in self._carms if self._stale(carm, key := self._key(carm))]
        started = self._clock()
        for carm, key in changed:
            self._make(carm, key, "preview")
        if changed:
            self.pace.record(started, self._clock())
        self._tick_in(_GAP_MS)

    def _stale(self, carm: CArmNodes, key: Hashable) -> bool:
        shown, quality = self._shown.get(carm.root.GetID(), (None, ""))
        return shown != key or (quality != "" and not in_scene(carm.image_node()))

    def _make(self, carm: CArmNodes, key: Hashable, quality: Literal["preview", "full"]) -> None:
        """Render here and now; where it cannot be done, say why, and do not try the same again."""
        started = self._clock()
        self._busy = True
        try:
            patient = self._logic.patient(self._volume, self._segmentation)
            exposure = exposing.prepare(patient, carm.camera(), self._technique, carm.arm())
            width = self.pace.size.width if quality == "preview" else None
            image = exposing.expose(exposure, quality, width, scatter=quality == "full" and self._scatters())
            self._show(carm, patient, image, quality)
        except CANNOT as error:
            self._fail(carm, key, error)
            return
        finally:
            self._busy = False
        self._succeed(carm, key, quality, started)

    def _succeed(self, carm: CArmNodes, key: Hashable, quality: Quality, started: float) -> None:
        self._reasons.pop(carm.root.GetID(), None)
        self._shown[carm.root.GetID()] = (key, quality)
        self._on_frame(carm, quality, self._clock() - started)

    def _fail(self, carm: CArmNodes, key: Hashable, error: BaseException) -> None:
        self._shown[carm.root.GetID()] = (key, "")
        if (reason := words(error)) not in self._reasons.values():
            self._on_error(reason)
        self._reasons[carm.root.GetID()] = reason

    def _show(
        self, carm: CArmNodes, patient: Patient, image: XRayImage, quality: Quality, picture: Picture | None = None
    ) -> None:
        """The image into its node, with the technique that made it."""
        node = self._logic.imageOf(carm)
        if quality == "full":
            self._logic.show(node, image, patient, carm, self.technique, picture)
        else:
            self._logic.preview(node, image, patient, carm, self.technique)

    @property
    def technique(self) -> Technique:
        """That of the pictures of full quality, which do without scatter that takes long."""
        return self._technique if self._scatters() else replace(self._technique, scatter="", grid=False)

    def _scatters(self) -> bool:
        return self._technique.scatter not in SLOW_SCATTER

    def _tick_in(self, milliseconds: int) -> None:
        """Come back later; an earlier appointment is void."""
        self._wanted_ticks += 1
        appointment = self._wanted_ticks

        def come_back() -> None:
            if appointment != self._wanted_ticks or self._busy or not self._enabled:
                return
            if not self._is_settled():
                self._tick_in(_GAP_MS)
            elif self._may_render():
                self._tick()

        self._call_later(milliseconds, come_back)

    def _tick(self) -> None:
        if any(self._stale(carm, self._key(carm)) for carm in self._carms):
            self._frame()
        elif self._job is not None:
            wait([self._job.future], TURN_S)
            self._collect()
            self._tick_in(_POLL_MS)
        elif rough := [carm for carm in self._carms if self._shown[carm.root.GetID()][1] == "preview"]:
            if self.pace.is_at_rest(self._clock()):
                self._start(rough[0])
            self._tick_in(_POLL_MS)

    def _start(self, carm: CArmNodes) -> None:
        """Let the worker make the image of full quality; a GPU makes it here, in no time and in one thread."""
        key = self._key(carm)
        try:
            patient = self._logic.patient(self._volume, self._segmentation)
            by_worker = patient.simulator("preview", self._technique.device).projects_on.device == "cpu"
            exposure = exposing.prepare(patient, carm.camera(), self._technique, carm.arm())
        except CANNOT as error:
            self._fail(carm, key, error)
            return
        if not by_worker:
            self._make(carm, key, "full")
            return
        future = self._worker.submit(_expose_and_present, exposure, carm.arm(), self._scatters())
        self._job = _Job(carm, key, patient, future)

    def _collect(self) -> None:
        """Show what the worker has made, if it is still what is wanted."""
        assert self._job is not None
        if not self._job.future.done():
            return
        job, self._job = self._job, None
        if not job.carm.is_valid() or self._stale(job.carm, job.key):
            return
        started = self._clock()
        self._busy = True
        try:
            image, picture = job.future.result()
            self._show(job.carm, job.patient, image, "full", picture)
        except CANNOT as error:
            self._fail(job.carm, job.key, error)
            return
        finally:
            self._busy = False
        self._succeed(job.carm, job.key, "full", started)


@dataclass(frozen=True)
class _Job:
    """A picture of full quality that the worker makes, and what the scene was like when it was asked for."""

    carm: CArmNodes
    key: Hashable
    patient: Patient
    future: Future[tuple[XRayImage, Picture]]


def _expose_and_present(exposure: Exposure, arm: CArm, scatter: bool) -> tuple[XRayImage, Picture]:
    """The worker's part, in full quality."""
    image = exposing.expose(exposure, "full", scatter=scatter)
    return image, xray_nodes.picture_of(image, exposure.technique, arm)
