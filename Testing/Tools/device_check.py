"""Everything that only a GPU machine can show: `python Testing/Tools/device_check.py --ct CT [CT ...] --out FOLDER`.

Every step runs in a process of its own and leaves FOLDER/STEP.txt; the table at the end says passed, failed or
skipped, and why. Nothing is fetched: PyCUDA is built from an sdist in --sdists, where one is given. Exit status 0 where
nothing failed, 1 otherwise, 2 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from build_pycuda import build, find_toolkit

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "Testing" / "Benchmarks"
FAILED, NO_DEVICE, SKIPPED = 1, 2, 77
LEAST_SECONDS = 5.0
PART_FOR_PARITY = 0.25
FOLDER_OF_PYCUDA = "pycuda"
METRICS = (
    ",".join(f"{unit}__throughput.avg.pct_of_peak_sustained_elapsed" for unit in ("sm", "l1tex", "lts", "dram"))
    + ",gpu__time_duration.sum,l1tex__t_sector_hit_rate.pct"
)


def main() -> int:
    options = _options()
    if options.step:
        return STEPS[options.step](options)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    end = time.monotonic() + 60.0 * options.minutes
    for name in STEPS:
        started = time.monotonic()
        if started > end - LEAST_SECONDS:
            print(f"{name:<12} {'no time':<12} after {options.minutes:g} minutes (--minutes)", flush=True)
            results.append(FAILED)
            continue
        log = options.out / f"{name}.txt"
        with log.open("w", encoding="utf-8") as output:
            command = [sys.executable, __file__, *sys.argv[1:], "--step", name]
            try:
                status = subprocess.run(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=_environment(options),
                    timeout=end - started,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                output.write(f"stopped after {time.monotonic() - started:.0f} s: no time is left (--minutes)\n")
                status = FAILED
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        word = {0: "passed", NO_DEVICE: "no device", SKIPPED: "skipped"}.get(status, f"failed ({status})")
        results.append(status)
        print(f"{name:<12} {word:<12} {time.monotonic() - started:6.1f} s  {lines[-1] if lines else ''}", flush=True)
        if name == "device" and status == NO_DEVICE:
            return NO_DEVICE
    return FAILED if any(status not in (0, SKIPPED) for status in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ct", nargs="*", type=Path, default=[], help="CTs for parity; the first is the benchmark's")
    parser.add_argument("--sdists", type=Path, default=None, help="folder with PyCUDA's sdist and the wheels it needs")
    parser.add_argument("--out", type=Path, default=Path("device_check"), help="folder for the logs")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing is begun or goes on")
    parser.add_argument("--views", type=int, default=1000, help="of the leak check")
    parser.add_argument("--cube", type=int, default=512, help="voxels along the sides of the memory check's volume")
    parser.add_argument("--sizes", nargs="+", default=None, help="of the benchmark, WIDTHxHEIGHT")
    parser.add_argument("--repetitions", type=int, default=30, help="of the benchmark")
    parser.add_argument("--photons", type=float, default=1.0, help="share of the scatter check's photons to follow")
    parser.add_argument("--step", choices=list(STEPS), help="run this one here and now")
    return parser.parse_args()


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """Our package, and PyCUDA once it is built, before anything that is installed."""
    folders = [str(ROOT), str((options.out / FOLDER_OF_PYCUDA).resolve()), str(BENCHMARKS)]
    known = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([*folders, known] if known else folders)}


def _skip(reason: str) -> int:
    print(reason)
    return SKIPPED


def _status(passed: bool | None) -> int:
    """None: the check cannot be made, and has said why."""
    return SKIPPED if passed is None else 0 if passed else FAILED


def check_device(options: argparse.Namespace) -> int:
    """Whether there is a device that computes what it should, and what it is."""
    from DeepDRRLogic.gpu.errors import DeviceError
    from DeepDRRLogic.projector.cuda.check import trusted_gpu

    try:
        gpu = trusted_gpu()
    except DeviceError as error:
        print(f"no CUDA device: {error}")
        return NO_DEVICE
    with gpu.active():
        free, total = gpu.driver.mem_get_info()
    print(f"{gpu.name}, {total / 1e9:.1f} GB, {free / 1e9:.1f} GB free")
    return 0


def build_pycuda(options: argparse.Namespace) -> int:
    """PyCUDA from its sdist, into a folder of its own."""
    if options.sdists is None or not any(options.sdists.glob("pycuda-*.tar.gz")):
        return _skip("no PyCUDA sdist given (--sdists): the driver's library is called directly")
    toolkit = find_toolkit()
    if toolkit is None:
        return _skip("no CUDA toolkit with cuda.h: PyCUDA cannot be built")
    status = build(options.sdists, options.out / FOLDER_OF_PYCUDA, toolkit)
    if status == 0:
        use_it = "import pycuda, pycuda.driver as d; d.init(); print(pycuda.VERSION_TEXT, d.Device(0).name())"
        status = subprocess.run([sys.executable, "-c", use_it], env=_environment(options), check=False).returncode
    return status


def run_tests(options: argparse.Namespace) -> int:
    """The tests that are skipped without a GPU."""
    tests = [str(ROOT / "Testing" / "Python" / f"test_gpu_{part}.py") for part in ("hardware", "devices", "package")]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def check_parity(options: argparse.Namespace) -> int:
    """Line integrals of every CT against the CPU's."""
    from image_check import check_parity as check

    return _status(check(options.ct, PART_FOR_PARITY * 60.0 * options.minutes))


def check_memory(options: argparse.Namespace) -> int:
    """What a full cube takes on the device."""
    from image_check import check_memory as check

    return _status(check(options.cube))


def check_series(options: argparse.Namespace) -> int:
    """Many views at once against one by one."""
    from image_check import check_series as check

    return _status(check())


def check_fast_scatter(options: argparse.Namespace) -> int:
    """The scatter network and the kernels on the device: parity and times."""
    from image_check import check_fast_scatter as check

    return _status(check())


def check_segmentation(options: argparse.Namespace) -> int:
    """A CT of 512×512×275 by the V-Net."""
    from image_check import check_segmentation as check

    return _status(check(next(iter(options.ct), None)))


def check_leak(options: argparse.Namespace) -> int:
    """Whole images, one after the other: free memory of the device after the first tenth and at the end."""
    gpu, projector, form = _renderer(options)
    free = []
    for seed in range(options.views):
        form(seed)
        if seed in (options.views // 10, options.views - 1):
            gc.collect()
            with gpu.active():
                free.append(gpu.driver.mem_get_info()[0])
    projector.close()
    print(f"{options.views} views: {(free[0] - free[-1]) / 1e6:.2f} MB lost")
    return 0 if free[-1] >= free[0] else FAILED


def _renderer(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.detector import Detector
    from DeepDRRLogic.imaging_chain import ImagingChain
    from DeepDRRLogic.noise import NoiseModel
    from DeepDRRLogic.phantom import phantom
    from DeepDRRLogic.projector.cuda.check import trusted_gpu
    from DeepDRRLogic.projector.cuda.host import CudaProjector
    from DeepDRRLogic.spectrum import Spectrum
    from DeepDRRLogic.volume import MaterialVolume

    torso = phantom(spacing_mm=4.0)
    volume = MaterialVolume.from_ct(torso.ct, torso.labels)
    gpu = trusted_gpu()
    projector = CudaProjector(volume, gpu=gpu)
    which, spectrum = Detector.csi_flat_panel(), Spectrum.preset("90kV")
    arm = CArm(isocenter_ras_mm=tuple(volume.center_ras), width=155, height=120, pixel_pitch_mm=2.4)

    def form(seed: int) -> None:
        camera = arm.with_angles(seed % 180, 0.0).camera()
        projector.form(camera, ImagingChain(spectrum, which, NoiseModel.of(which), 5e5), seed)

    return gpu, projector, form


def render_once(options: argparse.Namespace) -> int:
    """A few whole images and photons; what compute-sanitizer and the profiler watch."""
    from scatter_check import run

    _, projector, form = _renderer(options)
    for seed in (0, 40, 80):
        form(seed)
    projector.close()
    run("cuda", 0, tally=8, photons=2000)
    print("rendered")
    return 0


def check_sanitizer(options: argparse.Namespace) -> int:
    """compute-sanitizer's four tools over a few whole images."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return _skip("compute-sanitizer is not on the PATH")
    for check in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, __file__, "--step", "render"]
        status = subprocess.run(command, check=False).returncode
        print(f"{check}: {'clean' if status == 0 else f'exit status {status}'}", flush=True)
        if status != 0:
            return FAILED
    print("memcheck, racecheck, initcheck and synccheck are clean")
    return 0


def profile(options: argparse.Namespace) -> int:
    """What part of its limits the projection reaches, by the hardware's own counters."""
    tool = shutil.which("ncu")
    if tool is None:
        return _skip("ncu (Nsight Compute) is not on the PATH")
    if not options.ct:
        return _skip("no CT given (--ct)")
    how = ["--clock-control", "none", "--kernel-name", "regex:project_.*", "--launch-skip", "4", "--launch-count", "4"]
    command = [tool, *how, "--metrics", METRICS, sys.executable, str(BENCHMARKS / "gpu.py"), str(options.ct[0])]
    command += ["--repetitions", "1", "--batches", "1", "--sizes", *(options.sizes or ["620x480", "1536x1536"])]
    return subprocess.run(command, check=False).returncode


def check_scatter(options: argparse.Namespace) -> int:
    """The Monte Carlo against the CPU's, its speed, and how long it takes for a picture at 2 %."""
    from scatter_check import check

    command = [sys.executable, str(BENCHMARKS / "montecarlo.py"), "--devices", "cuda"]
    return subprocess.run(command, check=False).returncode if check(options.photons) else FAILED


def run_benchmark(options: argparse.Namespace) -> int:
    """Testing/Benchmarks/gpu.py."""
    if not options.ct:
        return _skip("no CT given (--ct)")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), str(options.ct[0])]
    command += ["--repetitions", str(options.repetitions), *(["--sizes", *options.sizes] if options.sizes else [])]
    return subprocess.run(command, check=False).returncode


STEPS: dict[str, Callable[[argparse.Namespace], int]] = {
    "device": check_device,
    "pycuda": build_pycuda,
    "tests": run_tests,
    "parity": check_parity,
    "memory": check_memory,
    "leak": check_leak,
    "series": check_series,
    "fast_scatter": check_fast_scatter,
    "segmentation": check_segmentation,
    "benchmark": run_benchmark,
    "profile": profile,
    "render": render_once,
    "sanitizer": check_sanitizer,
    "scatter": check_scatter,
}


if __name__ == "__main__":
    sys.exit(main())
