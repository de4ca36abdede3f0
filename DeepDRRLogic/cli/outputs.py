"""What a command writes is written once, and is neither what it reads nor, unless it is named, what a person may have
worked on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .scene import is_phantom


def require_apart(outputs: Iterable[Path], ct: str, *others: Path | None) -> None:
    """Raise ValueError if writing `outputs` would replace the CT, a slice of its DICOM folder or another input."""
    inputs = [path for path in others if path is not None]
    series = None
    if not is_phantom(ct):
        inputs.append(Path(ct))
        series = _dicom_folder(Path(ct))
    for output in (path for path in outputs if path.exists()):
        for source in (path for path in inputs if path.exists()):
            if output.samefile(source):
                raise ValueError(f"Writing {output} would replace {source}, which is read: give it another name.")
        if series is not None and _is_slice_in(series, output):
            raise ValueError(f"Writing {output} would replace a slice of the CT in {series}: give it another name.")


def require_different(outputs: Sequence[Path]) -> None:
    """Raise ValueError if two of the files that are to be written, sidecars among them, are one."""
    first: dict[Path, Path] = {}
    for output in outputs:
        if (other := first.setdefault(output.resolve(), output)) is not output:
            twice = f"{output}" if str(output) == str(other) else f"{other} and {output} are one file, which"
            raise ValueError(f"{twice} would be written twice: give every output a name of its own.")


def require_new(default: Path) -> None:
    """Raise ValueError if a file whose name nobody gave is there already: it may have been worked on by hand."""
    if default.exists():
        raise ValueError(f"{default} is there already: give -o {default} to replace it, or another name.")


def _dicom_folder(ct: Path) -> Path | None:
    from ..volume_io import suffix_of

    if ct.is_dir():
        return ct
    return ct.parent if ct.exists() and suffix_of(ct) is None else None


def _is_slice_in(folder: Path, file: Path) -> bool:
    from ..dicom.headers import read_header

    return file.resolve().is_relative_to(folder.resolve()) and read_header(file) is not None
