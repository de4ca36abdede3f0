"""Makes bone as large as it is: python Utilities/calibrate_vnet.py WEIGHTS OUTPUT --labels FOLDER --case NAME …

WEIGHTS is what train_vnet.py made, OUTPUT the file to write, .safetensors too. FOLDER holds reference labels on the
CTs' own voxels (OUTPUT/native of Testing/Annotation/annotate.py), of which those named are used. They must not have
been trained on, and what is measured on them afterwards is no result: to measure on one, leave it out here. For
weights that were trained on all CTs there are, give the number that such a run has found: --bias NUMBER.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DeepDRRLogic.segmentation.augmentation import BONE
from DeepDRRLogic.segmentation.calibration import BoneBias
from DeepDRRLogic.segmentation.inference import segment_by_vnet
from DeepDRRLogic.segmentation.vnet import VNet
from DeepDRRLogic.segmentation.weights import load_weights, save_weights
from DeepDRRLogic.volume import CTVolume


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    network = load_weights(options.weights)
    about = json.loads(options.weights.with_suffix(".json").read_text("utf-8"))
    if options.bias is None:
        seen = sorted(set(options.case) & set(about.get("cases", [])))
        if seen:
            raise SystemExit(f"{', '.join(seen)}: trained on, so drawn too well to tell; name CTs that were held out.")
        added: dict[str, Any] = {"bone_bias": found(network, options.labels, options.case)}
        added["calibrated_on"] = options.case
    else:
        added = {"bone_bias": options.bias}
    network.add_to_logits(torch.tensor([0.0, 0.0, added["bone_bias"]]))
    save_weights(network, options.output, {k: v for k, v in about.items() if k not in ("sha256", "layout")} | added)


def found(network: VNet, labels: Path, cases: list[str]) -> float:
    """What has to be added to the logits of bone for the best mean Dice on these cases."""
    best = BoneBias()
    for name in cases:
        with np.load(labels / f"{name}.npz") as data:
            ct, truth, known = CTVolume(data["hu"], data["ras_from_ijk"]), data["labels"], data["weight"] > 0
        chances = np.empty((3, *ct.shape), np.float16)
        segment_by_vnet(ct, weights=network, probabilities=chances)
        best.add(chances[:, known], truth[known] == BONE)
        logging.info("%s: %+.3f so far", name, best.value)
    return best.value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--labels", type=Path)
    number = parser.add_mutually_exclusive_group(required=True)
    number.add_argument("--case", nargs="+", metavar="NAME")
    number.add_argument("--bias", type=float)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.case and options.labels is None:
        parser.error("--case needs the folder of --labels")
    return options


if __name__ == "__main__":
    main()
