"""Files that are either whole or not there: write under a temporary name, move when all is well."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_when_written(*targets: str | os.PathLike[str]) -> Iterator[tuple[Path, ...]]:
    """Give one temporary path per target; on success they take the targets' names, on failure they vanish.

    The temporary file lies in the target's folder, because only a move inside one file system is atomic, and ends in
    the target's suffixes in lower case, by which writers choose their format. Its name is drawn by lot, so that
    threads and machines that share a disk do not meet. Nothing is moved before the whole block has succeeded, so an
    image and its sidecar never disagree. Raises ValueError for a folder that is missing or takes no files, and for a
    target that is a folder; OSError that names the target where writing fails, as on a full disk.
    """
    finals = tuple(Path(target) for target in targets)
    for final in finals:
        require_writable_place(final)
    temporaries = tuple(final.with_name(_temporary_name(final)) for final in finals)
    try:
        yield temporaries
        for temporary, final in zip(temporaries, finals, strict=True):
            temporary.replace(final)
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):
            raise  # said already, or of a pipe to another program
        names = " and ".join(map(str, finals))
        raise OSError(f"Cannot write {names} ({error.strerror}): make room, or give another place.") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _temporary_name(final: Path) -> str:
    return f".{secrets.token_hex(8)}.part{''.join(final.suffixes[-2:]).lower()}"


def require_writable_place(path: Path) -> None:
    """Raise ValueError unless `path` names a file in a folder that exists and takes files."""
    if not path.parent.is_dir():
        raise ValueError(f"Cannot write {path}: the folder {path.parent} does not exist; create it first.")
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder; give a file name.")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # os.access says yes to root, and of a read-only disk
    except OSError as error:
        raise ValueError(
            f"Cannot write {path}: the folder {path.parent} takes no files ({error.strerror}); give another."
        ) from error
