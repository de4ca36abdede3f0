"""Makes bone as large as it is: python Utilities/calibrate_vnet.py WEIGHTS OUTPUT --labels FOLDER --case NAME …

WEIGHTS is what train_vnet.py made, OUTPUT the file to write, .safetensors too. FOLDER holds reference labels on the
CTs' own voxels (OUTPUT/native of Testing/Annotation/annotate.py), of which those named are used. They must not have
been trained on, and what is measured on them afterwards is no result: to measure on one, leave it out here. For
weights that were trained on all CTs there are, give the number that such a run has found: --bias NUMBER. It is what
is added to the weights as they were trained, however often they have been calibrated.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from DeepDRRLogic.files import require_writable_place
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
    if options.output.suffix != ".safetensors":
        raise SystemExit(f"{options.output}: the suffix is .safetensors.")
    require_writable_place(options.output)
    network = load_weights(options.weights)
    about = json.loads(options.weights.with_suffix(".json").read_text("utf-8"))
    before = about.get("bone_bias", 0.0)
    dropped = {"sha256", "layout", "bone_bias", "calibrated_on"}
    about = {key: value for key, value in about.items() if key not in dropped}
    if options.bias is None:
        _require_unseen(about, options.labels, options.case)
        about |= {"bone_bias": before + found(network, options.labels, options.case), "calibrated_on": options.case}
    else:
        about["bone_bias"] = options.bias
    network.add_to_logits(torch.tensor([0.0, 0.0, about["bone_bias"] - before]))
    save_weights(network, options.output, about)


def _require_unseen(about: Mapping[str, Any], labels: Path, cases: list[str]) -> None:
    """Leave where a CT, or another of its patient, was trained on: it is drawn too well to tell."""
    if "cases" not in about:
        raise SystemExit("The weights do not tell what they were trained on: give --bias.")
    for name in cases:
        with np.load(labels / f"{name}.npz") as data:
            patient = str(data["patient"])
        if name in about["cases"] or patient in about.get("patients", ()):
            raise SystemExit(f"{name} of {patient}: trained on, so drawn too well to tell; name others.")


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
