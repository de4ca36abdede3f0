"""Reference labels: what a careful person would draw, on bodies whose anatomy is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from annotate import Annotated, annotate, for_training, main
from bodies import body_mask
from bones import BoneRule, find_bones
from contrast import enhanced
from doubts import doubts, write_doubts
from edits import edited
from grids import Scan, read_labels, read_scan, reshaped
from known_bones import bones_from_labels
from phantoms import phantom_case
from PIL import Image

from DeepDRRLogic.volume import CTVolume

SPACING_MM = (1.0, 1.0, 2.0)
NOWHERE = ()


def scan_of(hu, spacing_mm=SPACING_MM, origin_ras=(-40.0, -40.0, -30.0)):
    return Scan(np.asarray(hu, np.int16), spacing_mm, origin_ras)


def muscle(shape=(30, 80, 80)):
    return scan_of(np.full(shape, 50))


def distance_mm(scan, center_ras):
    """Distance of every voxel to a point."""
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(scan.axes_ras(), center_ras, strict=True)))


def none_of(scan):
    return np.zeros(scan.hu.shape, np.bool_)


def bones_of(scan, rule=None, not_bone=None):
    body = np.ones(scan.hu.shape, np.bool_)
    forbidden = none_of(scan) if not_bone is None else not_bone
    return find_bones(scan, body, rule or BoneRule(smooth_mm=0.0), forbidden, none_of(scan))


def hollow(scan, center_ras, radius_mm, marrow_hu):
    """A bone in place: 3 mm of cortex around marrow."""
    r = distance_mm(scan, center_ras)
    scan.hu[r <= radius_mm] = 800
    scan.hu[r <= radius_mm - 3.0] = marrow_hu
    return r <= radius_mm


@pytest.mark.parametrize("marrow_hu", [-80, 40, 200])
def test_marrow_inside_a_cortex_is_bone_whatever_its_density(marrow_hu):
    scan = muscle()
    bone = hollow(scan, (0, 0, 0), 15.0, marrow_hu)
    np.testing.assert_array_equal(bones_of(scan).bone, bone)


def test_a_skull_is_not_filled_with_bone():
    scan = scan_of(np.full((50, 96, 96), 50), origin_ras=(-48.0, -48.0, -50.0))
    skull = hollow(scan, (0, 0, 0), 40.0, 35)
    cortex = skull & (scan.hu > 700)
    found = bones_of(scan, BoneRule(smooth_mm=0.0, hole_mm2=1e6, marrow_ml=150.0)).bone
    assert not found[distance_mm(scan, (0, 0, 0)) < 30].any()
    assert (found & cortex).sum() > 0.99 * cortex.sum()


def test_a_canal_that_is_open_at_its_ends_stays_soft_tissue_where_a_correction_names_it():
    scan = muscle()
    r, a, _ = scan.axes_ras()
    radius = np.broadcast_to(np.sqrt(r**2 + a**2), scan.hu.shape)
    scan.hu[radius < 14] = 700
    scan.hu[radius < 8] = 30
    canal = edited(scan, [{"do": "not_bone", "path": [[0, 0, -30], [0, 0, 28]], "radius_mm": 7.9}], "not_bone")
    found = bones_of(scan, not_bone=canal & (scan.hu < 150)).bone
    assert not found[radius < 7].any()
    assert found[(radius > 8) & (radius < 14)].all()


def test_a_joint_keeps_its_gap_and_contrast_without_a_cortex_is_no_bone():
    scan = muscle()
    upper = hollow(scan, (-16, 0, 0), 14.0, 0)
    lower = hollow(scan, (16, 0, 0), 14.0, 0)
    scan.hu[distance_mm(scan, (0, 28, 0)) < 8] = 240
    found = bones_of(scan).bone
    r = np.broadcast_to(scan.axes_ras()[0], found.shape)
    assert not found[np.abs(r) < 1.5].any()
    assert not found[distance_mm(scan, (0, 28, 0)) < 8].any()
    assert (found == (upper | lower)).mean() > 0.999


def test_a_dense_speck_is_doubtful_rather_than_bone():
    scan = muscle()
    bone = hollow(scan, (0, 0, 0), 12.0, 0)
    speck = distance_mm(scan, (25, 25, 0)) < 4
    scan.hu[speck] = 500
    found = bones_of(scan)
    assert found.doubtful[speck].all() and not found.bone[speck].any()
    assert found.bone[bone].all() and not found.doubtful[bone].any()


def test_the_body_holds_its_gas_and_no_couch():
    hu = np.full((12, 120, 120), -1000)
    scan = scan_of(hu, origin_ras=(-60.0, -60.0, 0.0))
    r, a, _ = scan.axes_ras()
    radius = np.broadcast_to(np.sqrt(r**2 + a**2), hu.shape)
    scan.hu[radius < 40] = 40
    scan.hu[radius < 12] = -900
    couch = np.broadcast_to((a < -50) & (a > -54), hu.shape)
    scan.hu[couch] = 100
    body = body_mask(scan)
    assert body[radius < 39].all()
    assert not body[radius > 42].any()
    labels = annotate(scan, {}).labels
    assert set(np.unique(labels)) == {0, 1}


def test_corrections_are_shapes_in_the_world():
    scan = muscle()
    box = {"do": "air", "box": [[10, -5, 0], [0, 5, 8]]}
    sphere = {"do": "bone", "path": [0, 0, 0], "radius_mm": 5, "why": "a ball"}
    tube = {"do": "unknown", "path": [[-20, 0, 0], [20, 0, 0]], "radius_mm": 3, "slab": [0, 100]}
    assert edited(scan, [box, sphere, tube], "air").sum() == 11 * 11 * 5
    np.testing.assert_array_equal(edited(scan, [box, sphere], "bone"), distance_mm(scan, (0, 0, 0)) <= 5)
    r, a, s = np.broadcast_arrays(*scan.axes_ras())
    inside = (np.abs(r) <= 20) & (a**2 + s**2 <= 9) & (s >= 0)
    assert (edited(scan, [tube], "unknown") & (np.abs(r) <= 20)).sum() == inside.sum()
    scan.hu[0, 0, 0] = 900
    assert edited(scan, [{"do": "soft", "box": [[-99, -99, -99], [99, 99, 99]], "hu": [500, 3000]}], "soft").sum() == 1
    with pytest.raises(ValueError, match=r"'erase' is none of not_bone, bone"):
        edited(scan, [{"do": "erase", "box": [[0, 0, 0], [1, 1, 1]]}], "bone")


def test_discs_lie_as_the_spine_is_tilted():
    scan = muscle()
    r, a, s = np.broadcast_arrays(*scan.axes_ras())
    tilted = [[2.0, -4.0, 6.0], [0.0, 3.0, 4.0], -2.5, 3.5]  # its normal is made a unit vector
    found = edited(scan, [{"do": "soft", "discs": [tilted], "radius_mm": 12, "why": "disc"}], "soft")
    along = 0.6 * (a + 4) + 0.8 * (s - 6)
    aside2 = (r - 2) ** 2 + (a + 4) ** 2 + (s - 6) ** 2 - along**2
    unsure = (np.abs(along + 2.5) < 1e-3) | (np.abs(along - 3.5) < 1e-3) | (np.abs(aside2 - 144) < 1e-2)
    expected = (along > -2.5) & (along < 3.5) & (aside2 < 144)
    np.testing.assert_array_equal(found[~unsure], expected[~unsure])
    assert 0.8 < found.sum() * np.prod(scan.spacing_mm) / (np.pi * 144 * 6) < 1.2


def test_outlines_are_polygons_in_slices_and_move_evenly_between_them():
    scan = muscle()
    r, a, s = np.broadcast_arrays(*scan.axes_ras())
    square = [[-10.5, -10.5], [10.5, -10.5], [10.5, 10.5], [-10.5, 10.5]]
    shifted = [[right + 4, front] for right, front in square]
    edit = {"do": "bone", "outlines": [[0.2, square], [8.0, shifted]], "why": "marrow"}
    found = edited(scan, [edit], "bone")
    assert set(np.unique(s[found])) == {0, 2, 4, 6, 8}
    for level, moved in ((0, 0), (4, 2), (8, 4)):
        expected = (np.abs(r - moved) < 10.5) & (np.abs(a) < 10.5)
        where = (s == level) & ((level != 4) | (np.abs(a) < 8))  # between slices corners are rounded
        np.testing.assert_array_equal(found[where], expected[where])
    hollow_c = [[-9.5, -9.5], [9.5, -9.5], [9.5, -5.5], [-5.5, -5.5], [-5.5, 5.5], [9.5, 5.5], [9.5, 9.5], [-9.5, 9.5]]
    two = [[0, hollow_c], [0, [[12.5, 0.5], [15.5, 0.5], [15.5, 3.5]]]]
    in_one = edited(scan, [{"do": "bone", "outlines": two}], "bone")
    assert not in_one[(s == 0) & (np.abs(a) < 5) & (np.abs(r) < 5)].any()
    assert in_one[(s == 0) & (r == 15) & (a == 1)].all() and in_one.sum() == 19 * 19 - 15 * 11 + 6
    with pytest.raises(ValueError, match=r"Outline at S 3: 2 corners; give at least 3"):
        edited(scan, [{"do": "bone", "outlines": [[3, [[0, 0], [1, 1]]]]}], "bone")
    beyond = [[100, square], [200, square]]
    assert not edited(scan, [{"do": "bone", "outlines": beyond}], "bone").any()
    through = edited(scan, [{"do": "bone", "outlines": [[-500, square], [500, square]]}], "bone")
    assert (through == edited(scan, [{"do": "bone", "outlines": [[0.2, square]]}], "bone").any(axis=0)).all()


def test_contours_move_evenly_from_slice_to_slice():
    scan = scan_of(np.zeros((2, 80, 80)), (1.0, 1.0, 4.0))
    r, a, _ = scan.axes_ras()
    radius = np.sqrt(r**2 + a**2)[0]
    mask = np.stack([radius < 10, radius < 14])
    between = reshaped(mask, scan, (1.0, 1.0, 2.0))
    areas_mm2 = between.sum(axis=(1, 2))
    assert areas_mm2[1] == pytest.approx(np.pi * 12.0**2, rel=0.04)
    np.testing.assert_array_equal(between[[0, 2]], mask)


def test_a_left_handed_file_is_read_to_the_same_place_in_the_world(tmp_path):
    hu = np.full((5, 6, 7), 50, np.int16)
    hu[1, 2, 3], hu[4] = 900, -1000
    affine = np.array([[-2.0, 0, 0, 10], [0, 3.0, 0, 20], [0, 0, -4.0, 30], [0, 0, 0, 1]])
    CTVolume(hu, affine).write(tmp_path / "ct.nrrd")
    scan = read_scan(tmp_path / "ct.nrrd")
    k, j, i = np.argwhere(scan.hu == 900)[0]
    np.testing.assert_allclose(scan.ras_from_ijk @ [i, j, k, 1], affine @ [3, 2, 1, 1])

    known = CTVolume(np.where(hu == 900, 52, 0), affine)
    known.write(tmp_path / "labels.nrrd")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nrrd", scan) == 52, scan.hu == 900)
    affine[0, 3] += 3.0
    CTVolume(known.hu, affine).write(tmp_path / "moved.nrrd")
    with pytest.raises(ValueError, match=r"moved\.nrrd lies elsewhere"):
        read_labels(tmp_path / "moved.nrrd", scan)
    known.hu[0, 0, 0] = 256
    known.write(tmp_path / "labels.nrrd")
    with pytest.raises(ValueError, match="from 0 to 256"):
        read_labels(tmp_path / "labels.nrrd", scan)


def test_an_oblique_ct_is_refused_with_what_to_do(tmp_path):
    affine = np.eye(4)
    affine[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    hu = np.full((4, 5, 6), -1000, np.int16)
    hu[2] = 50
    CTVolume(hu, affine).write(tmp_path / "ct.nrrd")
    with pytest.raises(ValueError, match="resample the CT along R, A and S"):
        read_scan(tmp_path / "ct.nrrd")


def test_training_voxels_show_the_same_anatomy_in_the_same_place():
    scan = scan_of(np.full((40, 90, 90), 50), (1.0, 1.0, 2.5))
    hollow(scan, (5, -3, 10), 16.0, -60)
    native = annotate(scan, {"rule": {"smooth_mm": 0.0}})
    fine = for_training(native)
    assert fine.scan.spacing_mm == (0.86, 0.86, 1.0)
    for made in (native, fine):
        inside = np.argwhere(made.labels == 2)
        center = made.scan.ras_from_ijk @ [*inside.mean(axis=0)[::-1], 1.0]
        np.testing.assert_allclose(center[:3], (5, -3, 10), atol=0.3)
        assert len(inside) * made.scan.voxel_ml == pytest.approx(4 / 3 * np.pi * 1.6**3, rel=0.05)


def test_metal_is_flagged_and_its_streaks_are_unknown():
    scan = muscle()
    metal = distance_mm(scan, (0, 0, 0)) < 6
    scan.hu[metal] = 3071
    made = annotate(scan, {"metal": True, "streaks_mm": 5.0})
    np.testing.assert_array_equal(made.metal, metal)
    assert (made.labels[metal] == 2).all() and (made.weight[metal] == 1).all()
    r = distance_mm(scan, (0, 0, 0))
    assert (made.weight[(r > 6) & (r < 10) & (np.broadcast_to(scan.axes_ras()[2], r.shape) == 0)] == 0).all()
    assert made.weight[r > 25].all()


def test_known_bones_decide_and_dense_vessels_beside_them_do_not():
    scan = muscle()
    known = np.zeros(scan.hu.shape, np.uint8)
    vertebra, aorta = distance_mm(scan, (0, 0, 0)) < 12, distance_mm(scan, (0, 18, 0)) < 7
    scan.hu[vertebra], scan.hu[aorta & ~vertebra] = 120, 400
    known[aorta], known[vertebra] = 52, 30
    found = bones_from_labels(scan, known, none_of(scan), none_of(scan))
    np.testing.assert_array_equal(found.bone, vertebra)
    assert not found.doubtful.any()


def test_a_phantom_says_air_where_its_lung_is():
    scan, labels, weight, metal, body = phantom_case({"seed": 1, "spacing_mm": 5.0, "region": "chest", "noise_hu": 10})
    assert weight.all() and not metal.any()
    lung = body & (scan.hu < -700)
    assert lung.sum() * scan.voxel_ml > 1500
    assert (labels[lung] == 0).mean() > 0.99
    assert ((labels == 2) & ~body).sum() == 0


def test_more_contrast_raises_blood_and_nothing_else():
    scan = muscle()
    bone, blood = hollow(scan, (-20, 0, 0), 12.0, 0), distance_mm(scan, (18, 0, 0)) < 12
    scan.hu[blood] = 130
    labels = np.where(bone, 2, 1).astype(np.uint8)
    labels[:, 0], scan.hu[:, 0] = 0, -1000
    hu = enhanced(scan, labels, above_hu=90.0, gain=6.0)
    assert hu[distance_mm(scan, (18, 0, 0)) < 8].min() > 300
    far = distance_mm(scan, (18, 0, 0)) > 16
    np.testing.assert_array_equal(hu[far], scan.hu[far])
    assert labels.max() == 2 and (hu[labels == 0] == -1000).all()


def test_the_script_writes_cases_as_documented(tmp_path, monkeypatch):
    scan = muscle()
    hollow(scan, (0, 0, 0), 15.0, 0)
    scan.hu[:, :10] = -1000
    CTVolume(scan.hu, scan.ras_from_ijk).write(tmp_path / "ct.nrrd")
    cases = {"cases": {"leg": {"file": "ct.nrrd", "patient": "P1", "rule": {"smooth_mm": 0.0}}}}
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    monkeypatch.setattr("annotate.CASES", tmp_path / "cases.json")
    monkeypatch.setattr("sys.argv", ["annotate.py", str(tmp_path), str(tmp_path / "out")])
    main()
    for path in (tmp_path / "out" / "leg.npz", tmp_path / "out" / "native" / "leg.npz"):
        with np.load(path) as data:
            assert data["hu"].shape == data["labels"].shape == data["weight"].shape == data["metal"].shape
            assert (data["hu"].dtype, data["labels"].dtype, data["weight"].dtype) == (np.int16, np.uint8, np.uint8)
            assert str(data["patient"]) == "P1"
            assert 0.95 < (data["labels"] == 2).mean() * data["labels"].size * np.prod(data["spacing_mm"]) / 14137 < 1.1
    assert (tmp_path / "out" / "sheets" / "leg.png").stat().st_size > 1000


def test_doubts_are_the_lumps_that_a_network_contradicts_and_no_borders(tmp_path):
    scan = muscle()
    labels = np.full(scan.hu.shape, 1, np.uint8)
    labels[distance_mm(scan, (0, 0, 0)) < 20] = 2
    weight = np.ones_like(labels)
    found = labels.copy()
    found[distance_mm(scan, (0, 0, 0)) < 12] = 1
    found[(labels == 2) & (distance_mm(scan, (0, 0, 0)) > 19)] = 1
    found[distance_mm(scan, (-25, -25, 10)) < 6] = 2
    found[:, :, -20:] = 2
    weight[:, :, -20:] = 0
    annotated = Annotated(scan, labels, weight, none_of(scan), labels > 0)
    shown = doubts(annotated, found, least_ml=0.5)
    assert [(doubt.extra, doubt.at_ras(scan)) for doubt in shown] == [(False, (0, 0, 0)), (True, (-25, -25, 10))]
    assert shown[0].ml == pytest.approx((distance_mm(scan, (0, 0, 0)) < 12).sum() * 0.002, rel=0.05)
    write_doubts(annotated, found, shown, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size[1] > 2 * 2 * 40
