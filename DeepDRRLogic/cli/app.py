"""All commands of `deepdrr` in one application; what they need is imported when one of them runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from .grouping import add_command
from .info import info, presets
from .render import render
from .segment import segment
from .spectrum import spectrum
from .sweep import sweep

app = typer.Typer(
    name="deepdrr",
    help="Realistic X-ray images from CT.",
    epilog="For a first picture, without any file of your own: deepdrr render phantom -o xray.png",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # A fault of ours is reported best as the plain traceback; locals would dump whole volumes.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"deepdrr {version('DeepDRRLogic')}")
    except PackageNotFoundError:
        typer.echo("deepdrr, not installed as a package")
    raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Realistic X-ray images from CT."""


add_command(
    app,
    render,
    examples="""
deepdrr render phantom -o xray.png
deepdrr render chest.nii.gz --view pa --kv 120 --window chest -o chest.png
deepdrr render dicom_folder --lao 30 --cran 20 --mas 2 --detector csi_flat_panel -o shot.png -o shot.nrrd
deepdrr render hip.nrrd --preset mobile_image_intensifier --polarity bones_dark -o fluoroscopy.png
""",
)
add_command(
    app,
    sweep,
    examples="""
deepdrr sweep phantom -o orbit.gif
deepdrr sweep chest.nrrd --from -90 --to 90 --frames 90 -o frames/ --movie mp4
""",
)
add_command(
    app,
    segment,
    examples="deepdrr segment chest.nii.gz --bone-min-hu 250 -o chest.seg.nrrd",
)
add_command(app, info, examples="deepdrr info dicom_folder")
add_command(
    app,
    spectrum,
    examples="""
deepdrr spectrum --kv 60 --kv 120 -o spectra.png
deepdrr spectrum --kv 100 --copper-mm 0.1 -o spectrum.csv
""",
)
add_command(app, presets)
