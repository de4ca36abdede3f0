"""Scenes for the scatter training set: scene number n of a patient list is the same scene on every machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from DeepDRRLogic import CArm, CTVolume, MaterialVolume, Spectrum
from DeepDRRLogic.affine import apply
from DeepDRRLogic.collimator import WHOLE_DETECTOR, Field
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.materials import material
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.scatter.matter import coarsened
from DeepDRRLogic.segmentation import segment_by_thresholds
from DeepDRRLogic.spectrum import spectrum_presets

VOXEL_MM = 4.0
HELD_OUT = ("chest_contrast_bones_ct", "abdomen_pelvis_ct", "chest_512x512x275_ct", "phantom:0")
WHOLE = ("chest_a_ct", "abdomen_pelvis_b_ct", "head_arms_chest_ct", "head_ct", "neck_chest_ct")
HIPS, LIMBS = "001 011 014 015 020 021 026 029 046 048 050", "008 010 018 019 025 042"
CROPS = (*(f"hip_{n}_ct" for n in HIPS.split()), *(f"limb_{n}_ct" for n in LIMBS.split()))
PHANTOMS = tuple(f"phantom:{seed}" for seed in range(1, 9))
TISSUES = ("air", "soft_tissue", "bone")
METALS = ("titanium", "stainless_steel", "cobalt_chrome")
HARD_FROM, PLAIN_FROM = 100_000, 200_000
NEAREST_DETECTOR_MM, NEAREST_SOURCE_MM = 5.0, 150.0


@dataclass(frozen=True, eq=False)
class Scene:
    """What is simulated: patient, camera, spectrum, and the part of the detector in the beam."""

    patient: str
    volume: MaterialVolume
    camera: Camera
    spectrum: Spectrum
    field: Field
    metal: bool


def training_scene(number: int, folder: Path) -> Scene:
    """Scene of the training set; `folder` holds the CTs of WHOLE and CROPS.

    From HARD_FROM on, bodies are larger and views nearer to their edges: next to nothing gets through them, or little
    of them is in the beam. From PLAIN_FROM on, many beams have one energy, many bodies are slabs as wide as the beam,
    and detectors may be larger.
    """
    rng = np.random.default_rng([2018, number])
    if number >= PLAIN_FROM:
        kinds = (WHOLE, CROPS, PHANTOMS, ("block",), ("slab",))
        kind = kinds[int(rng.choice(5, p=(0.3, 0.08, 0.17, 0.1, 0.35)))]
        return _scene(str(rng.choice(kind)), folder, rng, one_energy=0.4, widest_mm=600.0)
    if number >= HARD_FROM:
        kinds = (WHOLE, PHANTOMS, ("block",))
        kind = kinds[int(rng.choice(3, p=(0.6, 0.28, 0.12)))]
        return _scene(str(rng.choice(kind)), folder, rng, sizes=(1.0, 1.35), aside=1.25)
    kinds = (WHOLE, CROPS, PHANTOMS, ("block",))
    kind = kinds[int(rng.choice(4, p=(0.42, 0.2, 0.26, 0.12)))]
    return _scene(str(rng.choice(kind)), folder, rng)


def held_out_scene(number: int, folder: Path) -> Scene:
    """Scene of the held-out patients, who are in no training scene; their size is left as it is."""
    rng = np.random.default_rng([2019, number])
    return _scene(HELD_OUT[number % len(HELD_OUT)], folder, rng, sizes=None)


def _scene(
    patient: str,
    folder: Path,
    rng: np.random.Generator,
    sizes: tuple[float, float] | None = (0.85, 1.15),
    aside: float = 1.15,
    one_energy: float = 0.0,
    widest_mm: float = 430.0,
) -> Scene:
    made = {"block": _block, "slab": _slab}.get(patient)
    volume = made(rng) if made else _patient(patient, folder)
    if sizes:
        affine = volume.ras_from_ijk.copy()
        affine[:, :3] *= rng.uniform(*sizes)
        volume = replace(volume, ras_from_ijk=affine)
    metal = bool(rng.random() < 0.25)
    if metal:
        for _ in range(rng.integers(1, 4)):
            volume = _with_metal(volume, rng)
    camera = _camera(volume, rng, aside, widest_mm)
    spectrum = Spectrum.preset(str(rng.choice(spectrum_presets())))
    if one_energy and rng.random() < one_energy:
        spectrum = Spectrum.monoenergetic(float(rng.uniform(25.0, 120.0)))
    if rng.random() < 0.15:
        spectrum = spectrum.filtered("copper", float(rng.uniform(0.1, 0.5)))
    field = WHOLE_DETECTOR
    if rng.random() < 0.3:
        a, b, c, d = (float(x) for x in rng.uniform(0.0, 0.3, 4))
        field = (a, b, 1.0 - c, 1.0 - d)
    return Scene(patient, volume, camera, spectrum, field, metal)


@lru_cache(maxsize=40)
def _patient(name: str, folder: Path) -> MaterialVolume:
    if name.startswith("phantom:"):
        body = phantom(int(name.partition(":")[2]), VOXEL_MM)
        return MaterialVolume.from_ct(body.ct, body.labels)
    path = folder / f"{name}.nii.gz"
    path = path if path.exists() else folder.parent / path.name
    ct = CTVolume.read(path)
    return coarsened(MaterialVolume.from_ct(ct, segment_by_thresholds(ct)), VOXEL_MM)


def _block(rng: np.random.Generator) -> MaterialVolume:
    """A box or an elliptic cylinder of water or plastic with an insert of bone, air or nothing else."""
    size = np.array([rng.uniform(60, 400), rng.uniform(40, 320), rng.uniform(60, 400)])
    n = np.ceil(size / VOXEL_MM).astype(int)
    k, j, i = np.meshgrid(*((np.arange(m) + 0.5) / m * 2 - 1 for m in n[::-1]), indexing="ij")
    density = np.ones(k.shape, np.float32)
    if rng.random() < 0.5:
        density[i**2 + j**2 > 1.0] = 0.0
    labels = np.ones(k.shape, np.uint8)
    center, radius = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.15, 0.5)
    insert = (i - center[0]) ** 2 + (j - center[1]) ** 2 + ((k - center[2]) * 0.5) ** 2 < radius**2
    kind = int(rng.integers(0, 3))
    if kind < 2:
        density[insert & (density > 0)] = (1.5, 0.25)[kind]
        labels[insert] = (2, 1)[kind]
    affine = np.diag([*(size / n), 1.0])
    affine[:3, 3] = -0.5 * size + 0.5 * size / n
    materials = tuple(
        material(name) for name in (TISSUES[0], str(rng.choice(["water", "pmma", "soft_tissue"])), "bone")
    )
    return MaterialVolume(density, labels, materials, affine)


def _slab(rng: np.random.Generator) -> MaterialVolume:
    """A slab of one thing, thin along its second axis and about as wide as a beam."""
    size = np.array([rng.uniform(200, 500), rng.uniform(10, 350), rng.uniform(200, 500)])
    n = np.ceil(size / (10.0, VOXEL_MM, 10.0)).astype(int)
    affine = np.diag([*(size / n), 1.0])
    affine[:3, 3] = -0.5 * size + 0.5 * size / n
    its = material(str(rng.choice(["water", "pmma", "soft_tissue", "water"])))
    shape = (n[2], n[1], n[0])
    return MaterialVolume(np.ones(shape, np.float32), np.zeros(shape, np.uint8), (its,), affine)


def _with_metal(volume: MaterialVolume, rng: np.random.Generator) -> MaterialVolume:
    """A rod, a ball or a plate of metal somewhere in the body, by the share of each voxel that it fills."""
    metal = material(str(rng.choice(METALS)))
    kind = rng.choice(["rod", "ball", "plate"])
    points = rng.uniform(-1.0, 1.0, (200_000, 3))
    if kind == "ball":
        half = np.full(3, rng.uniform(10.0, 20.0))
        points = points[(points**2).sum(axis=1) < 1.0]
    elif kind == "rod":
        half = np.array([1.0, 1.0, 0.0]) * rng.uniform(2.0, 6.0) + [0, 0, rng.uniform(20.0, 120.0)]
        points = points[points[:, 0] ** 2 + points[:, 1] ** 2 < 1.0]
    else:
        half = np.array([rng.uniform(1.5, 3.0), rng.uniform(8.0, 60.0), rng.uniform(20.0, 80.0)])
    fullness = len(points) / 200_000 * 8 * float(np.prod(half)) / len(points)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    solid = np.argwhere(volume.density_g_cm3 > 0.6)
    center = apply(volume.ras_from_ijk, solid[rng.integers(len(solid))][::-1])
    i, j, k = np.rint(apply(volume.ijk_from_ras, (points * half) @ turn.T + center)).astype(int).T
    nk, nj, ni = volume.shape
    ok = (i >= 0) & (j >= 0) & (k >= 0) & (i < ni) & (j < nj) & (k < nk)
    share = np.zeros(volume.shape)
    np.add.at(share, (k[ok], j[ok], i[ok]), fullness / abs(np.linalg.det(volume.ras_from_ijk[:3, :3])))
    share = np.minimum(share, 1.0).astype(np.float32)
    density = volume.density_g_cm3 * (1.0 - share) + share * np.float32(metal.density_g_cm3)
    materials = volume.materials if metal in volume.materials else (*volume.materials, metal)
    labels = np.where(share * metal.density_g_cm3 > 0.5 * density, np.uint8(materials.index(metal)), volume.labels)
    return MaterialVolume(density, labels, materials, volume.ras_from_ijk)


def _camera(volume: MaterialVolume, rng: np.random.Generator, aside: float, widest_mm: float) -> Camera:
    """A C-arm or a radiography room around some place in the body, with all mass between source and detector."""
    solid = np.argwhere(volume.density_g_cm3 > 0.3)
    places = apply(volume.ras_from_ijk, solid[rng.integers(len(solid), size=4000)][:, ::-1])
    while True:
        if rng.random() < 0.6:
            far = float(rng.uniform(900.0, 1300.0))
            near = far * float(rng.uniform(0.45, 0.72))
        else:
            far = float(rng.uniform(1000.0, 1800.0))
            near = far - float(rng.uniform(120.0, 400.0))
        primary = float(rng.choice([0.0, 90.0, 180.0, 270.0]) + rng.normal(0.0, 12.0))
        if rng.random() < 0.5:
            primary = float(rng.uniform(-180.0, 180.0))
        width = float(rng.uniform(180.0, widest_mm))
        height = width * float(rng.choice([1.0, 1.0, rng.uniform(0.6, 1.0)]))
        pitch = width / 64.0
        middle = places.mean(axis=0)
        place = middle + rng.uniform(0.0, aside) * (places[rng.integers(len(places))] - middle)
        shift = rng.uniform(-60.0, 60.0, 2) if rng.random() < 0.15 else np.zeros(2)
        x, y, z = place.tolist()
        camera = CArm(
            isocenter_ras_mm=(x, y, z), primary_angle_deg=primary,
            secondary_angle_deg=float(np.clip(rng.normal(0.0, 18.0), -45.0, 45.0)),
            roll_deg=float(rng.normal(0.0, 15.0)),
            source_to_detector_mm=far, source_to_isocenter_mm=near, pixel_pitch_mm=pitch,
            width=64, height=max(1, math.ceil(height / pitch)), detector_shift_mm=(float(shift[0]), float(shift[1])),
        ).camera()  # fmt: skip
        depth = apply(camera.camera_from_ras, places)[:, 2]
        if depth.min() > NEAREST_SOURCE_MM and depth.max() < far - NEAREST_DETECTOR_MM:
            return camera
