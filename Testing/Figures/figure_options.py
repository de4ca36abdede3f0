"""The command line of every script here: it draws only when called properly, and where it is told to."""

from __future__ import annotations

import argparse
from pathlib import Path


def figure_options(description: str, folder: Path) -> argparse.ArgumentParser:
    """A parser whose `output` is a folder, by default the one whose pictures are under version control."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", type=Path, default=folder, metavar="FOLDER", help="where to draw; by default %(default)s"
    )
    return parser
