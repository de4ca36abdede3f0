"""One exposure: patient, C-arm and technique to an X-ray image. No scene is touched, so any thread may do it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.scatter import WatchableScatter

from .mrml import world_from_parent
from .technique import Technique, photons_per_pixel, tuned

if TYPE_CHECKING:
    from DeepDRRLogic.affine import FloatArray
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.image import XRayImage

    from .patient import Patient, Quality
    from .waiting import Watch

PLACE = "world_from_patient"
"""In an image's metadata: the patient's place while it was exposed, [4][4]; absent where that is the world's own."""


@dataclass(frozen=True)
class Exposure:
    """All that an exposure needs, taken from the scene in one moment.

    camera: in the world, of all the detector's pixels. local_camera: the same in the patient's own coordinates.
    world_from_patient: (4, 4), where the CT's parent transforms put the patient.
    """

    patient: Patient
    camera: Camera
    local_camera: Camera
    technique: Technique
    arm: CArm | None
    metadata: dict[str, Any]
    world_from_patient: FloatArray


def prepare(patient: Patient, camera: Camera, technique: Technique, arm: CArm | None = None) -> Exposure:
    """Take from the scene what an exposure needs; the patient must be up to date."""
    metadata: dict[str, Any] = {"ct": patient.volume_node.GetName()}
    if patient.segmentation_node is not None:
        metadata["segmentation"] = patient.segmentation_node.GetName()
    if arm is not None:
        metadata["carm"] = asdict(arm)
    place = world_from_parent(patient.volume_node)
    return Exposure(patient, camera, patient.local_camera(camera), technique, arm, metadata, place)


def expose(
    exposure: Exposure,
    quality: Quality = "full",
    width: int | None = None,
    *,
    scatter: bool = True,
    watch: Watch | None = None,
) -> XRayImage:
    """Make the image; with `width` in fewer, larger pixels, which gather as many more photons.

    A scatter model that takes long tells `watch` how far it is; where that stops it there is no image to speak of.
    """
    camera, local = exposure.camera, exposure.local_camera
    technique = exposure.technique if scatter else replace(exposure.technique, scatter="", grid=False)
    photons = photons_per_pixel(technique, camera)
    if width is not None and width < camera.width:
        height = max(1, round(width * camera.height / camera.width))
        photons *= camera.width * camera.height / (width * height)
        one = local is camera
        camera = camera.resampled(width, height)
        local = camera if one else local.resampled(width, height)
    patient = exposure.patient
    made = patient.simulator(quality, technique.device)
    model = patient.scatter(technique.scatter, quality)
    if watch is not None and isinstance(model, WatchableScatter):
        model = model.watched(watch.progress, watch.cancelled)
    moving = quality == "preview"  # nobody asks such a picture how it was made, and writing that down takes longest
    made_how = {} if moving else {"technique": asdict(technique)}
    simulator = tuned(made, technique, photons, model, exposure.arm, made_how)
    image = simulator(local, technique.seed, _place(exposure) | ({} if moving else exposure.metadata))
    return image if local is camera else replace(image, camera=camera)


def _place(exposure: Exposure) -> dict[str, Any]:
    """What any image is told of where its patient lay: whoever shows it later may not ask a scene that has changed."""
    place = exposure.world_from_patient
    return {} if np.array_equal(place, np.eye(4)) else {PLACE: place.tolist()}
