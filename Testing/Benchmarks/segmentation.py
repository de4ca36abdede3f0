"""How fast and how frugal segmentation is: python Testing/Benchmarks/segmentation.py CT [--threads N] [--device cuda]

Prints Markdown: the whole CT by thresholds and by the compact V-Net, in our scheme, in the same with each patch looked
at but once, in that on the paper's grid of 0.86 × 0.86 × 1.0 mm, in the paper's scheme (patches of up to 128³, central
64³ kept) and in that of the published code (side by side); the full-width network, whose time for the CT is that of one
patch of 128³ times their number; and in how many voxels the schemes' labels differ. Peak memory is the process's, CT
and Python included, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import report

from DeepDRRLogic.threads import thread_count

_PAPER = {"mirrored": False, "grid": "paper", "patch": 128}
SCHEMES: dict[str, dict[str, Any]] = {
    "ours: up to 160³, margin 16, mirrored as well": {},
    "once: up to 160³, margin 16": {"mirrored": False},
    "once on the paper's grid: the same": {"mirrored": False, "grid": "paper"},
    "the paper's: up to 128³, margin 32": {**_PAPER, "margin": 32},
    "side by side: up to 128³, no margin": {**_PAPER, "margin": 0},
}


def main() -> None:
    options = _options()
    if options.worker is not None:
        print(json.dumps(_work(options)))
        return
    before = report.load()
    rows: list[list[str]] = []
    found = {scheme: _measured(options, scheme) for scheme in ("thresholds", *SCHEMES)}
    for scheme, result in found.items():
        name = scheme if scheme == "thresholds" else f"V-Net, {scheme}"
        rows.append([name, str(result["patches"]), f"{result['seconds']:.1f}", f"{result['peak_gb']:.2f}"])
    full = _measured(options, "full width")
    for scheme in list(SCHEMES)[-2:]:
        patches = found[scheme]["patches"]
        seconds = patches * full["seconds"]
        rows.append([f"full width, {scheme}", str(patches), f"{seconds:.0f} (one patch {full['seconds']:.1f})", "–"])
    print("\n".join(f"- {line}" for line in report.machine(options.threads).splitlines()))
    print(f"- CT {found['thresholds']['size']}; device {options.device}, {found[next(iter(SCHEMES))]['precision']}\n")
    print(report.table(["whole CT to labels", "patches", "seconds", "peak GB"], rows))
    print(f"\nLoad average before {before}, after {report.load()}")
    ours, *others = (np.load(_labels_path(options, scheme)) for scheme in SCHEMES)
    for scheme, labels in zip(list(SCHEMES)[1:], others, strict=True):
        share = (labels != ours).sum() / (ours > 0).sum()
        print(f"\nLabels that differ between ours and {scheme}: {share:.3%} of the body")


def _measured(options: argparse.Namespace, scheme: str) -> dict[str, Any]:
    """What a process of its own measures: the best of the repetitions."""
    arguments = [
        __file__,
        options.ct,
        "--worker",
        scheme,
        "--threads",
        str(options.threads),
        "--device",
        options.device,
    ]
    arguments += ["--repetitions", str(options.repetitions), "--scratch", str(options.scratch)]
    if options.weights:
        arguments += ["--weights", options.weights]
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _work(options: argparse.Namespace) -> dict[str, Any]:
    import resource

    from DeepDRRLogic.segmentation import segment
    from DeepDRRLogic.volume import CTVolume

    if options.worker == "full width":
        return _one_patch(options)
    ct = CTVolume.read(options.ct)
    patches = [0]
    if options.worker == "thresholds":
        method, settings = "threshold", {}
    else:
        _set_threads(options)
        method = "vnet"
        settings = SCHEMES[options.worker] | {"device": options.device, "weights": options.weights}
        settings["progress"] = lambda done, total: patches.append(total)
    seconds = []
    for _ in range(options.repetitions):
        started = time.perf_counter()
        labels = segment(ct, method, **settings)
        seconds.append(time.perf_counter() - started)
    np.save(_labels_path(options, options.worker), labels.labels)
    return {
        "seconds": min(seconds),
        "patches": patches[-1],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "size": "×".join(map(str, ct.shape[::-1])),
        "precision": "" if method == "threshold" else _precision(options.device),
    }


def _one_patch(options: argparse.Namespace) -> dict[str, Any]:
    """The full-width network with random weights, on one patch of 128³; its speed does not depend on the weights."""
    import torch

    from DeepDRRLogic.segmentation.running import ready
    from DeepDRRLogic.segmentation.vnet import PUBLISHED, VNet

    _set_threads(options)
    network = ready(VNet(PUBLISHED).eval(), torch.device(options.device))
    patch = torch.zeros((128, 128, 128), device=options.device)
    seconds = []
    with torch.inference_mode():
        for _ in range(options.repetitions):
            started = time.perf_counter()
            network(patch).cpu()
            seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "patches": 1}


def _set_threads(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)


def _precision(device: str) -> str:
    import torch

    from DeepDRRLogic.segmentation.running import precision_of

    return str(precision_of(torch.device(device))).removeprefix("torch.")


def _labels_path(options: argparse.Namespace, scheme: str) -> Path:
    return Path(options.scratch) / f"{scheme.split(':')[0].replace(' ', '_')}.npy"


def _options() -> argparse.Namespace:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", help="in any format that DeepDRRLogic reads")
    parser.add_argument("--threads", type=int, default=None, help="default: all cores")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", default=None, help="default: those of the package")
    parser.add_argument("--repetitions", type=int, default=2, help="the best counts")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", default=None, help="folder for labels; default: a temporary one")
    options = parser.parse_args()
    options.threads = thread_count(options.threads)
    options.scratch = options.scratch or tempfile.mkdtemp()
    return options


if __name__ == "__main__":
    main()
