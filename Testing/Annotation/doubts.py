"""Shows where a network contradicts labels it was trained on: python Testing/Annotation/doubts.py LABELS OUTPUT

LABELS is a folder of .npz files on the CTs' own voxels (OUTPUT/native of annotate.py). A network that has seen a label
often, and still does not believe it, may be right: contrast medium labelled bone, marrow left out. Look before you
correct. Lists the largest lumps with their centres in RAS mm, ready for cases.json, and writes OUTPUT/NAME.png: for
each lump the slice through its middle, the labels on the left, the network's on the right.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from annotate import BONE, Annotated
from grids import Mask, Scan
from PIL import Image
from scipy import ndimage
from sheets import arranged, tile

from DeepDRRLogic import CTVolume, segment

_AROUND_MM = 60.0


@dataclass(frozen=True)
class Doubt:
    """A lump of voxels that the network calls bone (`extra`) against the labels, or the other way round."""

    ml: float
    extra: bool
    center: tuple[int, int, int]

    def at_ras(self, scan: Scan) -> tuple[int, int, int]:
        r, a, s = (
            round(o + n * step) for o, n, step in zip(scan.origin_ras, self.center[::-1], scan.spacing_mm, strict=True)
        )
        return r, a, s


def doubts(annotated: Annotated, found: npt.NDArray[np.uint8], least_ml: float) -> list[Doubt]:
    """The lumps of contradicted labels from `least_ml` on, largest first; thin ones, along borders, are none."""
    known = annotated.weight > 0
    bone, believed = annotated.labels == BONE, found == BONE
    lumps = [*_lumps(believed & ~bone & known, annotated, least_ml, extra=True)]
    lumps += _lumps(bone & ~believed & known, annotated, least_ml, extra=False)
    return sorted(lumps, key=lambda doubt: -doubt.ml)


def _lumps(mask: Mask, annotated: Annotated, least_ml: float, *, extra: bool) -> Iterator[Doubt]:
    parts, _ = ndimage.label(ndimage.binary_opening(mask, np.ones((1, 3, 3))))
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[box] == number
        ml = float(inside.sum()) * annotated.scan.voxel_ml
        if ml >= least_ml:
            middle = [np.median(at) + side.start for at, side in zip(np.nonzero(inside), box, strict=True)]
            k, j, i = (round(float(at)) for at in middle)
            yield Doubt(ml, extra, (k, j, i))


def write_doubts(annotated: Annotated, found: npt.NDArray[np.uint8], shown: list[Doubt], path: Path) -> None:
    """Write pairs of pictures, labels and network, of the surroundings of each lump."""
    tiles = []
    for doubt in shown:
        k, *middle = doubt.center
        reach = [int(_AROUND_MM / step) for step in annotated.scan.sampling_mm[1:]]
        j, i = (slice(max(0, at - far), at + far) for at, far in zip(middle, reach, strict=True))
        box = slice(k, k + 1), j, i
        fields = {name: getattr(annotated, name)[box] for name in ("labels", "weight", "metal", "body")}
        part = replace(annotated, scan=annotated.scan.cut(box), **fields)
        tiles += [tile(part, 0, 0, 2.0), tile(replace(part, labels=found[box]), 0, 0, 2.0)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(arranged(tiles, 2000)).save(path)


def read(path: Path) -> Annotated:
    """A case that annotate.py wrote."""
    with np.load(path) as data:
        origin, spacing = data["ras_from_ijk"][:3, 3].tolist(), data["spacing_mm"].tolist()
        labels = data["labels"]
        return Annotated(
            Scan(data["hu"], tuple(spacing), tuple(origin)), labels, data["weight"], data["metal"], labels > 0
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--case", nargs="*", help="only these")
    parser.add_argument("--weights", type=Path, help="other weights than those of the package")
    parser.add_argument("--least-ml", type=float, default=0.8)
    options = parser.parse_args()
    paths = sorted(options.labels.glob("*.npz"))
    missing = set(options.case or ()) - {path.stem for path in paths}
    if missing:
        parser.error(f"{options.labels} has no {', '.join(sorted(missing))}")
    for path in paths:
        if options.case and path.stem not in options.case:
            continue
        annotated = read(path)
        ct = CTVolume(annotated.scan.hu, annotated.scan.ras_from_ijk)
        found = segment(ct, "vnet", weights=options.weights).labels
        shown = doubts(annotated, found, options.least_ml)
        for doubt in shown:
            kind = "bone to the network alone" if doubt.extra else "bone in the labels alone"
            print(f"{path.stem}: {doubt.ml:.1f} ml {kind}, at {list(doubt.at_ras(annotated.scan))}", flush=True)
        if shown:
            write_doubts(annotated, found, shown, options.output / f"{path.stem}.png")


if __name__ == "__main__":
    main()
