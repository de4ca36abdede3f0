"""How well fast scatter models do on patients they have not seen: Monte Carlo against network, kernels and nothing.

Run: python Testing/Benchmarks/scatter.py TRUTH CT_FOLDER, with TRUTH as written by
python Testing/Training/make_scatter_set.py CT_FOLDER TRUTH --held-out --last 48 --photons 4e5 --uncertainty 3 --runs 4
Figures of the signal of an ideal detector. NMSE: Σ (model - truth)² / Σ truth², less what the Monte Carlo's known noise
contributes to it. SPR error: of the scatter-to-primary ratio, relative, in the 8 × 8 parts of the field, median over
all parts of all views, as it is and without the noise of the Monte Carlo (see without_noise). Asymmetry: between a view
and its mirror image, largest of all views. Of one picture of 1024 × 1024 pixels the processor time, of all cores
together, and the wall time: the best of three each, median of the views.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from report import load, machine, table

sys.path.insert(0, str(Path(__file__).parents[1] / "Training"))
from scatter_scenes import Scene, held_out_scene

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.scatter.kernel import KernelScatter
from DeepDRRLogic.scatter.layers import cut
from DeepDRRLogic.scatter.network import NetworkScatter
from DeepDRRLogic.scatter.paper import PaperNetworkScatter

MODELS: dict[str, type[KernelScatter]] = {
    model.name: model for model in (NetworkScatter, PaperNetworkScatter, KernelScatter)
}
PIXELS, THREADS, PARTS, REPEATS = 1024, 2, 8, 3
Score = tuple[float, np.ndarray, float, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path)
    parser.add_argument("ct_folder", type=Path)
    options = parser.parse_args()
    numbers = [int(path.stem) for path in sorted(options.truth.glob("[0-9]*.npz"))]
    scenes = [held_out_scene(number, options.ct_folder) for number in numbers]
    files = [dict(np.load(options.truth / f"{number:05d}.npz")) for number in numbers]
    before = load()
    rows = [row(name, MODELS[name], scenes, files) for name in MODELS]
    nothing = [score(np.zeros_like(truth(file)), file) for file in files]
    rows.append(["none", *figures(nothing), "0 %", "0 ms", "0 ms"])
    seconds = statistics.median(float(file["seconds"]) for file in files)
    noise = statistics.median(float(uncertainty(file)) for file in files)
    rows.append([f"Monte Carlo ({100 * noise:.0f} % per pixel)", "0", "0", "0", "0", "-", f"{seconds:.0f} s", "-"])
    header = [
        "scatter",
        "NMSE, mean (worst)",
        "SPR error, median",
        "without the truth's noise",
        "scatter too much, median",
        "asymmetry",
        "processor time",
        "wall time",
    ]
    print(table(header, rows))
    print(f"\n{len(scenes)} views of {len({scene.patient for scene in scenes})} held-out patients")
    print(f"{machine(THREADS)}\nLoad average before {before}, after {load()}")


def row(name: str, model: type[KernelScatter], scenes: list[Scene], files: list[dict[str, np.ndarray]]) -> list[str]:
    scores, times, asymmetries = [], [], []
    for scene, file in zip(scenes, files, strict=True):
        scatter = model(scene.volume, field=scene.field, threads=THREADS)
        found = coarse(scatter, scene, scene.camera)
        scores.append(score(found, file))
        mirrored = coarse(scatter, scene, mirror(scene.camera), flipped=True)
        asymmetries.append(float(np.abs(mirrored[:, ::-1] - found).max() / found.max()))
        repeats = np.array([timed(scatter, scene) for _ in range(REPEATS)])
        times.append(repeats.min(axis=0))
    processor, wall = 1e3 * np.median(times, axis=0)
    return [name, *figures(scores), f"{100 * max(asymmetries):.2f} %", f"{processor:.0f} ms", f"{wall:.0f} ms"]


def coarse(model: KernelScatter, scene: Scene, camera: Camera, flipped: bool = False) -> np.ndarray:
    u0, v0, u1, v1 = scene.field
    model.field = (1.0 - u1, v0, 1.0 - u0, v1) if flipped else scene.field
    energy: np.ndarray = model.superposed(
        cut(model.volume, camera, THREADS, model.field), scene.spectrum
    ).energy_kev.sum(0)
    return energy


def mirror(camera: Camera) -> Camera:
    """The same view read from the other side: column u becomes column width - 1 - u."""
    flip = np.array([[-1.0, 0.0, camera.width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return Camera(
        flip @ camera.intrinsics, camera.camera_from_ras, camera.width, camera.height, camera.source_to_detector_mm
    )


def timed(model: KernelScatter, scene: Scene) -> tuple[float, float]:
    """Processor and wall time of one picture, in seconds."""
    fine = scene.camera.resampled(PIXELS, PIXELS)
    processor, wall = time.process_time(), time.perf_counter()
    model.estimate(np.zeros((0, 1, 1), np.float32), (), fine, scene.spectrum, Detector.ideal())
    return time.process_time() - processor, time.perf_counter() - wall


def truth(file: dict[str, np.ndarray]) -> np.ndarray:
    total: np.ndarray = file["energy_kev"].sum(axis=0)
    return total


def uncertainty(file: dict[str, np.ndarray]) -> float:
    return float(np.median(file["energy_error_kev"][3] / np.maximum(truth(file), 1e-12)))


def score(found: np.ndarray, file: dict[str, np.ndarray]) -> Score:
    """NMSE without noise, relative errors of the parts, the ratio of the sums less 1, and the truth's noise by part."""
    exact, error = truth(file), file["energy_error_kev"][3]
    square = ((found - exact) ** 2).sum() - (error**2).sum()
    noise = np.sqrt(parts(error**2)) / parts(exact)
    errors = parts(found) / parts(exact) - 1.0
    return float(square / (exact**2).sum()), errors, float(found.sum() / exact.sum() - 1.0), noise


def parts(picture: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(n) * PARTS // n for n in picture.shape)
    total = np.zeros((PARTS, PARTS))
    np.add.at(total, (rows[:, None], columns), picture)
    return total


def without_noise(errors: np.ndarray, noise: np.ndarray, draws: int = 40) -> float:
    """The median of |errors| as it were without the noise, of known standard deviations, that is in them.

    As much noise again, half and twice as much is added, and a parabola goes back from there to none: simulation and
    extrapolation (Cook & Stefanski, J. Am. Stat. Assoc. 89 (1994)).
    """
    more, rng = np.array([0.0, 0.5, 1.0, 1.5, 2.0]), np.random.default_rng(0)
    drawn = rng.normal(size=(draws, *errors.shape)) * noise
    medians = [np.median(np.abs(errors + np.sqrt(times) * drawn)) for times in more]
    return float(np.polyval(np.polyfit(more, medians, 2), -1.0))


def figures(scores: list[Score]) -> list[str]:
    nmse = [one[0] for one in scores]
    errors, noise = (np.concatenate([one[n].ravel() for one in scores]) for n in (1, 3))
    bias = statistics.median(one[2] for one in scores)
    return [
        f"{100 * np.mean(nmse):.2f} % ({100 * max(nmse):.1f} %)",
        f"{100 * np.median(np.abs(errors)):.1f} %",
        f"{100 * without_noise(errors, noise):.1f} %",
        f"{100 * bias:+.1f} %",
    ]


if __name__ == "__main__":
    main()
