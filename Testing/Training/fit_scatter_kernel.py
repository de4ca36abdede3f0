"""Fits the numbers of the scatter kernels that physics does not give to Monte Carlo scenes, by least squares.

Run: python Testing/Training/fit_scatter_kernel.py CT_FOLDER SET [-o FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from scatter_scenes import training_scene

from DeepDRRLogic.scatter.layers import Layers, cut
from DeepDRRLogic.scatter.superposition import Fitted, angular, energies_by_kind, groups, superpose
from DeepDRRLogic.spectrum import Spectrum

OUTPUT = Path(__file__).parents[2] / "DeepDRRLogic" / "data" / "scatter" / "kernel.json"
SCENES, ITERATIONS, STEP, PRIOR = 120, 4, 0.02, 0.15
KINDS = (1, 0, 2)  # Rayleigh, Compton, multiple, as the set's files have them

Case = tuple[Layers, Spectrum, np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ct_folder", type=Path)
    parser.add_argument("set", type=Path, help="as make_scatter_set.py writes it")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, help="by default %(default)s")
    options = parser.parse_args()
    every = sorted(options.set.glob("*.npz"))
    paths = every[:: max(1, len(every) // SCENES)][:SCENES]
    cases = [case(int(path.stem), options.ct_folder, path) for path in paths]
    fitted = levenberg_marquardt(Fitted(), cases)
    fitted = dataclasses.replace(fitted, collisions=collisions(fitted, cases))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    table = {"source": f"Testing/Training/fit_scatter_kernel.py, {len(cases)} Monte Carlo scenes"}
    table |= {name: float(f"{value:.4g}") for name, value in dataclasses.asdict(fitted).items()}
    options.output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def levenberg_marquardt(fitted: Fitted, cases: list[Case]) -> Fitted:
    """The numbers with the least squares, by logarithmic steps, so that they stay positive (Marquardt 1963)."""
    names = [field.name for field in dataclasses.fields(Fitted) if field.name != "collisions"]
    damping, now = 0.01, residuals(fitted, cases)
    for _ in range(ITERATIONS):
        slopes = [(residuals(scaled(fitted, {name: STEP}), cases) - now) / STEP for name in names]
        jacobian = np.stack(slopes, axis=1)
        normal, downhill = jacobian.T @ jacobian, -jacobian.T @ now
        for _ in range(5):
            move = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-6), downhill)
            trial = scaled(fitted, dict(zip(names, np.clip(move, -1.0, 1.0), strict=True)))
            found = residuals(trial, cases)
            if found @ found < now @ now:
                fitted, now, damping = trial, found, 0.2 * damping
                break
            damping *= 8.0
        print(f"{np.linalg.norm(now):.5f}", {n: round(getattr(fitted, n), 4) for n in names}, flush=True)
    return fitted


def case(number: int, cts: Path, path: Path) -> Case:
    scene = training_scene(number, cts)
    with np.load(path) as file:
        energy, photons = file["energy_kev"][list(KINDS)], file["photons"][list(KINDS)]
    return cut(scene.volume, scene.camera, 1, scene.field), scene.spectrum, energy, photons


def scaled(fitted: Fitted, logarithms: dict[str, float]) -> Fitted:
    return dataclasses.replace(
        fitted, **{name: getattr(fitted, name) * float(np.exp(value)) for name, value in logarithms.items()}
    )


def residuals(fitted: Fitted, cases: list[Case]) -> np.ndarray:
    """Errors of all scenes, by kind in units of that kind's mean, so that every scene and kind counts alike.

    With them, how far the numbers are from where they started: exit path and power of the depth can do for each other,
    and would drift far along a valley that is all but flat.
    """
    first, now = (np.log(np.array(dataclasses.astuple(x))) for x in (Fitted(), fitted))
    every = []
    for layers, spectrum, truth, _ in cases:
        found = superpose(layers, spectrum, fitted).energy_kev
        scale = np.maximum(truth.mean(axis=(1, 2), keepdims=True), 1e-6) * np.sqrt(truth[0].size)
        every.append(((found - truth) / scale).ravel())
    return np.append(np.concatenate(every) / np.sqrt(len(cases)), PRIOR * (now - first))


def collisions(fitted: Fitted, cases: list[Case]) -> float:
    """`Fitted.collisions`, from the mean energy of photons that scattered more than once: the median of the scenes."""
    tried = np.linspace(0.5, 6.0, 23)
    right = []
    for layers, spectrum, energy, photons in cases:
        weight = superpose(layers, spectrum, fitted).photons[2].sum(axis=(1, 2))
        energies, _ = groups(spectrum)
        kept = angular(energies.tobytes())[2]
        means = [
            weight @ energies_by_kind(energies, kept, dataclasses.replace(fitted, collisions=value))[2].mean(axis=-1)
            for value in tried
        ]
        mean = energy[2].sum() / photons[2].sum()
        right.append(np.interp(-mean, -np.array(means) / weight.sum(), tried))
    return float(np.median(right))


if __name__ == "__main__":
    main()
