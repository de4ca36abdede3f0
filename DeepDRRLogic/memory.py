"""Say that a volume or an image does not fit before it is allocated, and what would fit."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path

from .grid import blocked_shape, size_text

_GB = 1e9


def available_memory_bytes() -> int | None:
    """Memory that can be had without swapping, or None where the system does not say."""
    if sys.platform == "win32":
        return _available_on_windows()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
                return min(free, _room_in_container() or free)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        # macOS has no cheap figure for free memory: all of it is an upper bound that still catches what is
        # hopeless.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


_CROP = "resample or crop it first, for instance with 3D Slicer's Crop Volume"


def require_memory(shape: tuple[int, int, int], bytes_per_voxel: int, what: str, remedy: str = _CROP) -> None:
    """Raise ValueError if a volume of `shape` [k, j, i] does not fit, naming the downsampling that does."""
    available = available_memory_bytes()
    needed = shape[0] * shape[1] * shape[2] * bytes_per_voxel
    if available is None or needed <= available:
        return
    factor = 2
    while True:
        coarse = blocked_shape(shape, (factor, factor, factor))
        coarse_bytes = coarse[0] * coarse[1] * coarse[2] * bytes_per_voxel
        if coarse_bytes <= available or coarse == (1, 1, 1):
            break
        factor += 1
    raise ValueError(
        f"{what} has {size_text(shape)} voxels and needs {needed / _GB:.1f} GB; "
        f"{available / _GB:.1f} GB are free. Downsampled by {factor} to {size_text(coarse)} it needs "
        f"{coarse_bytes / _GB:.1f} GB: {remedy}."
    )


def require_image_memory(width: int, height: int, materials: int, channels: int) -> None:
    """Raise ValueError if an image of so many materials and channels does not fit, naming the pixels that do."""
    available = available_memory_bytes()
    planes = materials + 3 * channels + 1  # area densities; signal, its variance and photons; energy
    needed = 2 * 4 * planes * width * height  # in float32, and each step keeps its input
    if available is None or needed <= available:
        return
    factor = math.ceil(math.sqrt(needed / available))
    fewer = f"{max(width // factor, 1)}, {max(height // factor, 1)}"
    raise ValueError(
        f"An image of {width}×{height} pixels needs {needed / _GB:.1f} GB; {available / _GB:.1f} GB are free. "
        f"Take fewer pixels, such as camera.resampled({fewer})."
    )


def _room_in_container(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the limit of a container leaves, which /proc/meminfo does not know; None where there is none."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        lines = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # no such files, or no limit: the word "max"
        return None
    # Pages of files that were read count as used, and are given up when memory is short.
    files = sum(int(value) for name, value in map(str.split, lines) if name in ("active_file", "inactive_file"))
    return max(limit - used + files, 1)


def _available_on_windows() -> int | None:
    class MemoryStatus(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in (
                "total_physical", "available_physical", "total_page", "available_page",
                "total_virtual", "available_virtual", "available_extended",
            )
        ]  # fmt: skip

    status = MemoryStatus()
    status.length = ctypes.sizeof(status)
    windll = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available_physical)
