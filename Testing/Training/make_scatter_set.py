"""Makes the scatter training set by Monte Carlo, one file per scene; what is there already is kept and added to.

Run: python Testing/Training/make_scatter_set.py CT_FOLDER OUTPUT [--held-out] [--first N] [--last N] [--photons N]
[--uncertainty PERCENT] [--runs N]
A scene is defined by its number alone (scatter_scenes.py), a run by scene, photons and its own number, so the set can
be made again. With --uncertainty, a scene is run again, with other seeds, until the median uncertainty of its pixels is
as small or it has had as many runs as --runs says.
"""

from __future__ import annotations

import argparse
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from scatter_scenes import Scene, held_out_scene, training_scene

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.files import replaced_when_written
from DeepDRRLogic.materials import Material
from DeepDRRLogic.scatter.interactions import Interactions
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.scatter.tallies import COMPONENTS

Example = dict[str, np.ndarray]

FORCED, BATCHES, TALLY = 16, 10, 32
SEEDS_APART = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cts", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=4000)
    parser.add_argument("--photons", type=float, default=60_000)
    parser.add_argument("--uncertainty", type=float, default=100.0)
    parser.add_argument("--runs", type=int, default=8)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    scene_of = held_out_scene if options.held_out else training_scene
    for number in range(options.first, options.last):
        path = options.output / f"{number:05d}.npz"
        done = read(path)
        while done is None or (uncertainty(done) > options.uncertainty and done["runs"] < options.runs):
            scene = scene_of(number, options.cts)
            one = run(scene, number + SEEDS_APART * (int(done["runs"]) if done else 0), options.photons)
            done = together(done, one) if done else one
            with replaced_when_written(path) as (temporary,), temporary.open("wb") as file:
                np.savez_compressed(file, **done)
            print(path.name, scene.patient, f"{one['seconds']:.1f} s, {uncertainty(done):.1f} %", flush=True)


def read(path: Path) -> Example | None:
    """What there is of a scene."""
    if not path.exists():
        return None
    with np.load(path) as file:
        return {"runs": np.array(1)} | dict(file)


def run(scene: Scene, seed: int, photons: float) -> Example:
    """Photons, energy and the energy's error of each component after one run, and what it took."""
    start = time.process_time()
    result = simulate(
        scene.volume, scene.camera, scene.spectrum, Detector.ideal(), photons=photons, seed=seed, tally=TALLY,
        forced=FORCED, field=scene.field, voxel_mm=None, batches=BATCHES, threads=1,
        interactions=tables(scene.volume.materials),
    )  # fmt: skip
    kinds = COMPONENTS[1:4]
    return {
        "photons": np.float32([result.mean(kind)[0] for kind in kinds]),
        "energy_kev": np.float32([result.mean(kind)[3] for kind in kinds]),
        "energy_error_kev": np.float32([result.standard_error(kind)[3] for kind in (*kinds, "scatter")]),
        "seconds": np.array(time.process_time() - start),
        "histories": np.array(photons),
        "runs": np.array(1),
    }


def together(one: Example, other: Example) -> Example:
    """Two runs of a scene as one: means weighted with their photons, not with their noise, which would be biased."""
    total = {name: one[name] + other[name] for name in ("seconds", "histories", "runs")}
    share, rest = (x["histories"] / total["histories"] for x in (one, other))
    for name in ("photons", "energy_kev"):
        total[name] = np.float32(share * one[name] + rest * other[name])
    total["energy_error_kev"] = np.float32(np.hypot(share * one["energy_error_kev"], rest * other["energy_error_kev"]))
    return total


def uncertainty(example: Example) -> float:
    """Median over the pixels of the relative standard error of all scatter, in percent."""
    energy = example["energy_kev"].sum(axis=0)
    seen = energy > 0.0
    return float(100.0 * np.median(example["energy_error_kev"][3][seen] / energy[seen])) if seen.any() else 0.0


@lru_cache(maxsize=64)
def tables(materials: tuple[Material, ...]) -> Interactions:
    """One table for all spectra up to 120 kV."""
    return Interactions.of(materials, 121.0)


if __name__ == "__main__":
    main()
