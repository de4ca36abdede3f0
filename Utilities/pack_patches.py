"""Packs annotated CTs into one small file: python Utilities/pack_patches.py CASES_FOLDER OUT.pack [--hold-out NAME ...]

CASES_FOLDER holds the .npz files that Testing/Annotation/annotate.py makes. The file, 50 MiB at most unless told
otherwise, takes the folder's place where the network is trained: python Utilities/train_vnet.py OUT.pack RUN_FOLDER
--device cuda [--full-width]. Held-out cases, and all others of their patients, are left out.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from DeepDRRLogic.segmentation.packing import write_pack
from DeepDRRLogic.segmentation.patches import patients_of, read_cases, without


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--hold-out", nargs="*", default=[], metavar="NAME", help="cases of patients left out")
    parser.add_argument("--largest-mib", type=float, default=50.0)
    parser.add_argument("--size", type=int, default=128, help="voxels of a patch along every axis, at most")
    parser.add_argument("--seed", type=int, default=2018)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    everyone = read_cases(options.cases)
    cases = without(everyone, options.hold_out)
    count = write_pack(
        cases,
        options.pack,
        largest_mib=options.largest_mib,
        size=options.size,
        seed=options.seed,
        held_out=options.hold_out,
        held_out_patients=patients_of(everyone, options.hold_out),
    )
    logging.info("%d patches of %d cases, %.1f MiB", count, len(cases), options.pack.stat().st_size / 2**20)


if __name__ == "__main__":
    main()
