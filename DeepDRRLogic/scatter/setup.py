"""A volume, a camera, a spectrum and a detector as the arrays that the transport works on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..affine import apply
from ..grid import block_factors
from ..voxels import nearest
from .interactions import FIRST_KEV, STEP_KEV, Interactions

if TYPE_CHECKING:
    from ..detector import Detector
    from ..geometry import Camera
    from ..spectrum import Spectrum
    from ..volume import MaterialVolume
    from .antiscatter import AntiScatterGrid
    from .transport import Body, Panel, Physics

FloatArray = npt.NDArray[np.float64]
Field = tuple[float, float, float, float]

CM_PER_MM = 0.1
WHOLE_DETECTOR: Field = (0.0, 0.0, 1.0, 1.0)


def check_field(field: Field) -> Field:
    """The field itself; ValueError unless it is a part of the detector."""
    u0, v0, u1, v1 = field
    if not (0.0 <= u0 < u1 <= 1.0 and 0.0 <= v0 < v1 <= 1.0):
        raise ValueError(f"The field {field} is not within (0, 0, 1, 1); give (u0, v0, u1, v1) with u0 < u1, v0 < v1.")
    return field


def coarsened(volume: MaterialVolume, voxel_mm: float | None) -> MaterialVolume:
    """The volume with voxels of about `voxel_mm` where they were smaller; None leaves it as it is."""
    if voxel_mm is None:
        return volume
    i, j, k = (max(1, round(voxel_mm / step)) for step in volume.spacing_mm)
    return volume.downsampled(block_factors((i, j, k)))


def joined(volumes: MaterialVolume | Sequence[MaterialVolume], voxel_mm: float) -> MaterialVolume:
    """One volume with voxels of about `voxel_mm` or larger from one or several; ValueError for none."""
    from ..volume import MaterialVolume

    if isinstance(volumes, MaterialVolume):
        return coarsened(volumes, voxel_mm)
    if not volumes:
        raise ValueError("No volume to scatter in: give at least one MaterialVolume.")
    return coarsened(volumes[0], voxel_mm) if len(volumes) == 1 else merged(volumes, voxel_mm)


def merged(volumes: Sequence[MaterialVolume], voxel_mm: float) -> MaterialVolume:
    """Several volumes as one, on a grid along RAS around them all: densities add, the heavier label counts.

    Every voxel is the mean of eight nearest samples, so that masses are kept to what such sampling keeps.
    """
    from ..volume import MaterialVolume

    materials = tuple(dict.fromkeys(material for volume in volumes for material in volume.materials))
    corners = np.concatenate([volume.corners_ras for volume in volumes])
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = 0.5 * voxel_mm
    i, j, k = (int(n) for n in np.ceil((high - low) / step))
    ras_from_ijk = np.diag([step, step, step, 1.0])
    ras_from_ijk[:3, 3] = low + 0.5 * step
    total, heaviest = np.zeros((k, j, i), np.float32), np.zeros((k, j, i), np.float32)
    labels = np.zeros((k, j, i), np.uint8)
    for volume in volumes:
        inside = volume.ijk_from_ras @ ras_from_ijk
        density = _sampled(volume.density_g_cm3, inside, (k, j, i))
        label = nearest(volume.labels, inside, (k, j, i))
        new = np.array([materials.index(material) for material in volume.materials], np.uint8)
        heavier = density > heaviest
        labels[heavier] = new[label[heavier]]
        heaviest[heavier] = density[heavier]
        total += density
    return MaterialVolume(total, labels, materials, ras_from_ijk).downsampled(2)


def _sampled(
    source: npt.NDArray[np.float32], source_from_target: FloatArray, shape: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """Nearest voxels, slice by slice; 0 outside."""
    out = np.zeros(shape, np.float32)
    k, j, i = np.indices((1, *shape[1:]))
    for number in range(shape[0]):
        ijk = np.stack([i, j, k + number], axis=-1) @ source_from_target[:3, :3].T + source_from_target[:3, 3]
        a, b, c = np.moveaxis(np.floor(ijk + 0.5).astype(int), -1, 0)
        ok = (a >= 0) & (b >= 0) & (c >= 0) & (a < source.shape[2]) & (b < source.shape[1]) & (c < source.shape[0])
        out[number : number + 1][ok] = source[c[ok], b[ok], a[ok]]
    return out


def body_of(volume: MaterialVolume, camera: Camera) -> tuple[Body, FloatArray]:
    """The occupied voxels before the detector, and the affine from RAS mm to cm in their box."""
    from .transport import Body

    depth = (camera.camera_from_ras @ volume.ras_from_ijk)[2]
    density = volume.density_g_cm3
    k, j, i = np.ogrid[: density.shape[0], : density.shape[1], : density.shape[2]]
    behind = depth[0] * i + depth[1] * j + depth[2] * k + depth[3] > camera.source_to_detector_mm
    if behind.any():
        density = np.where(behind, np.float32(0.0), density)
    box = [_occupied(density, axis) for axis in range(3)]
    density = np.ascontiguousarray(density[box[0], box[1], box[2]])
    labels = np.ascontiguousarray(volume.labels[box[0], box[1], box[2]])
    peak = np.zeros(len(volume.materials))
    for label in range(len(peak)):
        peak[label] = density.max(where=labels == label, initial=0.0)
    first = np.array([axis.start for axis in reversed(box)]) - 0.5
    step_cm = CM_PER_MM * np.array(volume.spacing_mm)
    cm_from_ras = volume.ijk_from_ras.copy()
    cm_from_ras[:3, 3] -= first
    cm_from_ras[:3] *= step_cm[:, None]
    return Body(density, labels, step_cm, peak, np.ones_like(density)), cm_from_ras


def _occupied(density: npt.NDArray[np.float32], axis: int) -> slice:
    others = tuple(a for a in range(3) if a != axis)
    filled = np.flatnonzero(density.any(axis=others))
    return slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 1)


def body_box(volume: MaterialVolume) -> tuple[tuple[slice, slice, slice], FloatArray]:
    """The slices [k, j, i] that hold all mass of a volume, and the corners (8, 3) of that box in RAS mm."""
    box = (_occupied(volume.density_g_cm3, 0), _occupied(volume.density_g_cm3, 1), _occupied(volume.density_g_cm3, 2))
    ends = [(axis.start - 0.5, axis.stop - 0.5) for axis in reversed(box)]
    return box, apply(volume.ras_from_ijk, np.array(list(product(*ends))))


def physics_of(tables: Interactions) -> Physics:
    """The tables of the materials for the transport."""
    from .transport import Physics

    return Physics(
        FIRST_KEV, 1.0 / STEP_KEV, tables.attenuation, tables.rayleigh, tables.compton, tables.rayleigh_norm,
        tables.compton_norm, tables.largest_transfer, tables.form_square, tables.form_cumulative, tables.bound,
    )  # fmt: skip


def panel_of(
    camera: Camera,
    cm_from_ras: FloatArray,
    spectrum: Spectrum,
    detector: Detector,
    grid: AntiScatterGrid | None,
    field: Field,
    energy_nodes: int,
) -> Panel:
    """Source, detector, its response and its grid in the body's box.

    Behind a grid, photons are counted in units of the primary that passes it on the central ray: N0 is what the
    detector gets, so the primary needs no change, and a tube that makes up for the grid has to give 1/transmission.
    """
    from .transport import Panel

    def there(u: float, v: float, w: float = 0.0) -> FloatArray:
        return apply(cm_from_ras, apply(camera.ras_from_pixel, [u, v, w]))

    corner = there(-0.5, -0.5)
    along_u = there(camera.width - 0.5, -0.5) - corner
    along_v = there(-0.5, camera.height - 0.5) - corner
    normal = 10.0 * (there(0.0, 0.0, 1.0) - there(0.0, 0.0))
    across = np.linalg.inv(np.stack([along_u, along_v, normal], axis=1))
    energies = np.minimum(FIRST_KEV + STEP_KEV * np.arange(energy_nodes), 300.0)
    strips, strip_mu = np.zeros(4), np.zeros((2, 1))
    if grid is not None:
        strip_mu = grid.attenuation_per_cm(energies)
        seen = (detector.detected_fraction(spectrum.energies_kev).sum(axis=0)) * spectrum.photons
        passed = float(grid.primary_transmission(spectrum.energies_kev) @ seen / seen.sum())
        strips = np.array([grid.height_cm, 1e-4 * grid.strip_um, 1.0 / grid.lines_per_cm, 1.0 / passed])
    line = along_v if grid is None or grid.lines == "v" else along_u
    line = line / np.linalg.norm(line)
    across_lines = np.cross(line, normal)
    return Panel(
        source=apply(cm_from_ras, camera.source_ras),
        corner=corner,
        along_u=along_u,
        along_v=along_v,
        across_u=np.ascontiguousarray(across[0]),
        across_v=np.ascontiguousarray(across[1]),
        normal=normal,
        distance=CM_PER_MM * camera.source_to_detector_mm,
        area=float(np.linalg.norm(np.cross(along_u, along_v))),
        field=np.array(field),
        response=_response(detector, energies),
        lines=np.stack([line, across_lines]),
        strips=strips,
        strip_mu=strip_mu,
    )


def _response(detector: Detector, energies: FloatArray) -> FloatArray:
    """Photons, signal and squared signal per channel, then energy, of a photon of each energy."""
    detected, gain = detector.detected_fraction(energies), detector.signal_per_photon(energies)
    energy = (detected * energies).sum(axis=0, keepdims=True)
    return np.ascontiguousarray(np.concatenate([detected, detected * gain, detected * gain**2, energy]))


def field_solid_angle(panel: Panel) -> float:
    """The solid angle of the beam in sr: ∫ distance / r³ dA over the field, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    s0, t0, s1, t1 = panel.field
    s, t = 0.5 * (s0 + s1 + (s1 - s0) * nodes), 0.5 * (t0 + t1 + (t1 - t0) * nodes)
    points = panel.corner - panel.source + s[:, None, None] * panel.along_u + t[None, :, None] * panel.along_v
    density = panel.distance / np.linalg.norm(points, axis=-1) ** 3
    return float(weights @ density @ weights * 0.25 * (s1 - s0) * (t1 - t0) * panel.area)
