"""Overlays of a segmentation against a reference: three planes, contours of both, and a map of the errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from segmentation_scores import AIR, BONE, Labels, Reference, Sampling

Picture = npt.NDArray[np.uint8]

_LOW_HU, _HIGH_HU = -250.0, 750.0
_TRUTH, _FOUND = (80, 220, 90), (255, 70, 40)
FALSE_BONE, MISSED_BONE, AIR_WRONG, UNKNOWN = (255, 60, 40), (255, 200, 0), (60, 150, 255), (70, 70, 90)
LEGEND = "contours: green reference, red found; errors: red false bone, yellow missed bone, blue air, grey unknown"


def write_overlay(
    found: dict[str, Labels], truth: Reference, sampling_mm: Sampling, path: Path, *, zoom: float = 1.0
) -> None:
    """Write one PNG: a row per plane, the slice where the first method errs most; a pair of columns per method."""
    wrong = (next(iter(found.values())) != truth.labels) & truth.body
    rows = []
    for axis in range(3):
        index = int(np.argmax(wrong.sum(axis=tuple({0, 1, 2} - {axis}))))
        tiles = [_named(_slice(truth, labels, axis, index, sampling_mm, zoom), name) for name, labels in found.items()]
        rows.append(_joined(tiles, 1))
    image = Image.fromarray(_joined(rows, 0))
    ImageDraw.Draw(image).text((4, image.height - 14), LEGEND, fill=(230, 230, 230))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_xrays(images: dict[str, dict[str, tuple[npt.NDArray[np.float32], float]]], path: Path) -> None:
    """Write one PNG: a row per view, the reference's X-ray first, then every method's relative error, ±10 % full scale.

    `images` [name][view] are a noiseless image and the detector's signal with nothing in the beam; "reference" is one.
    """
    rows = []
    for view, (best, blank) in images["reference"].items():
        log = -np.log(np.maximum(best, 1e-9 * blank) / blank)
        low, high = np.percentile(log[log > 0.01], (2, 99.5)) if (log > 0.01).any() else (0.0, 1.0)
        grey = (np.clip((log - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
        tiles = [_named(np.repeat(grey[:, :, None], 3, axis=2), f"reference, {view}")]
        for name, views in images.items():
            if name != "reference":
                error = np.clip((views[view][0] - best) / best / 0.1, -1.0, 1.0)
                tiles.append(_named(_diverging(error), f"{name}: blue darker, red brighter, full at 10 %"))
        rows.append(_joined(tiles, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_joined(rows, 0)).save(path)


def _diverging(values: npt.NDArray[np.floating]) -> Picture:
    """-1 blue, 0 white, 1 red."""
    away = (np.abs(values) * 255).astype(np.uint8)
    red, blue = values > 0, values < 0
    picture = np.full((*values.shape, 3), 255, np.uint8)
    picture[..., 0][blue] -= away[blue]
    picture[..., 1] -= away
    picture[..., 2][red] -= away[red]
    return picture


def _slice(truth: Reference, found: Labels, axis: int, index: int, sampling_mm: Sampling, zoom: float) -> Picture:
    """Contours on the CT beside the error map, patient's right on the left, front or head up."""
    rows, columns = (a for a in range(3) if a != axis)
    scale = zoom * sampling_mm[rows], zoom * sampling_mm[columns]

    def large(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        zoomed: npt.NDArray[np.float32] = ndimage.zoom(np.take(mask, index, axis).astype(np.float32), scale, order=1)
        return zoomed > 0.5

    hu = ndimage.zoom(np.take(truth.hu, index, axis).astype(np.float32), scale, order=1)
    grey = (np.clip((hu - _LOW_HU) / (_HIGH_HU - _LOW_HU), 0.0, 1.0) * 255.0).astype(np.uint8)
    contours, errors = (np.repeat((grey * share).astype(np.uint8)[:, :, None], 3, axis=2) for share in (1.0, 0.5))
    for labels, colour in ((truth.labels, _TRUTH), (found, _FOUND)):
        for label in (BONE, AIR):
            mask = large(labels == label)
            contours[mask & ~ndimage.binary_erosion(mask, border_value=1)] = colour
    bone, found_bone = truth.labels == BONE, found == BONE
    for mask, colour in (
        (~truth.known, UNKNOWN),
        (((truth.labels == AIR) ^ (found == AIR)) & truth.known, AIR_WRONG),
        (found_bone & ~bone & truth.known, FALSE_BONE),
        (bone & ~found_bone & truth.known, MISSED_BONE),
    ):
        errors[large(mask)] = colour
    return np.concatenate([contours[::-1, ::-1], errors[::-1, ::-1]], axis=1)


def _named(picture: Picture, name: str) -> Picture:
    image = Image.fromarray(np.pad(picture, ((14, 0), (0, 0), (0, 0))))
    ImageDraw.Draw(image).text((4, 1), name, fill=(230, 230, 230))
    return np.asarray(image)


def _joined(pictures: list[Picture], axis: int) -> Picture:
    """Pictures side by side (axis 1) or below each other (axis 0), the smaller ones padded."""
    other = 1 - axis
    size = max(p.shape[other] for p in pictures)
    padded = []
    for picture in pictures:
        widths = [(0, 0), (0, 0), (0, 0)]
        widths[other] = (0, size - picture.shape[other])
        widths[axis] = (0, 4 if axis == 1 else 16)
        padded.append(np.pad(picture, widths))
    return np.concatenate(padded, axis=axis)
