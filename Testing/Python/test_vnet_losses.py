"""What a fault of the V-Net costs: losses by hand, nothing where the truth is unknown, more in gaps between bones."""

from __future__ import annotations

import math

import pytest
from vnet_cases import torch

from DeepDRRLogic.segmentation.augmentation import BONE, SOFT
from DeepDRRLogic.segmentation.gaps import between_bones, near_gaps
from DeepDRRLogic.segmentation.losses import cross_entropy, dice_loss, segmentation_loss


def probabilities(*voxels):
    """(1, classes, 1, 1, n) from one tuple of class probabilities per voxel."""
    return torch.tensor(voxels).T.reshape(1, -1, 1, 1, len(voxels))


def voxels(*values):
    return torch.tensor(values).reshape(1, 1, 1, -1)


def test_dice_loss_is_the_formula_by_hand():
    p = probabilities((0.8, 0.2, 0.0), (0.5, 0.25, 0.25))
    # Class 0: 2·0.8 / (0.64 + 0.25 + 1); class 1: 2·0.25 / (0.04 + 0.0625 + 1); class 2: 0 / 0.0625.
    expected = 1 - (1.6 / 1.89 + 0.5 / 1.1025 + 0.0) / 3
    assert float(dice_loss(p, voxels(0, 1), voxels(1, 1), epsilon=0.0)) == pytest.approx(expected, rel=1e-6)
    smoothed = 1 - (2.6 / 2.89 + 1.5 / 2.1025 + 1.0 / 1.0625) / 3
    assert float(dice_loss(p, voxels(0, 1), voxels(1, 1))) == pytest.approx(smoothed, rel=1e-6)


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_everything():
    right, wrong = probabilities((1.0, 0, 0), (0, 0, 1.0)), probabilities((0, 0, 1.0), (1.0, 0, 0))
    assert float(dice_loss(right, voxels(0, 2), voxels(1, 1))) == pytest.approx(0.0)
    assert float(dice_loss(wrong, voxels(0, 2), voxels(1, 1), 1e-6)) == pytest.approx(2 / 3, abs=1e-4)


def test_cross_entropy_is_the_mean_over_known_voxels():
    logits = probabilities((math.log(0.5), math.log(0.3), math.log(0.2)), (math.log(0.1), math.log(0.1), math.log(0.8)))
    assert float(cross_entropy(logits, voxels(1, 2), voxels(1, 1))) == pytest.approx(-math.log(0.3 * 0.8) / 2, rel=1e-6)
    assert float(cross_entropy(logits, voxels(1, 2), voxels(0, 1))) == pytest.approx(-math.log(0.8), rel=1e-6)
    assert float(cross_entropy(logits, voxels(1, 2), voxels(0, 0))) == 0.0


def test_unknown_voxels_teach_nothing():
    logits = torch.randn(1, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    weight = torch.ones_like(labels)
    weight[0, 0] = 0
    segmentation_loss(logits, labels, weight).backward()
    assert logits.grad[:, :, 0].abs().max() == 0.0
    assert logits.grad[:, :, 1].abs().min() > 0.0


@pytest.mark.parametrize("width", [3, 4, 6, 7])
@pytest.mark.parametrize("start", [20, 21])
def test_narrow_gaps_between_bones_are_found_wherever_they_begin(width, start):
    labels = torch.full((2, 48, 48, 48), SOFT, dtype=torch.uint8)
    labels[1, 12:36, 12:36, 12:36] = BONE
    labels[1, start : start + width, 12:36, 12:36] = SOFT  # a disc between two bodies of vertebrae
    gaps, near = between_bones(labels, 2, 2), near_gaps(labels)
    assert not gaps[0].any() and not near[0].any()
    assert bool((gaps[1, start : start + width, 16:32, 16:32].sum(0) >= width - 2).all())
    assert bool((near[1, start - 1 : start + width + 1, 16:32, 16:32]).all())
    assert not gaps[1][labels[1] == BONE].any()
    assert not near[1, :12].any() and not near[1, :, :, 38:].any()


def test_soft_tissue_around_bones_and_wide_of_them_is_no_gap():
    labels = torch.full((48, 48, 48), SOFT, dtype=torch.uint8)
    labels[8:16, 12:36, 12:36] = labels[30:38, 12:36, 12:36] = BONE
    assert not near_gaps(labels).any()


def test_a_fault_between_bones_costs_more_than_one_elsewhere():
    labels = torch.full((1, 24, 24, 24), SOFT, dtype=torch.uint8)
    labels[0, 2:8, 2:22, 2:22] = labels[0, 12:18, 2:22, 2:22] = BONE
    logits = 12.0 * torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).to(torch.float32)

    def loss_with_bone_at(k, gap_weight):
        wrong = logits.clone()
        wrong[0, :, k : k + 2, 8:16, 8:16] = torch.tensor([0.0, 0.0, 4.0])[:, None, None, None]
        return float(segmentation_loss(wrong, labels, torch.ones_like(labels), gap_weight))

    assert loss_with_bone_at(9, 1.0) == pytest.approx(loss_with_bone_at(21, 1.0), rel=0.01)
    assert loss_with_bone_at(9, 4.0) > 1.1 * loss_with_bone_at(9, 1.0)
    assert loss_with_bone_at(21, 4.0) < loss_with_bone_at(21, 1.0)
