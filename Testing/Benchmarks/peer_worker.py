"""Runs one peer in a process and a Python of its own: peer_worker.py MODULE FOLDER THREADS.

Reads FOLDER/attenuation.npy and FOLDER/views.json; needs nothing of DeepDRRLogic. Answers in lines of JSON: first
{"version": …} or {"missing": …}; then, for every name of a view on its standard input, {"seconds": …}, the picture
being in FOLDER/MODULE.npy. Seconds are those of one projection of the loaded volume into memory.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(module_name: str, folder: Path, threads: int) -> None:
    # What the peers print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        module = importlib.import_module(f"peers.{module_name}")
    except ImportError as error:
        answer({"missing": str(error)})
        return

    import numpy as np
    from peers.view import View

    scene = json.loads((folder / "views.json").read_text(encoding="utf-8"))
    views = {name: View.from_dict(values) for name, values in scene["views"].items()}
    attenuation_mm = np.load(folder / "attenuation.npy")
    peer = module.Peer(attenuation_mm, scene["spacing_mm"], threads, folder)
    answer({"version": module.VERSION})
    for line in sys.stdin:
        picture, seconds = peer.project(views[line.rstrip("\n")])
        np.save(folder / f"{module_name}.npy", picture)
        answer({"seconds": seconds})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
