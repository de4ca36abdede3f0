"""A whole image in a process of its own: first_image.py CT PRESET THREADS STARTED; prints its times as JSON.

STARTED is the wall-clock time (time.time()) at which the process was started.
"""

from __future__ import annotations

import argparse
import json
import time


def main(path: str, preset: str, threads: int, started: float) -> None:
    from DeepDRRLogic.simulator import XRaySimulator
    from DeepDRRLogic.volume import CTVolume

    reading = time.time()
    ct = CTVolume.read(path)
    read = time.time()

    from scene import cameras, material_volume

    volume = material_volume(ct)
    simulator = XRaySimulator(volume, threads=threads)
    ready = time.time()
    simulator(next(iter(cameras(volume, preset).values())))
    done = time.time()
    times = {
        "import": reading - started,
        "read": read - reading,
        "prepare": ready - read,
        "image": done - ready,
    }
    print(json.dumps(times))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("path", str), ("preset", str), ("threads", int), ("started", float)):
        parser.add_argument(name, type=kind)
    main(**vars(parser.parse_args()))
