"""What the commands say: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


class Console:
    """Talks while a command runs; `quiet` leaves only warnings and errors."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._shows_progress = not quiet and sys.stderr.isatty()

    def wrote(self, path: Path) -> None:
        """Name a finished file on stdout, where the next program can read it."""
        if not self.quiet:
            typer.echo(str(path))

    def remark(self, text: str) -> None:
        """Say something on stderr that nobody has to read."""
        if not self.quiet:
            typer.echo(text, err=True)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show `text` with a spinner for as long as the block takes."""
        if not self._shows_progress:
            yield
            return
        import rich.console

        with rich.console.Console(stderr=True).status(text):
            yield

    @contextmanager
    def progress(self, text: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
        """Show a progress bar; the function given takes what is done so far and, once it is known, all there is."""
        if not self._shows_progress:
            yield lambda done, total: None
            return
        import rich.console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
            task = bar.add_task(text, total=total)
            yield lambda done, total: bar.update(task, completed=done, total=total)
