"""`deepdrr render`: one exposure, in as many formats as are asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

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
from .position import place, view_label


@dataclass(frozen=True)
class RenderOutput:
    """Where the image goes."""

    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="File, may be repeated: .png or .dcm picture, .tif or .nrrd float values, .npz everything. "
            "A sidecar .json is written beside.",
            show_default="named after CT and view, .png",
        ),
    ] = None
    bits: Annotated[int, typer.Option("--bits", help="Depth of a .png, 8 or 16.")] = 16
    save_area_densities: Annotated[
        bool, typer.Option("--save-area-densities", help="Also write g/cm² per material as a .nrrd.")
    ] = False


def render(
    patient: PatientOptions,
    position: PositionOptions,
    exposure: ExposureOptions,
    picture: PictureOptions,
    output: RenderOutput,
    run: RunOptions,
) -> None:
    """Make one X-ray image from a CT."""
    from ..image_io import require_image_path, sidecar_path
    from .outputs import require_apart, require_different

    console = Console(run.quiet)
    # All that can be checked without the CT is checked before it is read.
    settings = scene.display_settings(picture, None)
    bits = _bits(output.bits)
    paths = output.output or [Path(f"{scene.label_of(patient.ct)}_{view_label(position)}.png")]
    for path in paths:
        require_image_path(path)
    densities = paths[0].with_name(f"{paths[0].stem}_area_densities.nrrd")
    written = [*paths, densities] if output.save_area_densities else paths
    beside = [sidecar for path in written if (sidecar := sidecar_path(path)) != path]
    require_different([*written, *beside])
    require_apart([*written, *beside], patient.ct, patient.segmentation, position.camera)
    opened = scene.open_ct(patient, console)
    where = place(position, opened.ct.center_ras)
    technique = scene.technique(exposure, run, where.camera)
    scene.require_room(where.camera, technique, patient)
    settings = scene.display_settings(picture, where)
    who = scene.patient(opened, patient, console)

    with console.busy("Preparing"):
        simulator = scene.simulator(who, technique, settings.collimator)
    console.remark(f"Projecting on {simulator.projects_on}")
    started = time.perf_counter()
    with console.busy("Exposing"):
        image = simulator(where.camera, exposure.seed, where.metadata())
    seconds = time.perf_counter() - started
    console.remark(f"{where.camera.width}×{where.camera.height} pixels in {seconds:.2f} s")
    for path in paths:
        image.save(path, settings=settings, quantity="log" if picture.log else "signal", bits=bits)
        console.wrote(path)
    if output.save_area_densities:
        image.save(densities, quantity="area_densities")
        console.wrote(densities)


def _bits(bits: int) -> Literal[8, 16]:
    if bits == 8:
        return 8
    if bits == 16:
        return 16
    raise ValueError(f"--bits is {bits}; give 8 or 16.")
