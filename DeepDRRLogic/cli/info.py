"""`deepdrr info` about a CT, and `deepdrr presets`: the names that other commands take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import typer

from . import scene
from .options import DEFAULT_PHANTOM_SPACING_MM, CorrectTilt, CtArgument, HuOffset, PhantomSpacing, Series


@dataclass(frozen=True)
class InfoOptions:
    """Which CT."""

    ct: CtArgument
    series: Series = None
    hu_offset: HuOffset = None
    correct_tilt: CorrectTilt = False
    phantom_spacing: PhantomSpacing = DEFAULT_PHANTOM_SPACING_MM


def info(options: InfoOptions) -> None:
    """Say what a CT is: size, spacing, orientation, CT numbers, what looks wrong; and which device would project it."""
    from ..projector import choose_device

    ct, _ = scene.read_ct(options.ct, options)
    typer.echo(str(ct.info()))
    typer.echo(f"X-rays of it would be projected on {choose_device()}")


def presets() -> None:
    """List C-arms, named views, spectra, detectors, windows and materials."""
    from ..carm_presets import carm_presets, carm_views
    from ..detector import detector, detector_names
    from ..display import window_presets
    from ..materials import material, material_names
    from ..spectrum import Spectrum, spectrum_presets

    _list("C-arms (--preset)", carm_presets())
    _list("Views (--view)", carm_views())
    stored = map(Spectrum.preset, spectrum_presets())
    _list(
        "Tube voltages in kV (--kv) of stored spectra; any other is computed",
        {f"{s.kvp:g}": s.description for s in stored},
    )
    _list("Detectors (--detector)", {n: f"signal in {detector(n).signal_unit}" for n in detector_names()})
    _list("Windows of attenuation (--window)", {name: _range(name) for name in window_presets()})
    _list("Materials", {name: f"{material(name).density_g_cm3:g} g/cm³" for name in material_names()})


def _range(window: str) -> str:
    from ..display import preset_window

    if window == "auto":
        return "chosen for each image"
    center, width = preset_window(window)
    return f"-ln(I/I0) from {center - width / 2:g} to {center + width / 2:g}"


def _list(title: str, entries: Mapping[str, str]) -> None:
    typer.echo(typer.style(title, bold=True))
    longest = max(len(name) for name in entries)
    for name, description in entries.items():
        typer.echo(f"  {name:<{longest}}  {description}")
    typer.echo()
