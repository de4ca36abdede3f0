"""What all contestants look at: the CT as materials, the views, and both in the form the peers are given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from peers.view import View

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.segmentation import segment
from DeepDRRLogic.threads import in_slabs
from DeepDRRLogic.volume import CTVolume, MaterialVolume

ENERGY_KEV = 60.0
"""The peers' one line integral is that of the linear attenuation at this energy."""

CM_PER_MM = 0.1

ANGLES_DEG = {"AP": (180.0, 0.0), "lateral": (90.0, 0.0), "LAO 35 CRAN 20": (35.0, 20.0)}
"""DICOM's primary and secondary angle of every view."""


def material_volume(ct: CTVolume) -> MaterialVolume:
    """Air, soft tissue and bone by the default thresholds."""
    return MaterialVolume.from_ct(ct, segment(ct, "threshold"))


def cameras(volume: MaterialVolume, preset: str = "deepdrr_paper") -> dict[str, Camera]:
    """The views, around the middle of the volume."""
    arm = CArm.preset(preset, isocenter_ras_mm=tuple(volume.center_ras))
    return {name: arm.with_angles(*angles).camera() for name, angles in ANGLES_DEG.items()}


def attenuation_cm2_g(volume: MaterialVolume) -> npt.NDArray[np.float64]:
    """µ/ρ of the volume's materials, (n_materials,): by it their area densities become one line integral."""
    return np.array([float(material.mass_attenuation_cm2_g(ENERGY_KEV)) for material in volume.materials])


def write_for_peers(folder: Path, volume: MaterialVolume, views: dict[str, Camera], threads: int) -> None:
    """FOLDER/attenuation.npy, float32 [k, j, i] in 1/mm, and FOLDER/views.json, as peers/view.py defines them."""
    per_mm = (attenuation_cm2_g(volume) * CM_PER_MM).astype(np.float32)
    attenuation_mm = np.empty(volume.shape, np.float32)

    def fill(k0: int, k1: int) -> None:
        np.multiply(volume.density_g_cm3[k0:k1], per_mm[volume.labels[k0:k1]], out=attenuation_mm[k0:k1])

    in_slabs(fill, len(attenuation_mm), threads)
    np.save(folder / "attenuation.npy", attenuation_mm)
    scene = {
        "spacing_mm": np.asarray(volume.spacing_mm).tolist(),
        "views": {name: view_of(camera, volume).to_dict() for name, camera in views.items()},
    }
    (folder / "views.json").write_text(json.dumps(scene, indent=1), encoding="utf-8")


def view_of(camera: Camera, volume: MaterialVolume) -> View:
    """The camera in the frame of the volume."""
    middle = 0.5 * (np.array(volume.shape[::-1]) - 1)
    mm_from_ijk = np.diag([*volume.spacing_mm, 1.0])
    mm_from_ijk[:3, 3] = -middle * volume.spacing_mm
    mm_from_ras = mm_from_ijk @ np.linalg.inv(volume.ras_from_ijk)
    mm_from_pixel = (mm_from_ras @ camera.ras_from_pixel)[:3]
    return View(
        source_mm=mm_from_ras[:3, :3] @ camera.source_ras + mm_from_ras[:3, 3],
        pixel_00_mm=mm_from_pixel[:, 3],
        step_u_mm=mm_from_pixel[:, 0],
        step_v_mm=mm_from_pixel[:, 1],
        width=camera.width,
        height=camera.height,
    )
