"""`deepdrr segment`: the materials of a CT as a segmentation that 3D Slicer opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from . import scene
from .console import Console
from .options import (
    DEFAULT_PHANTOM_SPACING_MM,
    AirMaxHu,
    BoneMinHu,
    CorrectTilt,
    CtArgument,
    HuOffset,
    KeepTable,
    Method,
    PhantomSpacing,
    Quiet,
    Series,
    Tissues,
)


@dataclass(frozen=True)
class SegmentOptions:
    """The CT, the method and where the result goes."""

    ct: CtArgument
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .seg.nrrd.", show_default="named after the CT"),
    ] = None
    method: Method = "auto"
    keep_table: KeepTable = False
    tissues: Tissues = False
    probabilities: Annotated[
        Path | None,
        typer.Option("--probabilities", help="Also write the V-Net's probability of bone as a .nrrd, .nii.gz or .mha."),
    ] = None
    air_max_hu: AirMaxHu = None
    bone_min_hu: BoneMinHu = None
    series: Series = None
    hu_offset: HuOffset = None
    correct_tilt: CorrectTilt = False
    phantom_spacing: PhantomSpacing = DEFAULT_PHANTOM_SPACING_MM
    quiet: Quiet = False


def segment(options: SegmentOptions) -> None:
    """Separate a CT into materials and write them as a segmentation."""
    import numpy as np

    from ..files import require_writable_place
    from ..segmentation import write_segmentation
    from ..tissues import with_tissues
    from ..volume_io import WRITABLE_SUFFIXES, suffix_of, write_volume
    from .outputs import require_apart, require_new

    console = Console(options.quiet)
    path = options.output or Path(f"{scene.label_of(options.ct)}.seg.nrrd")
    if not path.name.lower().endswith(".seg.nrrd"):
        raise ValueError(f"{path} does not end in .seg.nrrd, the name by which 3D Slicer knows a segmentation.")
    require_writable_place(path)
    if options.probabilities is not None:
        if suffix_of(options.probabilities) not in WRITABLE_SUFFIXES:
            raise ValueError(f"--probabilities {options.probabilities}: give a {', '.join(WRITABLE_SUFFIXES)}.")
        require_writable_place(options.probabilities)
    require_apart([path, options.probabilities or path], options.ct)
    if options.output is None:
        require_new(path)
    with console.busy("Reading the CT"):
        ct, _ = scene.read_ct(options.ct, options)
    extra: dict[str, Any] = {"keep_table": options.keep_table}
    if options.probabilities is not None:
        extra["probabilities"] = np.empty((3, *ct.shape), np.float16)
    limits = scene.thresholds(options.air_max_hu, options.bone_min_hu)
    labels = scene.segmented(ct, options.method, limits, console, **extra)
    if options.tissues:
        labels = with_tissues(ct, labels)
    # Bone alone, and two bytes each: what is not written need not lie beside what writing takes.
    bone = extra.pop("probabilities")[2].copy() if options.probabilities is not None else None
    write_segmentation(labels, path)
    for number, material in enumerate(labels.materials):
        console.remark(f"{material.name:>15}: {(labels.labels == number).mean():6.1%} of the voxels")
    console.wrote(path)
    if options.probabilities is not None and bone is not None:
        write_volume(bone.astype(np.float32), ct.ras_from_ijk, options.probabilities)
        console.wrote(options.probabilities)
