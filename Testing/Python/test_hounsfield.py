"""Whether a volume is a CT in Hounsfield units, and what a CT's report says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from volumes import GRIDS, body_like_hu

from DeepDRRLogic.materials import material
from DeepDRRLogic.volume import CTVolume, MaterialLabels, MaterialVolume


def mr_like():
    rng = np.random.default_rng(2)
    tissue = rng.normal(700, 250, (24, 40, 40)).clip(0)
    tissue[:, :10] = rng.rayleigh(15, (24, 10, 40))
    return tissue.astype(np.int16)


NOT_HU = {
    "label map": (np.random.default_rng(3).integers(0, 90, (9, 9, 9)), "label map"),
    "sparse label map": (np.random.default_rng(3).integers(0, 3, (9, 9, 9)) * 5000, "label map"),
    "MR": (mr_like(), "MR"),
    "normalised": (body_like_hu() / np.float32(2000), "not Hounsfield"),
    "constant": (np.full((9, 9, 9), 40), "all voxels are 40"),
    "offset": (body_like_hu(1024).clip(0).astype(np.uint16), "hu_offset=-1024"),
    "offset with padding": (np.where(np.arange(40) < 3, -2000, body_like_hu(1024)), "hu_offset=-1024"),
    "counts": (np.random.default_rng(3).normal(0, 1, (9, 9, 9)) * 1e6, "not Hounsfield"),
}


@pytest.mark.parametrize(("values", "message"), NOT_HU.values(), ids=NOT_HU)
def test_what_is_no_ct_is_refused_unless_said_to_be_known(values, message):
    with pytest.raises(ValueError, match=message):
        CTVolume.from_array(values, np.eye(4))
    np.testing.assert_allclose(CTVolume.from_array(values, np.eye(4), hu_offset=0).hu, values, rtol=1e-6)


def test_an_offset_that_was_given_is_noted_and_not_asked_for_again(tmp_path, caplog):
    hu = body_like_hu(1024)
    CTVolume(hu, np.eye(4)).write(tmp_path / "ct.nrrd")
    labels = MaterialLabels(np.zeros(hu.shape, np.uint8), (material("soft_tissue"),), np.eye(4))
    for ct in (
        CTVolume.read(tmp_path / "ct.nrrd", hu_offset=0),
        CTVolume.from_array(hu, np.eye(4), hu_offset=0),
        CTVolume.from_array(hu, np.eye(4), hu_offset=-1, notes=("another",)),
    ):
        assert "hu_offset was given" in ct.notes[-1]
        assert not any("hu_offset" in warning for warning in ct.info().warnings)
        MaterialVolume.from_ct(replace(ct, name="renamed"), labels)
    assert not caplog.messages
    assert CTVolume.from_array(body_like_hu(), np.eye(4)).notes == ()


def test_a_plausible_ct_is_accepted_whatever_its_noise():
    for noise in (0, 20, 80):
        np.testing.assert_array_equal(
            CTVolume.from_array(body_like_hu(noise=noise), np.eye(4)).hu, body_like_hu(noise=noise)
        )


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_whole_numbers_take_half_the_memory_also_as_floats(kind):
    hu = body_like_hu()
    assert CTVolume(hu.astype(kind), np.eye(4)).hu.dtype == np.int16
    np.testing.assert_array_equal(CTVolume(hu.astype(kind), np.eye(4)).hu, hu)
    for other in (0.5, 32768, 70000, -32769):
        values = hu.astype(kind)
        values[-1, -1, -1] = other
        ct = CTVolume(values, np.eye(4))
        assert ct.hu.dtype == np.float32
        np.testing.assert_array_equal(ct.hu, values)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("air", ["flat", "noisy", "noisier", "padded", "flat and padded"])
@pytest.mark.parametrize("offset", [1000, 1024])
def test_the_offset_is_told_by_where_air_lies(offset, air, unsigned):
    hu = body_like_hu(noise=30 if air == "noisier" else 20)
    if "flat" in air:
        hu[hu < -920] = -1000
    if "padded" in air:
        hu[:, :2] = -1024
    stored = hu + np.int16(offset)
    with pytest.raises(ValueError, match=rf"Read them with hu_offset=-{offset}\. .*hu_offset=0\."):
        CTVolume.from_array(stored.clip(0) if unsigned else stored, np.eye(4))


def test_the_report_measures_a_known_body():
    info = CTVolume(body_like_hu(), GRIDS["oblique left-handed"], name="body").info()
    assert (info.size, info.hu_min, info.hu_max) == ((40, 40, 24), body_like_hu().min(), body_like_hu().max())
    assert info.hu_mean == pytest.approx(body_like_hu().mean(), abs=1)
    # 24 of 40 rows by 30 of 40 columns are body; 8 by 8 of them are lung, half of it below -850 HU but none
    # above -800.
    assert info.body_fraction == pytest.approx((24 * 30 - 64) / 1600, abs=0.002)
    assert info.air_fraction == pytest.approx((1600 - 25 * 30 + 64) / 1600, abs=0.002)
    assert dict(info.hu_percentiles)[50] == pytest.approx(np.median(body_like_hu()), abs=3)
    report = str(info)
    assert "40 × 40 × 24" in report
    assert "oblique, left-handed" in report
    assert info.warnings == ()


def test_the_report_warns_of_what_looks_wrong():
    def warnings(hu, spacing=(1.0, 1.0, 1.0)):
        return " | ".join(CTVolume(hu, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])).info().warnings)

    body = body_like_hu()
    assert warnings(body) == ""
    assert "only 3 voxels" in warnings(body[:3])
    assert "slices 5 mm apart" in warnings(body, (1, 1, 5))
    assert "20 times longer" in warnings(body, (0.5, 0.5, 10))
    assert "is its unit mm" in warnings(body, (0.001, 0.001, 0.001))
    assert "3.6 m long" in warnings(body, (15, 15, 150))
    assert "bone is clipped" in warnings(body.clip(None, 300))
    assert "dense matter is clipped" in warnings(np.where(body > 1190, 3071, body).astype(np.int16))
    assert "hardly any air" in warnings(body.clip(-100, None))
    assert "air lies at -900" in warnings(np.where(body < -800, -900, body).astype(np.int16))
    assert "hu_offset=-1024" in warnings(body + np.int16(1024))
    assert "left or right border is body" in warnings(body[:, :, 10:30])
    assert "front or back border is body" in warnings(body[:, 10:30])
