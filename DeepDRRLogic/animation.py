"""Moving pictures: frames of grey values as an animated GIF (Pillow) or an MP4 (imageio-ffmpeg, optional)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from .files import replaced_when_written, require_writable_place

Frame = npt.NDArray[np.uint8]

# A GIF counts the time of a frame in 16 bits of 1/100 s; a frame that stands for minutes is no animation.
_SLOWEST_FPS = 0.01
# Players take a GIF delay below 2/100 s for an error and slow it down to 10 frames per second.
_FASTEST_GIF_FPS = 50.0
_FASTEST_MP4_FPS = 1000.0


def write_animation(frames: Iterable[Frame], path: str | os.PathLike[str], fps: float) -> None:
    """Write (H, W) uint8 frames as .gif or .mp4, by the suffix; ValueError for any other."""
    require_movie_path(path, fps)
    writer = write_gif if Path(path).suffix.lower() == ".gif" else write_mp4
    writer(frames, path, fps)


def require_movie_path(path: str | os.PathLike[str], fps: float) -> None:
    """Raise ValueError, before frames are made, unless `write_animation` could write there at this rate."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"Cannot write {path}: the name of a movie ends in .gif or .mp4.")
    _check_fps(fps, _FASTEST_GIF_FPS if suffix == ".gif" else _FASTEST_MP4_FPS)
    require_writable_place(Path(path))
    if suffix == ".mp4":
        _imageio_ffmpeg(path)


def write_gif(frames: Iterable[Frame], path: str | os.PathLike[str], fps: float) -> None:
    """Write (H, W) uint8 frames as a GIF that repeats for ever, every frame and all 256 greys kept.

    GIF counts time in 1/100 s, so `fps` is met as nearly as that allows; at most 50.
    """
    from PIL import Image
    from PIL.GifImagePlugin import getdata, getheader

    _check_fps(fps, _FASTEST_GIF_FPS)
    duration_ms = 10 * round(100 / fps)
    # Image.save would make one frame of equal neighbours, and fail where that one lasts too long for the format.
    with replaced_when_written(path) as (temporary,), temporary.open("wb") as file:
        for number, frame in enumerate(_checked(frames)):
            if number == 0:
                info = {"loop": 0, "duration": duration_ms, "optimize": False}
                file.writelines(getheader(Image.fromarray(frame), info=info)[0])
            file.writelines(getdata(Image.fromarray(frame), duration=duration_ms))
        file.write(b";")


def write_mp4(frames: Iterable[Frame], path: str | os.PathLike[str], fps: float) -> None:
    """Write (H, W) uint8 frames as H.264; odd sides get one black row or column, which the codec asks for.

    Raises ValueError with the remedy where imageio-ffmpeg, an optional package, is missing.
    """
    imageio_ffmpeg = _imageio_ffmpeg(path)
    _check_fps(fps, _FASTEST_MP4_FPS)
    with replaced_when_written(path) as (temporary,):
        writer: Any = None
        written = 0
        try:
            for frame in _checked(frames):
                height, width = frame.shape
                even = np.pad(frame, ((0, height % 2), (0, width % 2)))
                if writer is None:
                    size = (even.shape[1], even.shape[0])
                    writer = imageio_ffmpeg.write_frames(
                        str(temporary), size, pix_fmt_in="gray", fps=fps, quality=8, macro_block_size=2
                    )
                    writer.send(None)
                writer.send(np.ascontiguousarray(even).tobytes())
                written += 1
        finally:
            if writer is not None:
                writer.close()
        _require_whole_movie(imageio_ffmpeg, temporary, written, path)


def _require_whole_movie(imageio_ffmpeg: Any, temporary: Path, frames: int, path: str | os.PathLike[str]) -> None:
    """The encoder is another process, and imageio-ffmpeg does not tell when it fails, on a full disk for instance."""
    try:
        found, _ = imageio_ffmpeg.count_frames_and_secs(str(temporary))
    except RuntimeError:
        found = 0
    if found != frames:
        raise OSError(f"Only {found} of {frames} frames of {path} could be written: is the disk full?")


def _imageio_ffmpeg(path: str | os.PathLike[str]) -> ModuleType:
    try:
        import imageio_ffmpeg  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"Cannot write {path}: MP4 needs the package imageio-ffmpeg. "
            "Install it (pip install imageio-ffmpeg), or give a name that ends in .gif."
        ) from error
    return imageio_ffmpeg  # type: ignore[no-any-return]


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames one by one; ValueError for none at all, another type, or a size that changes."""
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 2:
            raise ValueError(f"Frame {number} is {frame.dtype} of shape {frame.shape}; frames are (H, W) uint8.")
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"Frame {number} has shape {frame.shape}, the first one {shape}; all must agree.")
        yield frame
    if shape is None:
        raise ValueError("No frames: an animation needs at least one.")


def _check_fps(fps: float, fastest: float) -> None:
    if not _SLOWEST_FPS <= fps <= fastest:
        raise ValueError(f"fps is {fps}; give a rate from {_SLOWEST_FPS:g} to {fastest:g} frames per second.")
