"""What is shipped for GPUs: PTX that fits its source, in the package; and PyCUDA, where it is installed."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from emulated_gpu import COMPILER, compile_driver, emulated_gpu, emulation, library, run_python

ROOT = Path(__file__).parents[2]


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
        from DeepDRRLogic.imaging_chain import ImagingChain
        from DeepDRRLogic.noise import NoiseModel
        from DeepDRRLogic.projector.cpu import CpuProjector
        from DeepDRRLogic.projector.cuda.check import trusted_gpu
        from DeepDRRLogic.projector.cuda.host import CudaProjector
        from DeepDRRLogic.scatter import running
        from DeepDRRLogic.scatter.montecarlo import simulate
        from DeepDRRLogic.spectrum import Spectrum
        gpu = trusted_gpu()
        assert gpu.driver is pycuda.driver, gpu.driver
        volume, camera = random_volume(shape=(20, 22, 24)), view(20, 10, size=(24, 18), pitch=1.0)
        projector = CudaProjector(volume, gpu=gpu)
        ideal = Detector.ideal()
        image = projector.form(camera, ImagingChain(Spectrum.preset("90kV"), ideal, NoiseModel.of(ideal), 5e4), 1)
        cpu = CpuProjector(volume).project(camera).sum(axis=0)
        running.run_on_cpu = None
        scattered = simulate(volume, camera, Spectrum.preset("90kV"), ideal, photons=4000, tally=2, voxel_mm=None)
        assert (scattered.median_uncertainty() < 0.3) and (scattered.signal() > 0.0).all()
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


SOURCES = ("kernels.cu", "transport.cu")


def ptx_of(build_ptx, name):
    source = next(source for source in build_ptx.SOURCES if source.name == name)
    return source, source.with_suffix(".ptx").read_text(encoding="ascii")


def test_every_source_is_looked_at(build_ptx):
    assert {source.name for source in build_ptx.SOURCES} == set(SOURCES)
    assert {source for source in build_ptx.SOURCES} == set((ROOT / "DeepDRRLogic").rglob("*.cu"))


@pytest.mark.parametrize("name", SOURCES)
def test_the_shipped_ptx_was_made_of_this_source(build_ptx, name):
    source, text = ptx_of(build_ptx, name)
    assert text.startswith(build_ptx.source_line(source)), "run Testing/Tools/build_ptx.py"
    assert f".version {build_ptx.PTX_VERSION}" in text and ".target sm_75" in text


def test_what_a_source_includes_belongs_to_it(build_ptx):
    parts = [part for source in build_ptx.SOURCES for part in build_ptx.parts_of(source)]
    assert set(parts) == {path for path in (ROOT / "DeepDRRLogic").rglob("*.cu*")}


@pytest.mark.parametrize(("name", "kernels"), [("kernels.cu", 10), ("transport.cu", 2)])
def test_the_shipped_ptx_has_the_kernels_and_parameters_of_the_source(build_ptx, name, kernels):
    source, text = ptx_of(build_ptx, name)
    entries = dict(re.findall(r"\.entry (\w+)\(([^)]*)\)", text))
    assert len(entries) == kernels
    with emulation():
        gpu = emulated_gpu()
        for kernel, parameters in entries.items():
            with gpu.active():
                function = gpu.function(source.with_suffix(".ptx"), kernel)
            sizes = (ctypes.c_int * 32)()
            count = library().emulated_parameters(function._handle, sizes)
            found = re.findall(r"\.param (?:\.align 8 )?\.[a-z](\d+) \w+(?:\[(\d+)\])?", parameters)
            assert [8 * size for size in sizes[:count]] == [int(bits) * int(times or 1) for bits, times in found]


@pytest.mark.parametrize("name", SOURCES)
def test_nvcc_makes_the_same_ptx_and_ptxas_takes_it(build_ptx, name):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed: the PTX cannot be made anew")
    source, shipped = ptx_of(build_ptx, name)
    if build_ptx.compiler_line() not in shipped:
        build_ptx.build(source)
        pytest.skip(f"the PTX was made by another nvcc ({build_ptx.compiler_line().strip()}): it compiles here, too")
    assert build_ptx.build(source) == shipped


def test_sources_and_ptx_are_in_the_package(tmp_path):
    """What setuptools would put into a wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    package = ROOT / "DeepDRRLogic"
    patterns = settings["tool"]["setuptools"]["package-data"]["DeepDRRLogic"]
    shipped = {path for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    wanted = {path for path in package.rglob("*") if path.suffix in (".cu", ".cuh", ".ptx")}
    assert len(wanted) == 12 and wanted <= shipped
