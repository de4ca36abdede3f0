"""Packs of training patches: small, true to the cases they come from, and good to train on."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from DeepDRRLogic.segmentation.packing import hu_of, levels_of, read_pack, write_pack  # noqa: E402
from DeepDRRLogic.segmentation.patches import make_case, read_case, read_cases, without  # noqa: E402
from DeepDRRLogic.segmentation.vnet import Layout, VNet  # noqa: E402
from DeepDRRLogic.segmentation.weights import load_weights, save_weights  # noqa: E402

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (40, 48, 44)


def arrays(seed):
    """A noisy cylinder of soft tissue with a bone in it, whose ends are of unknown truth."""
    _, j, i = np.indices(SHAPE)
    radius = np.hypot(j - 24, i - 22)
    labels = np.select([radius < 6, radius < 18], [2, 1], 0).astype(np.uint8)
    hu = np.array([-1000, 40, 700])[labels] + np.random.default_rng(seed).normal(0, 20, SHAPE)
    weight = np.ones(SHAPE, np.uint8)
    weight[:3] = weight[-3:] = 0
    return np.rint(hu).clip(-1024, 3071).astype(np.int16), labels, weight


@pytest.fixture(scope="module")
def cases():
    return [make_case(f"case_{n}", f"patient {n}", *arrays(n), (0.86, 0.86, 1.0)) for n in range(2)]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "Utilities" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_levels_are_two_hu_off_where_tissues_differ_and_one_in_fifty_beyond():
    hu = np.arange(-1024, 3072, dtype=np.int16)
    off = np.abs(hu_of(levels_of(hu)).astype(int) - hu)
    assert off[(hu >= -250) & (hu <= 450)].max() <= 2
    assert off.max() <= 28
    assert (np.diff(levels_of(hu).astype(int)) >= 0).all()
    assert hu_of(levels_of(np.array([-2000, 9000], np.int16))).tolist() == [-1024, 3071]


def test_patches_are_those_of_their_cases_in_their_labels_and_in_what_is_known(cases, tmp_path):
    count = write_pack(cases, tmp_path / "a.pack", size=24)
    pack = read_pack(tmp_path / "a.pack")
    patches = pack.patches
    assert (pack.held_out, pack.held_out_patients) == ([], frozenset())
    assert len(patches) == count >= 4
    for patch in patches:
        hu, labels, weight = arrays(int(patch.name[5]))
        assert patch.patient == f"patient {patch.name[5]}"
        assert patch.spacing_mm == (0.86, 0.86, 1.0)
        windows = np.lib.stride_tricks.sliding_window_view(labels, patch.labels.shape)
        found = [first for first in np.ndindex(windows.shape[:3]) if np.array_equal(windows[first], patch.labels)]
        boxes = [tuple(slice(a, a + n) for a, n in zip(first, patch.labels.shape, strict=True)) for first in found]
        assert any(np.array_equal(hu_of(levels_of(hu[box])), patch.hu) for box in boxes)
        assert any(np.array_equal(weight[box], patch.weight) for box in boxes)


def test_every_case_is_there_before_any_is_there_twice(cases, tmp_path):
    write_pack(cases, tmp_path / "a.pack", size=24)
    names = [patch.name.partition(":")[0] for patch in read_pack(tmp_path / "a.pack").patches]
    assert names[:4] == ["case_0", "case_1", "case_0", "case_1"]


def test_a_pack_keeps_its_limit_and_repeats_with_its_seed(cases, tmp_path):
    whole = write_pack(cases, tmp_path / "whole.pack", size=24)
    size = (tmp_path / "whole.pack").stat().st_size
    limit = 0.6 * size / 2**20
    assert 0 < write_pack(cases, tmp_path / "part.pack", size=24, largest_mib=limit) < whole
    assert (tmp_path / "part.pack").stat().st_size <= limit * 2**20
    write_pack(cases, tmp_path / "again.pack", size=24, seed=2018)
    write_pack(cases, tmp_path / "other.pack", size=24, seed=1)

    def content(name):
        with zipfile.ZipFile(tmp_path / name) as archive:
            return [archive.read(entry) for entry in archive.namelist()]

    assert content("again.pack") == content("whole.pack") != content("other.pack")


def test_what_cannot_be_packed_or_read_is_refused(cases, tmp_path):
    with pytest.raises(ValueError, match="No cases"):
        write_pack([], tmp_path / "a.pack")
    with pytest.raises(ValueError, match="Not one patch"):
        write_pack(cases, tmp_path / "a.pack", largest_mib=0.0005)
    with pytest.raises(ValueError, match="case_1: to be packed, and of a patient held out"):
        write_pack(cases, tmp_path / "a.pack", held_out_patients=["patient 1"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.pack").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"b\.pack is no pack"):
        read_pack(tmp_path / "b.pack")


def test_a_case_that_cannot_be_is_refused_with_its_name(tmp_path):
    good = dict(zip(("hu", "labels", "weight"), arrays(0), strict=True)) | {"spacing_mm": (1, 1, 1), "patient": "one"}
    path = tmp_path / "case.npz"
    for wrong, why in (
        ({"hu": np.full(good["hu"].shape, np.nan)}, "nan"),
        ({"hu": good["hu"].astype(np.int32) + 40_000}, "where int16 belongs"),
        ({"labels": good["labels"].astype(np.int16) + 256}, "where uint8 belongs"),
        ({"weight": np.zeros_like(good["weight"])}, "case: no voxel of known truth"),
    ):
        np.savez(path, **(good | wrong))
        with pytest.raises(ValueError, match=why):
            read_case(path)
    np.savez(path, **good)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"case\.npz is no annotated case"):
        read_case(path)


def test_held_out_patients_are_left_out_with_all_their_cases():
    one, two = (make_case(f"{n}", "the same", *arrays(n), (0.86, 0.86, 1.0)) for n in range(2))
    third = make_case("third:0003", "another", *arrays(2), (0.86, 0.86, 1.0))
    assert without([one, two, third], ["1"]) == [third]
    assert without([one, two, third], ["third"]) == [one, two]
    with pytest.raises(ValueError, match=r"No case nobody to hold out; there are: 0, 1"):
        without([one, two], ["nobody", "1"])


def write_case(folder, name, patient):
    hu, labels, weight = arrays(int(name[-1]))
    np.savez(folder / f"{name}.npz", hu=hu, labels=labels, weight=weight, spacing_mm=(0.86, 0.86, 1.0), patient=patient)


@pytest.fixture
def run_script(monkeypatch):
    """Runs a script of Utilities with these arguments."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        script(name).main()

    return run


TRAIN_BRIEFLY = ("--steps", 2, "--patches", 1, "--patch-size", 32, "--threads", 1)


def test_the_scripts_pack_a_folder_and_train_from_the_pack(tmp_path, run_script):
    (tmp_path / "cases").mkdir()
    for n in range(3):
        write_case(tmp_path / "cases", f"case_{n}", f"patient {n}")
    assert [case.name for case in read_cases(tmp_path / "cases", ["case_1"])] == ["case_0", "case_2"]
    pack, run = tmp_path / "cases.pack", tmp_path / "run"
    with pytest.raises(ValueError, match="No case case_7 to hold out"):
        run_script("pack_patches", tmp_path / "cases", pack, "--hold-out", "case_7")
    run_script("pack_patches", tmp_path / "cases", pack, "--hold-out", "case_1", "--size", 32)
    with pytest.raises(ValueError, match=r"No case case_7 to hold out; there are: case_0, case_2\."):
        run_script("train_vnet", pack, run, *TRAIN_BRIEFLY, "--hold-out", "case_7")
    run_script("train_vnet", pack, run, *TRAIN_BRIEFLY, "--hold-out", "case_2", "case_1")
    card = json.loads((run / "vnet.json").read_text("utf-8"))
    assert (card["cases"], card["patients"]) == (["case_0"], ["patient 0"])
    assert (card["held_out"], card["held_out_patients"]) == (["case_1", "case_2"], ["patient 1", "patient 2"])
    assert (card["step"], card["recipe"]["steps"]) == (2, 2)
    assert all(np.isfinite(float(row.split(",")[1])) for row in (run / "curve.csv").read_text().split()[1:])
    load_weights(run / "vnet.safetensors")  # refuses what is not finite
    with pytest.raises(SystemExit, match="trained on patient 0: use a new folder"):
        run_script("train_vnet", pack, run, *TRAIN_BRIEFLY, "--hold-out", "case_0")


def test_a_run_that_goes_on_with_another_pack_has_not_seen_those_held_out_from_it(tmp_path, run_script):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        write_case(tmp_path / folder, "case_0", "patient 0")
    write_case(tmp_path / "second", "case_1", "patient 1")
    write_case(tmp_path / "second", "case_2", "patient 0")  # another CT of whom the first run has seen
    run_script("train_vnet", tmp_path / "first", tmp_path / "run", *TRAIN_BRIEFLY)
    run_script("pack_patches", tmp_path / "second", tmp_path / "second.pack", "--size", 32, "--hold-out", "case_2")
    with pytest.raises(SystemExit, match="trained on patient 0: use a new folder"):
        run_script("train_vnet", tmp_path / "second.pack", tmp_path / "run", *TRAIN_BRIEFLY)


def test_two_moments_of_a_training_are_averaged_without_their_calibration(tmp_path, monkeypatch, capsys):
    layout = Layout(convolutions_down=(1, 1), convolutions_up=(1, 1))
    patch, logits = torch.zeros(1, 2, 8, 8, 8), {}
    for n, name in enumerate(("before", "after")):
        torch.manual_seed(0)
        network = VNet(layout).eval()
        network.add_to_logits(torch.tensor([0.0, float(n), 0.0]))
        logits[name] = network(patch)
        network.add_to_logits(torch.tensor([0.0, 0.0, 0.5 * n]))
        about = {"cases": [f"case_{n}"], "patients": [f"patient {n}"], "bone_bias": 0.5 * n, "seed": n}
        save_weights(network, tmp_path / f"{name}.safetensors", about)
    paths = [tmp_path / f"{name}.safetensors" for name in ("before", "after", "mean")]
    monkeypatch.setattr(sys, "argv", ["average_vnet.py", *map(str, paths), "--share", "0.75"])
    script("average_vnet").main()
    expected = torch.lerp(logits["before"], logits["after"], 0.75)
    torch.testing.assert_close(load_weights(paths[2])(patch), expected, rtol=1e-2, atol=1e-2)
    card = json.loads(paths[2].with_suffix(".json").read_text("utf-8"))
    assert (card["cases"], card["patients"], card["seed"]) == (["case_0", "case_1"], ["patient 0", "patient 1"], 1)
    assert card["averaged"]["share"] == 0.75 and "bone_bias" not in card
    about = {"patients": ["patient 1"], "held_out_patients": ["patient 0"]}
    save_weights(network, tmp_path / "other.safetensors", about)
    monkeypatch.setattr(
        sys, "argv", ["average_vnet.py", *map(str, (paths[0], tmp_path / "other.safetensors", paths[2]))]
    )
    with pytest.raises(SystemExit):
        script("average_vnet").main()
    assert "was trained on patient 0, held out from" in capsys.readouterr().err
    for bias in (0.25, 0.75):  # the second takes the place of the first
        arguments = [paths[2], paths[2], "--bias", bias]
        monkeypatch.setattr(sys, "argv", ["calibrate_vnet.py", *map(str, arguments)])
        script("calibrate_vnet").main()
    added = load_weights(paths[2])(patch) - expected
    torch.testing.assert_close(added.mean((0, 2, 3, 4)), torch.tensor([0.0, 0.0, 0.75]), rtol=0, atol=0.02)
    assert json.loads(paths[2].with_suffix(".json").read_text("utf-8"))["bone_bias"] == 0.75
