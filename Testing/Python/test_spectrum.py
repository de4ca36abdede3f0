"""Tube spectra: bins, presets, half-value layers, kerma and photon numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from DeepDRRLogic.materials import material
from DeepDRRLogic.spectrum import Spectrum, default_aluminium_mm, spectrum_presets


def filtered_to(kvp: float, hvl_mm: float, thickest_mm: float) -> Spectrum:
    """The tube whose aluminium filter gives this half-value layer."""
    bare = Spectrum.tube(kvp, aluminium_mm=1.0)
    low, high = 0.0, thickest_mm
    for _ in range(16):
        middle = 0.5 * (low + high)
        spectrum = bare.filtered("aluminium", middle)
        low, high = (middle, high) if spectrum.half_value_layer_mm() < hvl_mm else (low, middle)
    return spectrum


def test_there_is_a_preset_for_every_usual_tube_voltage() -> None:
    assert {"60kV", "70kV", "80kV", "90kV", "100kV", "120kV"} <= set(spectrum_presets())
    assert list(spectrum_presets()) == sorted(spectrum_presets(), key=lambda name: Spectrum.preset(name).kvp)


@pytest.mark.parametrize("name", ["60kV", "120kV"])
def test_a_stored_preset_is_what_spekpy_computes_today(name: str) -> None:
    spekpy = pytest.importorskip("spekpy")
    stored = Spectrum.preset(name)
    tube = spekpy.Spek(kvp=stored.kvp, th=12.0, dk=1.0)
    tube.filter("Al", {"60kV": 3.5, "120kV": 4.3}[name])
    energies, photons_per_cm2 = tube.get_spectrum(edges=False, diff=False)
    fluence = np.interp(stored.energies_kev, energies, photons_per_cm2)
    np.testing.assert_allclose(stored.photons, fluence / photons_per_cm2.sum(), atol=1e-6)
    assert stored.photons_per_mas_mm2_at_1m == pytest.approx(photons_per_cm2.sum() / 100.0, rel=1e-5)
    assert stored.mean_energy_kev == pytest.approx(tube.get_emean(), abs=0.02)
    # SpekPy attenuates with newer photoelectric data than NIST's, hence the per cent.
    assert stored.half_value_layer_mm() == pytest.approx(tube.get_hvl1(), rel=0.012)
    kerma_uy = 1e6 * stored.air_kerma_gy(stored.photons_per_mas_mm2_at_1m or 0.0)
    assert kerma_uy == pytest.approx(tube.get_kerma(), rel=0.02)


def test_energies_are_the_centres_of_the_bins_not_their_edges() -> None:
    # Edges in place of centres would shift the mean by half a bin, 0.5 keV against 0.1 keV.
    coarse = Spectrum.tube(120, aluminium_mm=4.3, bin_width_kev=1.0)
    fine = Spectrum.tube(120, aluminium_mm=4.3, bin_width_kev=0.2)
    assert coarse.mean_energy_kev == pytest.approx(fine.mean_energy_kev, abs=0.05)
    assert coarse.energies_kev[-1] == pytest.approx(119.5)
    assert fine.energies_kev[-1] == pytest.approx(119.9)
    assert coarse.photons_per_mas_mm2_at_1m == pytest.approx(fine.photons_per_mas_mm2_at_1m, rel=1e-3)


def test_the_characteristic_lines_of_tungsten_stand_where_they_belong() -> None:
    spectrum = Spectrum.preset("120kV")
    strongest = spectrum.energies_kev[np.argsort(spectrum.photons)[-2:]]
    np.testing.assert_allclose(np.sort(strongest), [57.98, 59.32], atol=0.55)  # Kα2 and Kα1
    assert (Spectrum.preset("60kV").energies_kev < 60.0).all()


@given(energy_kev=st.floats(10.0, 300.0))
def test_half_value_layer_of_one_energy_is_ln_2_over_mu(energy_kev: float) -> None:
    mu_per_mm = 0.1 * 2.699 * float(material("aluminium").mass_attenuation_cm2_g(energy_kev))
    hvl = Spectrum.monoenergetic(energy_kev).half_value_layer_mm()
    assert hvl == pytest.approx(np.log(2.0) / mu_per_mm, rel=1e-9)


@pytest.mark.parametrize(
    ("kvp", "hvl_mm", "homogeneity"),
    [(50, 1.78, 0.76), (70, 2.58, 0.71), (90, 3.48, 0.68), (120, 5.00, 0.68), (150, 6.57, 0.72)],
)
def test_homogeneity_is_that_of_the_standard_radiation_qualities(kvp: float, hvl_mm: float, homogeneity: float) -> None:
    # IEC 61267 (2005), RQR 3, 5, 7, 9 and 10: filtered until the first half-value layer is this one, the
    # ratio of the first to the second must be that one.
    spectrum = filtered_to(kvp, hvl_mm, thickest_mm=8.0)
    second = spectrum.filtered("aluminium", hvl_mm).half_value_layer_mm()
    assert hvl_mm / second == pytest.approx(homogeneity, abs=0.02)


def test_half_the_kerma_is_left_behind_the_half_value_layer() -> None:
    spectrum = Spectrum.preset("90kV")
    behind = spectrum.filtered("aluminium", spectrum.half_value_layer_mm())
    before_gy = spectrum.air_kerma_gy(spectrum.photons_per_mas_mm2_at_1m or 0.0)
    behind_gy = behind.air_kerma_gy(behind.photons_per_mas_mm2_at_1m or 0.0)
    assert behind_gy == pytest.approx(0.5 * before_gy, rel=1e-6)


def test_filters_and_voltage_harden_the_beam() -> None:
    means = [Spectrum.preset(name).mean_energy_kev for name in spectrum_presets()]
    assert means == sorted(means)
    soft = Spectrum.preset("70kV")
    hard = soft.filtered("copper", 0.2)
    assert hard.mean_energy_kev > soft.mean_energy_kev + 4.0
    with_copper = Spectrum.tube(70, copper_mm=0.2)
    assert with_copper.mean_energy_kev == pytest.approx(hard.mean_energy_kev, abs=0.1)
    assert (hard.photons_per_mas_mm2_at_1m or 0) < 0.5 * (soft.photons_per_mas_mm2_at_1m or 0)


def test_air_kerma_of_60_kev_photons_is_2_92e_minus_10_gray_per_photon_per_mm2() -> None:
    # 60 keV x 0.03041 cm²/g (NIST) x 1.602e-16 J/keV x 100 per cm² x 1000 g/kg
    assert Spectrum.monoenergetic(60.0).air_kerma_gy(1.0) == pytest.approx(2.923e-11, rel=3e-3)


def test_one_mas_at_80_kv_gives_some_40_to_60_micrograys_at_one_metre() -> None:
    spectrum = Spectrum.preset("80kV")
    kerma_gy = spectrum.air_kerma_gy(spectrum.photons_per_mas_mm2_at_1m or 0.0)
    assert 40e-6 < kerma_gy < 60e-6


@pytest.mark.parametrize(
    ("kvp", "hvl_mm", "photons"), [(50, 4.0, 21759), (70, 7.1, 30174), (90, 9.1, 32362), (120, 11.5, 31077)]
)
def test_photons_per_mm2_and_microgray_are_those_of_the_standard_beams(
    kvp: float, hvl_mm: float, photons: float
) -> None:
    # IEC 62220-1 (2003), RQA 3, 5, 7 and 9: photons per mm² and µGy of beams with this half-value layer.
    spectrum = filtered_to(kvp, hvl_mm, thickest_mm=50.0)
    assert 1e-6 / spectrum.air_kerma_gy(1.0) == pytest.approx(photons, rel=0.015)


def test_photons_per_pixel_follow_the_inverse_square_law_the_area_and_the_mas() -> None:
    spectrum = Spectrum.preset("120kV")
    fluence = spectrum.photons_per_mas_mm2_at_1m
    assert fluence is not None
    assert spectrum.photons_per_pixel(1.0, 1.0, 1000.0) == pytest.approx(fluence)
    assert spectrum.photons_per_pixel(2.5, 0.25, 2000.0) == pytest.approx(fluence * 2.5 * 0.25 / 4.0)


def test_photons_per_pixel_need_a_tube() -> None:
    with pytest.raises(ValueError, match="no tube output"):
        Spectrum.monoenergetic(60.0).photons_per_pixel(1.0, 1.0, 1000.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_photons_per_pixel_refuse_values_that_are_not_positive(bad: float, position: int) -> None:
    values = [1.0, 0.1, 1000.0]
    values[position] = bad
    with pytest.raises(ValueError, match=r"(mas|pixel_area_mm2|source_to_detector_mm) is"):
        Spectrum.preset("70kV").photons_per_pixel(*values)


def test_a_tube_and_its_preset_are_the_same_beam() -> None:
    tube, preset = Spectrum.tube(100), Spectrum.preset("100kV")
    np.testing.assert_allclose(tube.energies_kev, preset.energies_kev)
    np.testing.assert_allclose(tube.photons, preset.photons, atol=1e-7)
    assert tube.photons_per_mas_mm2_at_1m == pytest.approx(preset.photons_per_mas_mm2_at_1m, rel=1e-5)


def test_for_kvp_takes_the_preset_where_there_is_one() -> None:
    assert Spectrum.for_kvp(90) is Spectrum.preset("90kV")


def test_for_kvp_computes_the_tube_where_there_is_none() -> None:
    between = Spectrum.for_kvp(85)
    assert between.kvp == 85
    low, high = Spectrum.preset("80kV"), Spectrum.preset("90kV")
    assert low.mean_energy_kev < between.mean_energy_kev < high.mean_energy_kev
    assert low.half_value_layer_mm() < between.half_value_layer_mm() < high.half_value_layer_mm()


@pytest.mark.parametrize("name", spectrum_presets())
def test_the_usual_filtration_of_a_preset_is_its_own(name: str) -> None:
    kvp = Spectrum.preset(name).kvp
    assert f" {round(default_aluminium_mm(kvp), 9):g} mm Al" in Spectrum.preset(name).description


def test_more_voltage_gives_more_photons_however_small_the_step() -> None:
    fluences = [Spectrum.tube(kvp).photons_per_mas_mm2_at_1m or 0.0 for kvp in (80, 80.5, 81, 81.5, 82)]
    assert fluences == sorted(fluences)
    assert Spectrum.tube(82).description == "82 kV, W anode 12°, 3.84 mm Al"


def test_default_filtration_is_that_of_the_spectra_published_with_deepdrr() -> None:
    assert [default_aluminium_mm(kvp) for kvp in (40, 60, 90, 120, 150)] == [3.5, 3.5, 4.0, 4.3, 4.3]


def test_photons_are_normalised_and_cannot_be_changed() -> None:
    spectrum = Spectrum.from_table([20, 30, 40], [1e300, 2e300, 1e300])
    np.testing.assert_allclose(spectrum.photons, [0.25, 0.5, 0.25])
    assert spectrum.mean_energy_kev == pytest.approx(30.0)
    with pytest.raises(ValueError, match="read-only"):
        spectrum.photons[0] = 1.0


def test_a_table_is_copied() -> None:
    energies, photons = np.array([20.0, 30.0]), np.array([1.0, 1.0])
    spectrum = Spectrum.from_table(energies, photons)
    photons[0] = energies[0] = 25.0
    np.testing.assert_allclose(spectrum.photons, [0.5, 0.5])
    assert spectrum.energies_kev[0] == 20.0


def test_the_voltage_of_a_table_is_its_highest_energy_with_photons() -> None:
    assert Spectrum.from_table([20, 30, 40, 50], [1, 1, 1, 0]).kvp == 40.0


@pytest.mark.parametrize(
    ("energies", "photons", "message"),
    [
        ([20, 30], [1, -1], "negative"),
        ([20, 30], [0, 0], "no photons"),
        ([20, 30], [1, np.nan], "NaN"),
        ([20, np.inf], [1, 1], "NaN or infinite"),
        ([30, 20], [1, 1], "increase"),
        ([20, 20], [1, 1], "increase"),
        ([0.5, 20], [1, 1], "0.5 to 20 keV"),
        ([20, 301], [1, 1], "20 to 301 keV"),
        ([], [], "one length"),
        ([20, 30, 40], [1, 1], "one length"),
        ([[20, 30]], [[1, 1]], "one length"),
    ],
)
def test_impossible_tables_are_refused(energies: list[float], photons: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Spectrum.from_table(energies, photons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kvp": 19}, "kvp is 19"),
        ({"kvp": 301}, "kvp is 301"),
        ({"kvp": np.nan}, "kvp is nan"),
        ({"kvp": 80, "anode": "Mo"}, "Mo anode"),
        ({"kvp": 80, "anode": "Fe"}, "Unknown anode"),
        ({"kvp": 28, "anode": "Mo"}, r"No filtration is usual for a Mo anode; .*aluminium_mm=0\.5"),
        ({"kvp": 80, "aluminium_mm": -1}, "aluminium_mm"),
        ({"kvp": 80, "copper_mm": -0.1}, "copper_mm"),
        ({"kvp": 80, "anode_angle_deg": 0}, "anode_angle_deg"),
        ({"kvp": 80, "bin_width_kev": 0}, "bin_width_kev"),
    ],
)
def test_impossible_tubes_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Spectrum.tube(**arguments)  # type: ignore[arg-type]


def test_photons_above_the_voltage_are_refused() -> None:
    with pytest.raises(ValueError, match=r"photons of 30 keV, and kvp is 5.*voltage"):
        Spectrum.from_table([10, 20, 30], [1, 1, 1], kvp=5)
    assert Spectrum.from_table([10, 20, 30], [1, 1, 0], kvp=20).kvp == 20


def test_a_voltage_in_letters_is_refused_as_such() -> None:
    for make in (Spectrum.for_kvp, Spectrum.tube):
        with pytest.raises(TypeError, match=r"kvp = '80': give one like 80"):
            make("80")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["aluminium_mm", "copper_mm", "anode_angle_deg", "bin_width_kev"])
def test_a_number_in_letters_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name} = '2\.5': give one like"):
        Spectrum.tube(80, **{name: "2.5"})  # type: ignore[arg-type]


def test_a_tube_whose_filters_let_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10 mm Cu leave .*practically nothing.*thinner"):
        Spectrum.tube(20, copper_mm=10)
    assert Spectrum.tube(80, copper_mm=2).mean_energy_kev > 60


def iodine_log(bin_width_kev: float) -> float:
    """-ln of what 30 mg/cm² of iodine behind 15 cm of water let through of the energy of a 60 kV beam."""
    spectrum = Spectrum.tube(60, bin_width_kev=bin_width_kev)
    water, iodine = (material(name).mass_attenuation_cm2_g(spectrum.energies_kev) for name in ("water", "iodine"))
    weights = spectrum.photons * spectrum.energies_kev * np.exp(-15 * water)
    return float(-np.log(weights @ np.exp(-0.03 * iodine) / weights.sum()))


def test_bins_resolve_the_k_edge_of_iodine_or_say_that_they_do_not(caplog: pytest.LogCaptureFixture) -> None:
    assert iodine_log(1.0) == pytest.approx(iodine_log(0.1), rel=0.006)
    assert not caplog.records
    assert iodine_log(5.0) == pytest.approx(iodine_log(0.1), rel=0.06)
    assert "Bins of 5 keV blur K edges" in caplog.text


def test_a_molybdenum_tube_shows_its_own_lines() -> None:
    spectrum = Spectrum.tube(30, anode="Mo", aluminium_mm=0.5, bin_width_kev=0.5)
    assert spectrum.energies_kev[np.argmax(spectrum.photons)] == pytest.approx(17.45, abs=0.3)


def test_an_unknown_preset_is_refused_with_the_names_that_are_known() -> None:
    for name in ("75kV", 120):
        with pytest.raises(ValueError, match=rf"'{name}'.*120kV"):
            Spectrum.preset(name)  # type: ignore[arg-type]


def test_a_filter_that_stops_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing through"):
        Spectrum.preset("60kV").filtered("lead", 1e5)
