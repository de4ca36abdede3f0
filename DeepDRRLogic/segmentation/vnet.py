"""The V-Net: a volumetric encoder and decoder with skip connections and residual stages.

Milletari, Navab & Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation",
3DV 2016, as adapted by Unberath et al., "DeepDRR", MICCAI 2018. One class serves the width that was published and
the compact one for processors without a GPU; the names of its parts are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = ("air", "soft_tissue", "bone")
INPUT_HU = (-1024.0, 3071.0)
"""What a network of "windows" tells apart: from what scanners write beyond their field to where 12 bits end."""

_WIDE_HU = 750.0  # what the first window is divided by


@dataclass(frozen=True)
class Layout:
    """How wide and deep a V-Net is.

    `convolutions_down` and `convolutions_up` hold the convolutions of the residual stages, in the order they are
    passed; each stage on the way down halves the size and doubles the `width` of the first. With `block` 2 the
    network sees blocks of 2³ voxels as one with 8 times the channels, and answers for all voxels of the block: the
    same network on an eighth of the positions. With `refine`, two more convolutions with so many channels between them
    correct the answer voxel by voxel. Input channels are the CT seen through `input_kind`, see features().
    """

    input_kind: str = "windows"
    in_channels: int = 2
    width: int = 16
    kernel: int = 3
    convolutions_down: tuple[int, ...] = (1, 2, 2)
    convolutions_up: tuple[int, ...] = (2, 1, 1)
    block: int = 2
    refine: int = 0

    def __post_init__(self) -> None:
        for name in ("convolutions_down", "convolutions_up"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        if len(self.convolutions_down) != len(self.convolutions_up):
            raise ValueError(
                f"Stages down {self.convolutions_down} and up {self.convolutions_up}: give as many up as down."
            )
        if self.width % (self.in_channels * self.block**3):
            raise ValueError(
                f"width {self.width} is no multiple of the {self.in_channels * self.block**3} input channels, "
                "which are tiled to it in the first stage."
            )
        if self.kernel % 2 == 0 or self.block not in (1, 2):
            raise ValueError(f"kernel {self.kernel}, block {self.block}: give an odd kernel and a block of 1 or 2.")

        if self.refine and self.input_kind != "windows":
            raise ValueError(f"refine {self.refine} reads HU from 'windows', not '{self.input_kind}': give 0.")

    @property
    def multiple(self) -> int:
        """Patches have a multiple of so many voxels along every axis."""
        return int(self.block * 2 ** len(self.convolutions_down))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """The layout with these fields; ValueError names fields that it does not have."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"A V-Net layout has no {', '.join(sorted(unknown))}: the weights are of another version.")
        return cls(**values)


PUBLISHED = Layout(
    input_kind="published",
    in_channels=4,
    width=16,
    kernel=5,
    convolutions_down=(1, 2, 3, 2),
    convolutions_up=(2, 2, 1, 1),
    block=1,
)
COMPACT = Layout(refine=8)


class _Convolution(nn.Module):
    """Convolution, normalisation, activation."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)
        self.bn1 = nn.BatchNorm3d(channels)
        self.relu1 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu1(self.bn1(self.conv1(x)))


def _convolutions(count: int, channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(*(_Convolution(channels, kernel) for _ in range(count)))


class _Input(nn.Module):
    """The first stage: convolution, and the input itself, tiled to the width, as the residual."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.tiles = width // channels
        self.conv1 = nn.Conv3d(channels, width, kernel, padding=kernel // 2)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu1 = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        tiled = x if self.tiles == 1 else x.repeat(1, self.tiles, 1, 1, 1)
        return self.relu1(self.bn1(self.conv1(x)) + tiled)


class _Down(nn.Module):
    """Half the size, twice the channels, then a residual stage."""

    def __init__(self, channels: int, convolutions: int, kernel: int) -> None:
        super().__init__()
        self.down_conv = nn.Conv3d(channels, 2 * channels, 2, stride=2)
        self.bn1 = nn.BatchNorm3d(2 * channels)
        self.relu1 = nn.PReLU(2 * channels)
        self.ops = _convolutions(convolutions, 2 * channels, kernel)
        self.relu2 = nn.PReLU(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        down = self.relu1(self.bn1(self.down_conv(x)))
        return self.relu2(self.ops(down) + down)


class _Up(nn.Module):
    """Twice the size, the skip connection beside it, then a residual stage."""

    def __init__(self, channels: int, skipped: int, convolutions: int, kernel: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(channels, skipped, 2, stride=2)
        self.bn1 = nn.BatchNorm3d(skipped)
        self.relu1 = nn.PReLU(skipped)
        self.ops = _convolutions(convolutions, 2 * skipped, kernel)
        self.relu2 = nn.PReLU(2 * skipped)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        both = torch.cat((self.relu1(self.bn1(self.up_conv(x))), skip), 1)
        return self.relu2(self.ops(both) + both)


class _Output(nn.Module):
    """The last stage: from features to the logits of the classes."""

    def __init__(self, channels: int, classes: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, classes, kernel, padding=kernel // 2)
        self.bn1 = nn.BatchNorm3d(classes)
        self.conv2 = nn.Conv3d(classes, classes, 1)
        self.relu1 = nn.PReLU(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.relu1(self.bn1(self.conv1(x))))


class _Refine(nn.Module):
    """What blocks blur, thin vessels and borders: a correction of the logits from each voxel's own neighbourhood.

    It sees the features, the first of them again where gas ends (-800 to -200 HU), and the probabilities so far. It
    begins with no correction at all, so that a network without it can be trained on with it.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels + 1 + classes, width, 3, padding=1)
        self.relu1 = nn.PReLU(width)
        self.conv2 = nn.Conv3d(width, classes, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        gas = (_WIDE_HU / 150.0 * x[:, :1] + 500.0 / 150.0).clamp(-2.0, 2.0)
        seen = torch.cat((x, gas, logits.softmax(1).to(x.dtype)), 1)
        return logits + self.conv2(self.relu1(self.conv1(seen.contiguous(memory_format=torch.channels_last_3d))))


class VNet(nn.Module):
    """CT features (batch, in_channels, d, h, w) to logits (batch, classes, d, h, w).

    Sizes are multiples of `layout.multiple`. In evaluation mode the normalisation uses the statistics that were
    gathered in training, so that a voxel's label depends on what surrounds it in the body and on nothing else.
    """

    def __init__(self, layout: Layout = COMPACT, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.layout = layout
        per_block = layout.block**3
        self.in_tr = _Input(layout.in_channels * per_block, layout.width, layout.kernel)
        self._down_names: list[str] = []
        self._up_names: list[str] = []
        width = layout.width
        skipped = [width]
        for count in layout.convolutions_down:
            self._down_names.append(f"down_tr{2 * width}")
            self.add_module(self._down_names[-1], _Down(width, count, layout.kernel))
            width *= 2
            skipped.append(width)
        skipped.pop()
        for count in layout.convolutions_up:
            skip = skipped.pop()
            self._up_names.append(f"up_tr{2 * skip}")
            self.add_module(self._up_names[-1], _Up(width, skip, count, layout.kernel))
            width = 2 * skip
        self.out_tr = _Output(width, classes * per_block, layout.kernel)
        if layout.refine:
            self.refine = _Refine(layout.in_channels, classes, layout.refine)

    def forward(self, seen: Tensor) -> Tensor:
        blocks = self.layout.block > 1
        x = self.in_tr(_to_blocks(seen) if blocks else seen)
        skips = []
        for name in self._down_names:
            skips.append(x)
            x = self.get_submodule(name)(x)
        for name in self._up_names:
            x = self.get_submodule(name)(x, skips.pop())
        x = self.out_tr(x)
        logits = _from_blocks(x) if blocks else x
        return self.refine(seen, logits) if self.layout.refine else logits

    def add_to_logits(self, values: Tensor) -> None:
        """Make each class more or less probable everywhere: one number per class is added to its logits for good."""
        last = self.refine.conv2 if self.layout.refine else self.out_tr.conv2
        with torch.no_grad():
            assert last.bias is not None
            last.bias.add_(values.to(last.bias).repeat_interleave(last.out_channels // len(values)))


def _to_blocks(x: Tensor) -> Tensor:
    """(b, c, d, h, w) to (b, 8c, d/2, h/2, w/2)."""
    b, c, d, h, w = x.shape
    x = x.view(b, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, 8 * c, d // 2, h // 2, w // 2).contiguous(memory_format=torch.channels_last_3d)


def _from_blocks(x: Tensor) -> Tensor:
    """(b, 8c, d, h, w) to (b, c, 2d, 2h, 2w)."""
    b, c, d, h, w = x.shape
    x = x.view(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)


def limited(hu: Tensor, kind: str) -> Tensor:
    """HU without what the network cannot see, to be asked for before any are averaged.

    Padding of -3024 HU would else make air of the skin beside it, and a metal of 20,000 HU would grow.
    """
    return hu.clamp(*INPUT_HU) if kind == "windows" else hu


def features(hu: Tensor, kind: str, out_type: torch.dtype = torch.float32) -> Tensor:
    """What the network sees of Hounsfield units (batch, d, h, w): (batch, channels, d, h, w).

    "windows": the whole range up to 3071 HU, where scanners of 12 bits end, and the window from -250 to 450 HU in
    which soft tissue, marrow and contrast medium differ. "published": (HU + 630.1) / 479.7 and three masks, HU ≥ 200,
    -500 ≤ HU < 200 and HU < -500, as the checkpoints published with DeepDRR want it. ValueError for any other kind.
    """
    hu = hu.to(torch.float32)
    if kind == "windows":
        channels: Sequence[Tensor] = (
            limited(hu, kind) / _WIDE_HU,
            (hu.clamp(-250.0, 450.0) - 100.0) / 200.0,
        )
    elif kind == "published":
        channels = ((hu + 630.1) / 479.7, hu >= 200.0, (hu >= -500.0) & (hu < 200.0), hu < -500.0)
    else:
        raise ValueError(f"Input kind '{kind}' is unknown: it is 'windows' or 'published'.")
    return torch.stack([channel.to(out_type) for channel in channels], 1)


def parameter_count(network: nn.Module) -> int:
    """The numbers that training adjusts."""
    return sum(p.numel() for p in network.parameters())
