"""The benchmark's account of the GPU's work against what the kernels really fetch, by emulation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from emulated_gpu import emulated_gpu, emulation, library
from shapes import view
from test_projector import TURNS, random_volume

from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.cuda.texels import box_of_matter, pack


@pytest.fixture(scope="module")
def gpu_work():
    folder = str(Path(__file__).parents[1] / "Benchmarks")
    sys.path.insert(0, folder)
    try:
        import gpu_work

        yield gpu_work
    finally:
        sys.path.remove(folder)


@pytest.mark.parametrize("angles", [(0, 0), (30, 10), (45, 35)])
@pytest.mark.parametrize("turn", TURNS)
def test_fetches_are_counted_as_the_kernel_fetches(gpu_work, angles, turn):
    volume, camera = random_volume(turn=TURNS[turn], shape=(20, 22, 24)), view(*angles, size=(20, 15), pitch=4.0)
    with emulation():
        projector = CudaProjector(volume, gpu=emulated_gpu())
        before = [library().emulated_fetches(linear) for linear in (0, 1)]
        projector.project(camera)
        projector.close()
        nearest, linear = (library().emulated_fetches(kind) - before[kind] for kind in (0, 1))
    work = gpu_work.work_of(pack(volume, box_of_matter(volume), 1), camera)
    rays = camera.width * camera.height
    # Rounding may put a sample into the next voxel, here and there.
    assert work.nearest * rays == pytest.approx(nearest, rel=0.01)
    assert work.linear * rays == pytest.approx(linear, rel=0.01)
    assert 2.0 < work.fetches_per_sample < 10.0


def test_limits_are_those_of_the_device(gpu_work):
    with emulation():
        emulated_gpu()
        limits = gpu_work.Limits.of()
    # The emulation gives the numbers of an H100: 132 multiprocessors at 1.98 GHz, HBM3 of 3.35 TB/s.
    assert limits.bytes_per_s == pytest.approx(3.35e12, rel=0.01)
    work = gpu_work.Work(samples=1.0, nearest=1.0, linear=1.0)
    assert limits.texture_seconds(work, rays=10**9) == pytest.approx(3e9 / (4 * 132 * 1.98e9), rel=1e-6)


def test_rays_beside_the_volume_are_no_work(gpu_work):
    volume = random_volume(shape=(8, 8, 8))
    texels = pack(volume, box_of_matter(volume), 1)
    away = view(isocenter=(500.0, 0.0, 0.0), size=(8, 6), pitch=4.0)
    work = gpu_work.work_of(texels, away)
    assert (work.samples, work.nearest, work.linear, work.fetches_per_sample) == (0.0, 0.0, 0.0, 0.0)
