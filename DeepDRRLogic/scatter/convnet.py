"""The ten-layer scatter network of the DeepDRR paper, in physical units. Imports torch."""
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .features import CHANNELS, DEPTH_UNIT
from .layers import MARGIN, SIDE

INPUTS = tuple(n for n, name in enumerate(CHANNELS) if not name.startswith("log_"))
"""What it sees: all pictures but the kernels' estimate of scatter, which it has to do without."""
OUTPUTS = 2
"""Rayleigh, and everything else."""
PIXELS = 128
LOCAL_LAYERS, WIDTH = 6, 24
SMOOTHING_LAYERS, REACH = 4, 15
"""Layers of one channel with kernels of 2 · REACH + 1 = 31 pixels."""
_DEPTH, _BEAM = CHANNELS.index("depth"), CHANNELS.index("beam")
_LARGEST_INPUT = 4.0
_LEAST_LOG, _LARGEST_LOG = -25.0, 0.0
_ATTENUATED, _SCATTERED_LOG = 0.6, -4.0
_WIDTHS_PIXELS = (6.0, 60.0)
GAIN = 5.0
"""Kernels are exp(GAIN · what is learnt), so that at one rate they change sooner than the other layers."""


class MirroredConv(nn.Module):
    """A 3×3 convolution whose kernels are their own mirror images and quarter turns, so that it commutes with those.

    Kept are the kernels' lower right quarters, (out, in, 2, 2).
    """

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.quarter = nn.Parameter(torch.randn(leaving, entering, 2, 2) * (2.0 / (9 * entering)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(leaving))

    def forward(self, x: Tensor) -> Tensor:
        """(N, entering, rows, columns) to (N, leaving, rows, columns), the pixels taken being 1 / SIDE apart."""
        apart = x.shape[-1] // SIDE
        return functional.conv2d(x, unfolded(self.quarter), self.bias, padding=apart, dilation=apart)


class Smoothing(nn.Module):
    """One kernel of 31 × 31 pixels without a negative number for each of the two pictures, by Fourier transform."""

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(REACH + 1, dtype=torch.float32)
        radius = torch.hypot(at[:, None], at)
        shapes = torch.stack([-radius / width for width in _WIDTHS_PIXELS])
        total = unfolded(shapes.exp()).sum(dim=(1, 2), keepdim=True)
        self.quarter = nn.Parameter((shapes - total.log()) / GAIN)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, OUTPUTS, rows, columns) to the same; nothing comes from beyond the edges."""
        kernel = self.kernel(PIXELS // pictures.shape[-1])
        rows, columns = pictures.shape[2:]
        reach = kernel.shape[-1] // 2
        size = (rows + reach, columns + reach)
        wrapped = functional.pad(kernel, (0, size[1] - kernel.shape[2], 0, size[0] - kernel.shape[1]))
        wrapped = wrapped.roll((-reach, -reach), (1, 2))
        product = torch.fft.rfft2(pictures, size) * torch.fft.rfft2(wrapped)
        return functional.relu(torch.fft.irfft2(product, size)[:, :, :rows, :columns])

    def kernel(self, coarser: int = 1) -> Tensor:
        """(OUTPUTS, 31, 31), or the same for pixels that many times as large, by linear interpolation."""
        fine = unfolded((GAIN * self.quarter).exp())
        if coarser == 1:
            return fine
        at = torch.arange(-REACH, REACH + 1) / coarser
        reach = (REACH + coarser - 1) // coarser
        weights = (1.0 - (at - torch.arange(-reach, reach + 1)[:, None]).abs()).clamp_min(0.0)
        return weights @ fine @ weights.T


class ConvNet(nn.Module):
    """Pictures (N, CHANNELS, S, S) to scatter (N, OUTPUTS, SIDE, SIDE), its energy in units of the open beam's.

    Six layers of 3×3 convolutions find from 128 × 128 pixels of primary, depth and geometry how much each ray scatters
    towards the detector; four layers of one channel with 31 × 31 pixels spread it (Unberath et al., MICCAI 2018).
    Nothing is scattered where nothing is in the beam, and nothing is negative. On 32 × 32 pixels (`pixels`)
    it does nearly the same sixteen times as fast, which is good for the greater part of a training.
    """

    def __init__(self, pixels: int = PIXELS) -> None:
        super().__init__()
        self.pixels = pixels
        widths = (len(INPUTS), *(WIDTH,) * (LOCAL_LAYERS - 1), OUTPUTS)
        self.local = nn.ModuleList(MirroredConv(a, b) for a, b in pairwise(widths))
        self.smoothing = nn.ModuleList(Smoothing() for _ in range(SMOOTHING_LAYERS))
        nn.init.zeros_(self.local[-1].quarter)
        nn.init.constant_(self.local[-1].bias, _SCATTERED_LOG)

    def forward(self, pictures: Tensor) -> Tensor:
        """Scatter of Rayleigh and of all other kinds, on the pixels without margin."""
        core = pictures[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        fine = functional.interpolate(core, size=(self.pixels, self.pixels), mode="bilinear", align_corners=False)
        depth = DEPTH_UNIT * fine[:, _DEPTH, None]
        x = fine[:, INPUTS].clamp(-_LARGEST_INPUT, _LARGEST_INPUT)
        for layer in self.local[:-1]:
            x = functional.relu(layer(x))
        logarithm = (self.local[-1](x).float() - _ATTENUATED * depth).clamp(_LEAST_LOG, _LARGEST_LOG)
        x = fine[:, _BEAM, None] * -torch.expm1(-depth) * logarithm.exp()
        for layer in self.smoothing:
            x = layer(x)
        return functional.avg_pool2d(x, self.pixels // SIDE)


def unfolded(quarter: Tensor) -> Tensor:
    """Kernels (..., 2 n - 1, 2 n - 1), symmetric about the diagonal too, from their lower right quarters."""
    symmetric = 0.5 * (quarter + quarter.transpose(-1, -2))
    rows = torch.cat([symmetric.flip(-2)[..., :-1, :], symmetric], dim=-2)
    return cast(Tensor, torch.cat([rows.flip(-1)[..., :-1], rows], dim=-1))
