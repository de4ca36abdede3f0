"""Which series a folder or a file holds, and which of its files cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .headers import Series, damage_named, read_header, require_placed_frames, series_of, series_uid_of


@dataclass(frozen=True)
class Unreadable:
    """A file that holds images but cannot be used, its series UID as far as it can be read, and what is wrong."""

    path: Path
    series_uid: str
    problem: str


@dataclass(frozen=True)
class Listing:
    """The series of a place, and the files there that belong to some series but cannot be read."""

    series: tuple[Series, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def usable(self) -> tuple[Series, ...]:
        """The series that may be a CT volume."""
        return tuple(one for one in self.series if one.may_be_ct)


def list_series(path: Path) -> tuple[Series, ...]:
    """All series that `listing` finds."""
    return listing(path).series


def listing(path: Path) -> Listing:
    """What is in a folder, or in its subfolders too if it has no CT itself; of one file, its own series.

    A file of one slice stands for its series in the same folder; an enhanced file for itself.
    """
    if path.is_dir():
        here = _listed(path.iterdir())
        return here if here.usable else _listed(path.rglob("*"))
    header = read_header(path)
    if header is None:
        raise ValueError(f"{path.name} is neither DICOM nor has it a known suffix (.nrrd, .nii, .nii.gz, .mha).")
    if "PerFrameFunctionalGroupsSequence" in header:
        return _listed([path])
    uid = str(header.get("SeriesInstanceUID", ""))
    beside = _listed(path.parent.iterdir())
    return replace(beside, series=tuple(one for one in beside.series if one.uid == uid))


def _listed(paths: Iterable[Path]) -> Listing:
    found: dict[tuple[str, str], Series] = {}
    unreadable: list[Unreadable] = []
    for path in sorted(p for p in paths if p.is_file()):
        try:
            header = read_header(path)
            if header is None:
                continue
            with damage_named(path):
                one = series_of(path, header)
            require_placed_frames(path, header, one)
        except ValueError as error:
            unreadable.append(Unreadable(path, series_uid_of(path), str(error)))
            continue
        key = one.uid, one.modality
        found[key] = _merged(found[key], one) if key in found else one
    return Listing(tuple(found.values()), tuple(unreadable))


def _merged(known: Series, one: Series) -> Series:
    return replace(
        known,
        slices=known.slices + one.slices,
        localizers=known.localizers + one.localizers,
        without_place=known.without_place + one.without_place,
    )
