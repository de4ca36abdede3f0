"""Materials by the V-Net: the CT in patches on the network's grid, probabilities back on the CT's own.

Unberath et al., MICCAI 2018, section 2.1: voxels of 0.86 × 0.86 × 1.0 mm, patches of 128³. They keep the central 64³
of each; here more is kept, see `margin`, and what is air anyway is skipped. The CT is worked through in layers from
feet to head, so that memory grows with the area of a slice and not with the number of slices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..materials import material
from .body import clear_surroundings
from .cancellation import SegmentationCancelled
from .heap import freed_memory_kept
from .running import ReadyNetwork, network_on, on_what_works
from .tiling import SPACING_MM, Axes, Line, Tiles, aligned_spacing, box_of_matter
from .vnet import CLASSES, VNet, limited

if TYPE_CHECKING:
    from ..volume import CTVolume, MaterialLabels

EMPTY_MAX_HU = -800.0
PATCH = 160
MARGIN = 16


def segment_by_vnet(
    ct: CTVolume,
    *,
    weights: str | os.PathLike[str] | VNet | None = None,
    device: str = "auto",
    keep_table: bool = False,
    probabilities: npt.NDArray[np.float16] | None = None,
    patch: int = PATCH,
    margin: int = MARGIN,
    grid: Literal["aligned", "paper"] = "aligned",
    mirrored: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    air: str = "air",
    soft: str = "soft_tissue",
    bone: str = "bone",
) -> MaterialLabels:
    """Label 0, air; 1, soft tissue; 2, bone: the most probable class of every voxel by the network alone.

    `weights` are those of the package, a file of your own, a published checkpoint (.pt, .pth) or a network. `device` is
    a torch device, or "auto": a GPU where there is one. The table and whatever else lies outside the body becomes air,
    or soft tissue with `keep_table`. `probabilities`, float16 (3, k, j, i), is filled with those of the three classes
    where given, before the table is dealt with. At most `patch` voxels are seen at once along an axis, `margin` of them
    given up where the next patch continues; the paper's scheme is 128 and 32. Where `mirrored`, each patch is looked at
    twice, the second time left for right, and the mean counts: twice the time, less error. Voxels are of 0.86 × 0.86 ×
    1.0 mm on the paper's `grid`, and on the aligned one the CT's own, or a whole part of them, where those are of
    nearly that size: no border is lost between two grids. progress(done, total) is called after each patch, from 1
    again where a GPU fails and the processor begins anew. Raises SegmentationCancelled soon after cancelled() turns
    true, and ValueError for weights that are missing, damaged or answer with NaN, for a grid that there is none of and
    for probabilities of the wrong shape or type.
    """
    from ..volume import MaterialLabels

    materials = (material(air), material(soft), material(bone))
    if grid not in ("aligned", "paper"):
        raise ValueError(f"grid = {grid!r}: give 'aligned' or 'paper'.")
    if probabilities is not None and (probabilities.shape != (3, *ct.shape) or probabilities.dtype != np.float16):
        raise ValueError(
            f"probabilities is {probabilities.dtype} {probabilities.shape}: give a float16 array {(3, *ct.shape)}."
        )
    report = progress or (lambda done, total: None)

    def labels_on(place: torch.device, precision: torch.dtype | None) -> npt.NDArray[np.uint8]:
        run = _Run.of(ct, network_on(weights, place, precision), patch, margin, grid, mirrored)
        with freed_memory_kept():
            return _labels(run, Axes.of(ct.ras_from_ijk), probabilities, keep_table, report, cancelled)

    try:
        labels = on_what_works(labels_on, device)
    except FloatingPointError as error:
        whose = "The V-Net given" if isinstance(weights, VNet) else f"The V-Net of {weights or 'the package'}"
        raise ValueError(
            f"{whose} answers with NaN: give other weights, or leave them out for those of the package."
        ) from error
    return MaterialLabels(labels, materials, ct.ras_from_ijk)


def _labels(
    run: _Run,
    axes: Axes,
    probabilities: npt.NDArray[np.float16] | None,
    keep_table: bool,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> npt.NDArray[np.uint8]:
    """Labels as the CT is stored; probabilities are filled on the way."""
    labels = np.zeros([run.hu.shape[axes.order.index(n)] for n in range(3)], np.uint8)
    shown = axes.view(labels)
    chances = None if probabilities is None else axes.view(probabilities)
    if chances is not None:
        chances[0], chances[1:] = 1.0, 0.0
    for k, found in run.planes(progress, cancelled):
        shown[k, run.box[1], run.box[2]] = _most_probable(found).cpu().numpy()
        if chances is not None:
            chances[:, k, run.box[1], run.box[2]] = found.to(torch.float16).cpu().numpy()
    clear_surroundings(shown, run.hu, run.spacing_mm, keep_table=keep_table)
    return labels


@dataclass(frozen=True, eq=False)
class _Run:
    """One CT, seen as superior, anterior, right, its patches, and the network that looks at them."""

    hu: npt.NDArray[np.generic]
    spacing_mm: tuple[float, float, float]
    box: tuple[slice, slice, slice]
    lines: tuple[Line, Line, Line]
    tiles: tuple[Tiles, Tiles, Tiles]
    network: ReadyNetwork
    mirrored: bool

    @classmethod
    def of(
        cls,
        ct: CTVolume,
        network: ReadyNetwork,
        patch: int,
        margin: int,
        grid: Literal["aligned", "paper"],
        mirrored: bool,
    ) -> _Run:
        axes = Axes.of(ct.ras_from_ijk)
        hu = axes.view(ct.hu)
        stored = ct.spacing_mm[::-1]
        steps = stored[axes.order[0]], stored[axes.order[1]], stored[axes.order[2]]
        spacing = aligned_spacing(steps) if grid == "aligned" else SPACING_MM
        s, a, r = (Line(*each) for each in zip(hu.shape, steps, spacing, strict=True))
        box = box_of_matter(hu, EMPTY_MAX_HU) or (slice(0, 0), slice(0, 0), slice(0, 0))
        spans = [_span(line, part) for line, part in zip((s, a, r), box, strict=True)]
        layout = network.network.layout
        z, y, x = (Tiles.over(start, stop, patch, margin, layout.multiple) for start, stop in spans)
        return cls(hu, (s.step_mm, a.step_mm, r.step_mm), box, (s, a, r), (z, y, x), network, mirrored)

    def planes(
        self, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
    ) -> Iterator[tuple[int, Tensor]]:
        """Slices of the CT with the probabilities (3, rows, columns) of the box, in order; each once."""
        z, y, x = self.tiles
        total, done = len(z) * len(y) * len(x), 0
        if self.box[0].start == self.box[0].stop:
            return
        back = [_Taps.of(line, box, tiles, self.network.device) for line, box, tiles in self._inner()]
        heights = self.lines[0].sample_of(np.arange(self.box[0].start, self.box[0].stop, dtype=np.float64))
        heights = heights.clip(z.bounds[0], z.bounds[-1] - 1.0)
        following, last = 0, None
        for layer, (first, stop) in enumerate(pairwise(z.bounds)):
            chances = self._empty(stop - first)
            slab = self._slab(z.starts[layer], z.starts[layer] + z.size)
            for m, n in product(range(len(y)), range(len(x))):
                if cancelled():
                    raise SegmentationCancelled
                self._look(slab, chances, (layer, m, n))
                done += 1
                progress(done, total)
            # A slice between two layers needs the last samples of the one and the first of the other.
            known = chances if last is None else torch.cat((last, chances), 1)
            bottom = first if last is None else first - 1
            last = chances[:, -1:].clone()
            while following < len(heights) and heights[following] <= stop - 1:
                plane = _between(known, float(heights[following]) - bottom)
                yield self.box[0].start + following, back[1](back[0](plane, 1), 2)
                following += 1

    def _inner(self) -> list[tuple[Line, slice, Tiles]]:
        return list(zip(self.lines, self.box, self.tiles, strict=True))[1:]

    def _empty(self, depth: int) -> Tensor:
        """Probabilities (3, depth, rows, columns) of a layer that is all air, in half precision."""
        _, y, x = self.tiles
        shape = (len(CLASSES), depth, y.bounds[-1] - y.bounds[0], x.bounds[-1] - x.bounds[0])
        chances = torch.zeros(shape, dtype=torch.float16, device=self.network.device)
        chances[0] = 1.0
        return chances

    def _slab(self, start: int, stop: int) -> Tensor:
        """HU on the network's grid, samples start … stop - 1 upwards, all of the patches' extent sideways."""
        slices, up = self.lines[0].weights(start, stop)
        (rows, down), (columns, across) = (
            line.weights(tiles.starts[0], tiles.starts[-1] + tiles.size) for line, _, tiles in self._inner()
        )
        device, kind = self.network.device, self.network.network.layout.input_kind
        down_t, across_t = torch.from_numpy(down).to(device), torch.from_numpy(across).to(device).T.contiguous()
        planes = torch.empty((slices.stop - slices.start, len(down), len(across)), device=device)
        for n, plane in enumerate(self.hu[slices, rows, columns]):
            hu = torch.from_numpy(np.ascontiguousarray(plane)).to(device, torch.float32)
            torch.matmul(down_t @ limited(hu, kind), across_t, out=planes[n])
        return torch.tensordot(torch.from_numpy(up).to(device), planes, dims=1)

    def _look(self, slab: Tensor, chances: Tensor, patch: tuple[int, int, int]) -> None:
        """Put the probabilities of what is kept of one patch into the layer's; FloatingPointError where one is NaN."""
        z, y, x = self.tiles
        n, (m, o) = patch[0], patch[1:]
        y0, x0 = y.starts[m] - y.starts[0], x.starts[o] - x.starts[0]
        hu = slab[:, y0 : y0 + y.size, x0 : x0 + x.size]
        seen, put = [], []
        for tiles, index in ((z, n), (y, m), (x, o)):
            low, high = tiles.bounds[index], tiles.bounds[index + 1]
            seen.append(slice(low - tiles.starts[index], high - tiles.starts[index]))
            put.append(slice(low - tiles.bounds[0], high - tiles.bounds[0]))
        if float(hu[seen[0], seen[1], seen[2]].max()) <= EMPTY_MAX_HU:
            return
        found = self.network(hu)
        if self.mirrored:  # left for right, the last axis
            found = (found + self.network(hu.flip(2)).flip(3)) / 2
        if not torch.isfinite(found.sum()):  # NaN compares as false, so its label would be air
            raise FloatingPointError
        chances[:, :, put[1], put[2]] = found[:, seen[0], seen[1], seen[2]].to(torch.float16)


@dataclass(frozen=True, eq=False)
class _Taps:
    """Linear interpolation from samples to the voxels of a box, along one axis."""

    low: Tensor
    high: Tensor
    share: Tensor

    @classmethod
    def of(cls, line: Line, box: slice, tiles: Tiles, device: torch.device) -> _Taps:
        samples = tiles.bounds[-1] - tiles.bounds[0]
        where = line.sample_of(np.arange(box.start, box.stop, dtype=np.float64)) - tiles.bounds[0]
        where = where.clip(0.0, samples - 1.0)
        low = np.floor(where).astype(np.int64)
        share = torch.from_numpy((where - low).astype(np.float32)).to(device)
        high = np.minimum(low + 1, samples - 1)
        return cls(torch.from_numpy(low).to(device), torch.from_numpy(high).to(device), share)

    def __call__(self, values: Tensor, axis: int) -> Tensor:
        shape = [1] * values.ndim
        shape[axis] = -1
        return torch.lerp(
            values.index_select(axis, self.low), values.index_select(axis, self.high), self.share.view(shape)
        )


def _between(chances: Tensor, height: float) -> Tensor:
    """Probabilities (3, rows, columns), float32, at a height between two samples of a layer (3, depth, ...)."""
    low = min(int(height), chances.shape[1] - 1)
    high = min(low + 1, chances.shape[1] - 1)
    return torch.lerp(chances[:, low].to(torch.float32), chances[:, high].to(torch.float32), height - low)


def _most_probable(chances: Tensor) -> Tensor:
    """The label of the largest of three probabilities (3, rows, columns); argmax along the first axis is slow."""
    air, soft, bone = chances
    label = (soft > air).to(torch.uint8)
    return label.masked_fill_(bone > torch.maximum(air, soft), CLASSES.index("bone"))


def _span(line: Line, box: slice) -> tuple[int, int]:
    """The samples from the first to the last voxel of a box, and one more on either side."""
    first, last = line.sample_of(np.array([box.start, box.stop - 1], np.float64))
    start = int(np.clip(np.floor(first) - 1, 0, line.samples - 1))
    return start, int(np.clip(np.ceil(last) + 2, start + 1, line.samples))
