"""Training of the V-Net: losses by hand, augmentation that changes what it says, runs that can be interrupted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from DeepDRRLogic.segmentation import augmentation as aug  # noqa: E402
from DeepDRRLogic.segmentation.augmentation import AIR, BONE, SOFT, Augmentation, Dice, augment  # noqa: E402
from DeepDRRLogic.segmentation.calibration import BoneBias  # noqa: E402
from DeepDRRLogic.segmentation.gaps import between_bones, near_gaps  # noqa: E402
from DeepDRRLogic.segmentation.losses import cross_entropy, dice_loss, segmentation_loss  # noqa: E402
from DeepDRRLogic.segmentation.patches import Sampling, batch, make_case, read_case  # noqa: E402
from DeepDRRLogic.segmentation.training import Recipe, Trainer, mean_loss  # noqa: E402
from DeepDRRLogic.segmentation.vnet import Layout, VNet, features  # noqa: E402

torch.set_num_threads(1)  # the tests themselves run beside each other

LAYOUT = Layout(convolutions_down=(1, 1), convolutions_up=(1, 1))
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
SHAPE = (32, 36, 40)


def a_limb():
    """Air around a cylinder of soft tissue with a bone of cortex and marrow in it: HU and labels."""
    _, j, i = np.indices(SHAPE)
    radius = np.hypot(j - 18, i - 20)
    hu = np.select([radius < 4, radius < 7, radius < 15], [-20, 900, 40], -1000).astype(np.int16)
    labels = np.select([radius < 7, radius < 15], [BONE, SOFT], AIR).astype(np.uint8)
    return hu, labels


@pytest.fixture(scope="module")
def a_case():
    hu, labels = a_limb()
    return make_case("limb", "someone", hu, labels, np.ones_like(labels), (0.86, 0.86, 1.0))


@pytest.fixture
def a_patch():
    hu, labels = a_limb()
    return torch.from_numpy(hu).float(), torch.from_numpy(labels)


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


def test_patches_that_the_network_cannot_take_are_refused_before_the_run():
    with pytest.raises(ValueError, match=r"\(72, 72, 72\).*multiples of 16"):
        Recipe(sampling=Sampling(size=(72, 72, 72)))


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


def test_bone_density_scales_only_what_bone_has_above_its_border(a_patch):
    hu, labels = a_patch
    hu = torch.where((labels == BONE) & (hu > 500), torch.linspace(100.0, 900.0, SHAPE[0])[:, None, None], hu)
    densities = []
    for seed in range(12):
        changed = aug.change_bone_density(hu, labels, Dice((seed,)))
        densities.append(float(changed.max()))
        torch.testing.assert_close(changed[labels != BONE], hu[labels != BONE])
        torch.testing.assert_close(changed[hu <= 170], hu[hu <= 170])
        assert torch.equal(changed > 170, hu > 170)
    assert 400 < min(densities) < 800
    assert 1200 < max(densities) < 2050


def test_a_phase_scales_only_contrast_medium_away_from_bone():
    labels = torch.full(SHAPE, SOFT, dtype=torch.uint8)
    labels[:, :, :4] = BONE
    hu = 60.0 + 40.0 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    hu[:, :, 4:6] = 160.0  # partly bone
    hu[:, :, 10:20] += 500.0
    vein = torch.zeros(SHAPE, dtype=torch.bool)
    vein[:, :, 10:20] = True
    means = []
    for seed in range(24):
        changed = aug.change_phase(hu, labels, Dice((seed,)))
        means.append(float(changed[vein].mean()))
        torch.testing.assert_close(changed[:, :, :7], hu[:, :, :7])
        torch.testing.assert_close(changed[:, :, 23:], hu[:, :, 23:])
    assert 230 < min(means) < 320
    assert 850 < max(means) < 1010


def no_kidney(shape, dice, level):
    return torch.zeros(shape), torch.zeros(shape)


def test_contrast_fills_soft_tissue_alone_and_only_dense_contrast_casts_streaks(a_patch, monkeypatch):
    monkeypatch.setattr(aug, "_mixed", lambda shape, dice: 1.0)
    monkeypatch.setattr(aug, "_kidney", no_kidney)
    hu, labels = a_patch
    brightened, streaky = 0, 0
    one_thing_alone = [seed for seed in range(120) if Dice((seed,)).numbers.integers(1, 4) == 1]
    for seed in one_thing_alone:  # a second could be put over the dense one
        changed = aug.add_contrast(hu, labels, Dice((seed,)))
        brightened += int((changed[labels == SOFT] > 120).sum())
        if torch.equal(changed[labels != SOFT], hu[labels != SOFT]):
            continue
        streaky += 1
        assert float(changed[labels == SOFT].max()) > 600.0
    assert brightened > 1000
    assert 0 < streaky < 0.2 * len(one_thing_alone)


def test_undiluted_medium_is_as_bright_as_metal_and_lies_away_from_bone(monkeypatch):
    monkeypatch.setattr(aug, "_mixed", lambda shape, dice: torch.ones(shape))
    monkeypatch.setattr(aug, "_streaks", lambda metal, dice: torch.zeros(metal.shape))
    hu = torch.full((64, 64, 64), 40.0)
    labels = torch.full(hu.shape, SOFT, dtype=torch.uint8)
    labels[:, :, 24:28] = BONE
    near = aug._dilated((labels == BONE).to(torch.float32), 3) > 0
    assert near[0, 0].nonzero().flatten().tolist() == list(range(21, 31))
    bright = 0
    for seed in range(80):
        undiluted = aug.add_contrast(hu, labels, Dice((seed,))) > 2100.0
        bright += bool(undiluted.any())
        assert not bool((undiluted & near).any())
    assert 3 <= bright <= 25


def test_simulated_contrast_keeps_the_grain_of_the_image(a_patch):
    hu, labels = a_patch
    noisy = hu + 20.0 * torch.randn(hu.shape, generator=torch.Generator().manual_seed(0))
    grains = []
    for seed in range(24):
        changed = aug.add_contrast(noisy, labels, Dice((seed,)))
        filled = (aug.add_contrast(hu, labels, Dice((seed,))) > 125) & (changed < 700) & (labels == SOFT)
        if int(filled.sum()) > 500:
            grain = changed - aug.blurred(changed * filled, 1.3) / aug.blurred(filled.float(), 1.3).clamp_min(1e-3)
            grains.append(float(grain[filled].std()))
    assert len(grains) >= 8
    assert min(grains) > 5.0


def test_contrast_in_organs_leaves_fat_as_it_is(monkeypatch):
    for other in ("_tube", "_blob"):
        monkeypatch.setattr(aug, other, lambda shape, dice, radius=0.0: torch.zeros(shape))
    monkeypatch.setattr(aug, "_kidney", no_kidney)
    hu = torch.full((48, 48, 48), 40.0)
    hu[:, :24] = -100.0
    labels = torch.full(hu.shape, SOFT, dtype=torch.uint8)
    monkeypatch.setattr(aug, "_streaks", lambda metal, dice: torch.zeros(metal.shape))
    filled = 0
    for seed in range(8):
        changed = aug.add_contrast(hu, labels, Dice((seed,)))
        filled += int((changed[:, 32:] > 125.0).sum())
        assert float((changed - hu)[:, :16].abs().max()) < 15.0
    assert filled > 1000


def test_a_simulated_kidney_has_a_bright_cortex_darker_pyramids_and_often_fat_around():
    shape, seen, bright, fat, pyramids = torch.Size((64, 64, 64)), 0, 0, 0, 0
    for seed in range(40):
        inside, hu = aug._kidney(shape, Dice((seed,)), 300.0)
        assert -120.0 <= float(hu.min()) < float(hu.max()) <= 300.0
        kidney = (inside > 0.5) & (hu > 30.0)
        if int(kidney.sum()) < 8000:
            continue
        seen += 1
        bright += float(hu[kidney].quantile(0.9)) > 270.0
        fat += int(((inside > 0.5) & (hu < -60.0)).sum()) > 2000
        pyramids += float((hu[kidney] < 250.0).float().mean()) > 0.15
    assert seen >= 15
    assert bright > 0.7 * seen
    assert 0.5 * seen < fat < seen
    assert pyramids > 0.6 * seen


def test_fresh_medium_swirls_and_older_medium_is_even():
    spread = [float(aug._mixed(torch.Size((32, 32, 32)), Dice((seed,))).std()) for seed in range(40)]
    assert min(spread) == 0.0
    assert 0.3 < max(spread) < 1.2
    assert any(0.0 < value < 0.1 for value in spread)


def test_a_couch_lies_in_the_air_beyond_the_body(a_patch):
    hu, labels = a_patch
    places = []
    for seed in range(8):
        changed = aug.add_couch(hu, labels, Dice((seed,))) != hu
        assert not bool((changed & (labels != AIR)).any())
        places.append(int(changed.sum()))
    assert max(places) > 1000


def test_metal_is_bright_streaky_and_labelled_bone(a_patch):
    hu, labels = a_patch
    for seed in range(6):
        changed, marks = aug.add_metal(hu, labels, Dice((seed,)))
        metal = (changed == 3071.0) & (hu < 3000)
        if not bool(metal.any()):
            continue
        assert bool((marks[metal] == BONE).all())
        assert not bool((metal & (labels == AIR)).any())
        assert float((changed - hu)[~metal].abs().mean()) > 1.0
        break
    else:
        raise AssertionError("none of six seeds put metal into the body")


def test_thick_slices_blur_along_one_axis_and_keep_the_mean(a_patch):
    hu, _ = a_patch
    ramp = torch.arange(SHAPE[0], dtype=torch.float32)[:, None, None].expand(SHAPE).contiguous()
    for seed in range(6):
        thick = aug.thicken_slices(hu, Dice((seed,)))
        assert thick.shape == hu.shape
        assert float(thick.mean()) == pytest.approx(float(hu.mean()), abs=25.0)
        middle = slice(6, -6)
        assert float((aug.thicken_slices(ramp, Dice((seed,))) - ramp)[middle].abs().max()) < 1.0


def test_truncation_leaves_air_beyond_the_field_of_view(a_patch):
    hu, labels = a_patch
    changed, marks = aug.truncate(hu, labels, Dice((0,)))
    outside = marks != labels
    assert float(outside.float().mean()) > 0.02
    assert float(changed[outside].max()) <= -1000.0
    assert bool((marks[outside] == AIR).all())


def test_augmentation_repeats_with_its_seed_and_differs_with_another(a_patch):
    hu, labels = a_patch
    often = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 1.0))
    first, again, other = (augment(hu, labels, Dice(seed), often)[0] for seed in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(augment(hu, labels, Dice((1, 2)), Augmentation.none())[0], hu)


def test_turned_patches_have_their_air_where_their_hu_say(a_case):
    hu, labels, _ = batch([a_case], 8, (6,), Sampling(size=(24, 24, 24), turned=1.0), Augmentation.none())
    assert torch.equal(labels == AIR, hu < -500.0)


def test_patches_are_cut_without_moving_labels_against_hu(a_case):
    turned = Sampling(size=(24, 24, 24), turned=1.0)
    hu, labels, weight = batch([a_case], 6, (5,), turned, Augmentation.none())
    assert hu.shape == labels.shape == weight.shape == (6, 24, 24, 24)
    sure = (hu < -990) | (hu > 890) | ((hu > 39.5) & (hu < 40.5))
    expected = torch.where(hu < -990, AIR, torch.where(hu > 890, BONE, SOFT))
    assert float(sure.float().mean()) > 0.5
    assert float((labels == expected)[sure].float().mean()) > 0.999


def test_a_case_comes_from_its_file_and_bad_ones_are_refused(tmp_path):
    hu, labels = a_limb()
    np.savez(tmp_path / "x.npz", hu=hu, labels=labels, spacing_mm=(0.86, 0.86, 1.0), patient="someone")
    case = read_case(tmp_path / "x.npz")
    assert (case.name, case.patient, case.weight.min()) == ("x", "someone", 1)
    assert all((labels[tuple(case.places["marrow"].T)] == BONE).tolist())
    with pytest.raises(ValueError, match="must agree"):
        make_case("x", "y", hu, labels[1:], labels, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="label 7"):
        make_case("x", "y", hu, labels + np.uint8(5), labels, (1.0, 1.0, 1.0))


def test_places_between_bones_and_thin_places_are_found():
    labels = np.full((48, 48, 48), AIR, np.uint8)
    labels[:, 8:40, 8:40] = SOFT
    labels[:, 12:16, 12:36] = labels[:, 28:32, 12:36] = BONE  # two plates with 10 mm between them
    labels[20:22, 2:4, :] = SOFT  # a vessel in the lung
    case = make_case(
        "plates", "someone", np.zeros(labels.shape, np.int16), labels, np.ones_like(labels), (0.86, 0.86, 1.0)
    )
    between, thin = case.places["between_bones"], case.places["thin"]
    assert len({tuple(p) for p in between} & {(24, j, i) for j in range(18, 27) for i in range(14, 34)}) > 100
    assert float(((between[:, 1] >= 8) & (between[:, 1] < 36)).mean()) > 0.9
    assert {(20, 3, 24), (21, 2, 40)} <= {tuple(p) for p in thin}
    assert not {tuple(p) for p in thin} & {(24, j, i) for j in range(32, 36) for i in range(14, 34)}
    assert all((labels[tuple(places.T)] == SOFT).all() for places in (between, thin))


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


def test_training_makes_the_loss_fall(a_case):
    trainer = Trainer([a_case], RECIPE)
    trainer.run()
    losses = [loss for _, loss in trainer.history]
    assert len(losses) == RECIPE.steps
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert mean_loss(trainer.history, 20)[-1] == (40, pytest.approx(np.mean(losses[20:])))


def test_an_interrupted_run_ends_like_one_that_was_not(a_case, tmp_path):
    recipe = dataclasses.replace(RECIPE, steps=10, augmentation=Augmentation(), settle_from=0.7)
    whole = Trainer([a_case], recipe)
    whole.run()
    begun = Trainer([a_case], recipe)
    begun.run(tmp_path / "checkpoint.pt", cancelled=lambda: begun.step == 4)
    assert begun.step == 4
    resumed = Trainer([a_case], recipe)
    resumed.load(tmp_path / "checkpoint.pt")
    resumed.run()
    assert resumed.history == whole.history
    for name, value in whole.result().state_dict().items():
        assert torch.equal(resumed.result().state_dict()[name], value), name


def test_a_run_does_not_go_back_to_fewer_steps_than_it_has_done(a_case, tmp_path):
    Trainer([a_case], RECIPE).run(tmp_path / "checkpoint.pt", until=2)
    with pytest.raises(ValueError, match=r"is at step 2, and the recipe ends at 1: give as many steps or more"):
        Trainer([a_case], dataclasses.replace(RECIPE, steps=1)).load(tmp_path / "checkpoint.pt")
    Trainer([a_case], dataclasses.replace(RECIPE, steps=2)).load(tmp_path / "checkpoint.pt")


def test_normalisation_settles_before_the_end(a_case):
    trainer = Trainer([a_case], dataclasses.replace(RECIPE, steps=6, settle_from=0.5))

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


def test_a_gradient_that_is_not_finite_stops_the_training_and_leaves_the_weights(a_case):
    trainer = Trainer([a_case], dataclasses.replace(RECIPE, half_precision=False))
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    next(trainer.network.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match=r"Step 1, patches of \(24, 24, 24\)"):
        trainer.train_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.named_parameters())


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


def test_a_network_goes_on_with_a_refinement_that_it_did_not_have(a_case, a_patch, tmp_path):
    coarse = Trainer([a_case], RECIPE)
    coarse.run(tmp_path / "checkpoint.pt", until=4)
    fine = Trainer([a_case], dataclasses.replace(RECIPE, layout=dataclasses.replace(LAYOUT, refine=4)))
    fine.load(tmp_path / "checkpoint.pt")
    seen = features(a_patch[0][None, :32, :32, :32], "windows")
    with torch.inference_mode():
        torch.testing.assert_close(fine.result()(seen), coarse.result()(seen))
    before = fine.result().state_dict()
    fine.run(until=8)
    after = fine.result().state_dict()
    assert not torch.equal(after["refine.conv2.weight"], before["refine.conv2.weight"])
    assert not torch.equal(after["in_tr.conv1.weight"], before["in_tr.conv1.weight"])


def test_a_checkpoint_of_another_layout_is_refused(a_case, tmp_path):
    Trainer([a_case], RECIPE).save(tmp_path / "checkpoint.pt")
    other = Trainer([a_case], dataclasses.replace(RECIPE, layout=dataclasses.replace(LAYOUT, width=32)))
    with pytest.raises(ValueError, match="is of a network of layout"):
        other.load(tmp_path / "checkpoint.pt")
