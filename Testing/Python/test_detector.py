"""Detector responses, and exposures against the Beer-Lambert law in double precision."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from DeepDRRLogic.crosstalk import separable_kernel
from DeepDRRLogic.detector import Detector, ReadoutNoise, detector, detector_names
from DeepDRRLogic.exposure import Exposure, expose, unattenuated
from DeepDRRLogic.materials import Material, material
from DeepDRRLogic.spectrum import Spectrum

BODY = [material(name) for name in ("air", "soft_tissue", "bone")]
DETECTORS = detector_names()


def a_body(height: int = 23, width: int = 31, seed: int = 0) -> npt.NDArray[np.float32]:
    """Area densities of air, soft tissue and bone in g/cm², as of a pelvis; the corner sees nothing."""
    rng = np.random.default_rng(seed)
    planes = [rng.uniform(0, highest, (height, width)) for highest in (0.1, 35.0, 12.0)]
    body = np.array(planes, dtype=np.float32)
    body[:, 0, 0] = 0.0
    return body


def direct_sums(
    body: npt.NDArray[np.float32], materials: list[Material], spectrum: Spectrum, one: Detector
) -> dict[str, npt.NDArray[np.float64]]:
    """The definition, in double precision, with every bin."""
    energies = spectrum.energies_kev
    mu = np.array([m.mass_attenuation_cm2_g(energies) for m in materials])
    photons = np.exp(-np.einsum("me,mhw->ehw", mu, body.astype(np.float64))) * spectrum.photons[:, None, None]
    detected, gain = one.detected_fraction(energies), one.signal_per_photon(energies)
    return {
        "photons": np.einsum("ce,ehw->chw", detected, photons),
        "signal": np.einsum("ce,ehw->chw", detected * gain, photons),
        "signal_square": np.einsum("ce,ehw->chw", detected * gain**2, photons),
        "energy_kev": np.einsum("ce,ehw->hw", detected * energies, photons),
    }


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("kvp", [60, 120])
def test_every_sum_is_the_direct_sum_over_the_spectrum(name: str, kvp: int) -> None:
    body, spectrum, one = a_body(), Spectrum.for_kvp(kvp), detector(name)
    exposure = expose(body, BODY, spectrum, one)
    for field, expected in direct_sums(body, BODY, spectrum, one).items():
        measured = getattr(exposure, field)
        assert measured.dtype == np.float32
        assert measured.shape == expected.shape
        np.testing.assert_allclose(measured, expected, rtol=2e-5, atol=1e-20, err_msg=field)


@pytest.mark.parametrize("energy_kev", [30.0, 60.0, 100.0])
def test_a_single_energy_obeys_beer_and_lambert(energy_kev: float) -> None:
    thickness_g_cm2 = np.linspace(0, 30, 16, dtype=np.float32).reshape(1, 1, 16)
    exposure = expose(thickness_g_cm2, [material("water")], Spectrum.monoenergetic(energy_kev), Detector.ideal())
    mu = float(material("water").mass_attenuation_cm2_g(energy_kev))
    expected = np.exp(-mu * thickness_g_cm2.astype(np.float64))
    np.testing.assert_allclose(exposure.photons, expected, rtol=1e-5)
    np.testing.assert_allclose(exposure.signal, energy_kev * expected, rtol=1e-5)
    np.testing.assert_allclose(exposure.mean_energy_kev, energy_kev, rtol=1e-6)


def test_ten_centimetres_of_water_at_60_kev_transmit_12_76_percent() -> None:
    # exp(-10 x 0.2059), Hubbell & Seltzer (NIST, 1995)
    exposure = expose([[[10.0]]], [material("water")], Spectrum.monoenergetic(60.0), Detector.ideal())
    assert exposure.photons.item() == pytest.approx(0.1276, rel=2e-3)


def test_nothing_in_the_beam_gives_the_spectrum_itself() -> None:
    spectrum = Spectrum.preset("120kV")
    open_beam = unattenuated(spectrum, Detector.ideal())
    assert open_beam.photons.shape == (1, 1, 1)
    assert open_beam.photons.item() == pytest.approx(1.0, rel=1e-5)
    assert open_beam.signal.item() == pytest.approx(spectrum.mean_energy_kev, rel=1e-5)
    corner = expose(a_body(), BODY, spectrum, Detector.ideal())
    assert corner.signal[0, 0, 0] == pytest.approx(open_beam.signal.item(), rel=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_picture_does_not_depend_on_the_number_of_threads(name: str) -> None:
    spectrum, one = Spectrum.preset("100kV"), detector(name)
    for body in (a_body(130, 97), a_body(37, 61)):
        alone = expose(body, BODY, spectrum, one, threads=1)
        for threads in (2, 3):
            np.testing.assert_array_equal(expose(body, BODY, spectrum, one, threads=threads).signal, alone.signal)


def test_pixels_keep_their_places_in_a_picture_larger_than_any_chunk() -> None:
    height, width = 211, 157
    ramp = np.linspace(0, 20, height * width, dtype=np.float32).reshape(1, height, width)
    exposure = expose(ramp, [material("water")], Spectrum.monoenergetic(60.0), Detector.ideal(), threads=2)
    mu = float(material("water").mass_attenuation_cm2_g(60.0))
    np.testing.assert_allclose(exposure.photons, np.exp(-mu * ramp), rtol=1e-5)


@pytest.mark.parametrize("name", ["stainless_steel", "cobalt_chrome", "titanium", "lead", "iodinated_blood"])
def test_metal_of_any_thickness_darkens_monotonously_and_never_gives_nan(name: str) -> None:
    densities = np.geomspace(1e-3, 1e4, 200, dtype=np.float32).reshape(1, 1, 200)
    for one in (Detector.ideal(), Detector.csi_flat_panel(), Detector.energy_bins()):
        spectrum = Spectrum.preset("120kV")
        exposure = expose(densities, [material(name)], spectrum, one)
        transmission = exposure.signal / unattenuated(spectrum, one).signal
        assert np.isfinite(transmission).all()
        assert (transmission > 0.0).all()
        assert (transmission <= 1.0).all()
        # To float32 rounding: the deepest pixels all have the same, smallest transmission.
        assert (transmission[..., 1:] <= transmission[..., :-1] * (1.0 + 1e-6)).all()
        assert np.isfinite(exposure.mean_energy_kev).all()
        assert np.isfinite(np.log(transmission)).all()


def test_a_steel_plate_attenuates_as_the_direct_sum_says() -> None:
    materials = [material("soft_tissue"), material("stainless_steel")]
    body = np.array([[[20.0, 20.0, 20.0]], [[0.8, 8.0, 40.0]]], dtype=np.float32)
    spectrum, one = Spectrum.preset("120kV"), Detector.ideal()
    expected = direct_sums(body, materials, spectrum, one)["signal"]
    assert expected.min() < 1e-4
    np.testing.assert_allclose(expose(body, materials, spectrum, one).signal, expected, rtol=2e-5)


def test_the_beam_hardens_on_its_way() -> None:
    water = np.linspace(0, 40, 9, dtype=np.float32).reshape(1, 1, 9)
    energy = expose(water, [material("water")], Spectrum.preset("100kV"), Detector.ideal()).mean_energy_kev[0]
    assert (np.diff(energy) > 0.0).all()
    assert energy[0] == pytest.approx(Spectrum.preset("100kV").mean_energy_kev, rel=1e-5)


def test_the_k_edge_makes_iodine_brighter_below_33_kev_than_above() -> None:
    layer, iodine = [[[0.05]]], [material("iodine")]
    below = expose(layer, iodine, Spectrum.monoenergetic(33.0), Detector.ideal()).photons
    above = expose(layer, iodine, Spectrum.monoenergetic(33.4), Detector.ideal()).photons
    assert below.item() > 3.0 * above.item()


def test_exposures_add() -> None:
    exposure = expose(a_body(), BODY, Spectrum.preset("80kV"), Detector.ideal())
    twice = exposure + exposure
    np.testing.assert_allclose(twice.signal, 2.0 * exposure.signal, rtol=1e-6)
    np.testing.assert_allclose(twice.mean_energy_kev, exposure.mean_energy_kev, rtol=1e-6)


def test_means_of_an_exposure_without_photons_are_zero_not_nan() -> None:
    nothing = np.zeros((1, 2, 2), dtype=np.float32)
    exposure = Exposure(nothing, nothing, nothing, nothing[0])
    np.testing.assert_array_equal(exposure.mean_energy_kev, 0.0)
    np.testing.assert_array_equal(exposure.signal_per_photon, 0.0)


def test_the_ideal_detector_sees_every_photon_and_its_energy() -> None:
    energies = np.array([20.0, 60.0, 110.0])
    np.testing.assert_array_equal(Detector.ideal().detected_fraction(energies), [[1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(Detector.ideal().signal_per_photon(energies), [energies])
    assert Detector.ideal().signal_unit == "keV"


def test_600_micrometres_of_caesium_iodide_absorb_what_nist_says() -> None:
    # 1 - exp(-7.921 cm²/g x 0.06 cm x 4.51 g/cm³ x 0.8) at 60 keV, Hubbell & Seltzer (NIST, 1995)
    fraction = Detector.csi_flat_panel(thickness_um=600.0, packing=0.8).detected_fraction([60.0])
    assert fraction.item() == pytest.approx(0.8201, abs=2e-3)


def test_caesium_iodide_jumps_at_both_of_its_k_edges() -> None:
    thin = Detector.csi_flat_panel(thickness_um=50.0)
    iodine_below, iodine_above, caesium_below, caesium_above = thin.detected_fraction([33.0, 33.3, 35.8, 36.1])[0]
    assert iodine_above > 1.5 * iodine_below
    assert caesium_above > 1.2 * caesium_below


def test_a_thicker_scintillator_detects_more() -> None:
    fractions = [Detector.csi_flat_panel(thickness_um=t).detected_fraction([80.0]).item() for t in (1, 300, 3e4)]
    assert fractions[0] < fractions[1] < fractions[2] == pytest.approx(1.0)


def test_a_photon_counter_counts_from_its_threshold_on() -> None:
    counter = Detector.photon_counting(threshold_kev=25.0, absorber=None)
    np.testing.assert_array_equal(counter.detected_fraction([24.9, 25.0, 90.0]), [[0.0, 1.0, 1.0]])
    np.testing.assert_array_equal(counter.signal_per_photon([24.9, 25.0, 90.0]), [[1.0, 1.0, 1.0]])
    assert counter.signal_unit == "counts"


def test_cadmium_telluride_absorbs_what_its_thickness_says() -> None:
    counter = Detector.photon_counting(threshold_kev=20.0, thickness_um=1000.0)
    mu = float(material("cadmium_telluride").mass_attenuation_cm2_g(80.0))
    assert counter.detected_fraction([80.0]).item() == pytest.approx(1.0 - math.exp(-mu * 0.1 * 6.2))


def test_energy_bins_share_out_every_photon_once() -> None:
    energies = np.arange(10.0, 120.0, 0.5)
    bins = Detector.energy_bins((20.0, 45.0, 70.0, math.inf), absorber=None)
    fractions = bins.detected_fraction(energies)
    assert bins.channels == ("20-45 keV", "45-70 keV", "70 keV and up")
    np.testing.assert_array_equal(fractions.sum(axis=0), energies >= 20.0)
    assert fractions[1, energies == 45.0] == 1.0


def test_the_channels_of_a_counter_add_up_to_the_counter_without_bins() -> None:
    body, spectrum = a_body(), Spectrum.preset("120kV")
    bins = expose(body, BODY, spectrum, Detector.energy_bins((20, 50, 70, math.inf), absorber=None))
    whole = expose(body, BODY, spectrum, Detector.photon_counting(threshold_kev=20, absorber=None))
    np.testing.assert_allclose(bins.signal.sum(axis=0), whole.signal[0], rtol=1e-5)
    np.testing.assert_allclose(bins.mean_energy_kev, whole.mean_energy_kev, rtol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_have_as_many_channels_as_they_name(name: str) -> None:
    one = detector(name)
    energies = np.linspace(15, 119, 40)
    assert one.detected_fraction(energies).shape == (len(one.channels), 40)
    assert one.signal_per_photon(energies).shape == (len(one.channels), 40)
    assert ((one.detected_fraction(energies) >= 0.0) & (one.detected_fraction(energies) <= 1.0)).all()


def test_integrating_detectors_are_not_silent_unless_asked_to_be() -> None:
    assert Detector.ideal().readout.std_signal > 0.0
    assert Detector.csi_flat_panel().readout.std_signal > 0.0
    assert Detector.ideal(readout=ReadoutNoise(0.0, 0.0)).readout.std_signal == 0.0
    with pytest.raises(TypeError):
        ReadoutNoise()  # type: ignore[call-arg]


def test_readout_noise_converts_electrons_and_photons_into_signal() -> None:
    assert ReadoutNoise.from_electrons(1500.0, electrons_per_signal=20.0, correlation_px=0.0).std_signal == 75.0
    assert ReadoutNoise.from_photons(2.0, signal_per_photon=60.0, correlation_px=0.0).std_signal == 120.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: detector("film"), r"'film'.*csi_flat_panel"),
        (lambda: Detector.energy_bins((50.0, 20.0)), "rising"),
        (lambda: Detector.energy_bins((50.0,)), "rising"),
        (lambda: Detector.energy_bins((math.nan, 50.0)), "rising"),
        (lambda: Detector.csi_flat_panel(thickness_um=0.0), "thickness_um"),
        (lambda: Detector.csi_flat_panel(packing=1.2), "packing"),
        (lambda: Detector.csi_flat_panel(crosstalk=((0.5, 0.5),)), "odd"),
        (lambda: Detector.csi_flat_panel(crosstalk=separable_kernel((0.1, 0.7, 0.1))), "sums to 0.81"),
        (lambda: ReadoutNoise(-1.0, 0.0), "std_signal"),
        (lambda: ReadoutNoise(math.nan, 0.0), "std_signal"),
        (lambda: ReadoutNoise(1.0, -1.0), "correlation_px"),
        (lambda: ReadoutNoise.from_electrons(10.0, 0.0, 1.0), "electrons_per_signal"),
    ],
)
def test_impossible_detectors_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("densities", "message"),
    [
        (np.zeros((2, 4, 4)), "3 materials"),
        (np.zeros((4, 4)), "3 materials"),
        (np.zeros((3, 0, 4)), "3 materials"),
        (np.full((3, 4, 4), np.nan), "NaN"),
        (np.full((3, 4, 4), np.inf), "infinite"),
        (np.full((3, 4, 4), -0.5), "negative"),
    ],
)
def test_impossible_area_densities_are_refused(densities: npt.NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expose(densities, BODY, Spectrum.preset("70kV"), Detector.ideal())


def test_rounding_dust_below_zero_counts_as_nothing() -> None:
    exposure = expose(np.full((3, 1, 1), -1e-5), BODY, Spectrum.preset("70kV"), Detector.ideal())
    assert exposure.signal.item() == unattenuated(Spectrum.preset("70kV"), Detector.ideal()).signal.item()


def test_a_threshold_above_the_spectrum_is_refused() -> None:
    with pytest.raises(ValueError, match="sees nothing"):
        unattenuated(Spectrum.preset("60kV"), Detector.photon_counting(threshold_kev=80.0))


def test_lists_where_tuples_belong_make_the_same_detector() -> None:
    kernel = np.full((3, 3), 1.0 / 9.0)
    listed = Detector("two", ["low", "high"], ReadoutNoise(0.0, 0.0), [0, 50, np.inf], crosstalk=kernel.tolist())  # type: ignore[arg-type]
    spelt = Detector(
        "two", ("low", "high"), ReadoutNoise(0.0, 0.0), (0.0, 50.0, np.inf), crosstalk=tuple(map(tuple, kernel))
    )
    assert listed == spelt and hash(listed) == hash(spelt)
