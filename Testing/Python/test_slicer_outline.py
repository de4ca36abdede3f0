"""The bones of a CT as a coarse surface: where they are, in few triangles, in a fraction of a second."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_scene import make_scene

from DeepDRRLogic.phantom import phantom
from DeepDRRSlicerLib import outline


@pytest.fixture(scope="module")
def torso():
    make_scene()
    return phantom(spacing_mm=3.0, region="torso").ct


def box(mesh):
    return np.array(mesh.GetBounds()).reshape(3, 2)


def a_block(spacing, shape=(60, 60, 60), turn=None):
    """A cube of bone, 40 mm wide, around the middle of soft tissue."""
    affine = np.diag([*spacing, 1.0])
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    k, j, i = shape
    affine[:3, 3] = -affine[:3, :3] @ (np.array([i, j, k]) - 1) / 2
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")[::-1], axis=-1)
    ras = indices @ affine[:3, :3].T + affine[:3, 3]
    return np.where(np.all(np.abs(ras) < 20.0, axis=-1), 800, 40).astype(np.int16), affine


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.9, 0.9, 3.0), (5.0, 1.0, 1.5)])
@pytest.mark.parametrize("turn", [None, np.diag([-1.0, 1.0, 1.0]), np.eye(3)[[2, 0, 1]]])
def test_bones_lie_where_they_are(monkeypatch, spacing, turn):
    monkeypatch.setattr(outline, "_BLOCKS", 30_000)
    hu, affine = a_block(spacing, turn=turn)
    low, high = box(outline.bones(hu, affine)).T
    assert np.abs(high - 20.0).max() < 5.0 and np.abs(low + 20.0).max() < 5.0
    assert np.abs(low + high).max() < 4.0, "nothing is shifted"


def test_a_torso_is_drawn_in_few_triangles(torso):
    mesh = outline.bones(torso.hu, torso.ras_from_ijk)
    assert 10_000 < mesh.GetNumberOfPolys() <= 25_500
    height = np.ptp(box(mesh)[2])
    assert 0.8 * 3.0 * torso.hu.shape[0] < height <= 3.0 * torso.hu.shape[0]


@pytest.mark.parametrize("shape", [(512, 512, 512), (2, 4000, 4000), (30, 40, 50)])
def test_there_are_never_many_blocks_and_none_beyond_the_volume(shape):
    i, j, k = outline.blocks_of(shape, np.diag([0.5, 0.5, 1.0, 1.0]))
    assert np.prod([n // size for n, size in zip(shape, (k, j, i), strict=True)]) <= 1_000_000
    assert 1 <= k <= shape[0] and 1 <= j <= shape[1] and 1 <= i <= shape[2]


def test_without_bone_there_is_nothing():
    assert outline.bones(np.full((8, 8, 8), 40, np.int16), np.eye(4)).GetNumberOfPolys() == 0


def test_noise_that_looks_like_bone_everywhere_is_averaged_out():
    noise = np.random.default_rng(0).normal(50.0, 90.0, (96, 96, 96)).astype(np.int16)
    noise[32:64, 32:64, 32:64] += 600
    mesh = outline.bones(noise, np.eye(4))
    assert 0 < mesh.GetNumberOfPolys() < 25_500
    assert box(mesh).mean(1) == pytest.approx([47.5] * 3, abs=6.0)
