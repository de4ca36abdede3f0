"""Makes the README's picture of scatter: for three held-out views the truth, the network's scatter, and its error.

Run: python Testing/Figures/scatter_figure.py TRUTH CT_FOLDER; TRUTH as for Testing/Benchmarks/scatter.py. Writes
scatter.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figure_options import figure_options

sys.path.insert(0, str(Path(__file__).parents[1] / "Training"))
from scatter_scenes import Scene, held_out_scene

from DeepDRRLogic import DisplaySettings, XRaySimulator
from DeepDRRLogic.scatter.layers import cut
from DeepDRRLogic.scatter.network import NetworkScatter

FOLDER = Path(__file__).parents[2] / "Resources" / "Screenshots"
VIEWS = {"Chest": 18, "Abdomen": 17, "Hip (phantom)": 31}
ERROR_PERCENT = 20.0


def main() -> None:
    parser = figure_options(__doc__, FOLDER)
    parser.add_argument("truth", type=Path)
    parser.add_argument("ct_folder", type=Path)
    options = parser.parse_args()
    figure, axes = plt.subplots(len(VIEWS), 4, figsize=(10.2, 7.4), layout="constrained")
    for row, (title, number) in zip(axes, VIEWS.items(), strict=True):
        with np.load(options.truth / f"{number:05d}.npz") as file:
            truth = file["energy_kev"].sum(axis=0)
        draw(row, title, held_out_scene(number, options.ct_folder), truth)
    for axis, title in zip(axes[0], ("X-ray", "Monte Carlo", "Network", "Error"), strict=True):
        axis.set_title(title, fontsize=11)
    figure.suptitle("Scatter in percent of the open beam; error in percent of the view's mean scatter", fontsize=11)
    options.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output / "scatter.png", dpi=110)


def draw(row: np.ndarray, title: str, scene: Scene, truth: np.ndarray) -> None:
    model = NetworkScatter(scene.volume, field=scene.field)
    found = model.superposed(cut(model.volume, scene.camera, 1, scene.field), scene.spectrum).energy_kev.sum(axis=0)
    image = XRaySimulator(scene.volume, spectrum=scene.spectrum, noise=None)(scene.camera.resampled(384, 384))
    # Truth and model in units of the signal of the open beam: a scatter picture that can be compared between views.
    truth, found = (picture / scene.spectrum.mean_energy_kev for picture in (truth, found))
    row[0].imshow(image.display(DisplaySettings()), cmap="gray", aspect="auto")
    row[0].set_ylabel(f"{title}, {scene.spectrum.kvp:g} kV")
    top = 100.0 * float(max(truth.max(), found.max()))
    for axis, picture in zip(row[1:3], (truth, found), strict=True):
        shown = axis.imshow(100.0 * picture, vmin=0.0, vmax=top, cmap="inferno", interpolation="bicubic")
    plt.colorbar(shown, ax=row[1:3], format="%.3g %%", shrink=0.9)
    error = 100.0 * (found - truth) / truth.mean()
    shown = row[3].imshow(error, vmin=-ERROR_PERCENT, vmax=ERROR_PERCENT, cmap="RdBu_r")
    plt.colorbar(shown, ax=row[3], format="%+.0f %%", shrink=0.9)
    height, width = truth.shape
    row[0].set_box_aspect(height / width)
    for axis in row:
        axis.set_xticks([])
        axis.set_yticks([])


if __name__ == "__main__":
    main()
