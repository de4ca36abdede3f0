"""Which device projects, and what happens when it does not: no driver, no memory, a lost context."""

from __future__ import annotations

import functools
import logging
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from emulated_gpu import ILLEGAL_ADDRESS, emulated_gpu, emulation, library, run_python, told
from shapes import centred_affine, view
from test_projector import OBLIQUE, random_volume

from DeepDRRLogic.cli import main
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.gpu import libcuda
from DeepDRRLogic.gpu.errors import DeviceError, DeviceMemoryError
from DeepDRRLogic.materials import material
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.once import warn_once
from DeepDRRLogic.projector import devices, make_projector
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.cuda.check import trusted_gpu
from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.devices import choose_device
from DeepDRRLogic.scatter.montecarlo import simulate
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import MaterialVolume

ROOT = Path(__file__).parents[2]
CAMERA = view(20, 10, size=(24, 18), pitch=1.0)
SPECTRUM = Spectrum.preset("90kV")
NO_DEVICE, INVALID_IMAGE = 100, 200


@functools.cache
def a_volume():
    return random_volume(shape=(20, 22, 24))


@pytest.fixture(autouse=True)
def fresh_process():
    """What is remembered for a process, GPUs and warnings, is forgotten for each test."""
    for remembered in (trusted_gpu, warn_once):
        remembered.cache_clear()
    yield
    for remembered in (trusted_gpu, warn_once):
        remembered.cache_clear()


@pytest.fixture
def a_gpu(monkeypatch):
    """A machine with an NVIDIA driver, and without PyCUDA and torch."""
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with emulation() as emulated:
        yield emulated


@pytest.fixture
def no_gpu(monkeypatch):
    def missing():
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(libcuda, "library", missing)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_auto_takes_the_gpu_and_says_which_and_why(a_gpu, caplog):
    caplog.set_level(logging.INFO, logger="DeepDRRLogic")
    choice = choose_device()
    assert choice.device == "cuda" and "Emulated GPU" in str(choice)
    assert any("Emulated GPU" in record.getMessage() for record in caplog.records)
    assert make_projector(a_volume()).device == "cuda"


def test_auto_without_a_gpu_takes_the_cpu_and_says_why(no_gpu, caplog):
    choice = choose_device()
    assert choice.device == "cpu"
    assert re.search(r"not cuda, there is no NVIDIA driver; not torch, .+", choice.reason)
    assert isinstance(make_projector(a_volume()), CpuProjector) and not warnings_of(caplog)


def test_auto_prefers_torch_on_a_gpu_to_the_cpu_and_the_cpu_to_torch_on_it(monkeypatch, no_gpu):
    monkeypatch.setattr(devices, "torch_device", lambda: "mps")
    assert choose_device().device == "torch" and "'mps'" in choose_device().reason

    def cpu_only():
        raise DeviceError("torch finds no GPU")

    monkeypatch.setattr(devices, "torch_device", cpu_only)
    assert choose_device().device == "cpu"


def test_a_broken_pycuda_is_done_without(a_gpu, monkeypatch, tmp_path):
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text("raise FileNotFoundError('CUDA_PATH')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name)
    assert choose_device().device == "cuda"


def test_torch_is_not_imported_in_vain(tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('imported')")
    program = """
        import ctypes, pathlib
        def missing(*arguments): raise OSError("no driver")
        ctypes.CDLL = missing
        pathlib.Path.exists = lambda path: False
        from DeepDRRLogic.projector.devices import choose_device
        print(choose_device())
    """
    done = run_python(program, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cpu: ") and "not torch, there is no GPU" in done.stdout


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cuInit": NO_DEVICE}, "driver cannot be used"),
        ({"devices": 0}, "finds no NVIDIA GPU"),
        ({"capability": 61}, r"compute capability 6\.1; 7\.5"),
        ({"cuModuleLoadData": INVALID_IMAGE}, "cuModuleLoadData"),
        ({"total_bytes": 1000}, "GB needed"),
        ({"cuCtxPushCurrent_v2": ILLEGAL_ADDRESS}, "cannot be reached"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_replaced_with_one_warning(a_gpu, caplog, settings, reason):
    with told(**settings):
        projector = make_projector(a_volume(), "cuda")
        again = make_projector(a_volume(), "cuda")
    assert len(warnings_of(caplog)) == 1 and re.search(reason, warnings_of(caplog)[0])
    assert projector.device == again.device == "cpu" and re.search(reason, projector.gave_up)
    assert np.array_equal(projector.project(CAMERA), CpuProjector(a_volume()).project(CAMERA))


def test_memory_is_asked_for_before_any_is_taken(a_gpu):
    gpu = emulated_gpu()
    before = library().emulated_used_bytes()
    with told(total_bytes=before + 3 * 20 * 22 * 24 - 1), pytest.raises(DeviceMemoryError, match=r"24×22×20.*eighth"):
        CudaProjector(a_volume(), gpu=gpu)
    assert library().emulated_used_bytes() == before
    projector = CudaProjector(a_volume(), gpu=gpu)
    used = library().emulated_used_bytes()
    with told(total_bytes=used + 1000), pytest.raises(DeviceMemoryError, match="An array"):
        projector.project(CAMERA)
    # A lack of memory passes: the GPU is as good as before.
    assert projector.project(CAMERA).any() and gpu.lost is None


def test_after_a_moment_without_memory_the_gpu_projects_again(a_gpu, caplog):
    simulator = XRaySimulator(a_volume(), device="cuda", noise=None)
    expected = XRaySimulator(a_volume(), device="cpu", noise=None)(CAMERA)
    large = CAMERA.resampled(64, 64)
    with told(total_bytes=library().emulated_used_bytes() + 1):
        short = [simulator(large), simulator(large)]
        assert "not cuda for now" in simulator.projects_on.reason
    assert len(warnings_of(caplog)) == 1 and "until cuda has memory again" in warnings_of(caplog)[0]
    assert {image.metadata["device"] for image in short} == {"cpu"}
    again = simulator(CAMERA)
    assert simulator.projects_on.device == again.metadata["device"] == "cuda"
    assert np.allclose(again.signal, expected.signal, rtol=0.01)


def test_torch_gives_back_what_it_only_keeps_before_memory_is_short(a_gpu, monkeypatch):
    """As somebody does who trains a network on our images in the same process."""

    class Torch:
        class cuda:  # noqa: N801
            is_initialized = staticmethod(lambda: True)

            @staticmethod
            def empty_cache():
                library().emulate(b"total_bytes", 2 << 30)

    gpu = emulated_gpu()
    monkeypatch.setitem(sys.modules, "torch", Torch)
    with told(total_bytes=library().emulated_used_bytes() + 1000):
        assert CudaProjector(a_volume(), gpu=gpu).project(CAMERA).any()


def test_a_gpu_that_was_lost_is_not_chosen_again(a_gpu):
    simulator = XRaySimulator(a_volume(), noise=None)
    assert choose_device().device == "cuda"
    with told(cuLaunchKernel=ILLEGAL_ADDRESS):
        simulator(CAMERA)
    choice = choose_device()
    assert choice.device == "cpu" and "not cuda, Emulated GPU gave up" in choice.reason
    assert XRaySimulator(a_volume(), noise=None).projects_on.device == "cpu"


def test_an_upload_that_breaks_off_leaves_nothing_behind(a_gpu):
    gpu = emulated_gpu()
    before = library().emulated_used_bytes()
    for call in ("cuMemcpy3D_v2", "cuTexObjectCreate"):
        with told(**{call: NO_DEVICE}), pytest.raises(DeviceError, match=call.removesuffix("_v2")):
            CudaProjector(a_volume(), gpu=gpu)
        assert library().emulated_used_bytes() == before
        gpu.lost = None


@pytest.mark.parametrize("call", ["cuLaunchKernel", "cuMemcpyDtoH_v2", "cuCtxPushCurrent_v2"])
def test_a_lost_context_means_one_warning_and_the_same_image(a_gpu, caplog, call):
    simulator = XRaySimulator(a_volume(), device="cuda", noise=None)
    other = XRaySimulator(a_volume(), device="cuda", noise=None)
    on_gpu = simulator(CAMERA)
    assert simulator.projects_on.device == on_gpu.metadata["device"] == "cuda"
    with told(**{call: ILLEGAL_ADDRESS}):
        images = [simulator(CAMERA), simulator(CAMERA), other(CAMERA)]
    images.append(XRaySimulator(a_volume(), device="cuda", noise=None)(CAMERA))
    assert len(warnings_of(caplog)) == 1 and "instead of cuda: Emulated GPU" in warnings_of(caplog)[0]
    expected = XRaySimulator(a_volume(), device="cpu", noise=None)(CAMERA)
    for image in images:
        assert np.array_equal(image.signal, expected.signal) and image.metadata["device"] == "cpu"
        assert np.allclose(image.signal, on_gpu.signal, rtol=0.01)
    assert "not cuda" in simulator.projects_on.reason


def test_the_context_stack_is_left_as_it_was(a_gpu):
    projector = CudaProjector(a_volume(), gpu=emulated_gpu())
    projector.project(CAMERA)
    with told(cuMemcpyDtoH_v2=ILLEGAL_ADDRESS), pytest.raises(DeviceError):
        projector.project(CAMERA)
    assert library().emulated_depth() == 0


def test_a_gpu_that_computes_nonsense_is_not_trusted(a_gpu, monkeypatch, caplog):
    def wrong(self, *arguments, **settings):
        if len(arguments) == 12:  # of the projection
            arguments = (*arguments[:2], *arguments[3:5], arguments[2], *arguments[5:])
        right(self, *arguments, **settings)

    right = libcuda.Function.__call__
    monkeypatch.setattr(libcuda.Function, "__call__", wrong)
    assert make_projector(a_volume(), "cuda").device == "cpu"
    assert len(warnings_of(caplog)) == 1 and "not trusted" in warnings_of(caplog)[0]


def an_implant():
    """A plate in a frame of its own, of a material that the patient has and of one that it lacks."""
    shape = (50, 5, 50)
    labels = np.zeros(shape, np.uint8)
    labels[:, 2:] = 1
    materials = (material("titanium"), material("bone"))
    return MaterialVolume(np.full(shape, 1.5, np.float32), labels, materials, centred_affine(shape, turn=OBLIQUE))


@pytest.mark.parametrize("scene", ["patient", "patient twice", "patient with an implant"])
def test_the_simulator_makes_the_image_of_the_cpu(a_gpu, scene):
    others = {"patient": [], "patient twice": [a_volume()], "patient with an implant": [an_implant()]}[scene]
    on_gpu, on_cpu = (XRaySimulator([a_volume(), *others], device=name, noise=None) for name in ("cuda", "cpu"))
    expected = on_cpu(CAMERA)
    # The host has no part in it.
    on_gpu._form = None
    image = on_gpu(CAMERA)
    assert image.material_names == expected.material_names and image.metadata["device"] == "cuda"
    for name in ("signal", "photons", "mean_energy_kev"):
        one, other = getattr(image, name), getattr(expected, name)
        assert np.linalg.norm(one - other) < 0.01 * np.linalg.norm(other)
    for one, other in zip(image.area_densities, expected.area_densities, strict=True):
        assert np.linalg.norm(one - other) < 0.06 * np.linalg.norm(other)


def test_one_volume_on_the_cpu_brings_the_others_down_from_the_gpu_for_the_image(a_gpu):
    simulator = XRaySimulator([a_volume(), an_implant()], device="cuda", noise=None)
    expected = simulator(CAMERA).signal
    simulator._projectors[1]._give_up(DeviceError("told to"))
    assert np.linalg.norm(simulator(CAMERA).signal - expected) < 0.005 * np.linalg.norm(expected)


def test_noise_of_the_simulator_comes_from_the_seed_alone(a_gpu):
    simulator = XRaySimulator(a_volume(), device="cuda")
    first, again, other = (simulator(CAMERA, seed).signal for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert simulator.noise == NoiseModel.of(simulator.detector)


def test_the_command_line_says_which_device_and_why(a_gpu, tmp_path, capsys):
    output = str(tmp_path / "xray.png")
    small = ["--phantom-spacing", "9", "--size", "40"]
    for device, expected in (("auto", "cuda: Emulated GPU"), ("cpu", "cpu: as asked for")):
        with pytest.raises(SystemExit) as ended:
            main(["render", "phantom:chest", "--device", device, *small, "-o", output])
        assert ended.value.code == 0
        assert f"Projecting on {expected}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["info", "phantom:chest", "--phantom-spacing", "9"])
    assert "projected on cuda: Emulated GPU" in capsys.readouterr().out


def test_an_unknown_device_is_an_error_of_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["render", "phantom", "--device", "abacus", "--phantom-spacing", "9"])
    assert ended.value.code == 2
    assert re.search(r"'abacus'.*auto, cuda, torch, cpu", capsys.readouterr().err)


def scattered(device):
    return simulate(a_volume(), CAMERA, SPECTRUM, Detector.ideal(), photons=400, tally=2, device=device)


def test_photons_are_followed_on_the_gpu_where_there_is_one(a_gpu, caplog):
    found = scattered("auto")
    assert not np.array_equal(found.sums, scattered("cpu").sums)
    assert np.array_equal(found.sums, scattered("cuda").sums) and not warnings_of(caplog)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"cuInit": NO_DEVICE}, "driver cannot be used"), ({"total_bytes": 40_000}, "GB needed"),
     ({"cuLaunchKernel": ILLEGAL_ADDRESS}, "gave up")],
)  # fmt: skip
def test_where_the_gpu_cannot_the_cpu_follows_photons_with_one_warning(a_gpu, caplog, settings, reason):
    if "cuInit" not in settings:
        trusted_gpu()
    with told(**settings):
        found, again = scattered("cuda"), scattered("cuda")
    assert len(warnings_of(caplog)) == 1 and re.search(reason, warnings_of(caplog)[0])
    assert np.array_equal(found.sums, again.sums) and np.array_equal(found.sums, scattered("cpu").sums)


def test_a_gpu_that_loses_energy_is_not_believed(a_gpu, caplog, monkeypatch):
    monkeypatch.setattr("DeepDRRLogic.scatter.cuda.host.MOST_LOST", -1.0)
    assert np.array_equal(scattered("auto").sums, scattered("cpu").sums)
    assert "keV of photon energy, and is not trusted" in warnings_of(caplog)[0]


def test_without_a_gpu_photons_are_followed_on_the_cpu_and_nothing_is_said(no_gpu, caplog):
    assert np.array_equal(scattered("auto").sums, scattered("cpu").sums)
    assert not warnings_of(caplog)
    with pytest.raises(ValueError, match=r"'torch': choose auto, cpu, cuda"):
        scattered("torch")
