"""Averages the weights of two moments of one training: python Utilities/average_vnet.py BEFORE AFTER OUTPUT --share 0.7

BEFORE and AFTER are .safetensors of one layout, AFTER a run that went on from BEFORE; OUTPUT is the file to write. What
a last piece on new CTs has learnt is kept, and less of the rest forgotten (Wortsman et al., CVPR 2022, "Robust
fine-tuning"). Numbers that were added to calibrate are taken off first: calibrate the result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from DeepDRRLogic.segmentation.vnet import VNet
from DeepDRRLogic.segmentation.weights import load_weights, save_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, default=0.7, help="of AFTER, from 0 to 1")
    options = parser.parse_args()
    if not 0.0 <= options.share <= 1.0:
        parser.error(f"--share {options.share}: give 0 to 1")
    (before, earlier), (after, about) = _uncalibrated(options.before), _uncalibrated(options.after)
    if before.layout != after.layout:
        parser.error(f"{options.before} and {options.after} are networks of different layouts")
    about["averaged"] = {"share": options.share, "with": earlier["sha256"]}
    for key in ("cases", "patients"):
        about[key] = sorted({*earlier.get(key, []), *about.get(key, [])})
    if seen := sorted({*about["patients"]} & {*about.get("held_out_patients", [])}):
        parser.error(f"{options.before} was trained on {', '.join(seen)}, held out from {options.after}")
    save_weights(averaged(before, after, options.share), options.output, _without(about, "sha256", "layout"))


def averaged(before: VNet, after: VNet, share: float) -> VNet:
    """The network whose weights lie `share` of the way from `before` to `after`."""
    result, first, last = VNet(after.layout), before.state_dict(), after.state_dict()
    mixed = {
        name: torch.lerp(first[name], value, share) if value.is_floating_point() else value
        for name, value in last.items()
    }
    result.load_state_dict(mixed)
    return result.eval()


def _uncalibrated(path: Path) -> tuple[VNet, dict[str, Any]]:
    """The network as it was trained, and what its card says."""
    network, about = load_weights(path), json.loads(path.with_suffix(".json").read_text("utf-8"))
    network.add_to_logits(torch.tensor([0.0, 0.0, -about.get("bone_bias", 0.0)]))
    return network, _without(about, "bone_bias", "calibrated_on")


def _without(about: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key not in keys}


if __name__ == "__main__":
    main()
