"""The scatter network: a small U-shaped net that corrects the first estimate. Imports torch."""
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .features import CHANNELS

WIDTHS = (32, 48, 64)
OUTPUTS = 3
"""Single Rayleigh, single Compton and multiple scatter."""
LARGEST = 1.5
"""Corrections are factors between e^-1.5 and e^1.5: a network cannot do worse than its base by more."""


LARGEST_INPUT = 4.0


class Block(nn.Module):
    """Two 3×3 convolutions beside a straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, rows, columns) to the same."""
        inner = self.second(functional.silu(self.first(functional.silu(x))))
        return cast(Tensor, x + inner)


class CorrectionNet(nn.Module):
    """Pictures (N, CHANNELS, S, S), S a multiple of 4, to the logarithms of three factors (N, OUTPUTS, S, S).

    At half and quarter resolution, with the mean over the picture fed back at the lowest; smooth by construction, as
    the factors are interpolated from half resolution.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.enter = nn.Conv2d(len(CHANNELS), a, 3, padding=1)
        self.to_half = nn.Conv2d(a, b, 4, stride=2, padding=1)
        self.fine = nn.ModuleList([Block(b), Block(b)])
        self.to_quarter = nn.Conv2d(b, c, 4, stride=2, padding=1)
        self.coarse = nn.ModuleList([Block(c), Block(c)])
        self.everywhere = nn.Linear(c, c)
        self.back = nn.Conv2d(c, b, 1)
        self.last = Block(b)
        self.leave = nn.Conv2d(b, OUTPUTS, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, pictures: Tensor) -> Tensor:
        """The logarithms of the factors on the kinds of scatter."""
        x = self.to_half(functional.silu(self.enter(pictures.clamp(-LARGEST_INPUT, LARGEST_INPUT))))
        for block in self.fine:
            x = block(x)
        y = self.to_quarter(functional.silu(x))
        y = self.coarse[0](y)
        y = y + self.everywhere(functional.silu(y.mean(dim=(2, 3))))[:, :, None, None]
        y = self.coarse[1](y)
        x = x + functional.interpolate(self.back(y), scale_factor=2, mode="bilinear", align_corners=False)
        factors = self.leave(functional.silu(self.last(x)))
        fine = functional.interpolate(factors, scale_factor=2, mode="bilinear", align_corners=False)
        return LARGEST * torch.tanh(fine / LARGEST)
