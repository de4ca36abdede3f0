"""The command line: `deepdrr render`, `sweep`, `info`, `segment`, `spectrum`, `presets`.

Exit codes: 0 done, 1 a fault of the program (with traceback), 2 bad usage or bad input (one line on stderr),
130 interrupted with Ctrl-C. Paths of written files go to stdout, everything else to stderr.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line with these arguments, by default the process's own; ends in SystemExit."""
    try:
        from .app import app

        app(args=None if arguments is None else list(arguments), prog_name="deepdrr")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(0)
