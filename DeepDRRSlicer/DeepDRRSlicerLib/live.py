"""The X-ray that follows the C-arm: previews while anything moves, full quality soon after it rests.

Whatever happens in the scene only asks for a frame. The first one comes at once (leading edge); what happens within a
frame's time is gathered and shown by the next (trailing timer). A key of all that an image depends on is compared
before anything is rendered. Full quality is made in a thread that touches no scene; its result is shown if it is still
wanted.
Timer and clock are handed in, so that none of this needs Qt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from . import carm_display, exposing, xray_nodes
from .carm_nodes import CArmNodes
from .carm_observer import OnDrag
from .mrml import in_scene
from .observing import SceneWatch
from .preview_size import PreviewSize
from .technique import SLOW_SCATTER, Technique

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.image import XRayImage

    from .exposing import Exposure
    from .patient import Patient
    from .scene_logic import SceneLogic
    from .xray_nodes import Picture

CallLater = Callable[[int, Callable[[], None]], None]
Quality = Literal["", "preview", "full"]

GAP_MS = 8
"""Between two frames the event loop gets this long at least, to take in what the mouse did."""
REST_S = 0.12
_POLL_MS = 5
WORKERS_TURN_S = 0.03
"""So long a poll waits for the worker: an idle Slicer keeps Python's lock, and threads would hardly ever run."""
_MOTION_S = 0.4


class LiveSession:
    """Keeps the images of some C-arms up to date with the scene.

    on_frame(carm, quality, seconds) is called after each image; on_carm(carm) after each change of a C-arm, live or
    not; on_error(text) where no image can be made, once per reason; on_drag as in CArmObserver. `is_visible` false:
    nothing is rendered.
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
        self.size = PreviewSize()
        self.last_quality: Quality = ""
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
        self._job: tuple[CArmNodes, Hashable, Patient, Future[tuple[XRayImage, Picture]]] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="DeepDRR")
        self._last_start = -1e9
        self._last_end = -1e9
        self._moved_at = -1e9
        self._intervals: deque[float] = deque(maxlen=20)
        self._error = ""

    @property
    def enabled(self) -> bool:
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._enabled = bool(value)
        if self._enabled:
            self.request()

    @property
    def frames_per_second(self) -> float:
        """Of the last motion, the time of everything between the frames included; 0 before any."""
        return len(self._intervals) / sum(self._intervals) if self._intervals else 0.0

    def set_scene(
        self, volumeNode: Any | None, segmentationNode: Any | None, carms: Sequence[CArmNodes], technique: Technique
    ) -> None:
        """What to show from now on; cheap where nothing has changed."""
        self._volume, self._segmentation, self._technique = volumeNode, segmentationNode, technique
        self._carms = list(carms)
        self._watch.observe(volumeNode, segmentationNode, self._carms)
        for carm in self._carms:
            with suppress(ValueError):  # that the words make no sense is said by the X-ray, which needs them too
                carm_display.show_collimator(carm, technique.collimator)
        self.request()

    def request(self) -> None:
        """Something may have changed: show it, now or as soon as the frame before allows."""
        if self._busy or not self._may_render():
            return
        if self._is_settled() and (self._clock() - self._last_end) * 1000.0 >= GAP_MS:
            self._frame()
        else:
            self._tick_in(GAP_MS)

    def scene_closed(self) -> None:
        """Let go of everything of the scene; a picture under way is dropped."""
        self._job = None
        self._shown.clear()
        self.set_scene(None, None, [], Technique())

    def flush(self) -> None:
        """Make every image of full quality now, waiting for it."""
        if self._ready():
            for carm in self._carms:
                key = self._key(carm)
                if self._shown.get(carm.root.GetID()) != (key, "full"):
                    self._make(carm, key, "full")

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
        """Not in the middle of the scene's Undo, which brings nodes and their transforms back one by one."""
        return not self._logic.scene.IsUndoing() and not self._logic.scene.IsRedoing()

    def _carm_changed(self, carm: CArmNodes) -> None:
        if self._is_settled():
            carm_display.update_model(carm)
            self._on_carm(carm)
        self.request()

    def _key(self, carm: CArmNodes) -> Hashable:
        patient = self._logic.known_patient(self._volume, self._segmentation)
        return patient.key(), carm.camera(), self._technique

    def _frame(self) -> None:
        """Preview all that has changed since it was last shown; then see to the rest."""
        changed = [(carm, key) for carm in self._carms if self._stale(carm, key := self._key(carm))]
        started = self._clock()
        for carm, key in changed:
            self._make(carm, key, "preview")
        if changed:
            ended = self._clock()
            interval = started - self._last_start
            moving = interval < _MOTION_S
            if moving:
                self._intervals.append(interval)
            else:
                self._intervals.clear()
            self.size.record(ended - started, interval if moving else None)
            self._last_start, self._last_end, self._moved_at = started, ended, ended
        self._tick_in(GAP_MS)

    def _stale(self, carm: CArmNodes, key: Hashable) -> bool:
        return self._shown.get(carm.root.GetID(), (None, ""))[0] != key

    def _make(self, carm: CArmNodes, key: Hashable, quality: Literal["preview", "full"]) -> None:
        """Render here and now; where it cannot be done, say why, and do not try the same again."""
        started = self._clock()
        self._busy = True
        try:
            patient = self._logic.patient(self._volume, self._segmentation)
            exposure = exposing.prepare(patient, carm.camera(), self._technique, carm.arm())
            width = self.size.width if quality == "preview" else None
            image = exposing.expose(exposure, quality, width, scatter=quality == "full" and self._scatters())
            self._show(carm, patient, image, quality)
            self._error = ""
        except ValueError as error:
            if str(error) != self._error:
                self._error = str(error)
                self._on_error(self._error)
            quality = "full"
        finally:
            self._busy = False
            self._shown[carm.root.GetID()] = (key, quality)
        self._on_frame(carm, quality, self._clock() - started)

    def _show(
        self, carm: CArmNodes, patient: Patient, image: XRayImage, quality: Quality, picture: Picture | None = None
    ) -> None:
        node = self._logic.imageOf(carm)
        if quality == "full":
            self._logic.show(node, image, patient, carm, self._technique, picture)
        else:
            shown = picture or xray_nodes.picture_of(image, self._technique, carm.arm())
            xray_nodes.show_picture(node, shown, self._technique, moving=True)
        self.last_quality = quality

    def _scatters(self) -> bool:
        return self._technique.scatter not in SLOW_SCATTER

    def _tick_in(self, milliseconds: int) -> None:
        """Come back later; an earlier appointment is void."""
        self._wanted_ticks += 1
        appointment = self._wanted_ticks

        def come_back() -> None:
            if appointment == self._wanted_ticks and not self._busy and self._may_render():
                self._tick()

        self._call_later(milliseconds, come_back)

    def _tick(self) -> None:
        if any(self._stale(carm, self._key(carm)) for carm in self._carms):
            self._frame()
        elif self._job is not None:
            wait([self._job[3]], WORKERS_TURN_S)
            self._collect()
            self._tick_in(_POLL_MS)
        elif rough := [carm for carm in self._carms if self._shown[carm.root.GetID()][1] != "full"]:
            if self._clock() - self._moved_at >= REST_S:
                self._start(rough[0])
            self._tick_in(_POLL_MS)

    def _start(self, carm: CArmNodes) -> None:
        """Let the worker make the image of full quality; a GPU makes it here, in no time and in one thread."""
        patient = self._logic.patient(self._volume, self._segmentation)
        if patient.simulator("preview", self._technique.device).projects_on.device != "cpu":
            self._make(carm, self._key(carm), "full")
            return
        exposure = exposing.prepare(patient, carm.camera(), self._technique, carm.arm())
        future = self._worker.submit(_expose_and_present, exposure, carm.arm(), self._scatters())
        self._job = (carm, self._key(carm), patient, future)

    def _collect(self) -> None:
        """Show what the worker has made, if it is still what is wanted."""
        assert self._job is not None
        carm, key, patient, future = self._job
        if not future.done():
            return
        self._job = None
        if not carm.is_valid() or self._stale(carm, key):
            return
        started = self._clock()
        self._busy = True
        try:
            image, picture = future.result()
            self._show(carm, patient, image, "full", picture)
        except ValueError as error:
            self._on_error(str(error))
        finally:
            self._busy = False
            self._shown[carm.root.GetID()] = (key, "full")
        self._on_frame(carm, "full", self._clock() - started)


def _expose_and_present(exposure: Exposure, arm: CArm, scatter: bool) -> tuple[XRayImage, Picture]:
    """The worker's part, in full quality."""
    image = exposing.expose(exposure, "full", scatter=scatter)
    return image, xray_nodes.picture_of(image, exposure.technique, arm)
