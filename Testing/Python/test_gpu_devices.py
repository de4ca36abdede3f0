"""Which device projects, and what happens when it does not: no driver, no memory, a lost context; and the PTX."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
from emulated_gpu import COMPILER, ILLEGAL_ADDRESS, compile_driver, emulated_gpu, emulation, library, told
from shapes import view
from test_projector import random_volume

from DeepDRRLogic.cli import main
from DeepDRRLogic.noise import NoiseModel
from DeepDRRLogic.projector import devices, make_projector
from DeepDRRLogic.projector.cpu import CpuProjector
from DeepDRRLogic.projector.cuda import libcuda
from DeepDRRLogic.projector.cuda.gpu import Gpu
from DeepDRRLogic.projector.cuda.host import CudaProjector
from DeepDRRLogic.projector.devices import DeviceError, DeviceMemoryError, choose_device
from DeepDRRLogic.simulator import XRaySimulator

ROOT = Path(__file__).parents[2]
CAMERA = view(20, 10, size=(24, 18), pitch=1.0)
NO_DEVICE, INVALID_IMAGE = 100, 200


@functools.cache
def a_volume():
    return random_volume(shape=(20, 22, 24))


@pytest.fixture(autouse=True)
def fresh_process():
    """What is remembered for a process, GPUs and warnings, is forgotten for each test."""
    for remembered in (Gpu.primary, devices.warn_once):
        remembered.cache_clear()
    yield
    for remembered in (Gpu.primary, devices.warn_once):
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
        if len(arguments) == 10:
            arguments = (*arguments[:2], *arguments[3:5], arguments[2], *arguments[5:])
        right(self, *arguments, **settings)

    right = libcuda.Function.__call__
    monkeypatch.setattr(libcuda.Function, "__call__", wrong)
    assert make_projector(a_volume(), "cuda").device == "cpu"
    assert len(warnings_of(caplog)) == 1 and "not trusted" in warnings_of(caplog)[0]


@pytest.mark.parametrize("volumes", [1, 2])
def test_the_simulator_makes_the_image_of_the_cpu(a_gpu, volumes):
    patients = [a_volume()] * volumes
    on_gpu, on_cpu = (XRaySimulator(patients, device=device, noise=None)(CAMERA) for device in ("cuda", "cpu"))
    for name in ("signal", "photons", "mean_energy_kev"):
        one, other = getattr(on_gpu, name), getattr(on_cpu, name)
        assert np.linalg.norm(one - other) < 0.005 * np.linalg.norm(other)
    assert on_gpu.metadata["device"] == "cuda"


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


def run_python(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def pycudas_library():
    """The compiled part of PyCUDA, or None; it cannot be asked by importing it without a driver."""
    folder = Path(sysconfig.get_path("platlib")) / "pycuda"
    return next(iter(folder.glob("_driver*.so")), None)


def test_pycuda_drives_the_emulation_as_it_would_a_gpu(tmp_path):
    """PyCUDA itself, packing our arguments; functions that we do not call are missing from the emulation."""
    compiled = pycudas_library()
    if compiled is None:
        pytest.skip("PyCUDA is not installed")
    if COMPILER is None:
        pytest.skip("no C++ compiler to emulate the GPU with")
    stubs = tmp_path / "stubs.cpp"
    wanted = subprocess.run(["nm", "-D", "--undefined-only", str(compiled)], capture_output=True, text=True, check=True)
    names = re.findall(r"\bU (cu[A-Z]\w+)", wanted.stdout)
    source = "\n".join(f"__attribute__((weak)) int {name}(void) {{ return 801; }}" for name in names)
    stubs.write_text(f'extern "C" {{\n{source}\n}}')
    emulated = compile_driver(tmp_path / "libcuda.so.1", str(stubs))
    program = """
        import numpy as np
        from shapes import view
        from test_projector import random_volume
        import pycuda.driver
        from DeepDRRLogic.detector import Detector
        from DeepDRRLogic.noise import NoiseModel
        from DeepDRRLogic.projector.cpu import CpuProjector
        from DeepDRRLogic.projector.cuda.gpu import Gpu
        from DeepDRRLogic.projector.cuda.host import CudaProjector
        from DeepDRRLogic.spectrum import Spectrum
        gpu = Gpu.primary()
        assert gpu.driver is pycuda.driver, gpu.driver
        volume, camera = random_volume(shape=(20, 22, 24)), view(20, 10, size=(24, 18), pitch=1.0)
        projector = CudaProjector(volume, gpu=gpu)
        ideal = Detector.ideal()
        image = projector.form(camera, Spectrum.preset("90kV"), ideal, NoiseModel.of(ideal), 5e4, 1)
        cpu = CpuProjector(volume).project(camera).sum(axis=0)
        print(np.linalg.norm(image.area_densities.sum(axis=0) - cpu) / np.linalg.norm(cpu), image.signal.std() > 0)
    """
    done = run_python(
        program,
        LD_PRELOAD=str(emulated),
        LD_LIBRARY_PATH=str(tmp_path),
        PYTHONPATH=f"{ROOT}:{Path(__file__).parent}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    error, noisy = done.stdout.split()
    assert float(error) < 0.005 and noisy == "True"


@pytest.fixture
def build_ptx(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "Testing" / "Tools"))
    import build_ptx

    return build_ptx


def test_the_shipped_ptx_was_made_of_this_source(build_ptx):
    text = build_ptx.PTX.read_text(encoding="ascii")
    assert text.startswith(build_ptx.source_line()), "run Testing/Tools/build_ptx.py"
    assert f".version {build_ptx.PTX_VERSION}" in text and ".target sm_75" in text


def test_the_shipped_ptx_has_the_kernels_and_parameters_of_the_source(build_ptx):
    with emulation():
        gpu = emulated_gpu()
        text = build_ptx.PTX.read_text(encoding="ascii")
        entries = dict(re.findall(r"\.entry (\w+)\(([^)]*)\)", text))
        assert len(entries) == 10
        for name, parameters in entries.items():
            with gpu.active():
                function = gpu._module.get_function(name)
            sizes = (ctypes.c_int * 32)()
            count = library().emulated_parameters(function._handle, sizes)
            bits = [int(size) for size in re.findall(r"\.param \.[a-z](\d+)", parameters)]
            assert [8 * size for size in sizes[:count]] == bits, name


def test_nvcc_makes_the_same_ptx_and_ptxas_takes_it(build_ptx):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed: the PTX cannot be made anew")
    shipped = build_ptx.PTX.read_text(encoding="ascii")
    if build_ptx.compiler_line() not in shipped:
        build_ptx.build()
        pytest.skip(f"the PTX was made by another nvcc ({build_ptx.compiler_line().strip()}): it compiles here, too")
    assert build_ptx.build() == shipped


def test_sources_and_ptx_are_in_the_package(tmp_path):
    """What setuptools would put into a wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    package = ROOT / "DeepDRRLogic"
    patterns = settings["tool"]["setuptools"]["package-data"]["DeepDRRLogic"]
    shipped = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    wanted = {path for path in package.rglob("*") if path.suffix in (".cu", ".cuh", ".ptx")}
    assert len(wanted) == 5 and wanted <= shipped
