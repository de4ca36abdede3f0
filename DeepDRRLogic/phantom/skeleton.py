"""Paint the skeleton: cortical shells around trabecular cores, joint by joint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import pelvis, spine, thorax
from .canvas import SOFT_TISSUE, Array, Canvas, Solid, Spot, Vector, smooth_cut
from .shapes import Ellipsoid, Mirrored, mirrored
from .texture import Texture

CARTILAGE_HU, DISC_HU, CORD_HU = 95.0, 85.0, 30.0


@dataclass(frozen=True)
class Tissue:
    """How a bone is built: cortical thickness, HU of cortex and core, spread of the core's texture."""

    cortex_mm: float | Callable[[Spot], Array]
    cortex_hu: float
    core_hu: float | Callable[[Spot], Array]
    spread_hu: float | Callable[[Spot], Array]


@dataclass(frozen=True)
class Skeleton:
    """All bones in canonical mm, and the cage surface that the chest's soft tissue follows."""

    vertebrae: list[spine.Vertebra]
    cage: thorax.Profile
    ribs: list[thorax.Rib]
    sacrum: pelvis.Sacrum
    sacral_parts: list[Solid]
    hip: pelvis.HipBone
    data: dict[str, Any]

    def vertebra(self, name: str) -> spine.Vertebra:
        """Return a vertebra by its name."""
        return next(v for v in self.vertebrae if v.name == name)


def build(data: dict[str, Any], *, scoliosis_mm: float, rib_slope: float) -> Skeleton:
    """Return the skeleton for one patient."""
    vertebrae = spine.stack(data["spine"], scoliosis_mm)
    cage = thorax.Profile(data["cage"]["rows"], data["cage"]["exponent"])
    thoracic = sorted((v for v in vertebrae if v.name.startswith("T")), key=lambda v: int(v.name[1:]))
    ribs = thorax.ribs(cage, data["cage"], thoracic, rib_slope)
    sacrum, parts = pelvis.sacrum(data["pelvis"], np.asarray(data["spine"]["sacral_endplate"], float))
    hip = pelvis.hip_bone(data["pelvis"], np.asarray(data["femur"]["head"]["center"], float))
    return Skeleton(vertebrae, cage, ribs, sacrum, parts, hip, data)


class Painter:
    """Paints bones and cartilage with one canvas and one marrow texture."""

    def __init__(self, canvas: Canvas, marrow: Texture) -> None:
        self._canvas, self._marrow = canvas, marrow

    def bone(self, solids: Sequence[Solid], tissue: Tissue, smooth_mm: float = 2.0) -> None:
        """Paint the union of solids as one bone."""
        found = self._canvas.field(solids, smooth_mm=smooth_mm)
        if found is not None:
            self._shell(self._canvas.touched(*found), tissue)

    def soft(self, solids: Sequence[Solid], hu: float, smooth_mm: float = 0.0) -> None:
        """Paint the union of solids in one soft tissue."""
        found = self._canvas.field(solids, smooth_mm=smooth_mm)
        if found is not None:
            self._canvas.paint(self._canvas.touched(*found), hu, SOFT_TISSUE)

    def hip_bone(self, hip: pelvis.HipBone, tissue: Tissue, *, left: bool) -> None:
        """Paint a hip bone with its socket and the symphysis cut out."""
        solids = mirrored(hip.solids) if left else hip.solids
        found = self._canvas.field(solids, smooth_mm=9.0, margin_mm=3.0)
        if found is None:
            return
        block, distance = found
        x = -block.x if left else block.x
        self._shell(self._canvas.touched(block, hip.hollowed(distance, x, block.y, block.z)), tissue)

    def sacrum(self, skeleton: Skeleton, tissue: Tissue) -> None:
        """Paint the sacrum, leaving a joint space of 2.5 mm to the hip bones."""
        found = self._canvas.field(skeleton.sacral_parts, smooth_mm=3.0)
        if found is None:
            return
        block, distance = found
        for wing in (skeleton.hip.wing, Mirrored(skeleton.hip.wing)):
            around = self._canvas.block(*wing.bounds(), 4.0)
            part = around and self._canvas.inside(around, block)
            if part is not None:
                view = distance[part.within(block)]
                gap = wing.distance(part.x, part.y, part.z) - np.float32(2.5)
                view[...] = smooth_cut(view, gap, 1.0)
        self._shell(self._canvas.touched(block, distance), tissue)

    def _shell(self, spot: Spot, tissue: Tissue) -> None:
        cortex = tissue.cortex_mm(spot) if callable(tissue.cortex_mm) else tissue.cortex_mm
        core = tissue.core_hu(spot) if callable(tissue.core_hu) else tissue.core_hu
        spread = tissue.spread_hu(spot) if callable(tissue.spread_hu) else tissue.spread_hu
        texture = self._marrow.at(spot)
        self._canvas.paint_shell(spot, cortex, tissue.cortex_hu + 40.0 * texture, core + spread * texture)


def paint(skeleton: Skeleton, canvas: Canvas, marrow: Texture, *, strength: float = 1.0) -> None:
    """Paint cartilage and all bones; `strength` scales the mineral of the trabecular bone."""
    painter = Painter(canvas, marrow)
    _paint_chest(skeleton, painter, strength)
    _paint_spine(skeleton, painter, strength)
    _paint_pelvis(skeleton, painter, strength)
    _paint_femora(skeleton, painter, strength)


def _paint_chest(skeleton: Skeleton, painter: Painter, strength: float) -> None:
    data = skeleton.data
    for rib in skeleton.ribs:
        for cartilage in (rib.cartilage, mirrored(rib.cartilage)):
            if cartilage:
                painter.soft(cartilage, CARTILAGE_HU)
    painter.bone(thorax.sternum(data["cage"]), Tissue(1.0, 1000.0, 130.0 * strength, 40.0), 5.0)
    rib_bone = Tissue(_costal_cortex, 1350.0, 160.0 * strength, 40.0)
    for rib in skeleton.ribs:
        painter.bone(rib.bone, rib_bone, 0.0)
        painter.bone(mirrored(rib.bone), rib_bone, 0.0)
    for shapes, tissue, smooth in (
        (thorax.humerus(data["shoulder"]), Tissue(_humeral_cortex, 1400.0, 170.0 * strength, 60.0), 6.0),
        (thorax.scapula(data["shoulder"]), Tissue(1.0, 1200.0, 150.0 * strength, 50.0), 5.0),
        (thorax.clavicle(data["shoulder"]), Tissue(1.7, 1400.0, 200.0 * strength, 50.0), 0.0),
    ):
        painter.bone(shapes, tissue, smooth)
        painter.bone(mirrored(shapes), tissue, smooth)


def _paint_spine(skeleton: Skeleton, painter: Painter, strength: float) -> None:
    arch = Tissue(1.2, 1100.0, 250.0 * strength, 90.0)
    thoracic_arch = Tissue(1.0, 950.0, 220.0 * strength, 80.0)
    body = Tissue(1.25, 1100.0, 225.0 * strength, 110.0)
    painter.soft([spine.disc(v) for v in skeleton.vertebrae], DISC_HU)
    for v in skeleton.vertebrae:
        painter.bone(spine.arch(v), arch if v.is_lumbar else thoracic_arch, 2.5)
        painter.bone([spine.body(v)], body)
    painter.soft([spine.canal(v) for v in skeleton.vertebrae], CORD_HU)


def _paint_pelvis(skeleton: Skeleton, painter: Painter, strength: float) -> None:
    painter.sacrum(skeleton, Tissue(1.1, 1000.0, 180.0 * strength, 110.0))
    hip = Tissue(1.3, 1350.0, 220.0 * strength, 150.0)
    painter.soft([Ellipsoid((0.0, 25.0, -124.0), (5.0, 9.0, 18.0))], CARTILAGE_HU)
    for left in (False, True):
        painter.hip_bone(skeleton.hip, hip, left=left)


def _paint_femora(skeleton: Skeleton, painter: Painter, strength: float) -> None:
    data = skeleton.data["femur"]
    head = np.asarray(data["head"]["center"], float)
    shapes = pelvis.femur(data)

    def core(spot: Spot) -> Array:
        return _femoral_core(spot, head, strength)

    for bone in (shapes, mirrored(shapes)):
        painter.bone(bone, Tissue(_femoral_cortex, 1500.0, core, _femoral_spread), 9.0)


def _costal_cortex(spot: Spot) -> Array:
    """Thicker at the angles in the back than towards the cartilage."""
    return np.interp(spot.y, [-60, 50], [1.3, 0.75]).astype(np.float32)


def _humeral_cortex(spot: Spot) -> Array:
    return np.interp(spot.z, [455, 475, 500], [1.1, 2.2, 3.5]).astype(np.float32)


def _femoral_cortex(spot: Spot) -> Array:
    """Thin over head and trochanters, thick along the calcar and the shaft."""
    x = np.abs(spot.x)
    along = np.interp(spot.z, [-230, -190, -160, -140, -120], [6.8, 6.2, 4.4, 2.4, 1.4])
    # The calcar: the lower medial wall of the neck and below it.
    calcar = 2.2 * np.exp(-np.square((x - 108.0) / 9.0) - np.square((spot.z + 142.0) / 16.0))
    cortex: Array = (along + calcar).astype(np.float32)
    return cortex


def _femoral_spread(spot: Spot) -> Array:
    """Trabeculae fade out towards the shaft, which holds fat."""
    return np.interp(spot.z, [-190, -140, -105], [15.0, 80.0, 120.0]).astype(np.float32)


def _femoral_core(spot: Spot, head: Vector, strength: float) -> Array:
    """Trabecular density: the compressive fan in the head, Ward's triangle, fat marrow in the shaft."""
    x = np.abs(spot.x) - np.float32(head[0])
    z = spot.z - np.float32(head[2])
    # Principal compressive group: from the top of the head down to the calcar.
    across = 0.95 * x + 0.32 * (z - 18.0)
    fan = np.exp(-np.square(across / 11.0)) * np.clip((z + 55.0) / 30.0, 0.0, 1.0)
    # Principal tensile group: an arch from the lateral cortex over the neck into the head.
    radius = np.hypot(x - 8.0, z + 42.0)
    arch = np.exp(-np.square((radius - 38.0) / 7.0)) * np.clip((x + 15.0) / 20.0, 0.0, 1.0)
    base = np.interp(z, [-120, -80, -55, -20, 0], [-50, -30, 40, 110, 170])
    core = base + strength * (190.0 * fan + 110.0 * arch * (z > -45.0))
    hu: Array = core.astype(np.float32)
    return hu
