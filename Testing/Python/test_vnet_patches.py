"""Annotated cases and the patches cut from them: read, refused, held out, and true to their HU."""

from __future__ import annotations

import numpy as np
import pytest
from vnet_cases import SPACING_MM, a_limb, noisy_case, noisy_limb, the_case, torch

from DeepDRRLogic.segmentation.augmentation import AIR, BONE, SOFT, Augmentation
from DeepDRRLogic.segmentation.patches import Sampling, batch, make_case, read_case, without


def test_a_case_comes_from_its_file_and_bad_ones_are_refused(tmp_path):
    hu, labels = a_limb()
    np.savez(tmp_path / "x.npz", hu=hu, labels=labels, spacing_mm=SPACING_MM, patient="someone")
    case = read_case(tmp_path / "x.npz")
    assert (case.name, case.patient, case.weight.min()) == ("x", "someone", 1)
    assert all((labels[tuple(case.places["marrow"].T)] == BONE).tolist())
    with pytest.raises(ValueError, match="must agree"):
        make_case("x", "y", hu, labels[1:], labels, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="label 7"):
        make_case("x", "y", hu, labels + np.uint8(5), labels, (1.0, 1.0, 1.0))


def test_a_case_that_cannot_be_is_refused_with_its_name(tmp_path):
    hu, labels, weight = noisy_limb(0)
    good = {"hu": hu, "labels": labels, "weight": weight, "spacing_mm": (1, 1, 1), "patient": "one"}
    path = tmp_path / "case.npz"
    for wrong, why in (
        ({"hu": np.full(good["hu"].shape, np.nan)}, "nan"),
        ({"hu": good["hu"].astype(np.int32) + 40_000}, "where int16 belongs"),
        ({"labels": good["labels"].astype(np.int16) + 256}, "where uint8 belongs"),
        ({"weight": np.zeros_like(good["weight"])}, "case: no voxel of known truth"),
    ):
        np.savez(path, **(good | wrong))
        with pytest.raises(ValueError, match=why):
            read_case(path)
    np.savez(path, **good)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"case\.npz is no annotated case"):
        read_case(path)


def test_held_out_patients_are_left_out_with_all_their_cases():
    one, two = (noisy_case(n, f"{n}", "the same") for n in range(2))
    third = noisy_case(2, "third:0003", "another")
    assert without([one, two, third], ["1"]) == [third]
    assert without([one, two, third], ["third"]) == [one, two]
    with pytest.raises(ValueError, match=r"No case nobody to hold out; there are: 0, 1"):
        without([one, two], ["nobody", "1"])


def test_places_between_bones_and_thin_places_are_found():
    labels = np.full((48, 48, 48), AIR, np.uint8)
    labels[:, 8:40, 8:40] = SOFT
    labels[:, 12:16, 12:36] = labels[:, 28:32, 12:36] = BONE  # two plates with 10 mm between them
    labels[20:22, 2:4, :] = SOFT  # a vessel in the lung
    case = make_case("plates", "someone", np.zeros(labels.shape, np.int16), labels, np.ones_like(labels), SPACING_MM)
    between, thin = case.places["between_bones"], case.places["thin"]
    assert len({tuple(p) for p in between} & {(24, j, i) for j in range(18, 27) for i in range(14, 34)}) > 100
    assert float(((between[:, 1] >= 8) & (between[:, 1] < 36)).mean()) > 0.9
    assert {(20, 3, 24), (21, 2, 40)} <= {tuple(p) for p in thin}
    assert not {tuple(p) for p in thin} & {(24, j, i) for j in range(32, 36) for i in range(14, 34)}
    assert all((labels[tuple(places.T)] == SOFT).all() for places in (between, thin))


def test_turned_patches_have_their_air_where_their_hu_say():
    hu, labels, _ = batch([the_case()], 8, (6,), Sampling(size=(24, 24, 24), turned=1.0), Augmentation.none())
    assert torch.equal(labels == AIR, hu < -500.0)


def test_patches_are_cut_without_moving_labels_against_hu():
    turned = Sampling(size=(24, 24, 24), turned=1.0)
    hu, labels, weight = batch([the_case()], 6, (5,), turned, Augmentation.none())
    assert hu.shape == labels.shape == weight.shape == (6, 24, 24, 24)
    sure = (hu < -990) | (hu > 890) | ((hu > 39.5) & (hu < 40.5))
    expected = torch.where(hu < -990, AIR, torch.where(hu > 890, BONE, SOFT))
    assert float(sure.float().mean()) > 0.5
    assert float((labels == expected)[sure].float().mean()) > 0.999
