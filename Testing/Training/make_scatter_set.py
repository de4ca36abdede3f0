"""Makes the scatter training set by Monte Carlo, one file per scene; what is there already is kept.

Run: python Testing/Training/make_scatter_set.py CT_FOLDER OUTPUT [--held-out] [--first N] [--last N] [--photons N]
A scene is defined by its number alone (scatter_scenes.py), a run by scene and photons, so the set can be made again.
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

FORCED, BATCHES, TALLY = 16, 10, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cts", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=4000)
    parser.add_argument("--photons", type=float, default=60_000)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    scene_of = held_out_scene if options.held_out else training_scene
    for number in range(options.first, options.last):
        path = options.output / f"{number:05d}.npz"
        if not path.exists():
            print(path.name, run(scene_of(number, options.cts), number, options.photons, path), flush=True)


def run(scene: Scene, number: int, photons: float, path: Path) -> str:
    """Simulate a scene and write photons, energy and the energy's error of each component; says how long it took."""
    start = time.process_time()
    result = simulate(
        scene.volume, scene.camera, scene.spectrum, Detector.ideal(), photons=photons, seed=number, tally=TALLY,
        forced=FORCED, field=scene.field, voxel_mm=None, batches=BATCHES, threads=1,
        interactions=tables(scene.volume.materials),
    )  # fmt: skip
    seconds = time.process_time() - start
    kinds = COMPONENTS[1:4]
    with replaced_when_written(path) as (temporary,), temporary.open("wb") as file:
        np.savez_compressed(
            file,
            photons=np.float32([result.mean(kind)[0] for kind in kinds]),
            energy_kev=np.float32([result.mean(kind)[3] for kind in kinds]),
            energy_error_kev=np.float32([result.standard_error(kind)[3] for kind in (*kinds, "scatter")]),
            seconds=seconds,
            histories=photons,
        )
    return f"{scene.patient} {seconds:.1f} s, {100 * result.median_uncertainty():.1f} %"


@lru_cache(maxsize=64)
def tables(materials: tuple[Material, ...]) -> Interactions:
    """One table for all spectra up to 120 kV."""
    return Interactions.of(materials, 121.0)


if __name__ == "__main__":
    main()
