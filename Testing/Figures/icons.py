"""Draws the extension's icon, the module's icon, and the X-rays that stand for the phantoms in Sample Data.

python Testing/Figures/icons.py [-o FOLDER]; in it, Resources/Icons and DeepDRRSlicer/Resources/Icons are filled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from figure_options import figure_options
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.simulator import XRaySimulator
from DeepDRRLogic.volume import MaterialVolume

ROOT = Path(__file__).parents[2]
EXTENSION_ICONS = Path("Resources", "Icons")
MODULE_ICONS = Path("DeepDRRSlicer", "Resources", "Icons")
FINE = 8  # drawn this much larger, then reduced, for smooth edges


def icon(size: int) -> Image.Image:
    """A C-arm around a glowing beam, on a tile."""
    n = 128 * FINE
    picture = Image.new("RGBA", (n, n))
    tile = Image.new("L", (n, n))
    ImageDraw.Draw(tile).rounded_rectangle(_at(3, 3, 125, 125), radius=26 * FINE, fill=255)
    picture.paste(_gradient(n, (18, 96, 110), (9, 34, 60)), mask=tile)
    picture = Image.alpha_composite(picture, _beam(n))
    picture = Image.alpha_composite(picture, _spine(n))
    picture = Image.alpha_composite(picture, _machine(n))
    picture.putalpha(ImageChops.multiply(picture.getchannel("A"), tile))
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def _at(*numbers: float) -> list[float]:
    return [number * FINE for number in numbers]


def _gradient(n: int, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    ramp = np.linspace(0.0, 1.0, n)[:, None, None]
    colors = (1 - ramp) * np.array(top) + ramp * np.array(bottom)
    return Image.fromarray(np.broadcast_to(colors, (n, n, 3)).astype(np.uint8))


def _beam(n: int) -> Image.Image:
    """The cone from the tube below to the detector above, brighter towards the tube."""
    shape = Image.new("L", (n, n))
    ImageDraw.Draw(shape).polygon(_at(76, 102, 49, 31, 103, 31), fill=255)
    strength = np.clip(np.linspace(0.42, 1.1, n), 0, 1)[:, None] * np.asarray(shape, dtype=float)
    layer = Image.new("RGBA", (n, n), (255, 214, 102, 0))
    layer.putalpha(Image.fromarray((0.95 * strength).astype(np.uint8)))
    return layer


def _spine(n: int) -> Image.Image:
    """Three vertebrae and their ribs, as the beam would show them."""
    layer = Image.new("RGBA", (n, n))
    draw = ImageDraw.Draw(layer)
    bone = (255, 255, 255, 255)
    for y in (48, 60, 72):
        draw.rounded_rectangle(_at(71.5, y, 80.5, y + 8.5), radius=2.6 * FINE, fill=bone)
        draw.rounded_rectangle(_at(65, y + 2.6, 87, y + 5.8), radius=1.6 * FINE, fill=bone)
    return layer


def _machine(n: int) -> Image.Image:
    """The C with its detector above and its tube below, over a soft shadow."""
    layer = Image.new("RGBA", (n, n))
    draw = ImageDraw.Draw(layer)
    white, grey = (244, 248, 250, 255), (190, 205, 214, 255)
    draw.arc(_at(22, 12, 126, 116), start=84, end=276, fill=white, width=10 * FINE)
    draw.rounded_rectangle(_at(10, 53, 30, 75), radius=5 * FINE, fill=grey)
    draw.rounded_rectangle(_at(44, 20, 108, 33), radius=5 * FINE, fill=white)
    draw.rounded_rectangle(_at(48, 30, 104, 33), radius=1.5 * FINE, fill=(26, 50, 66, 255))
    draw.rounded_rectangle(_at(59, 98, 93, 118), radius=6 * FINE, fill=white)
    draw.rounded_rectangle(_at(68, 94, 84, 100), radius=2 * FINE, fill=grey)
    shadow = Image.new("RGBA", (n, n), (4, 18, 34, 0))
    shadow.putalpha(layer.getchannel("A").filter(ImageFilter.GaussianBlur(2.5 * FINE)).point(lambda a: int(0.55 * a)))
    return Image.alpha_composite(ImageChops.offset(shadow, 0, 2 * FINE), layer)


def thumbnail(region: str, size: int) -> Image.Image:
    """An X-ray of the whole phantom from the front, bones bright."""
    patient = phantom(spacing_mm=2.0, region=region)
    volume = MaterialVolume.from_ct(patient.ct, patient.labels)
    extent_mm = 2.0 * max(patient.ct.hu.shape[0], patient.ct.hu.shape[2])
    arm = CArm(
        isocenter_ras_mm=tuple(patient.ct.center_ras),
        source_to_detector_mm=1600.0,
        source_to_isocenter_mm=1200.0,
        width=2 * size,
        height=2 * size,
        pixel_pitch_mm=1.28 * extent_mm / (2 * size),
    )
    log = XRaySimulator(volume, photons_per_pixel=1e6)(arm.camera(), seed=0).log()
    low, high = np.percentile(log, 2), np.percentile(log, 99.7)
    grey = (255 * np.clip((log - low) / (high - low), 0, 1) ** 0.9).astype(np.uint8)
    return Image.fromarray(grey).resize((size, size), Image.Resampling.LANCZOS)


def main() -> None:
    root = figure_options(__doc__, ROOT).parse_args().output
    for path in (EXTENSION_ICONS / "DeepDRRSlicerExtension.png", MODULE_ICONS / "DeepDRRSlicer.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        icon(128).save(root / path, optimize=True)
    for name, region in (("PhantomChest", "chest"), ("PhantomPelvis", "pelvis"), ("PhantomTorso", "torso")):
        thumbnail(region, 128).save(root / MODULE_ICONS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
