"""How long the Monte Carlo takes for a scatter picture of 128 × 128 pixels with a median uncertainty of 2 %.

Run: python Testing/Benchmarks/montecarlo.py [CT] [--devices cpu cuda] [--pixels 128] [--percent 2]
The CT, by default the built-in phantom, is segmented by thresholds; view from LAO 35 CRAN 20 at 90 kV, CsI panel. Each
device first follows few photons, from whose uncertainty the number needed is told, and then these: time by the wall,
everything from the volume to the tallies included. A device that is not there is left out, and said so.
"""

from __future__ import annotations

import argparse
import sys
import time

from report import load, machine, table
from scene import material_volume

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.gpu.errors import DeviceError
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.projector.devices import cuda_device
from DeepDRRLogic.scatter.montecarlo import BATCHES, simulate
from DeepDRRLogic.scatter.tallies import Tallies
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.threads import thread_count
from DeepDRRLogic.volume import CTVolume, MaterialVolume

PILOT = 100_000
NO_DEVICE = 2


def main() -> int:
    options = _options()
    volume, camera = scene(options.ct)
    before = load()
    rows = []
    for device in options.devices:
        try:
            name = cuda_device() if device == "cuda" else "CPU"
        except DeviceError as error:
            print(f"- {device} is left out: {error}", file=sys.stderr)
            continue
        rows.append([name, *measured(volume, camera, device, options.pixels, options.percent)])
    if not rows:
        return NO_DEVICE
    size = f"{options.pixels} × {options.pixels}"
    print(table(["device", "photons", "photons per s", f"uncertainty of {size} pixels", "time"], rows))
    i, j, k = volume.shape[::-1]
    print(f"\nCT {i}×{j}×{k}, {len(volume.materials)} materials, {BATCHES} batches")
    print(f"{machine(thread_count(None))}\nLoad average before {before}, after {load()}")
    return 0


def scene(ct: str | None) -> tuple[MaterialVolume, Camera]:
    """The CT, or the phantom, as materials, and the view."""
    if ct is None:
        torso = phantom(spacing_mm=2.0)
        volume = MaterialVolume.from_ct(torso.ct, torso.labels)
    else:
        volume = material_volume(CTVolume.read(ct))
    arm = CArm(isocenter_ras_mm=tuple(volume.center_ras), width=512, height=512, pixel_pitch_mm=0.58)
    return volume, arm.with_angles(35.0, 20.0).camera()


def measured(volume: MaterialVolume, camera: Camera, device: str, pixels: int, percent: float) -> list[str]:
    """Photons, photons per second, the uncertainty that was reached, and the time."""
    timed(volume, camera, device, pixels, 1000)  # compiles
    pilot, _ = timed(volume, camera, device, pixels, PILOT)
    needed = PILOT * (100.0 * pilot.median_uncertainty() / percent) ** 2
    result, seconds = timed(volume, camera, device, pixels, needed)
    reached = 100.0 * result.median_uncertainty()
    return [f"{result.photons:.3g}", f"{result.photons / seconds:.3g}", f"{reached:.2f} %", f"{seconds:.2f} s"]


def timed(volume: MaterialVolume, camera: Camera, device: str, pixels: int, photons: float) -> tuple[Tallies, float]:
    spectrum, detector = Spectrum.preset("90kV"), Detector.csi_flat_panel()
    start = time.perf_counter()
    result = simulate(volume, camera, spectrum, detector, photons=photons, tally=pixels, device=device)
    return result, time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ct", nargs="?", help="a CT in any format that DeepDRRLogic reads; the phantom without")
    parser.add_argument("--devices", nargs="+", default=("cuda", "cpu"), choices=("cuda", "cpu"))
    parser.add_argument("--pixels", type=int, default=128, help="along each side of the tally")
    parser.add_argument("--percent", type=float, default=2.0, help="the median uncertainty that is wanted")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
