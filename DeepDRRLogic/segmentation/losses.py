"""What the V-Net is trained to minimise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .gaps import near_gaps


def dice_loss(probabilities: Tensor, labels: Tensor, weight: Tensor, epsilon: float = 1.0) -> Tensor:
    """One minus the mean Dice coefficient of the classes.

    For class c, D = 2 Σ w p g / (Σ w p² + Σ w g²), sums over all voxels of the batch (Milletari et al. 2016, eq. 3,
    for several classes as in Unberath et al. 2018). `probabilities` (b, classes, d, h, w), `labels` (b, d, h, w) whole
    numbers, `weight` (b, d, h, w) 0 where the truth is unknown. `epsilon` voxels are added above and below, so that a
    class that is neither there nor found counts as right.
    """
    classes = probabilities.shape[1]
    truth = functional.one_hot(labels.long(), classes).movedim(-1, 1).to(probabilities.dtype)
    w = weight.unsqueeze(1).to(probabilities.dtype)
    axes = (0, 2, 3, 4)
    both = (w * probabilities * truth).sum(axes)
    size = (w * probabilities.square()).sum(axes) + (w * truth).sum(axes)
    return 1.0 - ((2.0 * both + epsilon) / (size + epsilon)).mean()


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """The mean of -log p of the true class over the voxels of weight above 0; 0 where there are none."""
    w = weight.to(logits.dtype)
    each = functional.cross_entropy(logits, labels.long(), reduction="none")
    return (w * each).sum() / w.sum().clamp_min(1.0)


def segmentation_loss(logits: Tensor, labels: Tensor, weight: Tensor, gap_weight: float = 4.0) -> Tensor:
    """Dice loss plus cross entropy: the first holds small bones dear, the second makes every voxel learn.

    In and beside narrow gaps between bones the cross entropy counts `gap_weight` times (as between touching cells,
    Ronneberger et al. 2015): a disc or a joint is few voxels, but an X-ray shows whether it is bone.
    """
    logits = logits.to(torch.float32)
    gaps = near_gaps(labels).to(torch.float32)
    emphasis = weight.to(torch.float32) * (1.0 + (gap_weight - 1.0) * gaps)
    return dice_loss(logits.softmax(1), labels, weight) + cross_entropy(logits, labels, emphasis)
