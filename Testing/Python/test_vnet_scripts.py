"""The scripts of Utilities that pack, train, average and calibrate, one after the other as a person runs them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from vnet_cases import LAYOUT, SPACING_MM, noisy_limb, torch

from DeepDRRLogic.segmentation.patches import read_cases
from DeepDRRLogic.segmentation.vnet import VNet
from DeepDRRLogic.segmentation.weights import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
TRAIN_BRIEFLY = ("--steps", 2, "--patches", 1, "--patch-size", 32, "--threads", 1)


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "Utilities" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_script(monkeypatch):
    """Runs a script of Utilities with these arguments."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        script(name).main()

    return run


def write_case(folder, name, patient):
    hu, labels, weight = noisy_limb(int(name[-1]))
    np.savez(folder / f"{name}.npz", hu=hu, labels=labels, weight=weight, spacing_mm=SPACING_MM, patient=patient)


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
    patch, logits = torch.zeros(1, 2, 8, 8, 8), {}
    for n, name in enumerate(("before", "after")):
        torch.manual_seed(0)
        network = VNet(LAYOUT).eval()
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
