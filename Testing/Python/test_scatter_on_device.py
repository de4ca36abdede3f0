"""The fast scatter models in torch, as they run on a GPU, against what the host computes."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from emulated_gpu import as_the_gpu_of_this_machine, calls_since_asked, emulated_gpu, emulation

from DeepDRRLogic import CArm, MaterialVolume, Spectrum, XRaySimulator
from DeepDRRLogic.detector import Detector, detector
from DeepDRRLogic.once import warn_once
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.scatter.antiscatter import AntiScatterGrid
from DeepDRRLogic.scatter.kernel import KernelScatter

torch = pytest.importorskip("torch", reason="torch is not installed")
on_device = pytest.importorskip("DeepDRRLogic.scatter.on_device")
NetworkScatter = pytest.importorskip("DeepDRRLogic.scatter.network").NetworkScatter

CPU = torch.device("cpu")
NINETY = Spectrum.preset("90kV")
MODELS = pytest.mark.parametrize("model", [KernelScatter, NetworkScatter])


@pytest.fixture(scope="module")
def patient():
    body = phantom(0, 8.0, region="chest")
    return MaterialVolume.from_ct(body.ct, body.labels)


def views(volume, size=(40, 30), **changes):
    """From the front, from the side, and oblique from so near that the body is wider than the beam."""
    x, y, z = volume.center_ras.tolist()
    arm = CArm(isocenter_ras_mm=(x, y, z), width=size[0], height=size[1], pixel_pitch_mm=320.0 / size[0], **changes)
    turned = [arm.with_angles(*angles).camera() for angles in ((0, 0), (90, -20))]
    return [*turned, arm.at(source_to_isocenter_mm=450.0).with_angles(-50, 30).camera()]


def by_host(model, cameras, spectrum, which):
    """Planes (views, 3 · channels + 1, height, width)."""
    found = [model.estimate(np.zeros((0, 1, 1), np.float32), (), camera, spectrum, which) for camera in cameras]
    return np.stack([np.concatenate([e.photons, e.signal, e.signal_square, e.energy_kev[None]]) for e in found])


def in_torch(model, precision=None):
    return on_device.DeviceScatter(model, CPU, precision)


@MODELS
@pytest.mark.parametrize(
    ("name", "kv", "field"), [("csi_flat_panel", 90, (0, 0, 1, 1)), ("photon_counting", 120, (0.1, 0.2, 0.8, 0.9))]
)
def test_torch_computes_what_the_host_does(model, name, kv, field, patient):
    which, spectrum, cameras = detector(name), Spectrum.preset(f"{kv}kV"), views(patient)
    made = model(patient, threads=1, field=field)
    host = by_host(made, cameras, spectrum, which)
    planes = in_torch(made).planes(cameras, spectrum, which)
    assert planes.dtype == torch.float32 and planes.is_contiguous() and planes.shape == host.shape
    assert host.min() > 0.0 and np.allclose(planes.numpy(), host, rtol=2e-4)
    # Views differ: one in the place of another would be seen.
    assert all(np.abs(other[0] / host[0][0] - 1.0).max() > 0.1 for other in host[1:])


def test_in_half_precision_the_network_says_the_same(patient):
    made = NetworkScatter(patient, threads=1)
    host = by_host(made, views(patient), NINETY, Detector.ideal())
    scatter = in_torch(made, torch.float16)
    assert all(values.dtype == torch.float16 for values in scatter._net.parameters())
    planes = scatter.planes(views(patient), NINETY, Detector.ideal()).numpy()
    assert 1e-6 < np.abs(planes / host - 1.0).max() < 2e-3
    assert on_device.precision_of(torch.device("cuda")) == torch.float16
    # The network of the host is another one, and stays in float32.
    assert all(values.dtype == torch.float32 for values in made.network.parameters())


def test_many_views_and_detectors_of_several_shapes_come_out_in_order(patient, monkeypatch):
    monkeypatch.setattr(on_device, "VIEWS_AT_A_TIME", 3)
    # Pixels of one number but of two shapes, so that the coarse ones are not of one number.
    square, flat = views(patient, (40, 30)), [camera.resampled(40, 30) for camera in views(patient, (40, 45))]
    cameras = [square[0], flat[1], flat[2], square[2], square[1]]
    made = KernelScatter(patient, threads=1)
    host = by_host(made, cameras, NINETY, Detector.ideal())
    assert np.allclose(in_torch(made).planes(cameras, NINETY, Detector.ideal()).numpy(), host, rtol=2e-4)


def test_an_empty_beam_scatters_nothing_in_torch(patient):
    empty = MaterialVolume(
        np.zeros_like(patient.density_g_cm3), patient.labels, patient.materials, patient.ras_from_ijk
    )
    for model in (KernelScatter, NetworkScatter):
        planes = in_torch(model(empty, threads=1)).planes(views(patient), NINETY, Detector.ideal())
        assert torch.isfinite(planes).all() and float(planes.max()) < 1e-4


@pytest.fixture
def a_gpu_for_torch_too(monkeypatch):
    """The emulated GPU; its memory is the host's, so torch's CPU can stand for torch's GPU."""
    warn_once.cache_clear()
    handed = property(
        lambda tensor: {
            "shape": tuple(tensor.shape), "typestr": "<f4", "data": (tensor.data_ptr(), False), "strides": None,
            "version": 2,
        }
    )  # fmt: skip
    monkeypatch.setattr(torch.Tensor, "__cuda_array_interface__", handed)
    monkeypatch.setattr(on_device, "gpu_of_torch", lambda: CPU)
    with emulation(), as_the_gpu_of_this_machine(emulated_gpu()) as found:
        yield found
    warn_once.cache_clear()


@pytest.mark.parametrize("name", ["kernel", "network"])
def test_with_scatter_nothing_but_the_finished_images_comes_back(a_gpu_for_torch_too, patient, name, monkeypatch):
    cameras = views(patient)
    scattered, bare = (XRaySimulator(patient, scatter=one, device="cuda", noise=None) for one in (name, None))
    host = by_host(scattered.scatter, cameras, scattered.spectrum, scattered.detector)[:, 1]
    list(scattered.render_many(cameras))
    calls_since_asked()
    monkeypatch.setattr(KernelScatter, "estimate", None)
    images = list(scattered.render_many(cameras))
    # The cameras go up, and the four arrays of the images come back: nothing in between.
    assert re.fullmatch(r"U+L+D{4}", calls_since_asked())
    for image, without, expected in zip(images, bare.render_many(cameras), host, strict=True):
        assert image.metadata["device"] == "cuda" and image.metadata["scatter"]["model"] == name
        added = image.signal - without.signal
        assert np.linalg.norm(added - 5e5 * expected) < 1e-3 * np.linalg.norm(5e5 * expected)


def test_noise_with_scatter_is_that_of_the_seed(a_gpu_for_torch_too, patient):
    simulator = XRaySimulator(patient, scatter="network", device="cuda")
    series = list(simulator.render_many(views(patient), seed=3))
    alone = simulator(views(patient)[1], seed=4)
    assert np.allclose(alone.signal, series[1].signal, rtol=1e-5)
    assert not np.allclose(simulator(views(patient)[1], seed=5).signal, series[1].signal, rtol=1e-5)


def test_where_torch_has_no_gpu_the_host_estimates(a_gpu_for_torch_too, patient, monkeypatch, caplog):
    monkeypatch.setattr(on_device, "gpu_of_torch", lambda: None)
    camera = views(patient)[1]
    with_host = XRaySimulator(patient, scatter="network", device="cuda", noise=None)(camera)
    monkeypatch.setattr(on_device, "gpu_of_torch", lambda: CPU)
    with_torch = XRaySimulator(patient, scatter="network", device="cuda", noise=None)(camera)
    assert np.allclose(with_host.signal, with_torch.signal, rtol=1e-4) and not caplog.records


def test_where_torch_fails_the_host_estimates_with_one_warning(a_gpu_for_torch_too, patient, monkeypatch, caplog):
    tried = []

    def full(self, *arguments):
        tried.append(self)
        raise torch.OutOfMemoryError("CUDA out of memory")

    camera = views(patient)[1]
    simulator = XRaySimulator(patient, scatter="network", device="cuda", noise=None)
    expected = simulator(camera).signal
    monkeypatch.setattr(on_device.DeviceScatter, "planes", full)
    images = [simulator(camera), simulator(camera)]
    assert len(tried) == 1 and simulator.projects_on.device == "cuda"
    assert [record.getMessage() for record in caplog.records] == [
        "Scatter is estimated on the CPU instead of the GPU: torch gave up (CUDA out of memory)."
    ]
    for image in images:
        assert np.allclose(image.signal, expected, rtol=1e-4)


@MODELS
@pytest.mark.parametrize("lines", ["u", "v"])
def test_behind_a_grid_torch_computes_what_the_host_does(model, lines, patient):
    grid, cameras = AntiScatterGrid(ratio=8.0, interspace="aluminium", lines=lines), views(patient)[::2]
    made = model(patient, threads=1, grid=grid)
    host = by_host(made, cameras, NINETY, Detector.ideal())
    planes = in_torch(made).planes(cameras, NINETY, Detector.ideal()).numpy()
    assert np.allclose(planes, host, rtol=1e-3)
    bare = in_torch(model(patient, threads=1)).planes(cameras, NINETY, Detector.ideal()).numpy()
    assert planes.mean() < 0.7 * bare.mean()


def test_rayleigh_scatter_alone_is_that_of_the_host(patient):
    made = NetworkScatter(patient, threads=1, rayleigh_only=True)
    host = by_host(made, views(patient)[:1], NINETY, Detector.ideal())
    planes = in_torch(made).planes(views(patient)[:1], NINETY, Detector.ideal()).numpy()
    assert np.allclose(planes, host, rtol=2e-4)


def test_nothing_in_torch_needs_float64_where_there_is_none(patient, monkeypatch):
    """Apple's GPUs: every tensor that is not on the host's way there is float32 or an integer."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for one in out if isinstance(out, (tuple, list)) else (out,):
                assert not (isinstance(one, torch.Tensor) and one.dtype == torch.float64), function
            return out

    scatter = in_torch(NetworkScatter(patient, threads=1))
    expected = scatter.planes(views(patient), NINETY, Detector.ideal())
    monkeypatch.setattr(on_device, "_widest", lambda device: np.float32)
    with warnings.catch_warnings(), Watching():
        found = scatter.planes(views(patient), NINETY, Detector.ideal())
    assert float((found - expected).norm() / expected.norm()) < 1e-3
