"""Seeded, band-limited textures: marrow, lung, fat lobules and stool look like tissue, not like plastic."""

from __future__ import annotations

import numpy as np

from .canvas import Array, Block, Spot


class Texture:
    """A periodic random field of zero mean and unit variance with details of a given size.

    Energy lies in one octave about `detail_mm`, whatever the voxel size; details finer than two voxels are
    lost, and the variance falls as it would in a scanner.
    """

    def __init__(self, rng: np.random.Generator, detail_mm: float, voxel_mm: float, *, period: int = 64) -> None:
        frequency = np.fft.fftfreq(period, voxel_mm)
        radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*[frequency] * 3, indexing="ij", sparse=True)))
        octaves = np.log2(np.maximum(radius, 1e-9) * 2.0 * detail_mm)
        gain = np.exp(-0.5 * np.square(octaves / 0.7))
        gain[0, 0, 0] = 0.0
        white = rng.standard_normal((period,) * 3, dtype=np.float32)
        tile = np.fft.irfftn(np.fft.rfftn(white) * gain[:, :, : period // 2 + 1], s=(period,) * 3, axes=(0, 1, 2))
        loss = min(1.0, (detail_mm / voxel_mm) ** 1.5)
        self._tile: Array = (tile / max(float(tile.std()), 1e-12) * loss).astype(np.float32)
        self._period = period

    def at(self, spot: Spot) -> Array:
        """Return the texture (n,) at the voxels of a stroke."""
        n = self._period
        value: Array = self._tile[spot.k % n, spot.j % n, spot.i % n]
        return value

    def on(self, block: Block) -> Array:
        """Return the texture [k, j, i] on a block of voxels."""
        n = self._period
        k, j, i = (np.arange(a, b) % n for a, b in zip(block.start, block.stop, strict=True))
        value: Array = self._tile[k].take(j, axis=1).take(i, axis=2)
        return value
