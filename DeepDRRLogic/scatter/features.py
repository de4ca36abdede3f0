"""What the scatter network sees of a view, as pictures in physical units of order one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .layers import MARGIN
from .superposition import coefficients, groups, softness

if TYPE_CHECKING:
    from ..spectrum import Spectrum
    from .layers import Layers
    from .superposition import Superposed

Float32Array = npt.NDArray[np.float32]

CHANNELS = (
    "beam", "transmission", "log_rayleigh", "log_compton", "log_multiple", "depth", "depth_hard", "depth_soft",
    "gap", "thickness", "exit_gap", "tilt", "pitch", "distance", "energy", "hardness",
)  # fmt: skip
DEPTH_UNIT = 4.0
"""Optical depth that is 1 in the picture "depth"."""
LEAST = 1e-4
NOTHING = 0.02


def features(layers: Layers, spectrum: Spectrum, first: Superposed) -> Float32Array:
    """(CHANNELS, rows + 2 MARGIN, columns + 2 MARGIN): what is in the beam, where, and the first estimate of scatter.

    Depths are optical, at the middle, hardest and softest energy of the spectrum; gaps are distances to the detector
    in units of 300 mm, on average and from the last matter on the way; all else in the names. Nothing but the
    pictures changes where the view is mirrored.
    """
    energies, _ = groups(spectrum)
    total = coefficients(layers.materials, energies.tobytes(), "CS_Total")
    around = layers.around_g_cm2
    middle = len(energies) // 2
    soft, depth, hard = (np.tensordot(total[n], around.sum(axis=0), (0, 0)) for n in (0, middle, len(energies) - 1))
    by_layer = np.tensordot(total[middle], around, (0, 1))
    gaps = layers.gaps_mm.astype(np.float32) / np.float32(300.0)
    weight = np.maximum(depth, np.float32(NOTHING))
    gap = np.tensordot(gaps, by_layer, (0, 0)) / weight
    square = np.tensordot(gaps**2, by_layer, (0, 0)) / weight
    filled = by_layer > NOTHING
    exit_gap = np.where(filled, gaps[:, None, None], gaps[0] * filled.any(axis=0)).min(axis=0)
    camera = layers.camera
    v, u = np.mgrid[-MARGIN : camera.height + MARGIN, -MARGIN : camera.width + MARGIN]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(camera.intrinsics).T
    tilt = 10.0 * (1.0 - 1.0 / np.linalg.norm(rays, axis=-1))
    logs = [np.log(_padded(energy) / spectrum.mean_energy_kev + LEAST) / 4.0 for energy in first.energy_kev]
    numbers = (
        np.sqrt(np.prod(camera.pixel_pitch_mm)) / 10.0,
        camera.source_to_detector_mm / 1000.0,
        spectrum.mean_energy_kev / 60.0,
        softness(spectrum),
    )
    pictures = (
        _padded(layers.beam), _padded(first.transmission), *logs, depth / DEPTH_UNIT, hard / 4.0, soft / 8.0,
        gap, np.sqrt(np.maximum(square - gap**2, 0.0)), exit_gap, tilt,
    )  # fmt: skip
    constants = [np.full(depth.shape, number) for number in numbers]
    return np.stack([*pictures, *constants]).astype(np.float32)


def _padded(picture: Float32Array) -> Float32Array:
    return np.pad(picture, MARGIN)
