"""Where soft tissue lies between bones: the canal of the spine, discs, joints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .augmentation import BONE


def between_bones(labels: Tensor, block: int, reach: int) -> Tensor:
    """What is not bone and has bone within some `reach` blocks on opposite sides, bool of the labels' shape.

    `labels` (..., d, h, w). Gaps are looked for on blocks of `block`³ voxels: those from about one block wide to twice
    `reach` blocks are found.
    """
    return fine(_gaps(labels, block, reach), block, labels.shape) & (labels != BONE)


def near_gaps(labels: Tensor, block: int = 2, reach: int = 2) -> Tensor:
    """Gaps between bones and the bone within one block of them, bool of the shape of `labels` (..., d, h, w)."""
    return fine(_dilated(_gaps(labels, block, reach).to(torch.float32), 1) > 0, block, labels.shape)


def coarse(mask: Tensor, block: int) -> Tensor:
    """A mask (..., d, h, w) on blocks of voxels, float32 (n, 1, d, h, w): 1 where any voxel of a block is true."""
    whole = mask.reshape(-1, 1, *mask.shape[-3:]).to(torch.float32)
    return functional.max_pool3d(whole, block, ceil_mode=True)


def fine(mask: Tensor, block: int, shape: Sequence[int]) -> Tensor:
    """A mask on blocks of voxels on the voxels they are made of, an array of `shape`."""
    for axis in (-3, -2, -1):
        mask = mask.repeat_interleave(block, axis)
    depth, height, width = shape[-3:]
    return mask[..., :depth, :height, :width].reshape(tuple(shape))


def _gaps(labels: Tensor, block: int, reach: int) -> Tensor:
    bone = coarse(labels == BONE, block)
    return -_dilated(-_dilated(bone, reach), reach) > bone


def _dilated(mask: Tensor, reach: int) -> Tensor:
    return functional.max_pool3d(mask, 2 * reach + 1, 1, reach)
