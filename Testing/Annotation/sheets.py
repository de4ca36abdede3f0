"""Contact sheets: three planes at several levels with the labels' contours, and RAS millimetres to read off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

if TYPE_CHECKING:
    from annotate import Annotated

_LOW_HU, _HIGH_HU = -250.0, 750.0
BONE_COLOUR, AIR_COLOUR, UNKNOWN_COLOUR = (255, 70, 40), (60, 170, 255), (255, 220, 0)
Picture = npt.NDArray[np.uint8]


def write_sheet(
    annotated: Annotated, path: Path, *, levels: tuple[int, int, int] = (12, 5, 5), zoom: float = 1.0
) -> None:
    """Write the slices at evenly spread levels: axial, coronal, sagittal, in rows; zoom 1 is 1 mm per pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = []
    for axis, count in enumerate(levels):
        size = annotated.labels.shape[axis]
        present = np.flatnonzero((annotated.labels == 2).any(axis=tuple({0, 1, 2} - {axis})))
        first, last = (present[0], present[-1]) if len(present) else (0, size - 1)
        for index in np.unique(np.linspace(first, last, count + 2)[1:-1].round().astype(int)):
            tiles.append(tile(annotated, axis, int(index), zoom))
    Image.fromarray(arranged(tiles, 2000)).save(path)


def tile(annotated: Annotated, axis: int, index: int, zoom: float = 1.0, *, contours: bool = True) -> Picture:
    """One slice, patient's right on the left, front or head up, bone red, air blue, unknown yellow, ticks in mm."""
    scan = annotated.scan
    hu = np.take(scan.hu, index, axis).astype(np.float32)
    rows, columns = (a for a in range(3) if a != axis)
    mm = scan.sampling_mm[rows], scan.sampling_mm[columns]
    scale = [zoom * step for step in mm]
    grey = np.clip((ndimage.zoom(hu, scale, order=1) - _LOW_HU) / (_HIGH_HU - _LOW_HU), 0, 1) * 255
    picture = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if contours:
        labels = np.take(annotated.labels, index, axis)
        known = np.take(annotated.weight, index, axis)
        for mask, colour in ((labels == 0, AIR_COLOUR), (known == 0, UNKNOWN_COLOUR), (labels == 2, BONE_COLOUR)):
            large = ndimage.zoom(mask.astype(np.float32), scale, order=1, output=np.float32)[: len(grey), :] > 0.5
            picture[large & ~ndimage.binary_erosion(large, border_value=1)] = colour
    # World axes increase with the array's; a viewer looks from the feet, or the front, or the left (nose to the left).
    return _with_ticks(np.ascontiguousarray(picture[::-1, ::-1]), annotated, axis, index, zoom)


def _with_ticks(picture: Picture, annotated: Annotated, axis: int, index: int, zoom: float) -> Picture:
    """Numbers every 50 mm along both sides, and the level in the corner."""
    scan = annotated.scan
    names, origin, step = "SAR", scan.origin_ras[::-1], scan.sampling_mm
    rows, columns = (a for a in range(3) if a != axis)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.text((2, 2), f"{names[axis]}={origin[axis] + index * step[axis]:.0f}", fill=(0, 255, 0))
    height, width = picture.shape[:2]
    for side, along, length in ((0, rows, height), (1, columns, width)):
        first = int(np.ceil(origin[along] / 50) * 50)
        for value in range(first, int(origin[along] + length / zoom), 50):
            at = length - 1 - (value - origin[along]) * zoom
            if side == 0:
                draw.line([(0, at), (4, at)], fill=(0, 255, 0))
                draw.text((6, at - 5), f"{names[along]}{value}", fill=(0, 200, 0))
            else:
                draw.line([(at, height - 5), (at, height - 1)], fill=(0, 255, 0))
                draw.text((at - 10, height - 16), f"{names[along]}{value}", fill=(0, 200, 0))
    return np.asarray(image)


def arranged(tiles: list[Picture], width: int) -> Picture:
    """Tiles in rows no wider than `width`."""
    rows: list[list[Picture]] = [[]]
    for one in tiles:
        if rows[-1] and sum(t.shape[1] + 4 for t in rows[-1]) + one.shape[1] > width:
            rows.append([])
        rows[-1].append(one)
    heights = [max(t.shape[0] for t in row) for row in rows]
    total = max(sum(t.shape[1] + 4 for t in row) for row in rows)
    sheet = np.zeros((sum(heights) + 4 * len(rows), total, 3), np.uint8)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for one in row:
            sheet[y : y + one.shape[0], x : x + one.shape[1]] = one
            x += one.shape[1] + 4
        y += height + 4
    return sheet
