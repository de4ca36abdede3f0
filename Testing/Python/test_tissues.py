"""Spongy bone, marrow and fat by their CT numbers."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import view

from DeepDRRLogic.materials import hu_from_density, material
from DeepDRRLogic.segmentation import segment
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.tissues import with_tissues
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume

PLAIN = tuple(map(material, ("air", "soft_tissue", "bone")))


def case(hu: list[int], labels: list[int], materials=PLAIN) -> tuple[CTVolume, MaterialLabels]:
    """A CT whose rows are all alike."""
    shape = (2, 2, len(hu))
    ct = CTVolume(np.broadcast_to(np.array(hu, np.int16), shape), np.eye(4))
    return ct, MaterialLabels(np.broadcast_to(np.array(labels, np.uint8), shape), materials, np.eye(4))


def names_of(labels: MaterialLabels) -> list[str]:
    return [labels.materials[label].name for label in labels.labels[1, 1]]


def test_ct_numbers_tell_bone_from_spongy_bone_marrow_and_fat() -> None:
    values = [1200, 700, 699, 170, 169, -16, 40, -15, -16, -200, -201, -600, 2000, -990]
    ct, labels = case(values, [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0])
    assert names_of(with_tissues(ct, labels)) == [
        "bone", "bone", "trabecular_bone", "trabecular_bone", "soft_tissue", "adipose",
        "soft_tissue", "soft_tissue", "adipose", "adipose", "soft_tissue", "soft_tissue", "soft_tissue", "air",
    ]  # fmt: skip
    assert names_of(labels)[2] == "bone"


def test_other_materials_stay_and_those_that_are_there_are_not_doubled() -> None:
    known = tuple(map(material, ("adipose", "bone", "titanium", "soft_tissue")))
    ct, labels = case([-100, 3000, 300], [3, 2, 1], known)
    found = with_tissues(ct, labels)
    assert names_of(found) == ["adipose", "titanium", "trabecular_bone"]
    assert [material.name for material in found.materials] == [*(one.name for one in known), "trabecular_bone"]


def test_a_segmentation_tells_tissues_where_it_is_asked_to() -> None:
    ct, _ = case([1200, 500, 40, -60, -1000], [0] * 5)
    limits = {"bone_min_hu": 350, "air_max_hu": -800}
    assert names_of(segment(ct, "threshold", **limits)) == ["bone", "bone", "soft_tissue", "soft_tissue", "air"]
    found = segment(ct, "threshold", tissues=True, **limits)
    assert names_of(found) == ["bone", "trabecular_bone", "soft_tissue", "adipose", "air"]


def test_labels_without_bone_or_of_another_grid_are_refused() -> None:
    ct, labels = case([0, 0], [0, 0], (material("soft_tissue"),))
    with pytest.raises(ValueError, match="are soft_tissue, but no bone"):
        with_tissues(ct, labels)
    ct, _ = case([0, 0, 0], [1, 1, 1])
    with pytest.raises(ValueError, match=r"labels\.resampled"):
        with_tissues(ct, case([0, 0], [1, 1])[1])


@pytest.mark.parametrize(("tissue", "as_what", "too_much"), [("trabecular_bone", 2, 0.235), ("adipose", 1, 0.07)])
def test_a_slab_attenuates_as_what_it_is_at_60_kv(tissue: str, as_what: int, too_much: float) -> None:
    """4 cm of it behind 15 cm of soft tissue, whose own shadow is taken off."""
    hu = np.full((40, 19, 40), int(hu_from_density(1.06, material("soft_tissue"))), np.int16)
    labels = np.ones(hu.shape, np.uint8)
    one = material(tissue)
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    affine[:3, 3] = (-195.0, -90.0, -195.0)

    def attenuation(plain: bool, slab: bool) -> float:
        hu[:, :4] = hu_from_density(one.density_g_cm3, one) if slab else -1000
        labels[:, :4] = as_what if slab else 0
        ct, found = CTVolume(hu.copy(), affine), MaterialLabels(labels.copy(), PLAIN, affine)
        volume = MaterialVolume.from_ct(ct, found if plain else with_tissues(ct, found))
        simulator = XRaySimulator(volume, spectrum=Spectrum.for_kvp(60), noise=None, device="cpu")
        return float(simulator(view(size=(3, 3), pitch=1.0)).log()[1, 1])

    whole, plain, told = attenuation(True, False), attenuation(True, True), attenuation(False, True)
    energies = Spectrum.for_kvp(60)
    soft = material("soft_tissue")
    through = (
        energies.photons
        * energies.energies_kev
        * np.exp(-15.0 * 1.06 * soft.mass_attenuation_cm2_g(energies.energies_kev))
    )
    slab = np.exp(-4.0 * one.density_g_cm3 * one.mass_attenuation_cm2_g(energies.energies_kev))
    truth = -np.log((through * slab).sum() / through.sum())
    assert told - whole == pytest.approx(truth, rel=0.02)
    assert (plain - whole) / truth - 1.0 == pytest.approx(too_much, abs=0.02)
