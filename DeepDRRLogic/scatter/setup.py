"""A volume, a camera, a spectrum and a detector as the arrays that the transport works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..affine import apply
from .interactions import FIRST_KEV, STEP_KEV, Interactions
from .matter import occupied

if TYPE_CHECKING:
    from ..collimator import Field
    from ..detector import Detector
    from ..geometry import Camera
    from ..spectrum import Spectrum
    from ..volume import MaterialVolume
    from .antiscatter import AntiScatterGrid
    from .transport import Body, Panel, Physics

FloatArray = npt.NDArray[np.float64]

CM_PER_MM = 0.1


def body_of(volume: MaterialVolume, camera: Camera) -> tuple[Body, FloatArray]:
    """The occupied voxels before the detector, and the affine from RAS mm to cm in their box."""
    from .transport import Body

    depth = (camera.camera_from_ras @ volume.ras_from_ijk)[2]
    density = volume.density_g_cm3
    k, j, i = np.ogrid[: density.shape[0], : density.shape[1], : density.shape[2]]
    behind = depth[0] * i + depth[1] * j + depth[2] * k + depth[3] > camera.source_to_detector_mm
    if behind.any():
        density = np.where(behind, np.float32(0.0), density)
    box = [occupied(density, axis) for axis in range(3)]
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
        response=np.ascontiguousarray(detector.responses(energies)),
        lines=np.stack([line, across_lines]),
        strips=strips,
        strip_mu=strip_mu,
    )


def field_solid_angle(panel: Panel) -> float:
    """The solid angle of the beam in sr: ∫ distance / r³ dA over the field, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    s0, t0, s1, t1 = panel.field
    s, t = 0.5 * (s0 + s1 + (s1 - s0) * nodes), 0.5 * (t0 + t1 + (t1 - t0) * nodes)
    points = panel.corner - panel.source + s[:, None, None] * panel.along_u + t[None, :, None] * panel.along_v
    density = panel.distance / np.linalg.norm(points, axis=-1) ** 3
    return float(weights @ density @ weights * 0.25 * (s1 - s0) * (t1 - t0) * panel.area)
