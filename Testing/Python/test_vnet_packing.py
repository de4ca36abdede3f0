"""Packs of training patches: small, true to the cases they come from, and refused where they cannot be."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from vnet_cases import SPACING_MM, noisy_case, noisy_limb

from DeepDRRLogic.segmentation.packing import hu_of, levels_of, read_pack, write_pack


@pytest.fixture(scope="module")
def cases():
    return [noisy_case(n) for n in range(2)]


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
        hu, labels, weight = noisy_limb(int(patch.name[5]))
        assert patch.patient == f"patient {patch.name[5]}"
        assert patch.spacing_mm == SPACING_MM
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
