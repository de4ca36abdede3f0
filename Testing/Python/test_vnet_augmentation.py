"""Augmentation of training patches: it changes what it says, where it says, and repeats with its seed."""

from __future__ import annotations

import pytest
from vnet_cases import SHAPE, a_limb, torch

from DeepDRRLogic.segmentation import augmentation as aug
from DeepDRRLogic.segmentation.augmentation import AIR, BONE, SOFT, Augmentation, Dice, augment


@pytest.fixture
def a_patch():
    hu, labels = a_limb()
    return torch.from_numpy(hu).float(), torch.from_numpy(labels)


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
    hu = torch.full((48, 48, 48), 40.0)
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
    point = torch.zeros(SHAPE)
    point[16, 18, 20] = 1.0
    for seed in range(6):
        thick = aug.thicken_slices(hu, Dice((seed,)))
        assert thick.shape == hu.shape
        assert float(thick.mean()) == pytest.approx(float(hu.mean()), abs=25.0)
        middle = slice(6, -6)
        assert float((aug.thicken_slices(ramp, Dice((seed,))) - ramp)[middle].abs().max()) < 1.0
        spoke = aug.thicken_slices(point, Dice((seed,))) > 1e-3
        assert sorted(int(spoke.amax(axes).sum()) > 1 for axes in ((1, 2), (0, 2), (0, 1))) == [False, False, True]


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
