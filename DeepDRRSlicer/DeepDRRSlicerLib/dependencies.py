"""The Python packages that the simulator needs and Slicer does not bring: found, offered, installed after asking."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
TORCH = "2.6"
WEIGHTS = "safetensors>=0.5"

_LINE = re.compile(r"^([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?")


def missing(requirements: Path = REQUIREMENTS) -> list[str]:
    """The lines of a requirements file that are not met; nothing is imported, so this is quick."""
    return [line for line in required(requirements) if not _is_met(line)]


def required(requirements: Path = REQUIREMENTS) -> list[str]:
    """The lines of a requirements file, comments left out."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def explain(lines: Sequence[str]) -> str:
    """In words: what is missing, and what it is for."""
    return f"X-rays need Python packages that are not installed yet: {', '.join(lines)}."


def install(lines: Sequence[str], ask: Callable[[str], bool]) -> None:
    """Install what is missing, after asking; ValueError where that is refused or fails.

    Slicer 5.12 asks and shows progress by itself (`slicer.packaging`); older ones are asked for with `ask`.
    """
    if not lines:
        return
    refused = f"{explain(lines)} Without them no X-ray can be made: press the button again to install them."
    packaging = _packaging()
    try:
        if packaging is not None:
            packaging.pip_ensure(list(lines), requester="DeepDRR")
        else:
            if not ask(f"{explain(lines)} Install them now? This takes a minute and needs the internet."):
                raise ValueError(refused)
            from slicer.util import pip_install

            pip_install(list(lines))
    except (RuntimeError, CalledProcessError) as error:
        raise ValueError(f"{explain(lines)} Installing them failed: {error}") from error
    if still := [line for line in lines if not _is_met(line)]:
        raise ValueError(refused if still == list(lines) else f"{explain(still)} Restart Slicer and try again.")


def torch_is_missing() -> bool:
    """Whether the network's library is not there."""
    return find_spec("torch") is None


def missing_for_network() -> list[str]:
    """What the network needs besides PyTorch, if it is not there: the reader of its weights."""
    return [] if _is_met(WEIGHTS) else [WEIGHTS]


def install_torch(what: str, instead: str) -> None:
    """Install PyTorch through Slicer's PyTorch extension, which knows the computer's GPU; ValueError without it.

    what: "The V-Net", or whatever needs it; instead: what the user can do without.
    """
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise ValueError(
            f"{what} needs PyTorch: install the extension 'PyTorch' with the Extensions Manager and restart Slicer, "
            f"or {instead}."
        ) from error
    try:
        torch = PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=f">={TORCH}")
    except (RuntimeError, CalledProcessError) as error:
        raise ValueError(f"{what} needs PyTorch, and installing it failed: {error}") from error
    if torch is None:
        raise ValueError(f"{what} needs PyTorch, which was not installed: try again, or {instead}.")


def _packaging() -> Any | None:
    """`slicer.packaging` where this Slicer has it."""
    try:
        from slicer import packaging
    except ImportError:
        return None
    return packaging if hasattr(packaging, "pip_ensure") else None


def _is_met(line: str) -> bool:
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no requirement that is understood here: write name>=version.")
    name, least = match.groups()
    try:
        found = version(name)
    except PackageNotFoundError:
        return False
    return least is None or _numbers(found) >= _numbers(least)


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.4.6rc1" is (2, 4, 6)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
