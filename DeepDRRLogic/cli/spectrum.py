"""`deepdrr spectrum`: what leaves the tube, as numbers, as a table and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Console
from .options import Quiet

if TYPE_CHECKING:
    from ..spectrum import Spectrum


@dataclass(frozen=True)
class SpectrumOptions:
    """Tube voltages, filters and where the result goes."""

    kv: Annotated[
        list[float] | None, typer.Option("--kv", help="Tube voltage, may be repeated.", show_default="90")
    ] = None
    filter_mm: Annotated[
        float | None,
        typer.Option("--filter-mm", help="Whole filtration in mm aluminium.", show_default="usual for the voltage"),
    ] = None
    copper_mm: Annotated[float, typer.Option("--copper-mm", help="Additional copper in mm.")] = 0.0
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="A .png plot or a .csv table, may be repeated.", show_default=False),
    ] = None
    quiet: Quiet = False


def spectrum(options: SpectrumOptions) -> None:
    """Show X-ray spectra: mean energy, half-value layer, tube output; as a table or a plot."""
    from ..files import require_writable_place
    from ..spectrum import Spectrum
    from .outputs import require_different

    console = Console(options.quiet)
    writers = {".png": _plot, ".csv": _table}
    for path in options.output or ():
        if path.suffix.lower() not in writers:
            raise ValueError(f"Cannot write {path}: give a .png for a plot or a .csv for a table.")
        require_writable_place(path)
    require_different(options.output or ())
    spectra = [
        Spectrum.for_kvp(kv, aluminium_mm=options.filter_mm, copper_mm=options.copper_mm)
        for kv in options.kv or (90.0,)
    ]
    if not options.quiet:
        typer.echo(_summary(spectra))
    for path in options.output or ():
        writers[path.suffix.lower()](spectra, path)
        console.wrote(path)


def _summary(spectra: Sequence[Spectrum]) -> str:
    lines = ["  kV  mean keV  HVL mm Al  photons/(mAs mm²) at 1 m  air kerma µGy/mAs at 1 m  spectrum"]
    for one in spectra:
        fluence = one.photons_per_mas_mm2_at_1m
        output = "-" if fluence is None else f"{fluence:.4g}"
        kerma = "-" if fluence is None else f"{1e6 * one.air_kerma_gy(fluence):.1f}"
        numbers = f"{one.kvp:4g}  {one.mean_energy_kev:8.2f}  {one.half_value_layer_mm():9.2f}"
        lines.append(f"{numbers}  {output:>24}  {kerma:>24}  {one.description}")
    return "\n".join(lines)


def _table(spectra: Sequence[Spectrum], path: Path) -> None:
    """One row per energy bin and spectrum; photons relative, their sum per spectrum is 1."""
    import csv

    from ..files import replaced_when_written

    with (
        replaced_when_written(path) as (temporary,),
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(("spectrum", "energy_kev", "photons"))
        for one in spectra:
            for energy, photons in zip(one.energies_kev, one.photons, strict=True):
                rows.writerow((one.description, repr(float(energy)), repr(float(photons))))


def _plot(spectra: Sequence[Spectrum], path: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            f"Cannot draw {path}: plots need the package matplotlib. Install it (pip install matplotlib), "
            "or give a .csv for a table."
        ) from error
    import numpy as np

    from ..files import replaced_when_written

    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for one in spectra:
        width_kev = np.gradient(one.energies_kev) if one.energies_kev.size > 1 else np.ones(1)
        (line,) = axes.plot(one.energies_kev, one.photons / width_kev, drawstyle="steps-mid", label=one.description)
        axes.axvline(one.mean_energy_kev, color=line.get_color(), linestyle=":", linewidth=1)
    axes.set(xlabel="Photon energy (keV)", ylabel="Photons per keV (area 1)", xlim=(0, None), ylim=(0, None))
    axes.set_title("Tube spectra; dotted: mean energy")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replaced_when_written(path) as (temporary,):
        figure.savefig(temporary)
