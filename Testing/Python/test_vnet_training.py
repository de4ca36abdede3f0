"""Training of the V-Net: runs that can be interrupted, and settings that are refused before they begin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from vnet_cases import LAYOUT, a_limb, the_case, torch

from DeepDRRLogic.segmentation.augmentation import Augmentation
from DeepDRRLogic.segmentation.patches import Sampling
from DeepDRRLogic.segmentation.training import Recipe, Trainer, mean_loss
from DeepDRRLogic.segmentation.vnet import features

RECIPE = Recipe(
    layout=LAYOUT,
    steps=40,
    warm_up=5,
    learning_rate=5e-3,
    patches_per_step=1,
    small_until=0.0,
    sampling=Sampling(size=(24, 24, 24)),
    augmentation=Augmentation.none(),
)


def test_patches_that_the_network_cannot_take_are_refused_before_the_run():
    with pytest.raises(ValueError, match=r"\(72, 72, 72\).*multiples of 16"):
        Recipe(sampling=Sampling(size=(72, 72, 72)))


def test_training_makes_the_loss_fall():
    trainer = Trainer([the_case()], RECIPE)
    trainer.run()
    losses = [loss for _, loss in trainer.history]
    assert len(losses) == RECIPE.steps
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert mean_loss(trainer.history, 20)[-1] == (40, pytest.approx(np.mean(losses[20:])))


def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=10, augmentation=Augmentation(), settle_from=0.7)
    whole = Trainer([the_case()], recipe)
    whole.run()
    begun = Trainer([the_case()], recipe)
    begun.run(tmp_path / "checkpoint.pt", cancelled=lambda: begun.step == 4)
    assert begun.step == 4
    resumed = Trainer([the_case()], recipe)
    resumed.load(tmp_path / "checkpoint.pt")
    resumed.run()
    assert resumed.history == whole.history
    for name, value in whole.result().state_dict().items():
        assert torch.equal(resumed.result().state_dict()[name], value), name


def test_a_run_does_not_go_back_to_fewer_steps_than_it_has_done(tmp_path):
    Trainer([the_case()], RECIPE).run(tmp_path / "checkpoint.pt", until=2)
    with pytest.raises(ValueError, match=r"is at step 2, and the recipe ends at 1: give as many steps or more"):
        Trainer([the_case()], dataclasses.replace(RECIPE, steps=1)).load(tmp_path / "checkpoint.pt")
    Trainer([the_case()], dataclasses.replace(RECIPE, steps=2)).load(tmp_path / "checkpoint.pt")


def test_normalisation_settles_before_the_end():
    trainer = Trainer([the_case()], dataclasses.replace(RECIPE, steps=6, settle_from=0.5))

    def statistics():
        return trainer.network.state_dict()["in_tr.bn1.running_mean"].clone()

    trainer.run(until=2)
    gathering = statistics()
    trainer.run(until=3)
    settled = statistics()
    trainer.run()
    assert not torch.equal(gathering, settled)
    assert torch.equal(settled, statistics())


def test_the_learning_rate_rises_stays_and_falls():
    recipe = dataclasses.replace(RECIPE, steps=100, warm_up=10, decay_from=0.5, learning_rate=1.0)
    assert [round(recipe.rate(step), 3) for step in (0, 9, 49, 75, 99)] == [0.1, 1.0, 1.0, 0.5, 0.02]


def test_a_run_begins_with_more_and_smaller_patches():
    recipe = Recipe(steps=10, small_until=0.5, patches_per_step=1, sampling=Sampling(size=(96, 96, 48)))
    seen = [recipe.patches(step) for step in (0, 4, 5, 9)]
    assert [(count, sampling.size) for count, sampling in seen] == [(2, (64, 64, 32))] * 2 + [(1, (96, 96, 48))] * 2
    assert seen[0][1].focus == recipe.sampling.focus
    assert Recipe(sampling=Sampling(size=(16, 16, 16))).patches(0)[1].size == (16, 16, 16)  # the network takes no less


def test_a_gradient_that_is_not_finite_stops_the_training_and_leaves_the_weights():
    trainer = Trainer([the_case()], dataclasses.replace(RECIPE, half_precision=False))
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    next(trainer.network.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match=r"Step 1, patches of \(24, 24, 24\)"):
        trainer.train_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.named_parameters())


def test_a_network_goes_on_with_a_refinement_that_it_did_not_have(tmp_path):
    coarse = Trainer([the_case()], RECIPE)
    coarse.run(tmp_path / "checkpoint.pt", until=4)
    fine = Trainer([the_case()], dataclasses.replace(RECIPE, layout=dataclasses.replace(LAYOUT, refine=4)))
    fine.load(tmp_path / "checkpoint.pt")
    seen = features(torch.from_numpy(a_limb()[0]).float()[None, :32, :32, :32], "windows")
    with torch.inference_mode():
        torch.testing.assert_close(fine.result()(seen), coarse.result()(seen))
    before = fine.result().state_dict()
    fine.run(until=8)
    after = fine.result().state_dict()
    assert not torch.equal(after["refine.conv2.weight"], before["refine.conv2.weight"])
    assert not torch.equal(after["in_tr.conv1.weight"], before["in_tr.conv1.weight"])


def test_a_checkpoint_of_another_layout_is_refused(tmp_path):
    Trainer([the_case()], RECIPE).save(tmp_path / "checkpoint.pt")
    other = Trainer([the_case()], dataclasses.replace(RECIPE, layout=dataclasses.replace(LAYOUT, width=32)))
    with pytest.raises(ValueError, match="is of a network of layout"):
        other.load(tmp_path / "checkpoint.pt")
