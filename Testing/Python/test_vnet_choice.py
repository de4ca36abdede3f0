"""Which method segments a CT, and the weights that come with the package."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from DeepDRRLogic import segmentation  # noqa: E402
from DeepDRRLogic.phantom import phantom  # noqa: E402
from DeepDRRLogic.segmentation import inference, running, segment  # noqa: E402
from DeepDRRLogic.segmentation.inference import segment_by_vnet  # noqa: E402
from DeepDRRLogic.volume import CTVolume  # noqa: E402

torch.set_num_threads(1)  # the tests themselves run beside each other


def a_small_ct():
    hu = np.full((8, 8, 8), -1000, np.int16)
    hu[2:6] = 400
    return CTVolume(hu, np.eye(4))


def test_without_torch_thresholds_take_over_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(segmentation, "networks_installed", lambda: False)
    with caplog.at_level(logging.WARNING):
        labels = segment(a_small_ct(), keep_table=True, bone="cortical_bone", progress=print)
    np.testing.assert_array_equal(np.unique(labels.labels), [0, 2])
    assert labels.materials[2].name == "cortical_bone"
    assert "pip install 'DeepDRRLogic[networks]'" in caplog.text
    with pytest.raises(ValueError, match="needs PyTorch and safetensors"):
        segment(a_small_ct(), "vnet")
    with pytest.raises(ValueError, match="Probabilities come from the V-Net"):
        segment(a_small_ct(), probabilities=np.empty((3, 8, 8, 8), np.float16))


def test_thresholds_that_are_given_are_used(caplog):
    with caplog.at_level(logging.WARNING):
        assert segment(a_small_ct(), bone_min_hu=500, keep_table=True, progress=print).labels.max() == 1
    assert caplog.text == ""
    with pytest.raises(TypeError, match="bone_max_hu"):
        segment(a_small_ct(), bone_min_hu=500, bone_max_hu=900)
    with pytest.raises(ValueError, match="bone_min_hu given, but the method is vnet"):
        segment(a_small_ct(), "vnet", bone_min_hu=500)


@pytest.fixture
def broken_torch(monkeypatch):
    """PyTorch is installed, but a library that it needs is not; how often it was tried to import it."""
    tried = []

    def import_module(name):
        if name == "torch":
            tried.append(name)
            raise OSError("libcudart.so.12: cannot open shared object file")
        return importlib.import_module(name)

    segmentation._import_fault.cache_clear()
    monkeypatch.setattr(segmentation, "import_module", import_module)
    yield tried
    segmentation._import_fault.cache_clear()


def test_torch_that_cannot_be_imported_leaves_thresholds_with_the_reason(broken_torch, caplog):
    assert segmentation.method_for("auto", {}) == "vnet" and broken_torch == []  # nothing is imported to ask
    with caplog.at_level(logging.WARNING):
        assert segment(a_small_ct(), keep_table=True, weights="own.safetensors").labels.max() == 2
    assert "cannot be imported (OSError: libcudart.so.12: cannot open" in caplog.text
    assert segmentation.method_for("auto", {}) == "threshold"
    for method, why in (("vnet", "needs PyTorch and safetensors"), ("auto", "Probabilities come from the V-Net")):
        with pytest.raises(ValueError, match=f"{why}.*libcudart.*install them again"):
            segment(a_small_ct(), method, probabilities=np.empty((3, 8, 8, 8), np.float16))
    assert broken_torch == ["torch"]


@pytest.mark.parametrize(
    ("method", "options", "installed", "used"),
    [
        ("auto", {}, True, "vnet"),
        ("auto", {"keep_table": True}, True, "vnet"),
        ("auto", {"bone_min_hu": None}, True, "vnet"),
        ("auto", {}, False, "threshold"),
        ("auto", {"bone_min_hu": 0.0}, True, "threshold"),
        ("threshold", {}, True, "threshold"),
        ("vnet", {}, False, "vnet"),
    ],
)
def test_the_method_is_the_same_for_all_who_ask(monkeypatch, method, options, installed, used):
    monkeypatch.setattr(segmentation, "networks_installed", lambda: installed)
    assert segmentation.method_for(method, options) == used


def test_a_method_that_there_is_none_of_is_used_by_nobody():
    with pytest.raises(ValueError, match="'guess' is not available"):
        segmentation.method_for("guess", {})
    assert not segmentation.reports_progress("guess")


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="'toaster' is unknown to torch"):
        segment_by_vnet(a_small_ct(), device="toaster")


@pytest.fixture
def a_gpu(monkeypatch):
    """A GPU on which the V-Net raises `fault`, beside a processor that does its work: everything is 1."""
    gpu = SimpleNamespace(fault=None, places=[])

    def labels_on(run, *rest):
        gpu.places.append(run.type)
        if run.type == "cuda" or gpu.fault is None:
            raise gpu.fault or torch.OutOfMemoryError
        return np.ones((8, 8, 8), np.uint8)

    monkeypatch.setattr(running, "device_of", lambda name: torch.device("cuda" if name == "auto" else name))
    monkeypatch.setattr(inference, "network_on", lambda weights, device, precision: device)
    monkeypatch.setattr(inference._Run, "of", lambda ct, network, *_: network)
    monkeypatch.setattr(inference, "_labels", labels_on)
    return gpu


@pytest.mark.parametrize(
    ("device", "fault", "said"),
    [
        ("cuda", torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
        ("auto", torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
        ("auto", RuntimeError("no kernel image is available"), "no kernel image is available"),
    ],
)
def test_a_gpu_that_fails_leaves_the_work_to_the_processor(a_gpu, caplog, device, fault, said):
    a_gpu.fault = fault
    with caplog.at_level(logging.WARNING):
        assert segment_by_vnet(a_small_ct(), device=device).labels.min() == 1
    assert a_gpu.places == ["cuda", "cpu"]
    assert caplog.text.count(said) == 1


def test_what_fails_on_the_device_that_was_named_is_no_secret(a_gpu):
    a_gpu.fault = RuntimeError("no kernel image is available")
    with pytest.raises(RuntimeError, match="no kernel image"):
        segment_by_vnet(a_small_ct(), device="cuda")
    a_gpu.fault = None
    with pytest.raises(torch.OutOfMemoryError):
        segment_by_vnet(a_small_ct(), device="cpu")
    assert a_gpu.places == ["cuda", "cpu"]


@pytest.fixture(scope="module")
def a_torso():
    """Part of a phantom with noise, its lung relabelled as the network calls it: air."""
    made = phantom(seed=7, spacing_mm=2.0, region="chest", noise_hu=20.0)
    box = (slice(30, 90), slice(None), slice(None))
    hu = made.ct.hu[box]
    labels = made.labels.labels[box].copy()
    labels[(labels == 1) & (hu < -500)] = 0
    return CTVolume(hu, made.ct.ras_from_ijk), labels


def dice(one, other):
    return 2 * np.sum(one & other) / (one.sum() + other.sum())


def test_the_weights_of_the_package_segment_a_patient_they_have_not_seen(a_torso):
    ct, truth = a_torso
    found = segment(ct, "vnet").labels
    by_thresholds = segment(ct, "threshold").labels
    assert dice(found == 0, truth == 0) > 0.98
    found_dice, dice_by_thresholds = (dice(labels == 2, truth == 2) for labels in (found, by_thresholds))
    assert 1 - found_dice < 0.5 * (1 - dice_by_thresholds)
    marrow = (truth == 2) & (ct.hu < 200)
    assert (found[marrow] == 2).mean() > 0.7


def test_the_network_takes_contrast_for_bone_less_than_half_as_often_as_thresholds(a_torso):
    ct, truth = a_torso
    k, j, i = np.indices(truth.shape)
    middle = np.argwhere(truth == 2).mean(0)
    hu = ct.hu.copy()
    filled = np.zeros(truth.shape, np.bool_)
    for radius_mm, across, depth in ((14.0, 45.0, -30.0), (10.0, -50.0, 20.0), (22.0, -20.0, -60.0)):
        filled |= np.hypot(j - middle[1] - depth / 2, i - middle[2] - across / 2) < radius_mm / 2
    filled &= (truth == 1) & (k > 5) & (k < 55)
    assert filled.sum() > 5000
    hu[filled] = 420 + 20 * np.random.default_rng(0).standard_normal(int(filled.sum()))
    contrasted = CTVolume(hu, ct.ras_from_ijk)
    taken, by_thresholds = (
        (segment(contrasted, method).labels == 2)[filled].mean() for method in ("vnet", "threshold")
    )
    assert by_thresholds > 0.9
    assert taken < 0.5 * by_thresholds


def test_the_command_line_segments_by_the_network(a_torso, tmp_path):
    from DeepDRRLogic.cli import main
    from DeepDRRLogic.volume_io import read_volume, write_volume

    ct, _ = a_torso
    small = CTVolume(ct.hu[:20, ::2, ::2].copy(), ct.ras_from_ijk @ np.diag([2.0, 2.0, 1.0, 1.0]))
    write_volume(small.hu, small.ras_from_ijk, tmp_path / "ct.nrrd")
    options = ["-q", "--method", "vnet", "--probabilities", str(tmp_path / "bone.nrrd")]
    with pytest.raises(SystemExit) as ended:
        main(["segment", str(tmp_path / "ct.nrrd"), "-o", str(tmp_path / "labels.seg.nrrd"), *options])
    assert not ended.value.code
    chances = np.empty((3, *small.shape), np.float16)
    expected = segment(small, "vnet", probabilities=chances)
    found = segmentation.read_segmentation(tmp_path / "labels.seg.nrrd")
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert [m.name for m in found.materials] == [m.name for m in expected.materials]
    bone, _, _ = read_volume(tmp_path / "bone.nrrd")
    np.testing.assert_allclose(bone, chances[2].astype(np.float32), atol=1e-6)
    assert bone.max() > 0.9


def test_the_weights_of_the_package_are_small_and_in_half_precision():
    folder = files("DeepDRRLogic") / "data"
    card = json.loads((folder / "vnet.json").read_text("utf-8"))
    content = (folder / "vnet.safetensors").read_bytes()
    assert len(content) < 25e6
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    kinds = {entry["dtype"] for name, entry in header.items() if "running" not in name and name != "__metadata__"}
    assert kinds == {"F16"}
