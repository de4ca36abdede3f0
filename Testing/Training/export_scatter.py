"""Puts a trained scatter network into the package: half-precision weights, and the checksum they are held to.

Run: python Testing/Training/export_scatter.py TRAINED.pt [network_paper]
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import safetensors.torch
import torch

FOLDER = Path(__file__).parents[2] / "DeepDRRLogic" / "data" / "scatter"


def main() -> None:
    name = sys.argv[2] if len(sys.argv) > 2 else "network"
    state = torch.load(sys.argv[1], weights_only=True)
    data = safetensors.torch.save({name: value.half().contiguous() for name, value in state.items()})
    (FOLDER / f"{name}.safetensors").write_bytes(data)
    table = {
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(value.numel() for value in state.values()),
        "card": "MODEL_CARD.md",
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
