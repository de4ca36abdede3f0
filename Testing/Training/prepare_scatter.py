"""Turns Monte Carlo scenes into examples for the scatter network; what is there already is kept.

Run: python Testing/Training/prepare_scatter.py CT_FOLDER SET OUTPUT [--held-out]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scatter_scenes import held_out_scene, training_scene

from DeepDRRLogic.files import replaced_when_written
from DeepDRRLogic.scatter.features import features
from DeepDRRLogic.scatter.layers import cut
from DeepDRRLogic.scatter.superposition import superpose

KINDS = [1, 0, 2]
"""Rayleigh, Compton, multiple, as the set's files have them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cts", type=Path)
    parser.add_argument("set", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--held-out", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    scene_of = held_out_scene if options.held_out else training_scene
    for path in sorted(options.set.glob("[0-9]*.npz")):
        target = options.output / path.name
        if not target.exists():
            scene = scene_of(int(path.stem), options.cts)
            layers = cut(scene.volume, scene.camera, 1, scene.field)
            first = superpose(layers, scene.spectrum)
            with np.load(path) as file:
                energy, error = file["energy_kev"], file["energy_error_kev"]
            with replaced_when_written(target) as (temporary,), temporary.open("wb") as out:
                np.savez(
                    out,
                    pictures=features(layers, scene.spectrum, first),
                    base=first.energy_kev,
                    truth=energy[KINDS],
                    error=error[KINDS],
                    transmission=first.transmission,
                    mean_energy_kev=scene.spectrum.mean_energy_kev,
                    patient=scene.patient,
                )


if __name__ == "__main__":
    main()
