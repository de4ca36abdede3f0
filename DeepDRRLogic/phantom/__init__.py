"""A procedural torso: a CT with exact material labels and landmarks, for tests, tutorials and training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import chosen
from ..materials import material
from ..memory import require_memory
from ..volume import CTVolume, MaterialLabels
from . import body, landmarks, lungs, organs, skeleton
from .canvas import Canvas, Vector
from .texture import Texture
from .thorax import Profile

MATERIALS = ("air", "soft_tissue", "bone")
REGIONS = {"torso": (-270.0, 500.0), "chest": (120.0, 500.0), "pelvis": (-240.0, 80.0)}
# At the peak, measured: HU and labels, and what is computed on the way to them.
_BYTES_PER_VOXEL = {"torso": 16, "chest": 16, "pelvis": 28}
_LOW_XY, _HIGH_XY = (-230.0, -166.0), (230.0, 122.0)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT, what each of its voxels is made of, and where the landmarks within it are (name → RAS mm, (3,))."""

    ct: CTVolume
    labels: MaterialLabels
    landmarks: dict[str, Vector]


@dataclass(frozen=True)
class _Patient:
    """What differs between seeds."""

    scale: Vector
    scoliosis_mm: float
    rib_slope: float
    fat: float
    gas: float
    mineral: float


def phantom(seed: int = 0, spacing_mm: float = 1.5, *, region: str = "torso", noise_hu: float = 0.0) -> Phantom:
    """Return a supine adult from the shoulders, arms raised, to the middle of the thighs.

    The same arguments give the same voxels; another `seed` is another patient (size, spine, fat, gas,
    mineral, bowel, vessels). `spacing_mm` is the isotropic voxel size: 1.5 for pictures, 4 for quick tests.
    `region` is "torso", "chest" or "pelvis". `noise_hu` is the standard deviation of CT noise inside the
    body. HU are whole, exactly -1000 outside the body; a voxel's label (air, soft tissue, bone) is what
    fills at least half of it: marrow is bone, lung is soft tissue, gas in bowel and airways is air. The
    origin lies between the iliac crests. Raises ValueError for spacings outside 0.5 to 10 mm, unknown
    regions, negative noise, and more voxels than memory holds.
    """
    if not 0.5 <= spacing_mm <= 10.0:
        raise ValueError(f"spacing_mm is {spacing_mm}; give between 0.5 (memory) and 10 (bones vanish).")
    region = chosen("region", region, REGIONS)
    if not 0.0 <= noise_hu <= 500.0:
        raise ValueError(f"noise_hu is {noise_hu}; give a standard deviation from 0 to 500 HU.")
    data: dict[str, Any] = json.loads((files("DeepDRRLogic") / "data" / "phantom.json").read_text("utf-8"))
    patient = _draw(np.random.default_rng([seed, 1]))
    bones = skeleton.build(data, scoliosis_mm=patient.scoliosis_mm, rib_slope=patient.rib_slope)
    canvas, ras_from_ijk = _canvas(spacing_mm, region, patient.scale)
    _paint(data, patient, bones, canvas, seed)
    if noise_hu > 0.0:
        _add_noise(canvas, noise_hu, np.random.default_rng([seed, 9]))
    hu = np.rint(np.clip(canvas.hu, -1000.0, 3000.0)).astype(np.int16)
    materials = tuple(material(name) for name in MATERIALS)
    ct = CTVolume(hu, ras_from_ijk, f"phantom {seed}")
    low, high = ct.corners_ras.min(axis=0), ct.corners_ras.max(axis=0)
    points = {name: point * patient.scale for name, point in landmarks.of(bones).items()}
    inside = {name: point for name, point in points.items() if np.all((low < point) & (point < high))}
    return Phantom(ct, MaterialLabels(canvas.labels, materials, ras_from_ijk), inside)


def _draw(rng: np.random.Generator) -> _Patient:
    size = rng.uniform(0.96, 1.04)
    return _Patient(
        scale=size * rng.uniform(0.98, 1.02, 3),
        scoliosis_mm=float(rng.uniform(-5.0, 5.0)),
        rib_slope=float(rng.uniform(0.92, 1.06)),
        fat=float(rng.uniform(0.8, 1.15)),
        gas=float(rng.uniform(0.7, 1.25)),
        mineral=float(rng.uniform(0.85, 1.15)),
    )


def _canvas(spacing_mm: float, region: str, scale: Vector) -> tuple[Canvas, npt.NDArray[np.float64]]:
    """Return the grid: isotropic in the patient's mm, scaled in the canonical mm that anatomy is given in."""
    bottom, top = REGIONS[region]
    low = np.array([*_LOW_XY, bottom]) * scale
    high = np.array([*_HIGH_XY, top]) * scale
    count = np.floor((high - low) / spacing_mm).astype(int) + 1
    # Centred, so that the sagittal plane x = 0 is a plane of symmetry of the grid.
    origin = (low + high) / 2 - spacing_mm * (count - 1) / 2
    ras_from_ijk = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    ras_from_ijk[:3, 3] = origin
    i, j, k = count.tolist()
    require_memory((k, j, i), _BYTES_PER_VOXEL[region], "The phantom", "give a larger spacing_mm, or one region of it")
    return Canvas(origin / scale, spacing_mm / scale, (k, j, i)), ras_from_ijk


def _paint(data: dict[str, Any], p: _Patient, bones: skeleton.Skeleton, canvas: Canvas, seed: int) -> None:
    """Paint from the outside in; what is painted later lies in what was painted before."""

    def texture(index: int, detail_mm: float) -> Texture:
        return Texture(np.random.default_rng([seed, 2, index]), detail_mm, canvas.voxel_mm)

    def rng(index: int) -> np.random.Generator:
        return np.random.default_rng([seed, 3, index])

    lobules, grain, marrow, stool = (texture(i, mm) for i, mm in enumerate((7.0, 3.0, 2.8, 5.0)))
    body.paint(body.outline(data["body"], p.fat), canvas, lobules, grain, texture(4, 22.0))
    cavity = Profile(data["body"]["cavity"], data["body"]["cavity_exponent"])
    body.paint_cavity(cavity, canvas, lobules, lowest_mm=-165.0, top_mm=256.0)
    organs.paint_muscles(data, canvas, grain)
    organs.paint_organs(data, canvas, grain)
    organs.paint_small_bowel(data, canvas, grain, rng(0), gas=p.gas)
    organs.paint_colon(data, canvas, stool, rng(1), gas=p.gas)
    organs.paint_stomach(data, canvas, grain, gas=p.gas)
    aorta, heart = lungs.aorta(data, bones.vertebrae), organs.ellipsoids(data["heart"])
    air = lungs.build(data, bones.cage, bones.vertebrae, [*heart, aorta])
    organs.paint_vessels([aorta], heart, canvas, grain)
    lungs.paint(air, data, canvas, grain, rng(2))
    skeleton.paint(bones, canvas, marrow, strength=p.mineral)


def _add_noise(canvas: Canvas, noise_hu: float, rng: np.random.Generator) -> None:
    inside = canvas.hu > -999.5
    canvas.hu[inside] += noise_hu * rng.standard_normal(int(inside.sum()), dtype=np.float32)
