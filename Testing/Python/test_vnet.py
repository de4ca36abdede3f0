"""The V-Net itself: its layout is the published one, its weights are verified, its patches cover the CT."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from DeepDRRLogic.segmentation.tiling import Axes, Line, Tiles, aligned_spacing, box_of_matter  # noqa: E402
from DeepDRRLogic.segmentation.vnet import COMPACT, PUBLISHED, Layout, VNet, features, parameter_count  # noqa: E402
from DeepDRRLogic.segmentation.weights import folded, load_published, load_weights, save_weights  # noqa: E402

torch.set_num_threads(1)  # the tests themselves run beside each other

TINY = Layout(in_channels=2, width=16, convolutions_down=(1, 1), convolutions_up=(1, 1))


def a_network(layout=TINY, seed=0):
    """A network with random weights and with statistics that are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = VNet(layout)
        for name, value in network.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0.0, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.3, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def a_published_state():
    return a_network(PUBLISHED).state_dict()


def test_the_full_width_has_the_entries_of_the_published_checkpoint(a_published_state):
    assert len(a_published_state) == 202
    assert parameter_count(VNet(PUBLISHED)) == 45_613_944
    shapes = {
        "in_tr.conv1.weight": (16, 4, 5, 5, 5),
        "in_tr.relu1.weight": (16,),
        "down_tr32.down_conv.weight": (32, 16, 2, 2, 2),
        "down_tr128.ops.2.conv1.weight": (128, 128, 5, 5, 5),
        "down_tr256.ops.1.bn1.running_var": (256,),
        "down_tr256.relu2.weight": (256,),
        "up_tr256.up_conv.weight": (256, 128, 2, 2, 2),
        "up_tr256.ops.1.conv1.weight": (256, 256, 5, 5, 5),
        "up_tr32.up_conv.weight": (64, 16, 2, 2, 2),
        "up_tr32.ops.0.relu1.weight": (32,),
        "out_tr.conv1.weight": (3, 32, 5, 5, 5),
        "out_tr.conv2.bias": (3,),
    }
    assert {name: tuple(a_published_state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_is_loaded_with_its_running_statistics(tmp_path, a_published_state, prefix):
    path = tmp_path / "published.pt"
    torch.save({"epoch": 600, "state_dict": {prefix + name: value for name, value in a_published_state.items()}}, path)
    network = load_published(path)
    assert not network.training
    assert all(torch.equal(value, a_published_state[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_that_does_not_fit_names_its_faults(a_published_state):
    state = dict(a_published_state)
    state["extra.weight"] = state.pop("out_tr.conv2.bias")
    state["in_tr.conv1.weight"] = torch.zeros(16, 1, 5, 5, 5)
    with pytest.raises(ValueError, match=r"missing: out_tr\.conv2\.bias") as fault:
        load_published({"state_dict": state})
    assert "unexpected: extra.weight" in str(fault.value)
    assert "in_tr.conv1.weight is (16, 1, 5, 5, 5), not (16, 4, 5, 5, 5)" in str(fault.value)


class _Code:
    def __reduce__(self):
        return (open, ("/nowhere", "w"))


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2], {"state_dict": _Code()}])
def test_what_is_no_checkpoint_is_refused_and_never_run(tmp_path, content):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="no checkpoint"):
        load_published(path)


@pytest.mark.parametrize(
    "layout",
    [TINY, replace(TINY, refine=4), Layout(width=8, block=1, convolutions_down=(1,), convolutions_up=(1,))],
)
def test_folding_the_normalisation_changes_nothing(layout):
    network = a_network(layout)
    x = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    lean = folded(network)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in lean.modules())
    with torch.inference_mode():
        torch.testing.assert_close(lean(x), network(x), rtol=1e-4, atol=1e-4)


def test_a_patch_is_labelled_alike_whatever_lies_beside_it_in_the_batch():
    network = a_network()
    x = torch.randn(3, 2, 16, 24, 8, generator=torch.Generator().manual_seed(2))
    x[1] *= 40.0
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[:1], network(x[:1]))


def test_the_refinement_sees_a_voxel_and_no_farther_than_two_from_it():
    coarse, fine = VNet(TINY), VNet(replace(TINY, refine=4))
    assert set(fine.state_dict()) - set(coarse.state_dict()) == {
        "refine.conv1.weight", "refine.conv1.bias", "refine.relu1.weight", "refine.conv2.weight", "refine.conv2.bias"
    }  # fmt: skip
    with torch.inference_mode():
        for values in (fine.refine.conv1.weight, fine.refine.conv2.weight):
            values.normal_(generator=torch.Generator().manual_seed(3))
        x, logits = torch.zeros(1, 2, 16, 16, 16), torch.zeros(1, 3, 16, 16, 16)
        before = fine.refine(x, logits)
        x[0, 0, 8, 8, 8] = -0.6
        changed = torch.nonzero((fine.refine(x, logits) != before).any(1)[0])
    assert changed.amin(0).tolist() == [6, 6, 6] and changed.amax(0).tolist() == [10, 10, 10]


def test_every_voxel_of_a_block_gets_its_own_answer():
    x = torch.zeros(1, 2, 16, 16, 16)
    network = a_network()
    with torch.inference_mode():
        before = network(x)
        x[0, :, 8, 8, 8] = 3.0
        change = (network(x) - before).abs().amax(1)[0]
    assert network.layout.block == 2
    corner = change[8:10, 8:10, 8:10]
    assert len(torch.unique(corner)) == 8


def test_the_input_is_what_the_docstring_says():
    hu = torch.tensor([-3000.0, -500.0, 100.0, 199.0, 200.0, 3500.0]).view(1, 1, 1, 6)
    wide, narrow = features(hu, "windows")[0, :, 0, 0]
    np.testing.assert_allclose(wide, [-1024 / 750, -500 / 750, 100 / 750, 199 / 750, 200 / 750, 3071 / 750], rtol=1e-6)
    np.testing.assert_allclose(narrow, [-1.75, -1.75, 0.0, 0.495, 0.5, 1.75], rtol=1e-6)
    z, bone, soft, air = features(hu, "published")[0, :, 0, 0]
    np.testing.assert_allclose(z, (hu.flatten() + 630.1) / 479.7, rtol=1e-6)
    np.testing.assert_array_equal(
        torch.stack((air, soft, bone)), [[1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0] * 4 + [1] * 2]
    )
    with pytest.raises(ValueError, match="'windows' or 'published'"):
        features(hu, "colours")


def test_weights_come_back_from_their_file_in_half_precision(tmp_path):
    network = a_network()
    save_weights(network, tmp_path / "own.safetensors", {"seed": 7})
    back = load_weights(tmp_path / "own.safetensors")
    assert back.layout == TINY
    assert json.loads((tmp_path / "own.json").read_text())["seed"] == 7
    for name, value in network.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_damaged_weights_are_refused_with_their_checksum(tmp_path):
    path = tmp_path / "own.safetensors"
    save_weights(a_network(), path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.safetensors is damaged: its SHA-256 is [0-9a-f]{64}.*copy the weights"):
        load_weights(path)


def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path):
    path, network = tmp_path / "own.safetensors", a_network()
    save_weights(network, path)
    kept = path.read_bytes()
    with torch.no_grad():
        next(network.parameters())[0] = np.nan
    with pytest.raises(ValueError, match=r"not finite numbers, in .*weight"):
        save_weights(network, path)
    assert path.read_bytes() == kept


@pytest.mark.parametrize(("card", "why"), [("{", "is damaged"), ("[]", "is damaged"), ("{}", "is damaged"), (None, "")])
def test_a_damaged_card_is_named(tmp_path, card, why):
    save_weights(a_network(), tmp_path / "own.safetensors")
    path = tmp_path / "own.json"
    if card is None:
        card, why = json.dumps({"sha256": json.loads(path.read_text())["sha256"]}), r"own\.json tells no layout"
    path.write_text(card)
    with pytest.raises(ValueError, match=why):
        load_weights(tmp_path / "own.safetensors")


@pytest.mark.parametrize("lost", ["own.safetensors", "own.json"])
def test_missing_weights_are_named(tmp_path, lost):
    save_weights(a_network(), tmp_path / "own.safetensors")
    (tmp_path / lost).unlink()
    with pytest.raises(ValueError, match=f"There is no .*{lost}"):
        load_weights(tmp_path / "own.safetensors")


def test_layouts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="as many up as down"):
        Layout(convolutions_up=(1,))
    with pytest.raises(ValueError, match="no multiple of the 16 input channels"):
        Layout(width=24)
    with pytest.raises(ValueError, match="no depth"):
        Layout.from_dict({"depth": 3})
    with pytest.raises(ValueError, match="reads HU from"):
        replace(PUBLISHED, refine=4)
    assert Layout.from_dict(json.loads(json.dumps(COMPACT.to_dict()))) == COMPACT


@given(
    start=st.integers(-5, 50),
    length=st.integers(1, 900),
    patch=st.sampled_from([32, 64, 128]),
    margin=st.integers(0, 15),
)
def test_patches_keep_every_sample_once_and_give_up_their_margins(start, length, patch, margin):
    tiles = Tiles.over(start, start + length, patch, margin, 16)
    assert tiles.size % 16 == 0
    assert (tiles.bounds[0], tiles.bounds[-1]) == (start, start + length)
    for n, (low, high) in enumerate(zip(tiles.bounds[:-1], tiles.bounds[1:], strict=True)):
        assert tiles.starts[n] <= low < high <= tiles.starts[n] + tiles.size
        if n > 0:
            assert low - tiles.starts[n] >= margin
        if n + 1 < len(tiles):
            assert tiles.starts[n] + tiles.size - high >= margin
    wasted = len(tiles) * (tiles.size - 2 * margin) - length
    assert wasted < 2 * patch


@given(count=st.integers(1, 400), step_mm=st.floats(0.2, 6.0), parts=st.integers(1, 7))
def test_every_voxel_has_a_sample_of_its_own_where_samples_are_parts_of_it(count, step_mm, parts):
    line = Line(count, step_mm, step_mm / parts)
    where = line.sample_of(np.arange(float(count)))
    np.testing.assert_allclose(where, np.rint(where), atol=1e-6)
    assert where[0] > -1e-6 and where[-1] < line.samples - 1 + 1e-6
    assert where[0] == pytest.approx(line.samples - 1 - where[-1], abs=1e-6)


@pytest.mark.parametrize(
    ("steps_mm", "expected"),
    [
        ((1.0, 0.78, 0.78), (1.0, 0.78, 0.78)),
        ((3.0, 1.03, 1.03), (1.0, 1.03, 1.03)),
        ((2.5, 0.7, 0.7), (2.5 / 3, 0.7, 0.7)),  # narrow in the plane, so short beside it
        ((1.25, 0.7, 0.7), (1.0, 0.7, 0.7)),
        ((1.5, 1.5, 1.5), (0.75, 0.75, 0.75)),
        ((0.5, 0.4, 0.4), (1.0, 0.86, 0.86)),
    ],
)
def test_the_grid_lies_on_the_ct_where_its_voxels_are_near_the_papers(steps_mm, expected):
    assert aligned_spacing(steps_mm) == pytest.approx(expected)


@given(steps_mm=st.tuples(*[st.floats(0.1, 20.0)] * 3))
def test_the_grids_voxels_keep_nearly_the_papers_shape(steps_mm):
    s, a, r = aligned_spacing(steps_mm)
    assert all(0.79 < mm / paper < 1.26 for mm, paper in ((a, 0.86), (r, 0.86)))
    assert 0.79 < s / np.sqrt(a / 0.86 * r / 0.86) < 1.26


@given(
    count=st.integers(1, 400),
    step_mm=st.floats(0.2, 6.0),
    sample_mm=st.sampled_from([0.86, 1.0]),
    first=st.integers(-20, 40),
)
def test_interpolation_reproduces_straight_lines(count, step_mm, sample_mm, first):
    line = Line(count, step_mm, sample_mm)
    assert -0.5 - 1e-6 <= line.sample_of(0) <= line.sample_of(count - 1) <= line.samples - 0.5 + 1e-6
    where = line.voxel_of(np.arange(first, first + 30.0))
    np.testing.assert_allclose(line.sample_of(where), np.arange(first, first + 30.0), atol=1e-6)
    voxels, weights = line.weights(first, first + 30)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-5)
    reach = max(1.0, sample_mm / step_mm)
    inner = (where >= reach) & (where <= count - 1 - reach)
    ramp = weights @ np.arange(voxels.start, voxels.stop, dtype=np.float32)
    # A triangle that is no whole number of voxels wide is not quite symmetric on the grid.
    np.testing.assert_allclose(ramp[inner], where[inner], atol=1e-3 if reach == 1.0 else 0.2)
    assert ramp.min() >= -1e-3
    assert ramp.max() <= count - 1 + 1e-3


@pytest.mark.parametrize(
    ("affine", "order", "mirrored"),
    [
        (np.diag([1, 1, 1, 1]), (0, 1, 2), (False, False, False)),
        (np.diag([-1, -1, 1, 1]), (0, 1, 2), (False, True, True)),
        ([[0, 0, -1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], (1, 2, 0), (False, False, True)),
    ],
)
def test_axes_turn_an_array_to_superior_anterior_right(affine, order, mirrored):
    axes = Axes.of(np.array(affine, float))
    assert (axes.order, axes.mirrored) == (order, mirrored)
    array = np.arange(24).reshape(2, 3, 4)
    view = axes.view(array)
    assert view.base is not None
    origin = [view.shape[n] - 1 if mirrored[n] else 0 for n in range(3)]
    assert view[tuple(origin)] == array[0, 0, 0]


def test_the_box_of_matter_is_the_smallest():
    hu = np.full((9, 8, 7), -1000, np.int16)
    assert box_of_matter(hu, -800.0) is None
    hu[2, 3, 4] = hu[5, 3, 6] = 0
    assert box_of_matter(hu, -800.0) == (slice(2, 6), slice(3, 4), slice(4, 7))
