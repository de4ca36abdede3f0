"""The accuracy of a segmentation: figures that can be counted by hand, and pictures that show the errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image
from segmentation_accuracy import folds_of, main
from segmentation_pictures import FALSE_BONE, MISSED_BONE, write_overlay
from segmentation_scores import BONE, BRIM_MM, compare, intensity_error, reference

SAMPLING_MM = (1.0, 1.0, 1.0)


def leg():
    """HU, labels: muscle with a block of bone, a block of dense contrast far from it, and gas, in air."""
    hu = np.full((20, 40, 60), -1000, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[:, 5:35, 5:55], labels[:, 5:35, 5:55] = 50, 1
    hu[5:15, 10:20, 10:20], labels[5:15, 10:20, 10:20] = 100, 2
    hu[5:15, 10:20, 40:50] = 300
    hu[5:15, 25:30, 25:30], labels[5:15, 25:30, 25:30] = -900, 0
    return hu, labels


def reference_of(weight=None):
    hu, labels = leg()
    return reference(hu, labels, np.ones_like(labels) if weight is None else weight, SAMPLING_MM)


def test_the_reference_itself_is_without_error():
    truth = reference_of()
    counts = compare(truth.labels, truth)
    assert counts.error == counts.bone_error == counts.contrast_error == counts.inner_error == 0.0
    assert counts.dice(0) == counts.dice(1) == counts.dice(2) == counts.air_dice == 1.0


def test_rates_are_those_counted_by_hand():
    truth = reference_of()
    found = truth.labels.copy()
    found[5:15, 10:20, 40:50] = 2  # the contrast taken for bone: 1000 voxels
    found[5:15, 10:15, 10:20] = 1  # half of the bone missed: 500
    counts = compare(found, truth)
    body = 20 * 30 * 50
    assert counts.error == counts.bone_error == pytest.approx(1500 / body)
    assert counts.dice(2) == pytest.approx(2 * 500 / (1000 + 1500))
    assert counts.contrast_error == 1.0
    assert counts.dice(0) == 1.0


def test_metal_that_is_missed_is_counted_where_it_is_known():
    hu, labels = leg()
    weight, metal = np.ones_like(labels), np.zeros(labels.shape, np.bool_)
    metal[5:10, 10:20, 10:20] = True
    weight[5, 10:20, 10:20] = 0
    truth = reference(hu, labels, weight, SAMPLING_MM, metal)
    found = labels.copy()
    found[8:10, 10:20, 10:20] = 1
    assert compare(found, truth).metal_error == pytest.approx(2 / 4)
    assert math.isnan(compare(labels, reference_of()).metal_error)


def test_gas_inside_counts_as_body_and_the_room_does_not():
    truth = reference_of()
    assert truth.body.sum() == 20 * 30 * 50
    found = truth.labels.copy()
    found[truth.labels == 0] = 1
    counts = compare(found, truth)
    assert counts.error == pytest.approx(250 / (20 * 30 * 50))
    assert counts.bone_error == 0.0
    assert counts.air_dice == 0.0


def test_what_is_unknown_counts_nowhere():
    weight = np.ones((20, 40, 60), np.uint8)
    weight[5:15, 10:20, 40:50] = 0
    truth = reference_of(weight)
    found = truth.labels.copy()
    found[weight == 0] = 2
    counts = compare(found, truth)
    assert counts.error == 0.0
    assert counts.contrast == 0 and math.isnan(counts.contrast_error)


def test_the_brim_of_bone_is_neither_contrast_nor_inner_bone():
    hu, labels = leg()
    hu[4, 10:20, 10:20] = 400  # a blurred cortex, labelled soft tissue
    truth = reference(hu, labels, np.ones_like(labels), SAMPLING_MM)
    assert not truth.contrast[4].any()
    inside = int(10 - 2 * BRIM_MM)
    assert truth.inner.sum() == inside**3
    found = labels.copy()
    found[truth.inner] = 1
    assert compare(found, truth).inner_error == 1.0


def test_surfaces_are_near_where_no_more_than_two_millimetres_apart():
    truth, found = np.ones((2, 12, 20, 20), np.uint8)
    truth[3:9, 5:13, 4:12] = BONE
    found[3:9, 4:15, 5:12] = BONE
    found[5:7, 2:4, 17:19] = BONE  # nothing is near this
    sampling = (2.5, 0.9, 1.1)

    def surface(bone):
        inner = np.logical_and.reduce([np.roll(bone, step, axis) for axis in range(3) for step in (1, -1)])
        return np.argwhere(bone & ~inner) * sampling

    one, other = surface(truth == BONE), surface(found == BONE)
    apart = np.linalg.norm(one[:, None] - other, axis=-1)
    near = (apart.min(1) <= 2.0).sum() + (apart.min(0) <= 2.0).sum()
    known = np.ones_like(truth)
    counts = compare(found, reference(np.zeros(truth.shape, np.int16), truth, known, sampling))
    assert counts.bone_surface == (len(one) + len(other), near)
    assert 0.5 < counts.bone_surface_dice < 1.0
    known[:, :4] = 0  # without the lump, all but the side that is 2.7 mm away
    of_known = compare(found, reference(np.zeros(truth.shape, np.int16), truth, known, sampling))
    assert counts.bone_surface_dice < of_known.bone_surface_dice
    assert compare(truth, reference(np.zeros(truth.shape, np.int16), truth, known, sampling)).bone_surface_dice == 1.0


def test_counts_of_cases_add_up():
    truth = reference_of()
    wrong = truth.labels.copy()
    wrong[truth.labels == 2] = 1
    total = compare(truth.labels, truth) + compare(wrong, truth)
    assert total.error == pytest.approx(500 / (20 * 30 * 50))
    assert total.inner_error == 0.5
    assert total.dice(2) == pytest.approx(2 / 3)


def test_labels_of_another_grid_or_kind_are_refused():
    truth = reference_of()
    with pytest.raises(ValueError, match="resample them"):
        compare(truth.labels[1:], truth)
    with pytest.raises(ValueError, match="Labels up to 7"):
        compare(np.full_like(truth.labels, 7), truth)


def test_intensities_differ_by_what_they_differ_behind_the_body_only():
    best = np.full((10, 10), 1000.0)
    best[2:8, 2:8] = 100.0
    found = best.copy()
    found[2:8, 2:5] *= 1.1
    found[0, 0] = 0.0  # beside the body
    assert intensity_error(found, best, 1000.0) == pytest.approx(0.05)


def test_the_overlay_shows_false_bone_and_missed_bone(tmp_path):
    truth = reference_of()
    found = truth.labels.copy()
    found[5:15, 10:20, 40:50], found[5:15, 10:20, 10:20] = 2, 1
    write_overlay({"guess": found}, truth, SAMPLING_MM, tmp_path / "a.png", zoom=2.0)
    write_overlay({"truth": truth.labels}, truth, SAMPLING_MM, tmp_path / "b.png", zoom=2.0)
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png")]
    shown = [
        [int((picture == colour).all(axis=-1).sum()) for colour in (FALSE_BONE, MISSED_BONE)] for picture in pictures
    ]
    assert shown[1] == [0, 0]
    # Both are cut by the axial and the coronal slice, one of them by the sagittal slice.
    assert shown[0] == pytest.approx([2.5 * 400, 2.5 * 400], rel=0.25)
    assert sum(shown[0]) == pytest.approx(5 * 400, rel=0.1)
    # The patient's right is on the viewer's left: the contrast, at high R, is left of the bone.
    columns = [
        np.flatnonzero((pictures[0][:100] == colour).all(axis=-1).any(axis=0)) for colour in (FALSE_BONE, MISSED_BONE)
    ]
    assert columns[0].max() < columns[1].min()


def test_the_script_compares_methods_on_labels_in_files(tmp_path, monkeypatch):
    hu, labels = leg()
    hu[labels == 2] = 600
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for folder, found in (("truth", labels), ("guess", np.where(hu > 200, 2, labels).astype(np.uint8))):
        (tmp_path / folder).mkdir()
        np.savez(
            tmp_path / folder / "leg.npz",
            hu=hu,
            labels=found,
            weight=np.ones_like(labels),
            ras_from_ijk=affine,
            patient=np.array("P1"),
        )
    methods = ["threshold", "threshold:air_max_hu=-500,bone_min_hu=400", f"files:{tmp_path / 'guess'}"]
    arguments = [str(tmp_path / "truth"), str(tmp_path / "out"), "--method", *methods]
    monkeypatch.setattr("sys.argv", ["segmentation_accuracy.py", *arguments])
    main()
    results = json.loads((tmp_path / "out" / "accuracy.json").read_text("utf-8"))
    perfect, guess = results[methods[1]][0], results[methods[2]][0]
    assert perfect["intensity_errors"] == {"pa": 0.0, "lateral_left": 0.0}
    assert guess["counts"]["contrast_as_bone"] == guess["counts"]["contrast"] > 0
    assert 0.0 < guess["intensity_errors"]["pa"] < 0.5
    text = (tmp_path / "out" / "accuracy.md").read_text("utf-8")
    assert "| threshold | 1 | 0.00 | 0.00 | 1.000 |" in text and "### leg" in text
    assert (tmp_path / "out" / "xray" / "leg.png").exists() and (tmp_path / "out" / "overlays" / "leg.png").exists()


def test_patients_without_weights_of_their_own_fold_are_left_out(tmp_path, monkeypatch):
    hu, labels = leg()
    (tmp_path / "truth").mkdir()
    for name in ("one", "two"):
        np.savez(
            tmp_path / "truth" / f"{name}.npz",
            hu=hu,
            labels=labels,
            weight=np.ones_like(labels),
            ras_from_ijk=np.eye(4),
            patient=np.array(name),
        )
    (tmp_path / "folds.json").write_text(json.dumps({"two": "fold.safetensors"}), encoding="utf-8")
    arguments = [tmp_path / "truth", tmp_path / "out", "--method", "threshold", "--folds", tmp_path / "folds.json"]
    monkeypatch.setattr("sys.argv", ["segmentation_accuracy.py", *map(str, arguments), "--no-xrays"])
    main()
    results = json.loads((tmp_path / "out" / "accuracy.json").read_text("utf-8"))
    assert [result["case"] for result in results["threshold"]] == ["two"]


def test_the_folds_of_a_folder_of_runs_are_those_they_held_out(tmp_path):
    (tmp_path / "truth").mkdir()
    patients = {"a": "P1", "b": "P2", "b_again": "P2", "c": "P3"}
    for name, patient in patients.items():
        np.savez(tmp_path / "truth" / f"{name}.npz", patient=np.array(patient))
    cases = sorted((tmp_path / "truth").glob("*.npz"))
    with pytest.raises(ValueError, match="runs has no finished run"):
        folds_of(tmp_path / "runs", cases)

    def run(name, held_out, trained_on):
        (tmp_path / "runs" / name).mkdir(parents=True)
        card = json.dumps({"held_out": held_out, "cases": trained_on})
        (tmp_path / "runs" / name / "vnet.json").write_text(card, encoding="utf-8")

    run("one", ["a"], ["b", "b_again", "c"])
    run("two", ["b"], ["a", "c"])
    weights = {name: str((tmp_path / "runs" / name / "vnet.safetensors").resolve()) for name in ("one", "two")}
    assert folds_of(tmp_path / "runs", cases) == {"P1": weights["one"], "P2": weights["two"]}
    run("twice", ["a"], ["c"])
    with pytest.raises(ValueError, match="holds out whom another run does"):
        folds_of(tmp_path / "runs", cases)
    (tmp_path / "runs" / "twice" / "vnet.json").unlink()
    run("unfair", ["b"], ["b_again"])
    with pytest.raises(ValueError, match="trained on P2"):
        folds_of(tmp_path / "runs", cases)
