"""Segmentation in a process of its own: it reports, it can be cancelled, and Slicer stays usable meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DeepDRRLogic.materials import material
from DeepDRRLogic.volume import CTVolume, MaterialLabels

# An idle Slicer keeps Python's lock: the thread that reads gets its turn while we wait for it.
_READERS_TURN_S = 0.005
PROGRESS = "progress "
HU, CT, LABELS, RESULT = "hu.npy", "ct.json", "labels.npy", "result.json"


@dataclass(frozen=True)
class JobState:
    """How far a job is: fraction from 0 to 1, None while it cannot say; a failed or cancelled job is finished too."""

    fraction: float | None
    message: str
    finished: bool
    failed: bool


class SegmentationJob:
    """A segmentation under way: `poll` it now and then, until it is finished; then `labels` has the result.

    The CT goes to the process by file, in a folder that is gone when the job has ended. Nothing here touches the scene.
    """

    def __init__(self, ct: CTVolume, method: str, options: Mapping[str, Any] | None = None) -> None:
        self._ct = ct
        self._folder = Path(tempfile.mkdtemp(prefix="DeepDRR-"))
        self._lines: list[str] = []
        self._fraction: float | None = None
        self._cancelled = False
        self._labels: MaterialLabels | None = None
        self._error = ""
        np.save(self._folder / HU, ct.hu, allow_pickle=False)
        header = {"ras_from_ijk": ct.ras_from_ijk.tolist(), "name": ct.name, "method": method, "options": options or {}}
        (self._folder / CT).write_text(json.dumps(header), encoding="utf-8")
        self._process = _start(self._folder)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """Everything that the process has said."""
        return "\n".join(self._lines)

    def poll(self) -> JobState:
        """How it stands; waits for the process no longer than some milliseconds."""
        if self._cancelled:
            return JobState(self._fraction, "Cancelled", True, True)
        if self._labels is None and not self._error and self._process.poll() is not None:
            self._reader.join()
            self._finish()
        else:
            self._reader.join(_READERS_TURN_S)
        if self._error:
            return JobState(self._fraction, self._error, True, True)
        if self._labels is not None:
            return JobState(1.0, "Done", True, False)
        return JobState(self._fraction, self._lines[-1] if self._lines else "Starting", False, False)

    def cancel(self) -> None:
        """End the process and all it has started; does nothing once it has ended."""
        if self._process.poll() is None:
            self._cancelled = True
            _end(self._process)
            self._reader.join()
        self._clean()

    def labels(self) -> MaterialLabels:
        """The result; ValueError where there is none, with the reason."""
        state = self.poll()
        if self._labels is None:
            raise ValueError(state.message if state.finished else "The segmentation is still under way.")
        return self._labels

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.rstrip()
            if text.startswith(PROGRESS):
                done, total = text.removeprefix(PROGRESS).split()
                self._fraction = int(done) / max(int(total), 1)
            elif text:
                self._lines.append(text)

    def _finish(self) -> None:
        try:
            result = json.loads((self._folder / RESULT).read_text(encoding="utf-8"))
            if "error" in result:
                self._error = result["error"]
            else:
                values = np.load(self._folder / LABELS, allow_pickle=False)
                known = tuple(material(name) for name in result["materials"])
                self._labels = MaterialLabels(values, known, self._ct.ras_from_ijk)
        except (OSError, ValueError) as error:
            last = self._lines[-1] if self._lines else str(error)
            self._error = f"The segmentation broke off (exit code {self._process.returncode}): {last}"
        self._clean()

    def _clean(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def python_executable() -> str:
    """The Python that runs beside Slicer, or this one."""
    return shutil.which("PythonSlicer") or sys.executable


def _start(folder: Path) -> subprocess.Popen[str]:
    here = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), *filter(None, sys.path)])}
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(
        _command(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        **own_group,
    )


def _command(folder: Path) -> list[str]:
    return [python_executable(), "-u", "-m", "DeepDRRSlicerLib.segment_worker", str(folder)]


def _end(process: subprocess.Popen[str]) -> None:
    """End a process with its children, which a plain kill would leave at work."""
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/F", "/T", "/PID", str(process.pid)],
            check=False,
            capture_output=True,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
