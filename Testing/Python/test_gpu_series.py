"""Series of views on the GPU, by emulation: what single views are, without a word from the host in between."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from emulated_gpu import as_the_gpu_of_this_machine, calls_since_asked, emulated_gpu, emulation, library, told
from shapes import view
from test_gpu_imaging import Fog
from test_projector import random_volume

from DeepDRRLogic.detector import detector
from DeepDRRLogic.imaging_chain import ImagingChain
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.once import warn_once
from DeepDRRLogic.projector.cuda import host
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum

FIELDS = ("signal", "photons", "mean_energy_kev", "area_densities")
DOWNLOADS = len(FIELDS)
SIZE = (24, 18)


@pytest.fixture
def gpu():
    """The emulated GPU, which the simulator finds."""
    warn_once.cache_clear()
    with emulation(), as_the_gpu_of_this_machine(emulated_gpu()) as found:
        yield found
    warn_once.cache_clear()


def cameras(count, size=SIZE):
    return [view(7 * n, 5, size=size, pitch=120.0 / size[0]) for n in range(count)]


def simulator(**settings):
    which = detector("csi_flat_panel")
    return XRaySimulator(random_volume(shape=(20, 22, 24)), detector=which, device="cuda", **settings)


def room_for(views, monkeypatch, size=SIZE, scatter=False):
    planes = 3 + host.planes_of_view(1, True, scatter)
    monkeypatch.setattr(host, "MOST_BATCH_BYTES", views * 4 * planes * size[0] * size[1])


@pytest.mark.parametrize("scatter", [None, Fog()])
def test_a_series_is_its_views_one_by_one(gpu, monkeypatch, scatter):
    room_for(3, monkeypatch, scatter=scatter is not None)
    one = simulator(scatter=scatter)
    series = list(one.render_many(cameras(7), seed=5))
    assert series == [one(camera, seed=5 + n) for n, camera in enumerate(cameras(7))]
    assert series == list(one.render_many(iter(cameras(7)), seed=5))
    assert not np.array_equal(series[0].signal, one(cameras(7)[0], seed=6).signal)


def test_between_the_first_launch_and_the_last_the_host_neither_asks_nor_waits(gpu, monkeypatch):
    room_for(3, monkeypatch)
    one = simulator()
    list(one.render_many(cameras(1)))
    calls_since_asked()
    list(one.render_many(cameras(7)))
    told_so = calls_since_asked()
    # Three batches, of three, three and one: the cameras go up; projection, exposure, quantum noise, finish, readout;
    # then every array comes back once.
    assert told_so == 3 * ("U" + 5 * "L" + DOWNLOADS * "D")


def test_scatter_of_the_host_is_estimated_view_by_view_so_that_a_series_can_be_stopped(gpu):
    one = simulator(scatter=Fog())
    list(one.render_many(cameras(1)))
    calls_since_asked()
    assert len(list(itertools.islice(one.render_many(cameras(8)), 2))) == 2
    assert re.fullmatch(rf"(?:UL+DUL+D{{{DOWNLOADS}}}){{2}}", calls_since_asked())


def test_cameras_of_several_sizes_come_in_batches_of_one_size(gpu):
    mixed = [*cameras(3), *cameras(2, (16, 12)), *cameras(1)]
    one = simulator()
    images = list(one.render_many(mixed))
    calls_since_asked()
    assert [image.signal.shape[::-1] for image in images] == [SIZE] * 3 + [(16, 12)] * 2 + [SIZE]
    assert list(one.render_many(mixed)) == images
    assert calls_since_asked().count("D") == 3 * DOWNLOADS


def test_pixels_of_several_sizes_in_mm_share_their_light_each_in_its_own_way(gpu):
    one = simulator(noise=None)
    mixed = [view(0, 0, size=SIZE, pitch=pitch) for pitch in (0.2, 0.2, 5.0)]
    assert list(one.render_many(mixed)) == [one(camera, seed=n) for n, camera in enumerate(mixed)]
    with pytest.raises(ValueError, match="several sizes in mm"):
        host.CudaProjector(one.volumes[0], gpu=gpu).form_on_device(mixed, ImagingChain(one.spectrum, one.detector))


def test_a_series_reports_and_stops_view_by_view(gpu):
    reported, made = [], []
    series = simulator().render_many(
        cameras(6), progress=lambda done, total: reported.append((done, total)), cancelled=lambda: len(made) == 4
    )
    for image in series:
        made.append(image)
    assert len(made) == 4 and reported == [(1, 6), (2, 6), (3, 6), (4, 6)]


def test_a_series_that_the_memory_does_not_hold_at_once_comes_in_smaller_batches(gpu):
    one = simulator()
    whole = list(one.render_many(cameras(6)))
    gpu._spare.clear()
    planes = 3 + host.planes_of_view(1, True, False)
    view_bytes = 4 * planes * SIZE[0] * SIZE[1]
    calls_since_asked()
    with told(total_bytes=library().emulated_used_bytes() + 4 * view_bytes):
        assert list(one.render_many(cameras(6))) == whole
    assert calls_since_asked().count("D") == 3 * DOWNLOADS
    assert one.projects_on.device == "cuda"


def test_a_batch_that_others_left_no_memory_for_begins_with_one_view(gpu, caplog):
    one = simulator()
    whole = list(one.render_many(cameras(4)))
    gpu._spare.clear()
    # More is said to be free than is there.
    gpu.room = lambda: 1 << 40
    calls_since_asked()
    planes = 3 + host.planes_of_view(1, True, False)
    with told(total_bytes=library().emulated_used_bytes() + 2 * 4 * planes * SIZE[0] * SIZE[1]):
        assert list(one.render_many(cameras(4))) == whole
    # One, one again, then there is room for the two that are left.
    assert calls_since_asked().count("D") == 3 * DOWNLOADS
    assert one.projects_on.device == "cuda" and not caplog.records


def test_a_gpu_that_gives_up_amid_a_series_leaves_the_rest_to_the_cpu(gpu, monkeypatch, caplog):
    room_for(2, monkeypatch)
    one = simulator(noise=None)
    images = []
    with told():
        for image in one.render_many(cameras(5)):
            images.append(image)
            if len(images) == 2:
                library().emulate(b"cuLaunchKernel", 700)
    library().emulate(b"cuLaunchKernel", 0)
    assert [image.metadata["device"] for image in images] == ["cuda"] * 2 + ["cpu"] * 3
    assert [image.metadata["seed"] for image in images] == [0, 1, 2, 3, 4]
    on_cpu = XRaySimulator(
        random_volume(shape=(20, 22, 24)), detector=detector("csi_flat_panel"), device="cpu", noise=None
    )
    for image, camera in zip(images, cameras(5), strict=True):
        expected = on_cpu(camera).signal
        assert np.linalg.norm(image.signal - expected) < 0.01 * np.linalg.norm(expected)
    assert sum("instead of cuda" in record.getMessage() for record in caplog.records) == 1


def test_a_batch_is_no_larger_than_its_memory_and_the_least_is_one_view(gpu, monkeypatch):
    volume, which = random_volume(shape=(20, 22, 24)), detector("csi_flat_panel")
    projector = host.CudaProjector(volume, gpu=gpu)
    noise, spectrum = NoiseModel.of(which), Spectrum.preset("90kV")
    monkeypatch.setattr(host, "MOST_BATCH_BYTES", 1_000_000)
    many = cameras(40, (48, 36))
    count = len(projector.form_batch(many, ImagingChain(spectrum, which, noise, 5e4)))
    gpu._spare.clear()
    before = library().emulated_used_bytes()
    images = projector.form_on_device(many[:count], ImagingChain(spectrum, which, noise, 5e4))
    # What is held, and what is kept for the next batch: all that it took.
    assert 0.7e6 < library().emulated_used_bytes() - before < 1.05e6
    assert 5 < count < 40 and images.signal.shape[0] == count
    monkeypatch.setattr(host, "MOST_BATCH_BYTES", 1)
    assert len(projector.form_batch(cameras(9), ImagingChain(spectrum, which, noise, 5e4))) == 1
