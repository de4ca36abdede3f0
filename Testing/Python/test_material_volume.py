"""Labels and densities: a CT's own attenuation, carving, downsampling; mass is neither made nor lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import GRIDS, affine_of, body_like_hu

from DeepDRRLogic.affine import rotation
from DeepDRRLogic.materials import material
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

AIR, SOFT, BONE, WATER = (material(name) for name in ("air", "soft_tissue", "bone", "water"))


def labels_of(values, materials=(AIR, SOFT, BONE), ras_from_ijk=None):
    return MaterialLabels(np.asarray(values, np.uint8), materials, np.eye(4) if ras_from_ijk is None else ras_from_ijk)


def test_labels_are_indices_into_their_materials():
    with pytest.raises(ValueError, match=r"0 to 3, but 3 materials.*air, soft_tissue, bone"):
        labels_of(np.arange(8).reshape(2, 2, 2) % 4)
    with pytest.raises(ValueError, match="each once"):
        labels_of(np.zeros((2, 2, 2)), (AIR, AIR))
    with pytest.raises(ValueError, match="whole numbers"):
        MaterialLabels(np.zeros((2, 2, 2)), (AIR,), np.eye(4))


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_each_material_reproduces_the_attenuation_of_its_ct_number(kind):
    """ρ·(µ/ρ)_m at the CT's energy is (1 + HU/1000)·µ_water for every label, and 0 HU of water is 1 g/cm³."""
    energy = 65.0
    hu = np.tile(np.array([-1000, -500, 0, 800], kind)[:, None, None], (1, 4, 2))
    materials = (WATER, SOFT, BONE, material("titanium"))
    labels = labels_of(np.tile(np.arange(4)[None, :, None], (4, 1, 2)), materials)
    volume = MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), labels, energy)
    for label, its in enumerate(materials):
        mu = volume.density_g_cm3[:, label, 0] * float(its.mass_attenuation_cm2_g(energy))
        mu_water = float(WATER.mass_attenuation_cm2_g(energy))
        np.testing.assert_allclose(mu, np.array([0.0, 0.5, 1.0, 1.8]) * mu_water, rtol=1e-6)
    assert np.all(volume.density_g_cm3[2, 0] == 1.0)
    assert volume.density_g_cm3.dtype == np.float32
    assert volume.density_g_cm3.flags.c_contiguous


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_noisy_room_air_weighs_nothing_but_air_in_lungs_does(kind):
    hu = np.rint(np.random.default_rng(0).normal(-1000, 12, (20, 20, 20))).astype(kind)
    hu[0] = -900
    air = labels_of(np.zeros(hu.shape), (AIR, SOFT))
    volume = MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), air)
    assert np.all(volume.density_g_cm3[1:] == 0.0)
    assert np.all(volume.density_g_cm3[0] > 0.09)
    assert MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), air, room_air_max_hu=-1000).density_g_cm3[1:].max() > 0
    # The limit itself is room air, the next value is not.
    edge = np.full((2, 2, 2), -950, kind)
    edge[1] = -949
    density = MaterialVolume.from_ct(CTVolume(edge, np.eye(4)), labels_of(np.zeros((2, 2, 2)), (AIR,))).density_g_cm3
    assert density[0].max() == 0.0 < density[1].min()
    # What is labelled soft tissue is never emptied.
    soft = MaterialVolume.from_ct(CTVolume(edge, np.eye(4)), labels_of(np.ones((2, 2, 2)), (AIR, SOFT)))
    assert soft.density_g_cm3.min() > 0.04


def test_whole_and_fractional_hounsfield_units_give_the_same_density():
    labels = labels_of(np.random.default_rng(0).integers(0, 3, body_like_hu().shape))
    whole = MaterialVolume.from_ct(CTVolume(body_like_hu(), np.eye(4)), labels)
    floats = body_like_hu().astype(np.float32)
    floats[0, 0, 0] += 0.25
    fractional = MaterialVolume.from_ct(CTVolume(floats, np.eye(4)), labels)
    np.testing.assert_array_equal(whole.density_g_cm3.ravel()[1:], fractional.density_g_cm3.ravel()[1:])


def test_a_ct_and_its_labels_in_the_wrong_order_are_refused():
    ct, labels = CTVolume(body_like_hu(), np.eye(4)), labels_of(np.zeros(body_like_hu().shape))
    with pytest.raises(TypeError, match=r"^ct = MaterialLabels\(.*give one like CTVolume\.read"):
        MaterialVolume.from_ct(labels, ct)
    with pytest.raises(TypeError, match=r"^labels = array\(.*give one like segment\(ct\)"):
        MaterialVolume.from_ct(ct, labels.labels)


def test_volumes_are_shown_in_a_line_and_not_voxel_by_voxel():
    ct = CTVolume(np.zeros((2, 3, 4), np.int16), np.diag([-0.5, -0.5, 1.25, 1.0]), "chest")
    labels = labels_of(np.zeros(ct.shape), ras_from_ijk=ct.ras_from_ijk)
    place = "4×3×2 voxels of 0.5×0.5×1.25 mm, LPS)"
    assert repr(ct) == f"CTVolume('chest', {place}"
    assert repr(labels) == f"MaterialLabels(air, soft_tissue, bone, {place}"
    assert repr(MaterialVolume.from_ct(ct, labels)) == f"MaterialVolume('chest', air, soft_tissue, bone, {place}"


def test_labels_of_another_grid_are_refused():
    ct = CTVolume(body_like_hu(), np.eye(4))
    with pytest.raises(ValueError, match=r"40×40×24.*10×20×24"):
        MaterialVolume.from_ct(ct, labels_of(np.zeros((24, 20, 10))))
    moved = np.eye(4)
    moved[2, 3] = 0.5
    with pytest.raises(ValueError, match=r"0\.5 mm apart"):
        MaterialVolume.from_ct(ct, labels_of(np.zeros(ct.shape), ras_from_ijk=moved))


def test_labels_move_to_another_grid_by_where_they_lie():
    values = np.zeros((6, 6, 6))
    values[2:4, 2:4, 1:3] = 2
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 5.0  # voxel (i, j, k) of the flipped grid lies where (5 - i, j, k) of the other does
    ct = CTVolume(np.zeros((6, 6, 8), np.int16), flipped)
    moved = labels_of(values).resampled(ct)
    np.testing.assert_array_equal(moved.labels[:, :, :6], values[:, :, ::-1])
    assert not moved.labels[:, :, 6:].any()
    with pytest.raises(ValueError, match="outside the labels"):
        labels_of(values, (SOFT, WATER, BONE)).resampled(ct)


def test_labels_that_lie_elsewhere_are_refused():
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = 0.0, 0.0, 2000.0
    with pytest.raises(ValueError, match=r"around RAS \[2.0, 2.0, 2.0\].*\[2.0, 2.0, 2002.0\].*do not meet"):
        labels_of(np.zeros((6, 6, 6))).resampled(CTVolume(np.zeros((6, 6, 6), np.int16), elsewhere))


def test_matter_beyond_the_labels_is_told_and_room_air_is_not(caplog):
    """Of a body of 30×30×40 mm the upper half lies beyond, 18 ml; a crop to the body leaves out air alone."""
    hu = np.full((40, 40, 40), -1000, np.int16)
    hu[:, 5:35, 5:35] = 40
    hu[:, 0, 0] = -501
    ct = CTVolume(hu, np.diag([-1.0, 1.0, 1.0, 1.0]))
    body = (hu > -500).astype(np.uint8)
    cropped = ct.ras_from_ijk.copy()
    cropped[:3, 3] = -4, 4, 0
    labels_of(body[:, 4:36, 4:36], ras_from_ijk=cropped).resampled(ct)
    labels_of(body[:20], ras_from_ijk=ct.ras_from_ijk).resampled(
        MaterialVolume.from_ct(ct, labels_of(body, ras_from_ijk=ct.ras_from_ijk))
    )
    assert not caplog.records
    labels_of(body[:20], ras_from_ijk=ct.ras_from_ijk).resampled(ct)
    (said,) = caplog.messages
    assert said.startswith(
        "18 ml of the CT's matter (above -500 HU) lie outside the segmentation and are taken for air"
    )


def test_ct_numbers_with_an_offset_are_told_once_they_become_densities(caplog):
    hu = body_like_hu()
    labels = labels_of(np.ones(hu.shape))
    MaterialVolume.from_ct(CTVolume(hu, np.eye(4)), labels)
    assert not caplog.records
    MaterialVolume.from_ct(CTVolume((hu + 1024).astype(np.uint16), np.eye(4), "chest"), labels)
    (said,) = caplog.messages
    assert said.startswith("chest: the values look like CT numbers with an offset, so that all is too dense")
    assert said.endswith("read them with hu_offset=-1024.")


def test_nothing_is_no_path_of_a_ct():
    with pytest.raises(TypeError, match=r'^path = None: give one like "chest\.nii\.gz"'):
        CTVolume.read(None)


def test_densities_must_be_finite_and_positive():
    for wrong in (-0.1, np.nan, np.inf, 1001.0):
        density = np.ones((2, 2, 2))
        density[1, 1, 1] = wrong
        with pytest.raises(ValueError, match="give values from 0 to 100"):
            MaterialVolume(density, np.zeros((2, 2, 2), np.uint8), (SOFT,), np.eye(4))
    with pytest.raises(ValueError, match="must agree"):
        MaterialVolume(np.ones((2, 2, 2)), np.zeros((2, 2, 3), np.uint8), (SOFT,), np.eye(4))


def full_of(material_, shape, ras_from_ijk=None, density=1.0):
    where = np.eye(4) if ras_from_ijk is None else ras_from_ijk
    return MaterialVolume(np.full(shape, density, np.float32), np.zeros(shape, np.uint8), (material_,), where)


def test_an_implant_replaces_only_what_its_matter_fills():
    """An L of metal in a box: the box's empty part must not erase the patient."""
    metal = np.zeros((8, 8, 8), np.float32)
    metal[:, :2, :] = metal[:, :, :2] = 4.43
    implant = MaterialVolume(
        metal, np.zeros(metal.shape, np.uint8), (material("titanium"),), affine_of(np.eye(3), 1, (6, 6, 6))
    )
    patient = full_of(SOFT, (20, 20, 20))
    carved = patient.replaced_by(implant)
    expected = np.ones((20, 20, 20))
    expected[6:14, 6:14, 6:14] = metal == 0
    np.testing.assert_array_equal(carved.density_g_cm3, expected)
    assert patient.density_g_cm3.min() == 1.0
    assert carved.materials == patient.materials


def test_a_turned_fine_implant_carves_its_own_volume():
    ras_from_ijk = np.eye(4)
    ras_from_ijk[:3, :3] = rotation([1, 2, 3], 40) * 0.4
    ras_from_ijk[:3, 3] = [20, 20, 20] - ras_from_ijk[:3, :3] @ [24.5, 24.5, 24.5]
    rod = full_of(material("titanium"), (50, 50, 50), ras_from_ijk, density=4.43)
    carved = full_of(SOFT, (40, 40, 40)).replaced_by(rod)
    gone = carved.density_g_cm3 == 0
    assert gone.sum() == pytest.approx(20**3, rel=0.02)
    np.testing.assert_allclose(np.argwhere(gone).mean(axis=0), 20, atol=0.1)
    k, j, i = np.argwhere(gone).T
    inside = (rod.ijk_from_ras @ np.stack([i, j, k, np.ones_like(i)]))[:3]
    assert inside.min() >= -0.5 and inside.max() <= 49.5


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_downsampling_keeps_mass_and_first_moment(shape, factor, seed):
    rng = np.random.default_rng(seed)
    volume = MaterialVolume(
        rng.random(shape, np.float32),
        rng.integers(0, 2, shape, np.uint8),
        (SOFT, BONE),
        GRIDS["oblique left-handed"],
    )
    coarse = volume.downsampled(factor)
    assert coarse.shape == tuple(-(-n // f) for n, f in zip(shape, factor[::-1], strict=True))
    assert coarse.mass_g == pytest.approx(volume.mass_g, rel=1e-5)
    # Within every block the mean sits at the block's centre; so does a uniform volume's mass if sizes divide.
    np.testing.assert_allclose(coarse.corners_ras[0], volume.corners_ras[0], atol=1e-9)
    if all(n % f == 0 for n, f in zip(shape, factor[::-1], strict=True)):
        np.testing.assert_allclose(coarse.corners_ras, volume.corners_ras, atol=1e-9)


def test_a_block_is_the_mean_of_its_voxels_and_takes_the_label_of_most_mass():
    density = np.zeros((2, 2, 4), np.float32)
    labels = np.ones((2, 2, 4), np.uint8)
    density[..., :2] = 1.0  # eight voxels of soft tissue, but ...
    labels[0, 0, 0], density[0, 0, 0] = 2, 8.0  # ... one of bone outweighs the other seven
    density[..., 2:] = 0.1
    labels[1, 1, 2:] = 2
    volume = MaterialVolume(density, labels, (AIR, SOFT, BONE), np.eye(4))
    coarse = volume.downsampled(2)
    np.testing.assert_allclose(coarse.density_g_cm3, [[[15 / 8, 0.1]]], rtol=1e-6)
    np.testing.assert_array_equal(coarse.labels, [[[2, 1]]])
    np.testing.assert_allclose(coarse.ras_from_ijk @ [1, 0, 0, 1], [2.5, 0.5, 0.5, 1])


@pytest.mark.parametrize("factor", [0, -1, 1.5, (1, 2), (1, 2, 0)])
def test_downsampling_factors_are_whole_numbers_from_one(factor):
    with pytest.raises(ValueError, match="Downsampling factor"):
        full_of(SOFT, (4, 4, 4)).downsampled(factor)


def test_a_downsampling_factor_may_be_a_number_of_numpy():
    volume = full_of(SOFT, (4, 4, 4))
    assert volume.downsampled(np.int64(2)).shape == volume.downsampled(2).shape == (2, 2, 2)
