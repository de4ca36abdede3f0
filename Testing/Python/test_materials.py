"""Attenuation against the tables of NIST, and density against the CT's own attenuation."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from DeepDRRLogic.materials import (
    CT_EFFECTIVE_ENERGY_KEV,
    Material,
    density_from_hu,
    density_scale_g_cm3,
    hu_from_density,
    iodinated_blood,
    material,
    material_names,
)

# Hubbell & Seltzer, NISTIR 5632 (1995), Tables 3 and 4: energy in keV, µ/ρ and µ_en/ρ in cm²/g.
NIST = {
    "water": [
        (10, 5.329, 4.944),
        (20, 0.8096, 0.5503),
        (30, 0.3756, 0.1557),
        (60, 0.2059, 0.03190),
        (100, 0.1707, 0.02546),
        (150, 0.1505, 0.02764),
        (300, 0.1186, 0.03192),
    ],
    "cortical_bone": [
        (10, 28.51, 26.80),
        (20, 4.001, 3.601),
        (30, 1.331, 1.070),
        (60, 0.3148, 0.1400),
        (100, 0.1855, 0.04585),
        (150, 0.1480, 0.03183),
    ],
    "air": [(20, 0.7779, 0.5389), (30, 0.3538, 0.1537), (60, 0.1875, 0.03041), (100, 0.1541, 0.02325)],
    "aluminium": [(20, 3.441, 3.094), (30, 1.128, 0.8778), (60, 0.2778, 0.1099), (100, 0.1704, 0.03794)],
    "iodine": [
        (20, 25.43, 23.63),
        (30, 8.561, 7.622),
        (33, 6.648, None),
        (40, 22.10, 9.616),
        (60, 7.579, 4.518),
        (100, 1.942, 1.342),
    ],
    "caesium_iodide": [(30, 9.045, 8.071), (40, 22.97, 9.395), (60, 7.921, 4.586), (100, 2.035, 1.391)],
    "copper": [(20, 33.79, 27.88), (60, 1.593, 1.290), (100, 0.4584, 0.2949)],
}
ROWS = [(name, *row) for name, rows in NIST.items() for row in rows]


@pytest.mark.parametrize(("name", "energy_kev", "attenuation", "_"), ROWS)
def test_mass_attenuation_is_that_of_nist_within_half_a_percent(
    name: str, energy_kev: float, attenuation: float, _: float | None
) -> None:
    assert material(name).mass_attenuation_cm2_g(energy_kev) == pytest.approx(attenuation, rel=5e-3)


@pytest.mark.parametrize(("name", "energy_kev", "_", "absorption"), [row for row in ROWS if row[3]])
def test_mass_energy_absorption_is_that_of_nist(name: str, energy_kev: float, _: float, absorption: float) -> None:
    heavy = name in ("iodine", "caesium_iodide", "copper")
    tolerance = 0.015 if heavy else 3e-3
    assert material(name).mass_energy_absorption_cm2_g(energy_kev) == pytest.approx(absorption, rel=tolerance)


def test_iodine_has_its_k_edge_at_33_17_kev() -> None:
    below, above = material("iodine").mass_attenuation_cm2_g([33.16, 33.18])
    assert above / below == pytest.approx(35.82 / 6.553, rel=0.02)


def test_ten_centimetres_of_water_at_60_kev_let_through_what_the_tables_say() -> None:
    mu_per_cm = material("water").mass_attenuation_cm2_g(60.0) * material("water").density_g_cm3
    assert np.exp(-10.0 * mu_per_cm) == pytest.approx(0.1276, rel=2e-3)


def test_coefficients_keep_the_shape_of_the_energies_and_do_not_share_memory_with_a_cache() -> None:
    energies = np.array([[30.0, 40.0], [50.0, 60.0]])
    first = material("bone").mass_attenuation_cm2_g(energies)
    assert first.shape == (2, 2)
    expected = first.copy()
    first[:] = 0.0
    np.testing.assert_array_equal(material("bone").mass_attenuation_cm2_g(energies), expected)


def test_every_material_states_its_source_and_a_composition_that_sums_to_one() -> None:
    table = json.loads(files("DeepDRRLogic").joinpath("data/materials.json").read_text(encoding="utf-8"))
    assert set(table) == set(material_names())
    for name in material_names():
        one = material(name)
        assert one.source, name
        assert sum(fraction for _, fraction in one.mass_fractions) == pytest.approx(1.0, abs=1e-3)
        assert all(0 <= value <= 255 for value in one.color_rgb)


def test_the_materials_of_the_operating_room_are_all_there() -> None:
    wanted = {
        *("air", "soft_tissue", "bone", "water", "adipose", "muscle", "lung", "cortical_bone", "blood"),
        *("trabecular_bone", "iodinated_blood", "titanium", "stainless_steel", "cobalt_chrome", "pmma"),
        *("aluminium", "caesium_iodide"),
    }
    assert wanted <= set(material_names())


def test_denser_metal_attenuates_more_than_bone_and_bone_more_than_tissue() -> None:
    names = ("lung", "adipose", "muscle", "bone", "titanium", "stainless_steel", "cobalt_chrome", "lead")
    mu = [float(material(n).mass_attenuation_cm2_g(70.0)) * material(n).density_g_cm3 for n in names]
    assert mu == sorted(mu)


def test_stored_iodinated_blood_is_the_mixture_it_claims_to_be() -> None:
    stored, mixed = material("iodinated_blood"), iodinated_blood(100.0)
    assert dict(stored.mass_fractions) == pytest.approx(dict(mixed.mass_fractions), abs=2e-6)
    assert stored.density_g_cm3 == pytest.approx(mixed.density_g_cm3, rel=1e-4)
    assert dict(mixed.mass_fractions)[53] * mixed.density_g_cm3 == pytest.approx(0.100, rel=1e-4)


def test_blood_without_iodine_is_blood() -> None:
    assert iodinated_blood(0.0).mass_fractions == material("blood").mass_fractions


def test_water_at_0_hu_is_exactly_1_g_per_cm3() -> None:
    assert density_from_hu(0, material("water")) == np.float32(1.0)
    assert density_from_hu(0, material("water"), ct_effective_energy_kev=55.0) == np.float32(1.0)


@pytest.mark.parametrize("name", ["air", "water", "soft_tissue", "bone", "titanium"])
def test_minus_1000_hu_and_below_are_exactly_nothing(name: str) -> None:
    density = density_from_hu(np.array([-3024, -1024, -1000], dtype=np.int16), material(name))
    np.testing.assert_array_equal(density, np.zeros(3, dtype=np.float32))


@given(
    name=st.sampled_from(material_names()),
    hu=st.floats(-999.0, 30000.0),
    energy_kev=st.floats(40.0, 120.0),
)
def test_projecting_the_density_forward_gives_back_the_attenuation_of_the_ct(
    name: str, hu: float, energy_kev: float
) -> None:
    mu_water = float(material("water").mass_attenuation_cm2_g(energy_kev))
    density = float(density_from_hu(hu, material(name), energy_kev))
    mu = density * float(material(name).mass_attenuation_cm2_g(energy_kev))
    assert mu == pytest.approx((1.0 + hu / 1000.0) * mu_water, rel=1e-4)


def test_soft_tissue_and_bone_get_plausible_densities() -> None:
    # ICRU-44 muscle has about 40-60 HU and bone of 1.92 g/cm³ 1400-1700 HU in a 120 kV scanner.
    assert density_from_hu(50, material("muscle")) == pytest.approx(1.05, abs=0.015)
    assert density_from_hu(1500, material("bone")) == pytest.approx(1.92, abs=0.05)


def test_hu_from_density_inverts_density_from_hu() -> None:
    hu = np.linspace(-1000, 3071, 50, dtype=np.float32)
    for name in ("water", "bone", "lung"):
        np.testing.assert_allclose(hu_from_density(density_from_hu(hu, material(name)), material(name)), hu, atol=2e-3)


def test_density_is_float32_of_the_same_shape_and_leaves_the_ct_alone() -> None:
    hu = np.full((2, 3, 4), 100, dtype=np.int16)
    density = density_from_hu(hu, material("bone"))
    assert density.shape == (2, 3, 4)
    assert density.dtype == np.float32
    assert (hu == 100).all()
    floats = np.full(3, 100.0, dtype=np.float32)
    density_from_hu(floats, material("bone"))
    assert (floats == 100.0).all()


def test_scale_of_water_is_one_and_of_bone_below() -> None:
    assert density_scale_g_cm3(material("water"), 63.0) == 1.0
    assert density_scale_g_cm3(material("bone"), CT_EFFECTIVE_ENERGY_KEV) < 0.8


def test_unknown_material_is_refused_with_the_names_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"'marble'.*soft_tissue"):
        material("marble")


def test_names_may_be_written_with_capitals_and_blanks() -> None:
    assert material("Soft Tissue") is material("soft_tissue")


@pytest.mark.parametrize("energy_kev", [0.5, 301.0, -1.0, np.nan, np.inf])
def test_energies_without_cross_sections_are_refused(energy_kev: float) -> None:
    for coefficient in ("mass_attenuation_cm2_g", "mass_energy_absorption_cm2_g"):
        with pytest.raises(ValueError, match="keV"):
            getattr(material("water"), coefficient)([60.0, energy_kev])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_ct_with_values_that_are_not_numbers_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        density_from_hu([0.0, bad, 10.0], material("water"))


@pytest.mark.parametrize(
    ("fractions", "density"),
    [(((1, 0.5),), 1.0), (((1, -0.5), (8, 1.5)), 1.0), (((120, 1.0),), 1.0), (((1, 1.0),), 0.0)],
)
def test_impossible_materials_are_refused(fractions: tuple[tuple[int, float], ...], density: float) -> None:
    with pytest.raises(ValueError, match="'x'"):
        Material("x", fractions, density)


@pytest.mark.parametrize("iodine", [-1.0, 301.0, np.nan])
def test_more_iodine_than_the_agent_holds_is_refused(iodine: float) -> None:
    with pytest.raises(ValueError, match="iodine"):
        iodinated_blood(iodine)
