"""Bone as a careful person draws it: the cortex by hysteresis, and all that it encloses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from grids import FloatVolume, Mask, Scan, box_around
from morphology import closed, component_sizes, dilated, holes_in_slices
from scipy import ndimage


@dataclass(frozen=True)
class BoneRule:
    """The numbers of one case; the defaults suit an adult without dense contrast.

    A core is denser than `core_hu`; bone is what is denser than `edge_hu` within `reach_mm` of a core. Gaps up to twice
    `close_mm` are bridged before the inside is filled. A hole counts as marrow when it is enclosed in two of the three
    planes, in each by no more than `hole_mm2` (`cut_mm2` at the border of the volume), or in the axial plane alone if
    its mean exceeds `spongy_hu` or its area is at most `shaft_mm2` (for limbs: a spinal canal too is enclosed there).
    No more than `marrow_ml` may hang together: what is larger is a brain or a pelvis. Gas, below `marrow_min_hu`, stays
    out. Parts below `least_ml` are calcifications.
    """

    core_hu: float = 280.0
    edge_hu: float = 170.0
    smooth_mm: float = 0.5
    reach_mm: float = 5.0
    close_mm: float = 2.0
    hole_mm2: float = 4000.0
    cut_mm2: float = 700.0
    shaft_mm2: float = 0.0
    spongy_hu: float = 90.0
    marrow_ml: float = 150.0
    marrow_min_hu: float = -200.0
    least_core_ml: float = 0.05
    least_ml: float = 1.0


@dataclass(frozen=True, eq=False)
class Bones:
    """`bone`, and `doubtful`: dense specks of which no one can say whether they are bone or calcification."""

    bone: Mask
    doubtful: Mask


def find_bones(scan: Scan, body: Mask, rule: BoneRule, not_bone: Mask, surely_bone: Mask) -> Bones:
    """Bone in the body by a rule; `not_bone` and `surely_bone` are a person's corrections, made before filling."""
    hu = smoothed(scan, rule.smooth_mm)
    shell = _shell(hu, body & ~not_bone, scan, rule) | surely_bone
    if not shell.any():
        return Bones(shell, shell)
    box = box_around(shell, (3, 3, 3))
    part = scan.cut(box)
    marrow = _marrow(shell[box], hu[box], part, rule, not_bone[box])
    bone = shell.copy()
    bone[box] |= marrow & body[box]
    bone &= ~not_bone
    parts, sizes = component_sizes(bone)
    small = sizes * scan.voxel_ml < rule.least_ml
    small[0] = False
    if surely_bone.any():
        small[np.unique(parts[surely_bone])] = False
    doubtful = small[parts]
    return Bones(bone & ~doubtful, doubtful)


def smoothed(scan: Scan, sigma_mm: float) -> FloatVolume:
    """CT numbers less noisy, blurred within the slices only."""
    sigma = [0.0, sigma_mm / scan.spacing_mm[1], sigma_mm / scan.spacing_mm[0]]
    values = scan.hu.astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(values, sigma, truncate=3.0)) if sigma_mm > 0 else values


def _shell(hu: FloatVolume, where: Mask, scan: Scan, rule: BoneRule) -> Mask:
    """What is dense by itself: cores, and edges near them that hang together with them."""
    edge = (hu > rule.edge_hu) & where
    core, sizes = component_sizes(edge & (hu > rule.core_hu))
    cores = (sizes * scan.voxel_ml >= rule.least_core_ml)[core]
    if not cores.any():
        return cores
    margin = tuple(int(np.ceil(rule.reach_mm / step)) + 1 for step in scan.sampling_mm)
    box = box_around(cores, margin)  # type: ignore[arg-type]
    near = np.zeros_like(cores)
    near[box] = dilated(cores[box], rule.reach_mm, scan.sampling_mm)
    parts, count = ndimage.label(edge & near)
    chosen = np.zeros(count + 1, np.bool_)
    chosen[np.unique(parts[cores])] = True
    chosen[0] = False
    return chosen[parts]


def _marrow(shell: Mask, hu: FloatVolume, scan: Scan, rule: BoneRule, not_bone: Mask) -> Mask:
    """What the bridged shell encloses in two of three planes."""
    # Bridging from slice to slice would close the discs, the foramina and the joints seen in thick slices.
    k, j, i = scan.sampling_mm
    bridged = closed(shell, rule.close_mm, (max(k, 1.01 * rule.close_mm), j, i)) if rule.close_mm > 0 else shell
    bridged &= hu > rule.marrow_min_hu
    fits = hu > rule.marrow_min_hu
    holes = _enclosed_twice(bridged, hu, scan, rule, not_bone) & fits
    # A slice whose own cortex has a gap lies between slices that are filled: those enclose it.
    solid = bridged | holes
    between = _between_slices(solid, most_mm=9.0, thickness_mm=k) & ~solid
    holes |= _enclosed_twice(solid, hu, scan, rule, not_bone) & between & fits
    # Holes hang together through narrow necks where the shell leaks; what leads into a brain is no marrow.
    parts, count = ndimage.label(ndimage.binary_opening(holes))
    large = np.bincount(parts.ravel(), minlength=count + 1) * scan.voxel_ml > rule.marrow_ml
    large[0] = False
    if large.any():
        holes &= ~dilated(large[parts], 3.0, scan.sampling_mm)
    # Bridging also closes joints and concave corners, which are open to the outside; gaps inside bone are not.
    solid = shell | holes
    gaps = _enclosed(solid, scan) | _enclosed_twice(solid, hu, scan, rule, not_bone)
    return np.asarray(holes | (bridged & gaps))


def _enclosed_twice(solid: Mask, hu: FloatVolume, scan: Scan, rule: BoneRule, not_bone: Mask) -> Mask:
    """What the solid encloses in two of three planes, or in the axial one where that suffices."""
    votes = np.zeros(solid.shape, np.uint8)
    k, j, i = scan.sampling_mm
    for axis, mm2 in enumerate((j * i, k * i, k * j)):
        enclosed = holes_in_slices(solid, axis, rule.hole_mm2, rule.cut_mm2, mm2)
        if axis == 0:
            spongy, reached = _axial_holes(enclosed, hu, rule.spongy_hu, not_bone)
            votes[spongy] = 1
            enclosed &= ~reached  # a spinal canal, known by a correction, is enclosed in this plane only by chance
        votes += enclosed
    if rule.shaft_mm2 > 0.0:
        votes[holes_in_slices(solid, 0, rule.shaft_mm2, 0.3 * rule.cut_mm2, j * i) & ~not_bone] = 2
    return np.asarray(votes >= 2)


def _axial_holes(holes: Mask, hu: FloatVolume, least_hu: float, not_bone: Mask) -> tuple[Mask, Mask]:
    """Of the holes in axial slices, those that are as dense as spongy bone, and those that hold `not_bone`."""
    plane = ndimage.generate_binary_structure(3, 1)
    plane[0], plane[2] = False, False
    box = box_around(holes, (0, 0, 0))
    parts, count = ndimage.label(holes[box], plane)
    sums = np.bincount(parts.ravel(), hu[box].ravel(), count + 1)
    sizes = np.maximum(np.bincount(parts.ravel(), minlength=count + 1), 1)
    reached = np.zeros(count + 1, np.bool_)
    reached[np.unique(parts[not_bone[box]])] = True
    dense = (sums / sizes > least_hu) & ~reached
    dense[0] = reached[0] = False
    found = np.zeros_like(holes), np.zeros_like(holes)
    found[0][box], found[1][box] = dense[parts], reached[parts]
    return found


def _between_slices(solid: Mask, most_mm: float, thickness_mm: float) -> Mask:
    """Voxels with the solid above and below them, no further apart than that."""
    reach = max(1, int(most_mm / thickness_mm) - 1)
    above, below = np.zeros_like(solid), np.zeros_like(solid)
    for step in range(1, reach + 1):
        above[:-step] |= solid[step:]
        below[step:] |= solid[:-step]
    return above & below


def _enclosed(solid: Mask, scan: Scan) -> Mask:
    """Small holes that the solid encloses in at least one plane: trabecular gaps, not the corners between bones."""
    k, j, i = scan.sampling_mm
    small = np.zeros_like(solid)
    for axis, mm2 in enumerate((j * i, k * i, k * j)):
        small |= holes_in_slices(solid, axis, 40.0, 20.0, mm2)
    return small
