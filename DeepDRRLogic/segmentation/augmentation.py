"""What the training patches are put through, so that a small set of CTs stands for many scanners and patients.

Every function takes Hounsfield units and labels of one patch, tensors (d, h, w) along k, j, i on the network's grid,
and a Dice: a seeded source of randomness. Labels change only where the body itself does: simulated contrast medium
stays soft tissue, a couch is air, metal counts as bone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

AIR, SOFT, BONE = 0, 1, 2
BORDER_HU = 170.0  # of bone to soft tissue in the labels, see Testing/Annotation/README.md
UNENHANCED_HU = 120.0  # blood clots reach 90
_METAL_HU = 3071.0


class Dice:
    """Random numbers and fields from one seed, on one device."""

    def __init__(self, seed: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.numbers = np.random.default_rng(seed)
        self.device = torch.device(device)
        self._fields = torch.Generator(self.device).manual_seed(int(self.numbers.integers(2**62)))

    def happens(self, probability: float) -> bool:
        return bool(self.numbers.random() < probability)

    def between(self, low: float, high: float) -> float:
        return float(self.numbers.uniform(low, high))

    def log_between(self, low: float, high: float) -> float:
        return math.exp(self.between(math.log(low), math.log(high)))

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._fields, device=self.device)

    def smooth_field(self, shape: tuple[int, ...], detail: int) -> Tensor:
        """A field (d, h, w) of standard deviation near 1 that varies on 1/`detail` of the patch."""
        coarse = self.noise((1, 1, detail + 1, detail + 1, detail + 1))
        return functional.interpolate(coarse, shape, mode="trilinear", align_corners=True)[0, 0]


@dataclass(frozen=True)
class Augmentation:
    """How often each change is made: probabilities per patch, and the part of changed kernels that are softer.

    What moves or blurs borders (thick slices, soft kernels, noise, shifted or scaled HU) is rare. Where half of the
    patches have their borders elsewhere, borders are learnt to be vague: bone in sharp images is drawn thin, vessels in
    lung are lost.
    """

    bone_density: float = 0.35
    phase: float = 0.25
    contrast: float = 0.6
    metal: float = 0.12
    couch: float = 0.3
    slice_thickness: float = 0.08
    kernel: float = 0.4
    soft_kernels: float = 0.12
    noise: float = 0.1
    calibration: float = 0.12
    truncation: float = 0.06

    @classmethod
    def none(cls) -> Augmentation:
        return cls(**dict.fromkeys(cls.__dataclass_fields__, 0.0))


def augment(hu: Tensor, labels: Tensor, dice: Dice, settings: Augmentation) -> tuple[Tensor, Tensor]:
    """The patch as another scanner might have seen another patient: float32 HU and uint8 labels.

    First what changes the body, then what changes its image, in the order in which it happens to a patient.
    """
    hu = hu.to(torch.float32)
    if dice.happens(settings.bone_density):
        hu = change_bone_density(hu, labels, dice)
    if dice.happens(settings.phase):
        hu = change_phase(hu, labels, dice)
    if dice.happens(settings.contrast):
        hu = add_contrast(hu, labels, dice)
    if dice.happens(settings.couch):
        hu = add_couch(hu, labels, dice)
    if dice.happens(settings.metal):
        hu, labels = add_metal(hu, labels, dice)
    if dice.happens(settings.slice_thickness):
        hu = thicken_slices(hu, dice)
    if dice.happens(settings.kernel):
        hu = change_kernel(hu, dice, settings.soft_kernels)
    if dice.happens(settings.noise):
        hu = add_noise(hu, dice)
    if dice.happens(settings.calibration):
        hu = (hu + 1000.0) * dice.between(0.93, 1.07) - 1000.0 + dice.between(-25.0, 25.0)
    if dice.happens(settings.truncation):
        hu, labels = truncate(hu, labels, dice)
    return hu.clamp(-1024.0, _METAL_HU), labels


def change_bone_density(hu: Tensor, labels: Tensor, dice: Dice) -> Tensor:
    """From osteoporosis to dense bone: what bone has above its border is scaled, cortex and trabeculae alike.

    The border keeps its CT number, by which the labels were drawn: scaled with the rest, it would teach that a border
    can be at any.
    """
    excess = (hu - BORDER_HU).clamp_min(0.0)
    return torch.where(labels == BONE, hu + excess * (dice.log_between(0.4, 2.5) - 1.0), hu)


def change_phase(hu: Tensor, labels: Tensor, dice: Dice) -> Tensor:
    """Real contrast medium, thinner or denser: what soft tissue has above the most that it has by itself is scaled.

    Its heart and veins have shapes, swirls and streaks that no simulation has. Beside bone, where a voxel is partly
    bone, and in what is bright by its grain alone, nothing changes.
    """
    away = _dilated((labels == BONE).to(torch.float32), 2) == 0
    medium = (labels == SOFT) & away & (blurred(hu, 1.3) > UNENHANCED_HU)
    excess = (hu - UNENHANCED_HU).clamp_min(0.0)
    return torch.where(medium, hu + excess * (dice.log_between(0.3, 2.0) - 1.0), hu)


def add_contrast(hu: Tensor, labels: Tensor, dice: Dice) -> Tensor:
    """Vessels as tubes, bowel as blobs, whole organs and kidneys with contrast medium; everything stays soft tissue.

    The grain of the image is kept, stronger or weaker: contrast medium without it would be told by its smoothness,
    which no scanner shows. Dense medium casts streaks, as in the great veins during injection; where it is undiluted,
    it is as bright as metal, and told from it by lying in wide vessels and lumps away from bone.
    """
    soft = (labels == SOFT).to(torch.float32)
    away = 1.0 - _dilated((labels == BONE).to(torch.float32), 3)
    mean, grain = _mean_and_grain(hu, soft)
    for _ in range(int(dice.numbers.integers(1, 4))):
        kind = dice.numbers.random()
        undiluted = dice.happens(0.08)
        dense = undiluted or dice.happens(0.12)
        level = dice.log_between(700.0, 2000.0) if dense else dice.log_between(130.0, 700.0)
        if undiluted:
            filled = dice.log_between(1400.0, 3500.0) * _mixed(hu.shape, dice)
            tube = kind < 0.8
            shape = away * (_tube(hu.shape, dice, dice.log_between(4.0, 18.0)) if tube else _blob(hu.shape, dice))
        elif kind < 0.25:
            shape, filled = _kidney(hu.shape, dice, level)
        else:
            filled = level * _mixed(hu.shape, dice)
            if kind < 0.5:
                shape = torch.sigmoid(_lump(hu.shape, dice, 12.0, 70.0) / 1.5) * torch.sigmoid((mean + 20.0) / 12.0)
            elif kind < 0.7:
                shape = _blob(hu.shape, dice)
            else:
                shape = _tube(hu.shape, dice, dice.log_between(1.5, 18.0))
        hu = hu + shape * soft * (filled + dice.between(0.3, 2.0) * grain - hu)
        if dense and dice.happens(0.5):
            hu = hu + 0.5 * _streaks((shape * soft) > 0.5, dice)
    return hu


def _mixed(shape: torch.Size, dice: Dice) -> Tensor:
    """How medium is spread, about 1 on average: evenly, nearly so, or in swirls as in the heart it has just come to."""
    kind = dice.numbers.random()
    if kind < 0.4:
        return torch.ones(tuple(shape), device=dice.device)
    if kind < 0.7:
        return 1.0 + 0.06 * dice.smooth_field(tuple(shape), 8)
    swirls = dice.smooth_field(tuple(shape), int(dice.numbers.integers(4, 20)))
    return (1.0 + dice.between(0.2, 0.8) * swirls).clamp_min(0.05)


def _mean_and_grain(hu: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
    """The mean HU of the soft tissue around each voxel, and what its own HU differ from that."""
    tissue = hu.clamp(-200.0, 250.0)
    mean = blurred(tissue * soft, 1.3) / blurred(soft, 1.3).clamp_min(1e-3)
    return mean, tissue - mean


def add_couch(hu: Tensor, labels: Tensor, dice: Dice) -> Tensor:
    """A plate in the air beyond the body along j, hollow or solid, curved a little; its label is air."""
    behind = dice.happens(0.5)
    matter = (labels != AIR).to(torch.uint8)
    free = (matter.flip(1) if behind else matter).cumsum(1) == 0
    free = free.flip(1) if behind else free
    depth, height, width = hu.shape
    i = torch.linspace(-1.0, 1.0, width, device=hu.device)
    j = torch.arange(height, device=hu.device, dtype=torch.float32)[:, None]
    surface = dice.between(0.0, height - 1.0) + dice.between(-0.15, 0.15) * height * i**2
    surface = surface + dice.between(-0.1, 0.1) * height * i
    below = (surface - j) if behind else (j - surface)
    thickness, shell = dice.between(4.0, 45.0), dice.between(1.0, 4.0)
    inside = (below >= 0) & (below < thickness)
    plate = inside & ((below < shell) | (below >= thickness - shell))
    filling = dice.between(-990.0, -600.0) if dice.happens(0.7) else dice.between(-600.0, 100.0)
    shell_hu = dice.between(-700.0, 300.0) if dice.happens(0.8) else dice.between(300.0, 1200.0)
    couch = torch.where(plate, shell_hu, filling).expand(depth, height, width)
    return torch.where(inside & free, couch, hu)


def add_metal(hu: Tensor, labels: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Screws, rods, stems and the balls of joints, with streaks in the axial plane; metal counts as bone."""
    for _ in range(int(dice.numbers.integers(1, 3))):
        radius, longest = dice.log_between(1.0, 25.0), dice.between(0.0, 80.0)
        metal = (_tube(hu.shape, dice, radius, longest) > 0.5) & (labels != AIR)
        if not bool(metal.any()):
            continue
        hu = hu + _streaks(metal, dice)
        if dice.happens(0.7):
            seen = torch.full_like(hu, _METAL_HU)
        else:
            seen = dice.between(1700.0, _METAL_HU) + dice.between(0.0, 60.0) * dice.noise(tuple(hu.shape))
        hu = torch.where(metal, seen, hu)
        labels = torch.where(metal, torch.full_like(labels, BONE), labels)
    return hu, labels


def _streaks(metal: Tensor, dice: Dice) -> Tensor:
    """Light and dark rays from the metal's centre, slice by slice, fading with distance."""
    depth, height, width = metal.shape
    area = metal.sum((1, 2)).to(torch.float32)
    j = torch.arange(height, device=metal.device, dtype=torch.float32)
    i = torch.arange(width, device=metal.device, dtype=torch.float32)
    centre_j = (metal.sum(2) * j).sum(1) / area.clamp_min(1.0)
    centre_i = (metal.sum(1) * i).sum(1) / area.clamp_min(1.0)
    y, x = j[None, :, None] - centre_j[:, None, None], i[None, None, :] - centre_i[:, None, None]
    angle, distance = torch.atan2(y, x), torch.hypot(x, y)
    rays = torch.zeros((depth, height, width), device=metal.device)
    for _ in range(3):
        order = int(dice.numbers.integers(1, 14))
        rays += dice.between(0.3, 1.0) * torch.cos(order * angle + dice.between(0.0, 2.0 * math.pi))
    strength = dice.log_between(40.0, 500.0) * (area > 0)[:, None, None]
    return strength * rays * torch.exp(-distance / dice.between(8.0, 50.0))


def thicken_slices(hu: Tensor, dice: Dice) -> Tensor:
    """Slices of 2 to 5 mm along k, or thick planes along any axis: averaged, then interpolated back."""
    axis = 0 if dice.happens(0.8) else int(dice.numbers.integers(1, 3))
    count = int(dice.numbers.integers(2, 6))
    moved = hu.movedim(axis, -1)
    columns = moved.reshape(1, -1, moved.shape[-1])
    phase = int(dice.numbers.integers(count))
    padded = functional.pad(columns, (phase, (-columns.shape[-1] - phase) % count), mode="replicate")
    thick = functional.avg_pool1d(padded, count)
    fine = functional.interpolate(thick, padded.shape[-1], mode="linear", align_corners=False)
    return fine[..., phase : phase + columns.shape[-1]].reshape(moved.shape).movedim(-1, axis)


def change_kernel(hu: Tensor, dice: Dice, soft: float = 0.5) -> Tensor:
    """A soft kernel, which blurs, with the probability `soft`; else a sharp one, with overshoot (unsharp masking)."""
    if dice.happens(soft):
        return blurred(hu, dice.between(0.4, 1.2))
    smooth = blurred(hu, dice.between(0.6, 1.2))
    return hu + dice.between(0.3, 1.6) * (hu - smooth)


def add_noise(hu: Tensor, dice: Dice) -> Tensor:
    """Quantum noise of a low dose: correlated like the kernel, stronger in one part of the body than in another."""
    grain = dice.noise(tuple(hu.shape))
    if dice.happens(0.6):
        grain = blurred(grain, dice.between(0.4, 0.9))
        grain = grain / grain.std()
    variation = torch.exp(0.3 * dice.smooth_field(tuple(hu.shape), 2))
    return hu + dice.log_between(6.0, 90.0) * variation * grain


def truncate(hu: Tensor, labels: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """A round field of view that cuts the body: nothing is known outside, and nothing is there."""
    _, height, width = hu.shape
    j = torch.arange(height, device=hu.device, dtype=torch.float32)[:, None]
    i = torch.arange(width, device=hu.device, dtype=torch.float32)
    radius = dice.between(1.0, 4.0) * width
    direction = dice.between(0.0, 2.0 * math.pi)
    cut = dice.between(0.05, 0.45) * width
    centre_j = height / 2 + (radius - cut) * math.sin(direction)
    centre_i = width / 2 + (radius - cut) * math.cos(direction)
    outside = (torch.hypot(j - centre_j, i - centre_i) > radius)[None]
    empty_hu = -1024.0 if dice.happens(0.5) else -1000.0
    return torch.where(outside, empty_hu, hu), torch.where(outside, torch.zeros_like(labels), labels)


def blurred(volume: Tensor, sigma: float) -> Tensor:
    """A Gaussian of `sigma` voxels along all axes, cut at 3 σ; borders are continued."""
    reach = max(1, math.ceil(3.0 * sigma))
    x = torch.arange(-reach, reach + 1, device=volume.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (x / sigma) ** 2)
    weights = weights / weights.sum()
    result = volume[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = reach
        result = functional.conv3d(functional.pad(result, padding, mode="replicate"), weights.view(shape))
    return result[0, 0]


def _dilated(mask: Tensor, reach: int) -> Tensor:
    """A mask of 0 and 1 grown by `reach` voxels along all axes."""
    grown = mask[None, None]
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * reach + 1, reach
        grown = functional.max_pool3d(grown, size, 1, padding)
    return grown[0, 0]


def _tube(shape: torch.Size, dice: Dice, radius: float, longest: float = 400.0) -> Tensor:
    """A bent cylinder with rounded ends somewhere in the patch, 1 inside, soft over about a voxel."""
    device = dice.device
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in shape]
    point = [dice.between(0.0, n - 1.0) for n in shape]
    direction = dice.numbers.standard_normal(3)
    direction /= np.linalg.norm(direction)
    bend = dice.numbers.standard_normal(3) * 0.004
    k, j, i = axes[0][:, None, None] - point[0], axes[1][:, None] - point[1], axes[2] - point[2]
    along = direction[0] * k + direction[1] * j + direction[2] * i
    along = along.clamp(-longest / 2, longest / 2)
    squared = torch.zeros(tuple(shape), device=device)
    for offset, step, curve in zip((k, j, i), direction, bend, strict=True):
        squared += (offset - step * along - curve * along**2) ** 2
    return torch.sigmoid((radius - squared.sqrt()) / 0.6)


def _blob(shape: torch.Size, dice: Dice) -> Tensor:
    """Rounded lumps, some of the patch, 1 inside."""
    field = dice.smooth_field(tuple(shape), int(dice.numbers.integers(3, 9)))
    return torch.sigmoid((field - dice.between(0.4, 1.2)) / 0.08)


def _lump(shape: torch.Size, dice: Dice, smallest: float, largest: float) -> Tensor:
    """How deep each voxel lies in an ellipsoid somewhere in the patch, below 0 outside; its radii within limits."""
    squared = torch.zeros(tuple(shape), device=dice.device)
    radii = [dice.log_between(smallest, largest) for _ in shape]
    for axis, (n, radius) in enumerate(zip(shape, radii, strict=True)):
        offset = torch.arange(n, device=dice.device, dtype=torch.float32) - dice.between(0.0, n - 1.0)
        sides = [1, 1, 1]
        sides[axis] = n
        squared += ((offset / radius) ** 2).view(sides)
    return (1.0 - squared.sqrt()) * min(radii)


def _kidney(shape: torch.Size, dice: Dice, cortex_hu: float) -> tuple[Tensor, Tensor]:
    """A kidney early after injection, in its fat: where it is, 1 inside, and its HU.

    The cortex is brighter than the pyramids in it, as that of a bone is than its marrow; in the middle there may be
    the fat or urine of the pelvis.
    """
    depth = _lump(shape, dice, 12.0, 35.0)
    middle = dice.between(0.4, 0.9) * float(depth.max())
    depth = depth + dice.between(0.0, 3.0) * dice.smooth_field(tuple(shape), int(dice.numbers.integers(4, 9)))
    field = dice.smooth_field(tuple(shape), int(dice.numbers.integers(6, 15)))
    pyramids = torch.sigmoid((depth - dice.between(3.0, 9.0)) / 0.8)
    if dice.happens(0.7):
        pyramids = pyramids * torch.sigmoid((field - dice.between(-1.0, 0.5)) / 0.2)
    hu = cortex_hu * (1.0 - pyramids * (1.0 - dice.between(0.3, 0.9)))
    if dice.happens(0.5):
        pelvis = torch.sigmoid((depth - middle) / 0.8)
        hu = torch.lerp(hu, torch.full_like(hu, dice.between(-110.0, 20.0)), pelvis)
    fat = dice.between(2.0, 8.0) if dice.happens(0.7) else 0.0
    hu = torch.lerp(torch.full_like(hu, dice.between(-115.0, -80.0)), hu, torch.sigmoid(depth / 0.8))
    return torch.sigmoid((depth + fat) / 0.8), hu
