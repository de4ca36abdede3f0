"""Makes bone as large as in the CTs trained on: python Utilities/calibrate_vnet.py LABELS WEIGHTS OUTPUT --case NAME …

LABELS is the folder of reference labels on the CTs' own voxels (OUTPUT/native of Testing/Annotation/annotate.py),
WEIGHTS what train_vnet.py made, OUTPUT the file to write, .safetensors too. Name cases that were trained on, and none
held out.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import torch

from DeepDRRLogic.segmentation.augmentation import BONE
from DeepDRRLogic.segmentation.calibration import BoneBias
from DeepDRRLogic.segmentation.inference import segment_by_vnet
from DeepDRRLogic.segmentation.weights import load_weights, save_weights
from DeepDRRLogic.volume import CTVolume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--case", nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    network, best = load_weights(options.weights), BoneBias()
    about = json.loads(options.weights.with_suffix(".json").read_text("utf-8"))
    seen = sorted(set(options.case) & set(about.get("held_out", [])))
    if seen:
        raise SystemExit(f"{', '.join(seen)}: held out from training, so not to be calibrated with either.")
    for name in options.case:
        with np.load(options.labels / f"{name}.npz") as data:
            ct, labels, known = CTVolume(data["hu"], data["ras_from_ijk"]), data["labels"], data["weight"] > 0
        chances = np.empty((3, *ct.shape), np.float16)
        segment_by_vnet(ct, weights=network, probabilities=chances)
        best.add(chances[:, known], labels[known] == BONE)
        logging.info("%s: %+.3f so far", name, best.value)
    network.add_to_logits(torch.tensor([0.0, 0.0, best.value]))
    added = {"bone_bias": best.value, "calibrated_on": options.case}
    save_weights(network, options.output, {k: v for k, v in about.items() if k not in ("sha256", "layout")} | added)


if __name__ == "__main__":
    main()
