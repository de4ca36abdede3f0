"""Files that are either whole or not there: write under a temporary name, move when all is well."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_moving = threading.Lock()


@contextmanager
def replaced_when_written(*targets: str | os.PathLike[str]) -> Iterator[tuple[Path, ...]]:
    """Give one temporary path per target; on success they take the targets' names, on failure they vanish.

    The temporary file lies in the target's folder, because only a move inside one file system is atomic, and ends in
    the target's suffixes in lower case, by which writers choose their format. Its name is drawn by lot, so that
    threads and machines that share a disk do not meet. Nothing is moved before the whole block has succeeded, then all
    or none, and threads take turns: an image and its sidecar never disagree. A symbolic link is followed, and a file
    that was there keeps its permissions. Raises ValueError for a folder that is missing or takes no files, and for a
    target that is a folder; OSError that names what could not be written, and why.
    """
    names = tuple(Path(target) for target in targets)
    for name in names:
        require_writable_place(name)
    finals = tuple(map(_followed, names))
    temporaries = tuple(final.with_name(_temporary_name(name)) for final, name in zip(finals, names, strict=True))
    try:
        yield temporaries
        with _moving:
            _move_all(temporaries, finals)
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):
            raise  # said already, or of a pipe to another program
        refused = [final for final in finals if str(final) == str(error.filename2)] or finals
        what = " and ".join(map(str, refused))
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room" if full else "see that nothing protects it or holds it open"
        raise OSError(f"Cannot write {what} ({error.strerror}): {remedy}, or give another place.") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _temporary_name(name: Path) -> str:
    return f".{secrets.token_hex(8)}.part{''.join(name.suffixes[-2:]).lower()}"


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _move_all(temporaries: tuple[Path, ...], finals: tuple[Path, ...]) -> None:
    """Move every temporary to its final name; where one move fails, what was there before is there again."""
    earlier = finals[:-1]
    asides = [_set_aside(final) for final in earlier]
    try:
        for temporary, before, final in zip(temporaries, [*asides, finals[-1]], finals, strict=True):
            if os.name == "posix" and before is not None and before.exists():  # elsewhere the mode is but "read-only"
                shutil.copymode(before, temporary)
            temporary.replace(final)
    except BaseException:
        for aside, final in zip(asides, earlier, strict=True):
            if aside is None:
                final.unlink(missing_ok=True)
            else:
                aside.replace(final)
                aside.unlink(missing_ok=True)  # two names of one file are left as they are
        raise
    for aside in filter(None, asides):
        aside.unlink(missing_ok=True)


def _set_aside(final: Path) -> Path | None:
    """Another name for the file that is there, None where there is none."""
    if not final.exists():
        return None
    aside = final.with_name(_temporary_name(final))
    try:
        os.link(final, aside)
    except OSError:  # a disk without hard links
        final.replace(aside)
    return aside


def require_writable_place(path: Path) -> None:
    """Raise ValueError unless `path` names a file in a folder that exists and takes files."""
    folder = _followed(path).parent
    if not folder.is_dir():
        raise ValueError(f"Cannot write {path}: the folder {folder} does not exist; create it first.")
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder; give a file name.")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # os.access says yes to root, and of a read-only disk
    except OSError as error:
        raise ValueError(
            f"Cannot write {path}: the folder {folder} takes no files ({error.strerror}); give another."
        ) from error
