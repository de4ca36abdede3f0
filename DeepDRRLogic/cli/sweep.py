"""`deepdrr sweep`: the C-arm travels along an orbit; its frames become PNGs and a moving picture."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import scene
from .console import Console
from .options import (
    ExposureOptions,
    PatientOptions,
    PictureOptions,
    PositionOptions,
    RunOptions,
)
from .position import ANGLES, Position, place

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..display import DisplaySettings
    from ..geometry import Camera
    from ..image import XRayImage
    from ..simulator import XRaySimulator

MOVIE_SUFFIXES = (".gif", ".mp4")
_WIDEST_BY_DEFAULT = 512
_PREVIEWS = 5
_PREVIEW_WIDTH = 96


@dataclass(frozen=True)
class SweepOptions:
    """The orbit and where its frames go."""

    start: Annotated[float, typer.Option("--from", help="First angle in degrees.")] = -90.0
    stop: Annotated[float, typer.Option("--to", help="Last angle in degrees.")] = 90.0
    frames: Annotated[int, typer.Option("--frames", help="Number of frames.", min=2)] = 61
    axis: Annotated[str, typer.Option("--axis", help="The angle that changes: primary or secondary.")] = "primary"
    fps: Annotated[float, typer.Option("--fps", help="Frames per second.")] = 15.0
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A .gif or .mp4, or a folder for one PNG per frame and a movie."),
    ] = Path("sweep.gif")
    movie: Annotated[
        str | None, typer.Option("--movie", help="Movie in the folder: gif, mp4 or none.", show_default="gif")
    ] = None


def sweep(
    patient: PatientOptions,
    sweep: SweepOptions,
    position: PositionOptions,
    exposure: ExposureOptions,
    picture: PictureOptions,
    run: RunOptions,
) -> None:
    """Turn the C-arm around the patient: one PNG per frame, and an animated GIF or an MP4.

    The window is the same in all frames, and so is the side they are read from, unless --read-from is given.
    Without --size the pictures are at most 512 pixels wide.
    """
    from ..animation import write_animation
    from .outputs import require_apart

    console = Console(run.quiet)
    folder, movie = _targets(sweep)
    require_apart(() if movie is None else (movie,), patient.ct, patient.segmentation)
    scene.display_settings(picture, None)
    opened = scene.open_ct(patient, console)
    positions = _positions(sweep, position, opened.ct.center_ras)
    cameras = [where.camera for where in positions]
    technique = scene.technique(exposure, run, cameras[0])
    scene.require_room(cameras[0], technique, patient)
    settings = scene.display_settings(picture, positions[0])
    who = scene.patient(opened, patient, console)
    with console.busy("Preparing"):
        simulator = scene.simulator(who, technique, settings.collimator)
        settings = _common_window(simulator, cameras, settings)
    console.remark(f"Projecting on {simulator.projects_on}")

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(console.progress("Exposing", len(cameras)))
        images = simulator.render_many(cameras, seed=exposure.seed, progress=progress)
        placed = (_placed(image, where) for image, where in zip(images, positions, strict=True))
        frames = _frames(placed, settings, folder, console)
        first = next(frames)  # the folder is there now
        if movie is None:
            for _ in frames:
                pass
        else:
            write_animation(itertools.chain([first], frames), movie, sweep.fps)
    if movie is not None:
        console.wrote(movie)


def _targets(options: SweepOptions) -> tuple[Path | None, Path | None]:
    """The folder for PNGs, which need not be there yet, and the movie; either None where it is not wanted."""
    from ..animation import require_movie_path

    output = options.output
    if output.suffix.lower() in MOVIE_SUFFIXES:
        if options.movie is not None:
            raise ValueError(f"--movie {options.movie} is for a folder, and {output} is a movie: leave it out.")
        require_movie_path(output, options.fps)
        return None, output
    kind = options.movie or "gif"
    if kind not in ("gif", "mp4", "none"):
        raise ValueError(f"--movie is {kind!r}; give gif, mp4 or none.")
    if output.suffix:
        raise ValueError(f"{output} is neither a .gif nor an .mp4; a folder for PNGs has no suffix.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: give a folder for PNGs, or a name that ends in .gif or .mp4.")
    name = None if kind == "none" else f"sweep.{kind}"
    if name is not None:
        require_movie_path(output.parent / name, options.fps)
    elif not output.parent.is_dir():
        raise ValueError(f"The folder {output.parent} does not exist; create it first.")
    taken = sorted((*output.glob("frame_*.png"), *output.glob("sweep.*")))
    if taken:
        raise ValueError(
            f"{output} holds another sweep, {taken[0].name} and {len(taken) - 1} more: give -o another folder, or "
            "delete them first."
        )
    return output, None if name is None else output / name


def _positions(options: SweepOptions, start: PositionOptions, center_ras: Any) -> list[Position]:
    from ..carm_presets import view_angles_deg

    if options.axis not in ANGLES:
        raise ValueError(f"--axis is {options.axis!r}; give primary or secondary.")
    fixed = [f"--{name}" for name in (*ANGLES[options.axis], "camera") if getattr(start, name) is not None]
    if start.view is not None and view_angles_deg(start.view)[list(ANGLES).index(options.axis)]:
        fixed.append(f"--view {start.view}")
    if fixed:
        raise ValueError(f"{fixed[0]} fixes the angle that the sweep changes; use --from and --to.")
    step = (options.stop - options.start) / (options.frames - 1)
    angles = [options.start + number * step for number in range(options.frames)]
    changes: list[dict[str, Any]] = [{options.axis: angle} for angle in angles]
    first = place(replace(start, **changes[0]), center_ras)
    if start.size is None and start.pixel_mm is None and first.camera.width > _WIDEST_BY_DEFAULT:
        start = replace(start, size=str(_WIDEST_BY_DEFAULT))
    if start.read_from is None:
        start = replace(start, read_from="detector" if first.camera.is_mirrored else "source")
    return [place(replace(start, **change), center_ras) for change in changes]


def _common_window(simulator: XRaySimulator, cameras: Sequence[Camera], settings: DisplaySettings) -> DisplaySettings:
    """The settings with a window that suits the whole orbit, from small previews, unless one is given."""
    import numpy as np

    from ..display import auto_window, displayed_values

    if settings.window not in (None, "auto"):
        return settings
    chosen = [cameras[round(part * (len(cameras) - 1) / (_PREVIEWS - 1))] for part in range(_PREVIEWS)]
    height = max(1, round(_PREVIEW_WIDTH * chosen[0].height / chosen[0].width))
    quick = _without_waiting(simulator)
    previews = (quick(camera.resampled(_PREVIEW_WIDTH, height)) for camera in chosen)
    values = np.concatenate([displayed_values(preview, settings) for preview in previews])
    return replace(settings, window=auto_window(values, log=settings.log))


def _without_waiting(simulator: XRaySimulator) -> XRaySimulator:
    """The same, but for a Monte Carlo the kernel model, whose scatter is about as bright: a preview needs no more."""
    from ..scatter.montecarlo import MonteCarloScatter

    if not isinstance(simulator.scatter, MonteCarloScatter):
        return simulator
    return simulator.with_exposure(scatter="kernel")


def _placed(image: XRayImage, where: Position) -> XRayImage:
    """The image with what there is to say of the C-arm that took it."""
    return replace(image, metadata={**image.metadata, **where.metadata()})


def _frames(
    images: Iterable[Any], settings: DisplaySettings, folder: Path | None, console: Console
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pictures one by one, each saved as it passes: a whole orbit of images need not fit in memory."""
    for number, image in enumerate(images):
        if folder is not None:
            folder.mkdir(exist_ok=True)
            path = folder / f"frame_{number:04d}.png"
            image.save(path, settings=settings)
            console.wrote(path)
        yield image.display(settings)
