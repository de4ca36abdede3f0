"""The CPU projector's benchmark: speed and accuracy beside other programs, and the figures of image formation.

One run, the same threads, the same views; prints Markdown. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import figures
import numpy as np
import report
from contest import PEERS, Contestant, Ours, Peer, Picture, Result, race
from scene import ENERGY_KEV, cameras, material_volume, write_for_peers

from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.threads import thread_count
from DeepDRRLogic.volume import CTVolume, MaterialVolume


def main() -> None:
    options = _options()
    load_before = report.load()
    ct = CTVolume.read(options.ct)
    volume = material_volume(ct)
    views = cameras(volume, options.preset)
    camera = next(iter(views.values()))
    i, j, k = volume.shape[::-1]
    print("\n".join(f"- {line}" for line in report.machine(options.threads).splitlines()))
    print(f"- CT {i}×{j}×{k}, spacing {' × '.join(f'{s:.3g}' for s in volume.spacing_mm)} mm")
    print(
        f"- {camera.width}×{camera.height} pixels of {camera.pixel_pitch_mm[0]:.3g} mm, source to detector "
        f"{camera.source_to_detector_mm:g} mm"
    )
    _print_contest(options, volume, views)
    _print_image_formation(options, volume, views)
    _print_single_figures(options, volume, camera)
    print(f"\nLoad average before {load_before}, after {report.load()}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ct", help="the CT to project, in any format that DeepDRRLogic reads")
    parser.add_argument("--threads", type=int, default=None, help="for every contestant; default: all cores")
    parser.add_argument("--repetitions", type=int, default=9, help="of everything that is timed")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds per view after which a slow one stops")
    parser.add_argument("--pixels", type=int, default=300, help="per view, compared with exact integration")
    parser.add_argument("--preset", default="deepdrr_paper", help="the C-arm preset that gives the geometry")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python in which the peers are installed")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="which to run")
    options = parser.parse_args()
    options.threads = thread_count(options.threads)
    return options


def _print_contest(options: argparse.Namespace, volume: MaterialVolume, views: dict[str, Camera]) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_for_peers(folder, volume, views, options.threads)
        peers = [Peer(module, options.peer_python, folder, options.threads) for module in options.peers]
        for peer in peers:
            stack.callback(peer.close)
        ours = Ours(volume, views, options.threads)
        contestants: list[Contestant] = [ours, *(peer for peer in peers if peer.missing is None)]
        results = race(contestants, list(views), options.repetitions, options.budget)
        areas = {view: ours.area_densities(view) for view in views}

    truth = figures.Truth(volume, views, options.pixels)
    absent = [peer for peer in peers if peer.missing is not None]
    _print_times(contestants, results, absent)
    _print_likeness(contestants, results, truth)
    print("\n### Area densities of the materials: relative L2 to exact integration\n")
    names = [material.name for material in volume.materials]
    rows = [[view, *(_percent(d) for d in truth.distances(view, areas[view]))] for view in views]
    print(report.table(["", *names], rows))
    print(f"\nExact: integrals of the trilinear volume, at {options.pixels} random pixels per view.")


def _print_times(contestants: Sequence[Contestant], results: Sequence[Result], absent: Sequence[Peer]) -> None:
    views = list(results[0].seconds)
    rows = [_race_row(*both, results[0]) for both in zip(contestants, results, strict=True)]
    rows += [[f"{p.name}: {p.technique}", "not installed", *["–"] * (len(views) + 2)] for p in absent]
    print("\n### One projection: milliseconds, median (best)\n")
    print(report.table(["", "line integrals", *views, "time / ours", "images timed"], rows))
    if len(results) > 1:
        leads = [f"{view} {_lead(results, view):.2f}×" for view in views]
        print(f"\nOurs is faster than the fastest other: {', '.join(leads)}.")


def _print_likeness(contestants: Sequence[Contestant], results: Sequence[Result], truth: figures.Truth) -> None:
    rows = []
    for contestant, result in zip(contestants, results, strict=True):
        for view, picture in result.pictures.items():
            errors = np.percentile(truth.errors(view, picture), (50, 99))
            likeness = _likeness(picture, results[0].pictures[view])
            rows.append([f"{contestant.name}, {view}", *likeness, *map(_percent, errors)])
    print(f"\n### The same picture? Line integrals of µ at {ENERGY_KEV:g} keV\n")
    print(report.table(["", "correlation with ours", "relative L2 to ours", "error p50", "error p99"], rows))
    print("\nErrors are relative to exact integration of the trilinear volume; plastimatch means constant voxels.")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3f} %"


def _race_row(contestant: Contestant, result: Result, ours: Result) -> list[str]:
    medians = [statistics.median(seconds) for seconds in result.seconds.values()]
    own = [statistics.median(seconds) for seconds in ours.seconds.values()]
    factors = [m / o for m, o in zip(medians, own, strict=True)]
    low, high = f"{min(factors):.1f}", f"{max(factors):.1f}"
    return [
        f"{contestant.name} {contestant.version}: {contestant.technique}",
        str(contestant.line_integrals),
        *(report.milliseconds(seconds) for seconds in result.seconds.values()),
        low if low == high else f"{low} to {high}",
        str(sum(map(len, result.seconds.values()))),
    ]


def _lead(results: Sequence[Result], view: str) -> float:
    ours, *others = (statistics.median(result.seconds[view]) for result in results)
    return min(others) / ours


def _likeness(picture: Picture, own: Picture) -> tuple[str, str]:
    correlation = float(np.corrcoef(picture.ravel(), own.ravel())[0, 1])
    distance = float(np.linalg.norm(picture - own) / np.linalg.norm(own))
    return f"{correlation:.7f}", _percent(distance)


def _print_image_formation(options: argparse.Namespace, volume: MaterialVolume, views: dict[str, Camera]) -> None:
    found = figures.image_formation(volume, views, options.threads, options.repetitions)
    rows = [[what, *(report.milliseconds(seconds) for seconds in by_view.values())] for what, by_view in found.items()]
    print("\n### Image formation: milliseconds, median (best)\n")
    print(report.table(["", *views], rows))
    print("\nProjection, spectrum (120 kV), detector and noise. To stay under: 560 ms, and 60 ms for the preview.")


def _print_single_figures(options: argparse.Namespace, volume: MaterialVolume, camera: Camera) -> None:
    repetitions = min(options.repetitions, 5)
    rows = [
        [what, f"{report.milliseconds(seconds)} ms"]
        for what, seconds in figures.preparation(volume, options.threads, repetitions).items()
    ]
    stages = figures.first_image(options.ct, options.preset, options.threads, min(repetitions, 3))
    total = sum(stages.values())
    parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
    rows.append(["first image of a new process, file already read", f"{total - stages['read']:.2f} s"])
    rows.append([f"first image of a new process ({parts} s)", f"{total:.2f} s"])
    used = figures.memory_bytes(volume, camera, options.threads)
    megabytes = {what: f"{size / 1e6:.0f} MB" for what, size in used.items()}
    rows.append(["memory: densities and labels of the volume", megabytes["volume"]])
    rows.append(["memory: projector", megabytes["held"]])
    rows.append(
        ["memory: projector at its peak", f"{megabytes['peak']}, {used['peak'] / used['volume']:.2f} × the volume"]
    )
    print("\n### Start-up and memory\n")
    print(report.table(["", "median (best)"], rows))


if __name__ == "__main__":
    main()
