"""Calibration of the V-Net: the number that is added to the logits of bone, and that it is added everywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from vnet_cases import LAYOUT, torch

from DeepDRRLogic.segmentation.calibration import BoneBias
from DeepDRRLogic.segmentation.vnet import VNet


@pytest.mark.parametrize("bias", [-0.5, 0.0, 0.75])
def test_calibration_finds_the_bias_that_was_taken_away(bias):
    rng = np.random.default_rng(2)
    bone = rng.random(40_000) < 0.4
    logits = np.stack([rng.normal(-9.0, 1.0, bone.size), np.zeros(bone.size), np.where(bone, 1.0, -1.0) - bias])
    logits[2] += rng.normal(0.0, 0.6, bone.size)
    probabilities = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float16)
    best = BoneBias()
    for part in (slice(0, 15_000), slice(15_000, None)):
        best.add(probabilities[:, part], bone[part])
    expected = bias + 0.18 * np.log(0.4 / 0.6)  # two normal distributions of that spread cross there
    assert best.value == pytest.approx(expected, abs=0.13)


def test_calibration_of_what_is_right_adds_nothing_and_of_nothing_is_refused():
    with pytest.raises(ValueError, match="No CT to calibrate on"):
        print(BoneBias().value)
    best = BoneBias()
    bone = np.arange(40) < 20
    best.add(np.where(bone, [[0.0], [0.0], [1.0]], [[0.0], [1.0], [0.0]]).astype(np.float16), bone)
    assert best.value == 0.0


def test_calibration_is_for_the_best_mean_dice_of_bone_over_cts():
    leads = np.array([-1.9, -1.2, -0.6, -0.1, 0.3, 1.0, 1.9])
    bones = [np.array(which, bool) for which in ([0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 1, 1])]
    best = BoneBias()
    for bone in bones:
        rest = 1.0 / (1.0 + np.exp(leads))
        best.add(np.stack([0.1 * rest, rest, 1.0 - rest]).astype(np.float16), bone)

    def mean_dice(bias):
        found = leads > -bias
        return np.mean([2 * (found & bone).sum() / (found.sum() + bone.sum()) for bone in bones])

    assert mean_dice(best.value) == max(mean_dice(bias) for bias in np.linspace(-1.9, 1.9, 401))
    with pytest.raises(ValueError, match="without bone"):
        best.add(np.zeros((3, 4), np.float16), np.zeros(4, bool))


@pytest.mark.parametrize("refine", [0, 4])
def test_what_is_added_to_the_logits_is_added_to_those_of_every_voxel(refine):
    network = VNet(dataclasses.replace(LAYOUT, refine=refine)).eval()
    seen = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        before = network(seen)
        network.add_to_logits(torch.tensor([0.25, 0.0, -1.5]))
        change = (network(seen) - before).amin((0, 2, 3, 4)), (network(seen) - before).amax((0, 2, 3, 4))
    for part in change:
        torch.testing.assert_close(part, torch.tensor([0.25, 0.0, -1.5]), atol=1e-5, rtol=0)
