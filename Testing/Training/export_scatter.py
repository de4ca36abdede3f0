"""Puts a trained scatter network into the package: half-precision weights, and the checksum they are held to.

Run: python Testing/Training/export_scatter.py TRAINED.pt [network_paper] [-o FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

FOLDER = Path(__file__).parents[2] / "DeepDRRLogic" / "data" / "scatter"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("name", nargs="?", default="network", choices=("network", "network_paper"))
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, metavar="FOLDER", help="by default %(default)s")
    options = parser.parse_args()
    name, folder = options.name, options.output
    state = torch.load(options.trained, weights_only=True)
    data = safetensors.torch.save({name: value.half().contiguous() for name, value in state.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(data)
    table = {
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(value.numel() for value in state.values()),
        "card": "MODEL_CARD.md",
    }
    (folder / f"{name}.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
