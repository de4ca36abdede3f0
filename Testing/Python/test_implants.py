"""Implants where a patient has none: their shapes, their labels, and what a scanner makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from annotate import annotate, read_cases
from grids import Scan
from implants import implanted
from rescans import Rescan

QUIET = Rescan(photons=1e10, scatter=0.0, views=240)


def cylinder(slices=3, hu=0):
    """Water 160 mm across, in air."""
    shape = (slices, 180, 180)
    image = np.full(shape, -1000, np.int16)
    scan = Scan(image, (1.0, 1.0, 2.0), (-89.5, -89.5, 0.0))
    r, a, _ = scan.axes_ras()
    image[np.broadcast_to(r * r + a * a < 80.0**2, shape)] = hu
    return scan, (image > -500).astype(np.uint8)


def rod(substance, r, a, radius_mm=6.0):
    return {"of": substance, "path": [[r, a, -10], [r, a, 20]], "radius_mm": radius_mm}


def near(scan, r, a, radius_mm):
    axes = scan.axes_ras()
    return np.broadcast_to((axes[0] - r) ** 2 + (axes[1] - a) ** 2 < radius_mm**2, scan.hu.shape)


def test_a_substance_gets_the_ct_number_of_its_density():
    scan, labels = cylinder()
    made = implanted(scan, labels, [rod("polyethylene", 30, 10, 12.0)], QUIET)
    assert made.scan.hu[near(scan, 30, 10, 9.0)].mean() == pytest.approx(-60, abs=4)
    assert abs(made.scan.hu[near(scan, -30, 10, 20.0)].mean()) < 2
    assert not made.metal.any()
    assert (made.labels[near(scan, 30, 10, 9.0)] == 1).all()


def test_between_two_rods_of_metal_it_is_dark_and_beside_them_it_is_not():
    scan, labels = cylinder()
    parts = [rod("stainless_steel", -40, 0), rod("stainless_steel", 40, 0)]
    made = implanted(scan, labels, parts, QUIET)
    assert (made.scan.hu[made.metal] == 3071).all()
    assert (made.labels[made.metal] == 2).all()
    between, behind = made.scan.hu[near(scan, 0, 0, 6.0)].mean(), made.scan.hu[near(scan, 0, 55, 6.0)].mean()
    assert between < -150
    assert abs(behind) < 0.3 * abs(between)


def test_titanium_disturbs_less_than_steel():
    scan, labels = cylinder()
    disturbed = {}
    for substance in ("titanium", "stainless_steel"):
        made = implanted(scan, labels, [rod(substance, 0, 0)], QUIET)
        outside = near(scan, 0, 0, 60.0) & ~near(scan, 0, 0, 10.0)
        disturbed[substance] = np.abs(made.scan.hu[outside]).mean()
    assert disturbed["titanium"] < 0.6 * disturbed["stainless_steel"]


def test_a_reduction_of_artefacts_leaves_the_metal():
    scan, labels = cylinder()
    parts = [rod("cobalt_chrome", -40, 0, 10.0), rod("cobalt_chrome", 40, 0, 10.0)]
    full = implanted(scan, labels, parts, QUIET)
    less = implanted(scan, labels, parts, Rescan(photons=1e10, scatter=0.0, views=240, kept=0.25))
    middle = near(scan, 0, 0, 6.0)
    assert less.scan.hu[middle].mean() == pytest.approx(0.25 * full.scan.hu[middle].mean(), rel=0.1)
    assert (less.scan.hu[less.metal] == 3071).all()


def test_fewer_photons_make_more_noise_and_the_same_seed_the_same():
    scan, labels = cylinder(slices=1)
    noise = {}
    for photons in (1e5, 1e7):
        made = implanted(scan, labels, [rod("titanium", 0, 0)], Rescan(photons=photons, scatter=0.0, views=240))
        noise[photons] = made.scan.hu[near(scan, 0, 30, 15.0)].std()
    assert noise[1e5] > 2.0 * noise[1e7]
    again = implanted(scan, labels, [rod("titanium", 0, 0)], Rescan(photons=1e7, scatter=0.0, views=240))
    assert np.array_equal(again.scan.hu, made.scan.hu)


def test_slices_without_metal_stay_as_they_were():
    scan, labels = cylinder(slices=9)
    made = implanted(scan, labels, [{"of": "titanium", "path": [[0, 0, 8]], "radius_mm": 4.0}], QUIET)
    touched = (made.scan.hu != scan.hu).any(axis=(1, 2))
    assert touched.tolist() == [k in (2, 3, 4, 5, 6) for k in range(9)]
    assert made.scan.hu.dtype == np.int16


def test_later_parts_replace_earlier_ones():
    scan, labels = cylinder()
    labels[near(scan, 0, 0, 20.0)] = 2
    parts = [rod("tissue", 0, 0, 20.0), rod("titanium", 0, 0, 12.0), rod("polyethylene", 0, 0, 8.0)]
    made = implanted(scan, labels, parts, QUIET)
    assert (made.labels[near(scan, 0, 0, 7.0)] == 1).all()
    assert (made.labels[near(scan, 0, 0, 11.0) & ~near(scan, 0, 0, 9.0)] == 2).all()
    assert (made.labels[near(scan, 0, 0, 19.0) & ~near(scan, 0, 0, 13.0)] == 1).all()


def test_a_cone_narrows_and_a_cup_is_half_a_ball():
    scan, labels = cylinder(slices=21)
    cone = {"of": "titanium", "path": [[0, 0, 0], [0, 0, 40]], "radius_mm": [10.0, 4.0]}
    widths = implanted(scan, labels, [cone], QUIET).metal[:, 90].sum(axis=1)
    assert widths[0] == pytest.approx(20, abs=2)
    assert widths[20] == pytest.approx(8, abs=2)
    cup = {"of": "titanium", "path": [[0, 0, 20]], "radius_mm": 12.0, "facing": [1, 0, 0]}
    where = np.argwhere(implanted(scan, labels, [cup], QUIET).metal)
    assert where[:, 2].min() >= 89
    assert len(where) * scan.voxel_ml == pytest.approx(2 / 3 * np.pi * 1.2**3, rel=0.06)


def test_bad_parts_are_named():
    scan, labels = cylinder()
    with pytest.raises(ValueError, match=r"'gold'; known are titanium"):
        implanted(scan, labels, [rod("gold", 0, 0)], QUIET)
    with pytest.raises(ValueError, match="lies outside the scan"):
        implanted(scan, labels, [rod("titanium", 300, 0)], QUIET)
    with pytest.raises(ValueError, match="square"):
        implanted(Scan(scan.hu, (1.0, 1.2, 2.0), scan.origin_ras), labels, [rod("titanium", 0, 0)], QUIET)


def test_a_case_with_implants_is_cut_to_their_slices():
    scan, _ = cylinder(slices=60, hu=40)
    part = {"of": "titanium", "path": [[0, 0, 60]], "radius_mm": 4.0}
    annotated = annotate(scan, {"implants": [part], "rescan": {"views": 120}})
    assert len(annotated.labels) == 3 + 2 * 13  # 25 mm on either side
    assert annotated.metal.any()
    assert (annotated.labels[annotated.metal] == 2).all()
    assert annotated.scan.origin_ras[2] == pytest.approx(58 - 26)
    assert annotated.weight.all()


def test_a_case_of_another_has_all_of_that_and_its_own(tmp_path, monkeypatch):
    cases = {"plain": {"file": "a.nii", "patient": "P", "edits": [1]}, "more": {"of": "plain", "contrast": {"gain": 2}}}
    (tmp_path / "cases.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    monkeypatch.setattr("annotate.CASES", tmp_path / "cases.json")
    assert read_cases()["more"] == {"of": "plain", "contrast": {"gain": 2}, **cases["plain"]}
    assert read_cases()["plain"] == cases["plain"]
