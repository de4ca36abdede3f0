"""The whole image formation: physics from end to end, seeds, many views, and what it warns of."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from shapes import MATERIALS, centred_affine, chord_of_box_mm, sphere, view, volume_of

from DeepDRRLogic.affine import rigid
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.detector import Detector, ReadoutNoise
from DeepDRRLogic.exposure import Exposure
from DeepDRRLogic.materials import material
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume

CUBE = (40, 40, 40)


def a_block_of_water(spacing_mm=2.0):
    affine = centred_affine(CUBE, (spacing_mm,) * 3)
    return MaterialVolume(np.ones(CUBE, np.float32), np.zeros(CUBE, np.uint8), (material("water"),), np.asarray(affine))


def noiseless(volumes, **settings):
    return XRaySimulator(volumes, noise=None, **settings)


def test_a_monoenergetic_beam_obeys_beer_and_lambert():
    camera = view(size=(60, 40), pitch=2.0)
    image = noiseless(a_block_of_water(), spectrum=Spectrum.monoenergetic(60.0))(camera)
    chord_cm = chord_of_box_mm(camera, (-40, -40, -40), (40, 40, 40)) / 10
    mu = material("water").mass_attenuation_cm2_g([60.0])[0]
    inner = (slice(10, 30), slice(15, 45))
    np.testing.assert_allclose(image.transmission()[inner], np.exp(-mu * chord_cm)[inner], rtol=1e-3)
    np.testing.assert_allclose(image.log()[inner], (mu * chord_cm)[inner], rtol=1e-3)


def test_the_signal_is_the_energy_of_the_photons_that_arrive():
    image = noiseless(a_block_of_water(), photons_per_pixel=1e4)(view(size=(40, 30), pitch=6.0))
    np.testing.assert_allclose(image.signal, image.photons * image.mean_energy_kev, rtol=1e-5)
    free = image.transmission() > 0.9999
    assert free.any()
    np.testing.assert_allclose(image.photons[free], 1e4, rtol=1e-4)


def test_the_beam_hardens_behind_matter():
    image = noiseless(a_block_of_water(), spectrum=Spectrum.preset("120kV"))(view(size=(40, 30), pitch=6.0))
    assert image.mean_energy_kev[15, 20] > image.mean_energy_kev[0, 0] + 1.0


def test_noise_is_poisson_noise_of_the_photons_that_arrive():
    quiet = NoiseModel(ReadoutNoise(0.0, 0.0))
    image = XRaySimulator(a_block_of_water(), noise=quiet, photons_per_pixel=2e3)(view(size=(300, 200), pitch=0.1))
    counts = image.signal / image.mean_energy_kev
    assert counts.var() / image.photons.mean() == pytest.approx(1.0, abs=0.03)


def test_by_default_the_detector_declares_the_noise():
    silent = Detector.ideal(ReadoutNoise(0.0, 0.0))
    loud = Detector.ideal(ReadoutNoise(1e5, 0.0))
    spread = [
        XRaySimulator(a_block_of_water(), detector=one, photons_per_pixel=1e3)(view(size=(60, 40))).signal.std()
        for one in (silent, loud)
    ]
    assert spread[1] > 0.9e5 > 5 * spread[0]


def test_the_seed_decides_the_noise():
    simulator, camera = XRaySimulator(a_block_of_water()), view(size=(60, 40))
    assert simulator(camera, seed=3) == simulator(camera, seed=3)
    assert not np.array_equal(simulator(camera, seed=3).signal, simulator(camera, seed=4).signal)


def test_volumes_that_overlap_add_up_material_by_material():
    affine = centred_affine(CUBE, (2, 2, 2))
    soft, bone = sphere(25, (-8, 0, 0), CUBE, affine, 1), sphere(20, (8, 0, 0), CUBE, affine, 2, 1.9)
    camera = view(25, 10, size=(80, 60), pitch=3.0)
    both = noiseless([soft, bone])
    alone = [noiseless(one).project(camera) for one in (soft, bone)]
    np.testing.assert_allclose(both.project(camera), alone[0] + alone[1], atol=1e-6)


def test_an_implant_of_another_material_is_found_in_its_own_plane():
    affine = centred_affine(CUBE, (2, 2, 2))
    patient = sphere(35, (0, 0, 0), CUBE, affine, 1)
    screw = MaterialVolume(
        np.full((6, 6, 6), 4.43, np.float32), np.ones((6, 6, 6), np.uint8), (material("air"), material("titanium")),
        centred_affine((6, 6, 6), (2, 2, 2)),
    )  # fmt: skip
    simulator = noiseless([patient.replaced_by(screw), screw])
    image = simulator(view(size=(80, 60), pitch=3.0))
    assert image.material_names == ("air", "soft_tissue", "bone", "titanium")
    titanium, soft = image.area_densities[3], image.area_densities[1]
    assert titanium[30, 40] == pytest.approx(4.43 * 1.2, rel=0.02)
    assert soft[30, 40] == pytest.approx(7.0 - 1.2, rel=0.02)
    assert titanium[30, 10] == 0


def test_scatter_is_added_to_the_primary_before_noise():
    class Veil:
        def estimate(self, area_densities, materials, camera, spectrum, detector):
            one = np.full((1, camera.height, camera.width), 0.25, np.float32)
            return Exposure(signal=one * 50, photons=one, signal_square=one * 2500, energy_kev=one[0] * 50)

        def to_dict(self):
            return {"kind": "veil"}

    camera = view(size=(40, 30), pitch=3.0)
    clear = noiseless(a_block_of_water(), photons_per_pixel=100)(camera)
    veiled = noiseless(a_block_of_water(), photons_per_pixel=100, scatter=Veil())(camera)
    np.testing.assert_allclose(veiled.photons - clear.photons, 25.0, atol=1e-3)
    np.testing.assert_allclose(veiled.signal - clear.signal, 1250.0, rtol=1e-4)
    assert veiled.metadata["scatter"] == {"kind": "veil"}


def test_many_views_are_the_single_views_in_order():
    simulator = XRaySimulator(a_block_of_water())
    cameras = [view(angle, size=(30, 20), pitch=5.0) for angle in (0, 30, 60)]
    reported = []
    images = list(simulator.render_many(cameras, seed=7, progress=lambda done, total: reported.append((done, total))))
    assert images == [simulator(camera, seed=7 + n) for n, camera in enumerate(cameras)]
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_many_views_stop_where_they_are_told_to():
    simulator, made = XRaySimulator(a_block_of_water()), []
    for image in simulator.render_many([view(size=(30, 20))] * 10, cancelled=lambda: len(made) == 4):
        made.append(image)
    assert len(made) == 4


def test_a_preview_shows_the_same_picture_coarser():
    volume = sphere(30, (3, -5, 7), CUBE, centred_affine(CUBE, (2, 2, 2)))
    camera = view(20, 10, size=(80, 60), pitch=3.0)
    fine, coarse = (one(camera).area_densities[1] for one in (noiseless(volume), noiseless(volume).preview(2)))
    assert coarse.sum() == pytest.approx(fine.sum(), rel=0.01)
    assert np.abs(fine - coarse).mean() < 0.02 * fine.max()


def test_a_preview_has_the_settings_of_its_simulator():
    full = XRaySimulator(
        a_block_of_water(),
        spectrum=Spectrum.preset("60kV"),
        detector=Detector.photon_counting(),
        photons_per_pixel=1e3,
        scatter="kernel",
        noise=None,
    )
    names = ("spectrum", "detector", "photons_per_pixel", "scatter", "noise")
    told = full.preview()(view(size=(8, 6))).metadata
    assert {name: told[name] for name in names} == {name: full(view(size=(8, 6))).metadata[name] for name in names}


def test_the_image_tells_how_to_make_it_again():
    spectrum = Spectrum.preset("100kV")
    simulator = XRaySimulator(a_block_of_water(), spectrum=spectrum, photons_per_pixel=1234.0, metadata={"ct": "water"})
    told = simulator(view(size=(8, 6)), seed=42, metadata={"view": "pa"}).metadata
    assert (told["seed"], told["photons_per_pixel"], told["ct"], told["view"]) == (42, 1234.0, "water", "pa")
    assert told["spectrum"]["photons"] == spectrum.photons.tolist()
    assert told["detector"]["name"] == "ideal"
    assert told["noise"]["readout"]["std_signal"] > 0
    assert told["volumes"][0]["size_ijk"] == [40, 40, 40]


def test_the_image_names_the_ct():
    ct = CTVolume(np.zeros((4, 4, 4), np.int16), np.eye(4), "chest")
    patient = MaterialVolume.from_ct(ct, MaterialLabels(np.zeros(ct.shape, np.uint8), (material("water"),), np.eye(4)))
    simulator = XRaySimulator(patient)
    for one in (simulator, simulator.preview()):
        assert one(view(size=(8, 6))).metadata["volumes"][0]["name"] == "chest"


def test_a_source_inside_the_patient_is_allowed_but_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        image = noiseless(a_block_of_water())(view(size=(20, 10)).moved(rigid(translation_mm=(0, 530, 0))))
    assert "source is inside the volume" in caplog.text
    assert image.area_densities[0, 5, 10] == pytest.approx(4.0, rel=0.02)


def test_an_exposure_without_patient_is_blank_and_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        image = noiseless(a_block_of_water(), photons_per_pixel=10)(view(isocenter=(900, 0, 0), size=(20, 10)))
    assert "No ray meets the volume" in caplog.text
    assert "[0.0, 0.0, 0.0]" in caplog.text
    np.testing.assert_allclose(image.transmission(), 1.0, rtol=1e-6)


def test_a_patient_behind_the_detector_is_blank_and_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        noiseless(a_block_of_water())(view(size=(20, 10)).moved(rigid(translation_mm=(0, -400, 0))))
        assert not caplog.records
        behind = noiseless(a_block_of_water())(view(size=(20, 10)).moved(rigid(translation_mm=(0, -1500, 0))))
    assert "between source and detector, which are" in caplog.text
    assert not behind.area_densities.any()


def test_a_patient_who_fills_the_beam_or_stands_in_its_corner_is_no_reason_to_warn(caplog):
    with caplog.at_level(logging.WARNING):
        noiseless(a_block_of_water(spacing_mm=10.0))(view(size=(20, 10)))
        noiseless(a_block_of_water())(view(isocenter=(70, 0, 0), size=(40, 30), pitch=3.0))
    assert not caplog.records


@pytest.mark.parametrize("photons", [0, -5, np.nan, np.inf, 1e13])
def test_a_photon_number_that_is_none_is_refused(photons):
    with pytest.raises(ValueError, match=r"photons_per_pixel.*5e5"):
        XRaySimulator(a_block_of_water(), photons_per_pixel=photons)


def test_a_detector_that_sees_nothing_of_the_beam_in_a_channel_is_refused_before_any_image():
    with pytest.raises(ValueError, match=r"'75 keV and up' of the detector 'energy_bins' .* end at 5\d.* keV: raise"):
        XRaySimulator(a_block_of_water(), spectrum=Spectrum.for_kvp(60), detector=Detector.energy_bins())


def test_no_volume_is_refused():
    with pytest.raises(ValueError, match="at least one MaterialVolume"):
        XRaySimulator([])


def test_one_material_in_two_colours_is_one_material():
    cube = np.ones((4, 4, 4))
    soft = dataclasses.replace(material("soft_tissue"), color_rgb=(1, 2, 3))
    volumes = [
        MaterialVolume(cube, np.zeros(cube.shape, int), (one,), np.eye(4)) for one in (soft, material("soft_tissue"))
    ]
    assert XRaySimulator(volumes).materials == (soft,)


def test_two_materials_of_one_name_are_refused():
    cube = np.ones((4, 4, 4))
    water = dataclasses.replace(material("water"), name="soft_tissue")
    volumes = [
        MaterialVolume(cube, np.zeros(cube.shape, int), (one,), np.eye(4)) for one in (water, material("soft_tissue"))
    ]
    with pytest.raises(ValueError, match=r"called 'soft_tissue'.*1 and .*Rename"):
        XRaySimulator(volumes)


def test_materials_of_one_name_and_two_volumes_are_one_material():
    affine = centred_affine(CUBE)
    simulator = noiseless([sphere(5, (0, 0, 0), CUBE, affine), volume_of(np.ones(CUBE), np.ones(CUBE), affine)])
    assert simulator.materials == MATERIALS


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"spectrum": "120kV"}, r"spectrum = '120kV'.*Spectrum\.preset"),
        ({"detector": "ideal"}, r"detector = 'ideal'.*csi_flat_panel\(\)"),
        ({"noise": "none"}, r"noise = 'none'.*None"),
        ({"scatter": True}, r"scatter = True.*'kernel'"),
    ],
)
def test_a_name_where_a_thing_belongs_is_refused_with_the_thing(wrong, remedy):
    with pytest.raises(TypeError, match=remedy):
        XRaySimulator(a_block_of_water(), **wrong)


@pytest.mark.parametrize("wrong", [[np.zeros((4, 4, 4))], CTVolume(np.zeros((4, 4, 4), np.int16), np.eye(4))])
def test_a_ct_where_materials_belong_is_refused(wrong):
    with pytest.raises(TypeError, match=r"from_ct\(ct, segment\(ct\)\)"):
        XRaySimulator(wrong)


@pytest.mark.parametrize("seed", [-1, 1.5, None, "7"])
@pytest.mark.parametrize("noise", ["detector", None])
def test_a_seed_is_a_whole_number_from_0_or_refused_by_its_name(noise, seed):
    simulator = XRaySimulator(a_block_of_water(), noise=noise)
    for ask in (lambda: simulator(view(size=(20, 10)), seed=seed), lambda: next(simulator.render_many([], seed))):
        with pytest.raises(ValueError, match=f"seed = {seed!r}: give 0 or a positive whole number"):
            ask()


def test_a_seed_may_be_a_number_of_numpy():
    simulator = XRaySimulator(a_block_of_water())
    assert simulator(view(size=(8, 6)), seed=np.int64(3)) == simulator(view(size=(8, 6)), seed=3)


def test_a_c_arm_where_its_camera_belongs_is_refused_with_the_camera():
    simulator = XRaySimulator(a_block_of_water())
    for asked in (simulator, simulator.project):
        with pytest.raises(TypeError, match=r"CArm\(\)\.camera\(\)"):
            asked(CArm())


def test_another_exposure_of_the_same_volumes_is_that_of_a_new_simulator_and_is_checked_like_one():
    first = XRaySimulator(a_block_of_water(), metadata={"patient": "water"})
    settings = {"spectrum": Spectrum.preset("120kV"), "detector": Detector.csi_flat_panel(), "photons_per_pixel": 1e4}
    camera = view(size=(20, 10), pitch=4.0)
    other = first.with_exposure(**settings)
    anew = XRaySimulator(a_block_of_water(), **settings, metadata={"patient": "water"})
    assert other(camera, seed=2) == anew(camera, seed=2)
    assert other.noise == NoiseModel.of(settings["detector"]), "what the detector declares"
    assert first.spectrum == Spectrum.preset("90kV") and first.photons_per_pixel == 5e5
    assert first.with_exposure(noise=None).with_exposure(detector=Detector.csi_flat_panel()).noise is None
    for wrong in (0.0, 1e-40, 1e13, np.nan, np.ones((10, 20))):
        with pytest.raises(ValueError, match=r"(?s)photons_per_pixel = .*such as 5e5"):
            first.with_exposure(photons_per_pixel=wrong)


def test_an_image_larger_than_memory_is_refused_before_it_is_made():
    camera = dataclasses.replace(view(), width=1_000_000, height=1_000_000)
    with pytest.raises(ValueError, match=r"1000000×1000000 pixels needs .* GB"):
        XRaySimulator(a_block_of_water(), device="cpu")(camera)
