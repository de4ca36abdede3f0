"""What only a GPU can show; without one every test is skipped with the reason. More: Testing/Tools/device_check.py."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.detector import Detector
from DeepDRRLogic.gpu.device import Gpu
from DeepDRRLogic.gpu.errors import DeviceError
from DeepDRRLogic.gpu.libcuda import Driver
from DeepDRRLogic.imaging_chain import ImagingChain
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.cuda.check import trusted_gpu
from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.devices import choose_device, torch_device
from DeepDRRLogic.scatter import make_scatter, running
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

SPECTRUM = Spectrum.preset("90kV")
IDEAL = Detector.ideal()


@pytest.fixture(scope="module", params=["as found", "by the driver's library"])
def gpu(request):
    """The GPU by PyCUDA, where that is installed, and without it."""
    try:
        found = trusted_gpu()
    except DeviceError as error:
        pytest.skip(f"no CUDA device: {error}")
    if request.param == "as found":
        return found
    if isinstance(found.driver, Driver):
        pytest.skip("PyCUDA is not installed: the driver's library has been tested")
    return Gpu(Driver())


@pytest.fixture(scope="module")
def patient():
    torso = phantom(spacing_mm=3.0)
    return MaterialVolume.from_ct(torso.ct, torso.labels)


@pytest.mark.parametrize("angles", [(0, 0), (90, 0), (-35, 20), (5, 40)])
def test_a_patient_looks_as_on_the_cpu(gpu, patient, angles):
    camera = view(*angles, isocenter=patient.center_ras, size=(310, 240), pitch=1.2)
    on_gpu = CudaProjector(patient, gpu=gpu).project(camera)
    on_cpu = CpuProjector(patient).project(camera)
    attenuation = np.array([m.mass_attenuation_cm2_g(60.0).item() for m in patient.materials])
    one, other = (np.tensordot(attenuation, areas, 1) for areas in (on_gpu, on_cpu))
    assert np.linalg.norm(one - other) < 0.005 * np.linalg.norm(other)


def test_auto_chooses_it(gpu):
    assert choose_device().device == "cuda" and gpu.name in choose_device().reason


def test_a_batch_is_its_views(gpu, patient):
    cameras = [view(angle, isocenter=patient.center_ras, size=(62, 48), pitch=6.0) for angle in (0, 40, 80)]
    projector = CudaProjector(patient, gpu=gpu)
    noise = NoiseModel.of(IDEAL)
    batch = projector.form_on_device(cameras, ImagingChain(SPECTRUM, IDEAL, noise, 5e4), seed=1).signal.get()
    for n, camera in enumerate(cameras):
        assert np.array_equal(
            projector.form(camera, ImagingChain(SPECTRUM, IDEAL, noise, 5e4), seed=1 + n).signal, batch[n]
        )


def test_noise_has_the_spread_that_it_has_on_the_cpu(gpu, patient):
    camera = view(isocenter=patient.center_ras, size=(310, 240), pitch=1.2)
    projector, noise = CudaProjector(patient, gpu=gpu), NoiseModel.of(IDEAL)
    noisy, clean = (projector.form(camera, ImagingChain(SPECTRUM, IDEAL, one, 5e4), 3) for one in (noise, None))
    gain = clean.mean_energy_kev
    expected = np.sqrt(gain**2 * clean.photons + noise.readout.std_signal**2)
    deviation = ((noisy.signal[0] - clean.signal[0]) / expected).astype(np.float64)
    assert abs(deviation.mean()) < 0.02 and deviation.std() == pytest.approx(1.0, abs=0.02)


def test_torch_sees_the_same_memory(gpu):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch knows no CUDA")
    projector = CudaProjector(random_volume(shape=(20, 22, 24)), gpu=gpu)
    areas = projector.project_on_device([view(size=(24, 18), pitch=5.0)])
    tensor = torch.as_tensor(areas, device="cuda")
    assert tensor.data_ptr() == int(areas.pointer)
    assert np.array_equal(tensor.cpu().numpy(), areas.get())
    tensor += 1.0
    assert np.array_equal(tensor.cpu().numpy(), areas.get())


@pytest.mark.parametrize(("name", "allowed"), [("kernel", 1e-4), ("network", 3e-3)])
def test_scatter_by_torch_on_the_gpu_is_that_of_the_host(gpu, patient, name, allowed):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch knows no CUDA")
    model = make_scatter(name, (patient,))
    cameras = [view(angle, 10, isocenter=patient.center_ras, size=(62, 48), pitch=6.0) for angle in (0, 40, 90)]
    planes = model.estimate_on_device(None, (), cameras, SPECTRUM, IDEAL)
    assert planes.device.type == "cuda"
    for camera, found in zip(cameras, planes.cpu().numpy(), strict=True):
        assert np.allclose(found[1], model.estimate(None, (), camera, SPECTRUM, IDEAL).signal[0], rtol=allowed)


def test_torch_on_its_gpu_agrees_with_the_cpu(patient):
    try:
        device = torch_device()
    except DeviceError as error:
        pytest.skip(f"no GPU for torch: {error}")
    from DeepDRRLogic.projector.torch_backend import TorchProjector

    camera = view(20, 10, isocenter=patient.center_ras, size=(155, 120), pitch=2.4)
    here, cpu = TorchProjector(patient, device).project(camera), CpuProjector(patient).project(camera)
    attenuation = np.array([m.mass_attenuation_cm2_g(60.0).item() for m in patient.materials])
    one, other = (np.tensordot(attenuation, areas, 1) for areas in (here, cpu))
    assert np.linalg.norm(one - other) < 0.005 * np.linalg.norm(other)


def test_two_hundred_views_leave_no_memory_behind(gpu):
    projector, noise = CudaProjector(random_volume(shape=(40, 44, 48)), gpu=gpu), NoiseModel.of(IDEAL)

    def free_bytes():
        with gpu.active():
            return gpu.driver.mem_get_info()[0]

    for seed in range(20):
        projector.form(view(seed, size=(62, 48), pitch=3.0), ImagingChain(SPECTRUM, IDEAL, noise, 5e4), seed)
    before = free_bytes()
    for seed in range(200):
        projector.form(view(seed, size=(62, 48), pitch=3.0), ImagingChain(SPECTRUM, IDEAL, noise, 5e4), seed)
    assert free_bytes() >= before


@pytest.mark.parametrize("forced", [0, 8])
def test_photons_scatter_as_on_the_cpu(gpu, patient, forced):
    """Totals within 5 %, and every pixel within its error bars."""
    camera = view(20, 10, isocenter=patient.center_ras, size=(310, 240), pitch=1.2)
    run = dict(tally=4, forced=forced, voxel_mm=9.0, photons=2_000_000 if forced == 0 else 60_000)
    here = simulate(patient, camera, SPECTRUM, IDEAL, device="cpu", seed=1, **run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_gpu", lambda device: gpu)
        patch.delattr(running, "run_on_cpu")
        there = simulate(patient, camera, SPECTRUM, IDEAL, device="cuda", seed=2, **run)
    for component in ("compton", "rayleigh", "multiple"):
        one, two = here.signal(component), there.signal(component)
        assert two.sum() == pytest.approx(one.sum(), rel=0.05)
        pulls = (one - two) / np.hypot(here.signal_error(component), there.signal_error(component))
        assert np.sqrt(np.mean(pulls**2)) < 1.7


def test_a_seed_follows_the_same_photons_again(gpu, patient, monkeypatch):
    camera = view(isocenter=patient.center_ras, size=(310, 240), pitch=1.2)
    monkeypatch.setattr(running, "_gpu", lambda device: gpu)
    monkeypatch.delattr(running, "run_on_cpu")
    one, two = (simulate(patient, camera, SPECTRUM, IDEAL, photons=200_000, seed=3, tally=8) for _ in range(2))
    assert np.allclose(one.sums, two.sums, rtol=1e-9) and one.photons == two.photons
