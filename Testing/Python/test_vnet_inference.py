"""Segmentation by V-Net: the same labels however the CT is stored, whatever its size, in bounded memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from DeepDRRLogic.segmentation import SegmentationCancelled, running  # noqa: E402
from DeepDRRLogic.segmentation.body import clear_surroundings  # noqa: E402
from DeepDRRLogic.segmentation.inference import segment_by_vnet  # noqa: E402
from DeepDRRLogic.segmentation.running import network_on  # noqa: E402
from DeepDRRLogic.segmentation.vnet import Layout, VNet  # noqa: E402
from DeepDRRLogic.segmentation.weights import load_weights, save_weights  # noqa: E402
from DeepDRRLogic.volume import CTVolume  # noqa: E402

SMALL = Layout(convolutions_down=(1,), convolutions_up=(1,))
half_or_not = running.precision_of  # the other tests run in full precision
NETWORK_MM = (0.86, 0.86, 1.0)


class Thresholds(VNet):
    """Answers by the HU of the voxel alone, so that everything around the network can be checked exactly."""

    def forward(self, x):
        hu = x[:, :1].float() * 750.0
        return torch.cat((-300.0 - hu, torch.zeros_like(hu), (hu - 300.0).clamp_max(250.0)), 1)


@pytest.fixture
def thresholds(monkeypatch):
    """A network that says air below -300 HU and bone above 300 HU, in single precision, unfolded."""
    monkeypatch.setattr(running, "folded", lambda network: network)
    monkeypatch.setattr(running, "precision_of", lambda device: torch.float32)
    return Thresholds(SMALL).eval()


@pytest.fixture(scope="module")
def a_random_network():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return VNet(SMALL).eval()


def affine(spacing_mm, origin=(12.0, -7.0, 30.0)):
    matrix = np.diag([*spacing_mm, 1.0])
    matrix[:3, 3] = origin
    return matrix


def a_body(shape, spacing_mm, seed=0):
    """Noise around water in an ellipsoid with a bright ball beside its centre; air outside."""
    rng = np.random.default_rng(seed)
    mm = np.stack(np.indices(shape), -1)[..., ::-1] * np.array(spacing_mm)
    size = np.array(shape)[::-1] * np.array(spacing_mm)
    inside = (((mm - size / 2) / (0.48 * size)) ** 2).sum(-1) < 1
    ball = np.linalg.norm(mm - size * [0.6, 0.45, 0.55], axis=-1) < 0.17 * size.min()
    hu = np.select([ball, inside], [900, 30], -1000) + np.where(inside, rng.normal(0, 40, shape), 0)
    return CTVolume(np.rint(hu).astype(np.int16), affine(spacing_mm))


def stored_otherwise(ct, order, mirrored):
    """The same body with its array axes permuted and flipped, and the affine that says so."""
    hu = ct.hu.transpose(order)
    index_from_index = np.zeros((4, 4))
    index_from_index[3, 3] = 1.0
    for new, old in enumerate(order):  # axes of the array; those of the affine run the other way
        index_from_index[2 - old, 2 - new] = -1.0 if mirrored[new] else 1.0
        if mirrored[new]:
            index_from_index[2 - old, 3] = hu.shape[new] - 1.0
    flips = tuple(n for n in range(3) if mirrored[n])
    return CTVolume(np.flip(hu, flips), ct.ras_from_ijk @ index_from_index)


def stored_back(labels, order, mirrored):
    flips = tuple(n for n in range(3) if mirrored[n])
    return np.flip(labels, flips).transpose(np.argsort(order))


@pytest.mark.parametrize(
    ("order", "mirrored"),
    [
        *zip(permutations(range(3)), product((False, True), repeat=3), strict=False),
        ((0, 1, 2), (True, True, True)),
        ((2, 1, 0), (True, True, False)),
    ],
)
def test_the_labels_do_not_depend_on_how_the_volume_is_stored(a_random_network, order, mirrored):
    ct = a_body((21, 40, 50), (1.1, 0.7, 2.3))
    expected = segment_by_vnet(ct, weights=a_random_network, patch=32, margin=4).labels
    assert len(np.unique(expected)) >= 2
    other = stored_otherwise(ct, order, mirrored)
    np.testing.assert_allclose(np.sort(other.corners_ras, axis=0), np.sort(ct.corners_ras, axis=0), atol=1e-9)
    found = segment_by_vnet(other, weights=a_random_network, patch=32, margin=4)
    np.testing.assert_array_equal(stored_back(found.labels, order, mirrored), expected)


@pytest.mark.parametrize(
    ("spacing_mm", "grid"),
    [(NETWORK_MM, "paper"), (NETWORK_MM, "aligned"), ((0.78, 0.78, 2.0), "aligned"), ((1.0, 0.9, 3.0), "aligned")],
)
def test_every_voxel_gets_its_own_answer_where_it_has_a_sample_of_its_own(thresholds, spacing_mm, grid):
    ct = a_body((50, 61, 70), spacing_mm)
    for patch, margin in ((128, 16), (32, 8), (32, 0), (64, 16)):
        scheme = {"patch": patch, "margin": margin, "grid": grid}
        found = segment_by_vnet(ct, weights=thresholds, keep_table=True, **scheme).labels
        expected = np.select([ct.hu > 300, ct.hu > -300], [2, 1], 0)
        np.testing.assert_array_equal(found, expected)


def test_a_mirrored_body_gets_mirrored_labels(a_random_network):
    hu = np.random.default_rng(2).normal(100, 300, (32, 32, 64)).astype(np.int16)  # as wide as a patch: no padding
    body, other = (CTVolume(np.ascontiguousarray(each), affine(NETWORK_MM)) for each in (hu, hu[..., ::-1]))
    for mirrored in (True, False):
        options = {"weights": a_random_network, "mirrored": mirrored, "keep_table": True}
        found = segment_by_vnet(body, **options).labels
        assert len(np.unique(found)) >= 2
        differing = (found != segment_by_vnet(other, **options).labels[..., ::-1]).mean()
        assert differing < 1e-4 if mirrored else differing > 1e-2


def test_a_little_matter_in_much_air_is_not_passed_over(thresholds):
    hu = np.full((32, 32, 32), -1000, np.int16)
    hu[:4, :4, :4] = hu[-4:, -4:, -4:] = 900
    labels = segment_by_vnet(CTVolume(hu, affine(NETWORK_MM)), weights=thresholds, patch=32, margin=0).labels
    np.testing.assert_array_equal(labels, np.where(hu == 900, 2, 0))


def test_a_grid_that_there_is_none_of_is_refused(thresholds):
    with pytest.raises(ValueError, match="grid = 'own'"):
        segment_by_vnet(a_body((20, 20, 20), NETWORK_MM), weights=thresholds, grid="own")


@pytest.mark.parametrize("spacing_mm", [(0.4, 0.5, 0.4), (0.7, 0.7, 3.0), (2.0, 1.3, 0.9)])
def test_labels_stay_in_their_place_on_any_grid(thresholds, spacing_mm):
    shape = tuple(round(44.0 / mm) for mm in spacing_mm[::-1])
    ct = a_body(shape, spacing_mm)
    found = segment_by_vnet(ct, weights=thresholds, patch=32, margin=8).labels == 2
    truth = ct.hu > 300
    centres_mm = [np.argwhere(mask).mean(0) * spacing_mm[::-1] for mask in (found, truth)]
    np.testing.assert_allclose(centres_mm[0], centres_mm[1], atol=0.12)
    assert 2 * np.sum(found & truth) / (found.sum() + truth.sum()) > 0.96


@pytest.mark.parametrize("shape", [(8, 8, 8), (2, 9, 30), (8, 300, 11), (130, 8, 9)])
def test_any_size_is_segmented(thresholds, shape):
    hu = np.full(shape, 40, np.int16)
    hu[:, shape[1] // 2 :] = 800
    found = segment_by_vnet(CTVolume(hu, affine((1.0, 1.0, 1.0))), weights=thresholds, patch=64, margin=8)
    expected = np.where(hu > 300, 2, 1)
    expected[:, shape[1] // 2] = expected[:, shape[1] // 2 - 1] = found.labels[:, shape[1] // 2] = 1
    found.labels[:, shape[1] // 2 - 1] = 1
    np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC 9V74"}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, torch.bfloat16),
        ({"avx2": True, "cpu_name": "Intel Core i7-8650U"}, torch.float32),
    ],
)
def test_half_precision_is_used_where_the_device_is_faster_in_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert half_or_not(torch.device("cpu")) == expected
    assert half_or_not(torch.device("cuda")) == torch.float16


def test_all_air_is_air_and_costs_no_patch(thresholds, monkeypatch):
    ct = CTVolume(np.full((40, 40, 40), -1000, np.int16), affine(NETWORK_MM))
    looked = []
    monkeypatch.setattr(Thresholds, "forward", lambda self, x: looked.append(x.shape))
    assert segment_by_vnet(ct, weights=thresholds).labels.max() == 0
    assert looked == []


def test_patches_of_air_are_skipped(thresholds, monkeypatch):
    hu = np.full((16, 100, 100), -1000, np.int16)
    hu[:, :20, :20] = hu[:, 80:, 80:] = 40
    looked = []
    forward = Thresholds.forward
    monkeypatch.setattr(Thresholds, "forward", lambda self, x: (looked.append(1), forward(self, x))[1])
    found = segment_by_vnet(CTVolume(hu, affine(NETWORK_MM)), weights=thresholds, patch=32, margin=4)
    np.testing.assert_array_equal(found.labels, (hu > -500).astype(np.uint8))
    assert 2 <= len(looked) <= 8


def test_patches_that_see_matter_only_where_they_are_given_up_are_skipped(thresholds, monkeypatch):
    hu = np.full((16, 30, 60), -1000, np.int16)
    hu[:, :, :20] = hu[:, :, 59:] = 40
    looked = []
    forward = Thresholds.forward
    monkeypatch.setattr(Thresholds, "forward", lambda self, x: (looked.append(1), forward(self, x))[1])
    ct = CTVolume(hu, affine(NETWORK_MM))
    found = segment_by_vnet(ct, weights=thresholds, patch=32, margin=8, mirrored=False, keep_table=True)
    np.testing.assert_array_equal(found.labels, (hu > -500).astype(np.uint8))
    assert len(looked) == 2  # of three: columns 14 to 46 are seen by the second, 23 to 37 are kept


def test_probabilities_are_given_on_request(a_random_network):
    ct = a_body((20, 30, 34), (1.4, 1.1, 1.2))
    chances = np.empty((3, *ct.shape), np.float16)
    found = segment_by_vnet(ct, weights=a_random_network, probabilities=chances, keep_table=True)
    np.testing.assert_allclose(chances.astype(np.float32).sum(0), 1.0, atol=3e-3)
    assert np.isin(chances[0], [0.0, 1.0]).mean() < 0.9
    clear = np.sort(chances.astype(np.float32), axis=0)
    clear = (clear[2] - clear[1] > 0.01) & ~((found.labels == 1) & (chances.argmax(0) == 0))
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(found.labels[clear], chances.argmax(0)[clear])


@pytest.mark.parametrize("wrong", [np.empty((3, 4, 4, 4), np.float16), np.empty((3, 8, 8, 8), np.float32)])
def test_an_array_for_probabilities_must_fit(thresholds, wrong):
    ct = CTVolume(np.zeros((8, 8, 8), np.int16), affine(NETWORK_MM))
    with pytest.raises(ValueError, match=r"give a float16 array \(3, 8, 8, 8\)"):
        segment_by_vnet(ct, weights=thresholds, probabilities=wrong)


def test_progress_runs_to_the_end_and_can_be_stopped(thresholds):
    ct = a_body((40, 60, 60), NETWORK_MM)
    seen = []
    segment_by_vnet(ct, weights=thresholds, patch=32, margin=4, progress=lambda done, total: seen.append((done, total)))
    total = seen[0][1]
    assert seen == [(n, total) for n in range(1, total + 1)]
    assert total >= 8
    stopped = []
    with pytest.raises(SegmentationCancelled):
        segment_by_vnet(
            ct,
            weights=thresholds,
            patch=32,
            margin=4,
            progress=lambda done, total: stopped.append(done),
            cancelled=lambda: len(stopped) >= 3,
        )
    assert stopped == [1, 2, 3]


PEAK = """
import sys, resource, numpy as np, torch
from DeepDRRLogic.segmentation.inference import segment_by_vnet
from DeepDRRLogic.segmentation.vnet import Layout, VNet
from DeepDRRLogic.volume import CTVolume
torch.set_num_threads(1)
network = VNet(Layout(convolutions_down=(1,), convolutions_up=(1,))).eval()
ct = CTVolume(np.full((int(sys.argv[1]), 64, 64), 40, np.int16), np.eye(4))
segment_by_vnet(ct, weights=network, patch=32, margin=4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
def test_memory_grows_with_the_volume_by_little_more_than_the_volume():
    short, long = (
        int(subprocess.run([sys.executable, "-c", PEAK, str(n)], check=True, capture_output=True, text=True).stdout)
        for n in (100, 2100)
    )
    voxels = 2000 * 64 * 64
    # HU 2 bytes, labels 1 byte; probabilities of all of it alone would be 12.
    assert (long - short) * 1024 < 6 * voxels


FAULTS = """
import resource, torch
from DeepDRRLogic.segmentation.heap import freed_memory_kept
def pages(numbers=2**24):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(numbers)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1])
print(pages(), pages())
with freed_memory_kept():
    print(pages(), *(pages() for _ in range(8)))
    kept = resident()
print(pages(), pages(), kept - resident())
print(*(pages(2**20) for _ in range(8)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_freed_memory_is_kept_for_the_next_patch_and_given_back_at_the_end():
    run = [sys.executable, "-c", FAULTS]
    lines = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    usual, kept, (*after, given_back), small = ([int(n) for n in line.split()] for line in lines)
    assert min(*usual, kept[0], *after) > 8 * max(1, min(kept[1:]))  # what is small may break up a freed place once
    assert given_back * os.sysconf("SC_PAGE_SIZE") > 0.9 * 2**26
    assert min(small) * os.sysconf("SC_PAGE_SIZE") < 0.1 * 2**22, "smaller arrays are reused afterwards, as ever"


def test_a_table_beside_the_body_becomes_air_or_stays():
    hu = np.full((30, 60, 80), -1000, np.int16)
    hu[:, 25:55, 15:65] = 40
    hu[:, 35:45, 30:40] = -900  # gas, which the body encloses
    hu[12:14, 39:41, 34:36] = 40  # and something in it
    hu[:, 10:13, 5:75] = 100
    labels = (hu > -500).astype(np.uint8)
    body = labels.copy()
    body[:, 10:13] = 0
    cleared = labels.copy()
    clear_surroundings(cleared, hu, (1.0, 1.0, 1.0), keep_table=False)
    np.testing.assert_array_equal(cleared, body)
    kept = body.copy()
    clear_surroundings(kept, hu, (1.0, 1.0, 1.0), keep_table=True)
    np.testing.assert_array_equal(kept, labels)


def test_arms_beside_the_trunk_stay():
    labels = np.zeros((30, 60, 120), np.uint8)
    labels[:, 10:50, 40:80] = 1
    labels[:, 20:40, 5:25] = 1
    labels[:, 28:38, 100:110] = 1
    labels[:, 31:35, 103:107] = 2  # a finger is thin, but it has a bone
    cleared = labels.copy()
    clear_surroundings(cleared, np.zeros(labels.shape, np.int16), (3.0, 1.0, 1.0), keep_table=False)
    np.testing.assert_array_equal(cleared, labels)


def test_what_the_body_encloses_stays():
    labels = np.zeros((10, 80, 80), np.uint8)
    labels[:, 5:75, 5:75] = 1
    labels[:, 25:55, 25:55] = 0
    labels[:, 39:42, 39:42] = 1  # thin and without a bone, as a vessel in the lung
    cleared = labels.copy()
    clear_surroundings(cleared, np.zeros(labels.shape, np.int16), (3.0, 1.0, 1.0), keep_table=False)
    np.testing.assert_array_equal(cleared, labels)


def test_what_the_border_of_the_ct_cuts_off_is_not_taken_for_thin():
    labels = np.zeros((30, 60, 120), np.uint8)
    labels[:, 10:50, 40:80] = 1
    labels[:, 16:44, :9] = 1  # the rim of an arm
    cleared = labels.copy()
    clear_surroundings(cleared, np.zeros(labels.shape, np.int16), (3.0, 1.0, 1.0), keep_table=False)
    np.testing.assert_array_equal(cleared, labels)


def a_limb(shape):
    """Noise around muscle in a cylinder along the body, with a shaft of cortex and marrow; air outside."""
    _, j, i = np.indices(shape)
    radius = np.hypot(j - 0.5 * shape[1], i - 0.48 * shape[2])
    hu = np.select([radius < 6, radius < 10, radius < 20], [-20, 1000, 50], -1000)
    hu = hu + np.where(radius < 20, np.random.default_rng(0).normal(0, 15, shape), 0)
    return CTVolume(np.rint(hu).astype(np.int16), affine(NETWORK_MM))


@pytest.fixture
def the_package_in(monkeypatch):
    """The network of the package in a precision of choice; what is kept of others is forgotten."""

    def choose(precision):
        monkeypatch.setattr(running, "precision_of", lambda device: precision)
        running._from_file.cache_clear()

    yield choose
    running._from_file.cache_clear()


def test_weights_written_anew_are_read_anew(tmp_path):
    path, cpu = tmp_path / "own.safetensors", torch.device("cpu")
    network = load_weights()
    save_weights(network, path)
    before = network_on(path, cpu)
    assert network_on(path, cpu) is before
    network.add_to_logits(torch.tensor([0.0, 0.0, 9.0]))
    save_weights(network, path)
    os.utime(path, (0, 0))  # as slow as a clock may be
    patch = torch.zeros(16, 16, 16)
    assert float(network_on(path, cpu)(patch)[2].mean()) > float(before(patch)[2].mean())


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_changes_hardly_a_label(the_package_in, precision):
    ct = a_limb((48, 44, 44))
    the_package_in(torch.float32)
    single = segment_by_vnet(ct, device="cpu", patch=48, margin=0).labels
    assert np.bincount(single.ravel(), minlength=3).min() > 100
    the_package_in(precision)
    half = segment_by_vnet(ct, device="cpu", patch=48, margin=0).labels
    network = running.network_on(None, torch.device("cpu"))
    assert network.precision == precision
    assert {values.dtype for values in network.network.parameters()} == {precision}
    assert (half != single).mean() < 1e-3


@pytest.mark.parametrize("network", ["thresholds", "the package"])
@pytest.mark.parametrize("padding_hu", [-3024, -32768])
def test_padding_around_the_field_of_view_is_air_of_1024_whatever_its_value(request, network, padding_hu):
    weights = request.getfixturevalue(network) if network == "thresholds" else None
    _, j, i = np.indices((20, 90, 100))
    hu = np.where((j > 20) & (j < 70), 50, -1000)  # a trunk that the round field of view cuts
    hu += np.random.default_rng(1).normal(0, 15, hu.shape).astype(int)
    outside = np.hypot(j - 45, i - 50) > 40
    found = [
        segment_by_vnet(
            CTVolume(np.where(outside, value, hu).astype(np.int16), affine((0.5, 0.5, 1.0))), weights=weights
        ).labels
        for value in (-1024, padding_hu)
    ]
    assert 0.2 < (found[0] == 1).mean() < 0.5
    np.testing.assert_array_equal(found[0], found[1])


def test_metal_beyond_what_the_network_sees_is_no_larger(thresholds):
    hu = np.full((20, 60, 60), 40)
    hu[:, 28:32, 28:32] = hu[:, 9:12, 40:45] = hu[:, 43:49, 13:19] = 3071
    sizes = []
    for metal_hu in (3071, 30000):
        ct = CTVolume(np.where(hu > 3000, metal_hu, hu).astype(np.int16), affine((0.5, 0.5, 1.0)))
        sizes.append((segment_by_vnet(ct, weights=thresholds).labels == 2).sum())
    assert sizes[0] == sizes[1] > 0


class Overflowing(Thresholds):
    """Thresholds whose answers are numbers in full precision alone, or never."""

    always = False

    def forward(self, x):
        return super().forward(x) * (float("nan") if self.always or x.dtype != torch.float32 else 1.0)


def test_no_number_in_half_precision_is_asked_for_again_in_full(thresholds, monkeypatch, caplog):
    ct = a_body((20, 30, 34), NETWORK_MM)
    expected = segment_by_vnet(ct, weights=thresholds).labels
    monkeypatch.setattr(running, "precision_of", lambda device: torch.bfloat16)
    network = Overflowing(SMALL).eval()
    np.testing.assert_array_equal(segment_by_vnet(ct, weights=network).labels, expected)
    assert "asked again in full precision" in caplog.text
    network.always = True
    with pytest.raises(ValueError, match=r"The V-Net given answers with NaN: give other weights"):
        segment_by_vnet(ct, weights=network)


def test_gpus_run_the_network_in_half_precision():
    assert running.precision_of(torch.device("cuda")) == torch.float16
