"""GitHub's tables, and what the figures were taken on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text, too; the first column is text, the others figures."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(line(cells) for cells in (header, rule, *rows))


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and best."""
    return f"{1e3 * statistics.median(seconds):.0f} ({1e3 * min(seconds):.0f})"


def machine(threads: int) -> str:
    """Processor, cores, threads, system and the versions that matter; two lines."""
    versions = ", ".join(f"{package} {version(package)}" for package in ("numpy", "numba", "SimpleITK"))
    return (
        f"{_processor()}, {os.cpu_count()} cores, {threads} threads used; {platform.system()} "
        f"{platform.release()}\nPython {platform.python_version()}, {versions}"
    )


def load() -> str:
    """Load averages, where the system has them: a quiet machine is near 0 before and near the threads after."""
    if not hasattr(os, "getloadavg"):
        return "not known"
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
