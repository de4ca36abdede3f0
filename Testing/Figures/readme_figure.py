"""Makes the picture at the top of the README: four X-rays of the built-in phantom.

Run: python Testing/Figures/readme_figure.py (about a minute); writes phantom.png.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from figure_options import figure_options
from PIL import Image, ImageDraw, ImageFont

from DeepDRRLogic import CArm, DisplaySettings, MaterialVolume, Spectrum, XRaySimulator
from DeepDRRLogic.detector import Detector
from DeepDRRLogic.phantom import Phantom, phantom

FOLDER = Path(__file__).parents[2] / "Resources" / "Screenshots"
SIDE = 512
MARGIN = 8


def main() -> None:
    folder = figure_options(__doc__, FOLDER).parse_args().output
    patient = phantom(spacing_mm=1.0)
    volume = MaterialVolume.from_ct(patient.ct, patient.labels)
    panels = [
        panel("Chest, PA, 120 kV", volume, chest(patient), "120kV"),
        panel("Pelvis, AP, 70 kV", volume, pelvis(patient), "70kV"),
        panel("Lumbar spine, lateral, 90 kV", volume, lumbar_spine(patient), "90kV", photons=4e6),
        panel("Right hip, fluoroscopy, 80 kV", volume, hip(patient), "80kV", polarity="bones_dark", photons=2e5),
    ]
    width = len(panels) * SIDE + (len(panels) - 1) * MARGIN
    canvas = Image.new("L", (width, SIDE), 255)
    for n, picture in enumerate(panels):
        canvas.paste(picture, (n * (SIDE + MARGIN), 0))
    folder.mkdir(parents=True, exist_ok=True)
    canvas.save(folder / "phantom.png", optimize=True)


def panel(
    title: str, volume: MaterialVolume, arm: CArm, kilovolts: str, polarity: str = "bones_bright", photons: float = 2e5
) -> Image.Image:
    simulator = XRaySimulator(
        volume,
        spectrum=Spectrum.preset(kilovolts),
        detector=Detector.csi_flat_panel(),
        photons_per_pixel=photons * (arm.width / SIDE) ** -2,
    )
    image = simulator(arm.camera())
    shown = image.display(DisplaySettings(polarity=polarity, collimator=arm.field_collimator()))
    picture = Image.fromarray(np.asarray(shown, np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    if abs(arm.beam_direction_ras[0]) < 0.5 and polarity == "bones_bright":
        draw.text((14, 10), "R", fill=255, font=ImageFont.load_default(30), stroke_width=2, stroke_fill=0)
    draw.text((14, SIDE - 30), title, fill=255, font=ImageFont.load_default(18), stroke_width=2, stroke_fill=0)
    return picture


def centred(patient: Phantom, *names: str) -> tuple[float, float, float]:
    x, y, z = np.mean([patient.landmarks[name] for name in names], axis=0)
    return float(x), float(y), float(z)


def chest(patient: Phantom) -> CArm:
    return CArm.preset("radiography_room", isocenter_ras_mm=centred(patient, "T7", "carina")).view("pa")


def pelvis(patient: Phantom) -> CArm:
    middle = centred(patient, "femoral_head_right", "femoral_head_left", "asis_right", "asis_left")
    return CArm.preset("radiography_room", isocenter_ras_mm=middle).view("ap")


def lumbar_spine(patient: Phantom) -> CArm:
    arm = CArm.preset("radiography_room", isocenter_ras_mm=centred(patient, "L3")).view("lateral_left")
    return arm.at(pixel_pitch_mm=0.3)


def hip(patient: Phantom) -> CArm:
    return CArm.preset("mobile_image_intensifier", isocenter_ras_mm=centred(patient, "femoral_head_right"))


if __name__ == "__main__":
    main()
