"""The body's outline and its layers: skin, subcutaneous fat, muscle and the fat-filled abdominal cavity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import SOFT_TISSUE, Array, Canvas, smooth_union, union_near
from .shapes import Mirrored, tube
from .texture import Texture
from .thorax import Profile

FASCIA_WIDTH = np.float32(0.12)
# The skin is smooth enough to be evaluated this coarsely and interpolated.
STEP_MM = 9.0
SKIN_MM, SKIN_HU, FAT_HU, MUSCLE_HU = 2.0, 40.0, -100.0, 52.0


@dataclass(frozen=True)
class Outline:
    """Signed distance to the skin, in canonical mm, negative inside, and the thickness of the fat below."""

    trunk: Profile
    data: dict[str, Any]
    fat_scale: float

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Return the distance to the skin of trunk, upper arms and thighs."""
        # The trunk ends round between the thighs, lower at the buttocks than in front.
        end = np.float32(-168.0) + np.float32(0.12) * y - z
        trunk = -smooth_union(-self.trunk.distance(x, y, z), -end, 60.0)
        for name, blend_mm in (("shoulder", 20.0), ("arm", 20.0), ("thigh", 16.0)):
            limb = tube(self.data[name], 25.0)
            limbs = [*limb, *(Mirrored(shape) for shape in limb)]
            trunk = smooth_union(trunk, union_near(limbs, x, y, z, smooth_mm=0.0), blend_mm)
        return trunk

    def fat_mm(self, x: Array, y: Array, z: Array) -> Array:
        """Return the thickness of skin and subcutaneous fat: thin over the chest, thick over the buttocks."""
        base = np.interp(z, [-260, -150, -80, 40, 150, 260, 400, 480], [13, 17, 20, 17, 15, 10, 9, 10])
        belly = 5.0 * np.exp(-np.square((z - 0.0) / 90.0) - np.square((y - 95.0) / 45.0))
        buttock = 14.0 * np.exp(-np.square((z + 90.0) / 60.0) - np.square((y + 130.0) / 40.0))
        flank = 6.0 * np.exp(-np.square((z - 50.0) / 50.0) - np.square((np.abs(x) - 150.0) / 50.0))
        fat: Array = (self.fat_scale * (base + belly + buttock + flank)).astype(np.float32)
        return fat


def outline(data: dict[str, Any], fat_scale: float) -> Outline:
    """Return the outline of one patient."""
    return Outline(Profile(data["trunk"], data["trunk_exponent"]), data, fat_scale)


def paint(body: Outline, canvas: Canvas, lobules: Texture, grain: Texture, fascia: Texture) -> None:
    """Fill the outline with skin, fat and muscle; voxels wholly outside it stay at exactly -1000 HU."""
    for block in canvas.slabs(STEP_MM):
        skin = canvas.coarse(block, body.distance, STEP_MM)
        fat = canvas.coarse(block, body.fat_mm, STEP_MM)
        inside, muscle = canvas.fraction(skin), canvas.fraction(skin + fat)
        below_skin = canvas.fraction(skin + np.float32(SKIN_MM))
        streaks = lobules.on(block)
        # Fat septa run through muscle, and strands of connective tissue through fat.
        marbled = MUSCLE_HU - 55.0 * np.maximum(streaks - 1.1, 0.0) + 6.0 * grain.on(block)
        # Where a smooth random field changes sign is a curved sheet: the fat between neighbouring muscles.
        marbled -= 95.0 * np.maximum(1.0 - np.abs(fascia.on(block)) / FASCIA_WIDTH, 0.0)
        lobular = FAT_HU + 30.0 * np.maximum(-streaks - 1.3, 0.0)
        hu = below_skin * (lobular + muscle * (marbled - lobular) - SKIN_HU) + SKIN_HU
        hu += np.float32(1000.0)
        hu *= inside
        hu -= np.float32(1000.0)
        canvas.hu[block.slices] = hu
        canvas.labels[block.slices][inside >= 0.5] = SOFT_TISSUE


def paint_cavity(cavity: Profile, canvas: Canvas, lobules: Texture, *, lowest_mm: float, top_mm: float) -> None:
    """Fill the abdominal and pelvic cavity with the fat that its organs lie in."""
    block = canvas.block([-150, -150, lowest_mm], [150, 150, top_mm])
    if block is None:
        return
    canvas.paint_block(block, canvas.coarse(block, cavity.distance), FAT_HU + 12.0 * lobules.on(block), SOFT_TISSUE)
