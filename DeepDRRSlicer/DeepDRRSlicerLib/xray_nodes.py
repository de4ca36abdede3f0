"""The X-ray in the scene: a float volume one pixel thick, lying where the detector is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from slicer.util import NodeModify, arrayFromVolume, arrayFromVolumeModified, vtkMatrixFromArray
from vtkmodules.vtkCommonCore import VTK_FLOAT
from vtkmodules.vtkCommonDataModel import vtkImageData

from DeepDRRLogic.affine import FloatArray
from DeepDRRLogic.display import (
    DisplaySettings,
    auto_window,
    displayed_values,
    grows_dark,
    preset_window,
    resolve_window,
)
from DeepDRRLogic.geometry import Camera

from .exposing import PLACE
from .mrml import set_attribute
from .technique import Technique, display_settings

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.image import XRayImage

CAMERA = "DeepDRR.Camera"
PREVIEW = "DeepDRR.Preview"
"""On a preview: the camera of the exposure that it stands for, with all of the detector's pixels."""
TECHNIQUE = "DeepDRR.Technique"
PATIENT = "DeepDRR.Patient"
"""What the CT's parent transforms did to the patient when the picture was taken, (4, 4): see `exposing.PLACE`."""
CT_ROLE, SEGMENTATION_ROLE, CARM_ROLE = "DeepDRR.ct", "DeepDRR.segmentation", "DeepDRR.carm"
_WINDOW = "DeepDRR.Window"
_WINDOW_TOLERANCE = 1e-4
_FOLLOWING = 0.3  # the part of the way that a preview's window goes to its own, as automatic brightness does
_SAME_PLACE_MM = 1e-5
_GREY, _INVERTED = "vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeInvertedGrey"


def image_node(scene: Any, name: str = "X-ray") -> Any:
    """Add an X-ray image to the scene, empty yet."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetInterpolate(True)
    return node


def write_image(node: Any, values: npt.NDArray[np.float32], camera: Camera) -> None:
    """Lay a picture (H, W) into the node, every pixel where the detector's pixel is; memory is reused.

    The slice view samples nearest the plane, so the third axis is the unit normal: 1 mm thick.
    """
    height, width = values.shape
    image = node.GetImageData()
    with NodeModify(node):
        if image is None or image.GetDimensions() != (width, height, 1) or image.GetScalarType() != VTK_FLOAT:
            image = vtkImageData()
            image.SetDimensions(width, height, 1)
            image.AllocateScalars(VTK_FLOAT, 1)
            node.SetAndObserveImageData(image)
        arrayFromVolume(node)[0] = values
        node.SetIJKToRASMatrix(vtkMatrixFromArray(camera.ras_from_pixel))
        arrayFromVolumeModified(node)
        node.SetAttribute(CAMERA, json.dumps(camera.to_dict()))


@dataclass(frozen=True, eq=False)
class Picture:
    """What a viewer sees of an exposure: values (H, W), -ln(I/I0) or I/I0, the shutters black, and their window.

    world_from_patient: [4][4], where the patient lay.
    """

    values: npt.NDArray[np.float32]
    camera: Camera
    settings: DisplaySettings
    window: tuple[float, float]
    world_from_patient: list[list[float]]


def picture_of(image: XRayImage, technique: Technique, arm: CArm | None = None) -> Picture:
    """How an exposure is shown as chosen. Touches no scene, so any thread may do it."""
    settings = display_settings(technique, arm)
    values = displayed_values(image, settings)
    if settings.collimator is not None:
        values = np.where(settings.collimator.field_mask(image.camera), values, np.float32(_black(settings)))
    place = image.metadata.get(PLACE, np.eye(4).tolist())
    return Picture(values, image.camera, settings, resolve_window(image, settings), place)


def show_picture(
    node: Any, picture: Picture, technique: Technique, *, moving: bool = False, preview_of: Camera | None = None
) -> None:
    """Write a picture into its node, with the technique that made it and where its patient lay.

    The round field of the detector is part of the technique.

    A window that the user has changed by hand stays as it is until `reset_window`. While the C-arm is `moving` an
    automatic window stays too: in a sequence it would flicker. `preview_of`: the camera of the exposure that this is a
    preview of; the window follows previews smoothly.
    """
    technique = _with_field(technique, picture.settings)
    with NodeModify(node):
        write_image(node, picture.values, picture.camera)
        node.SetAttribute(TECHNIQUE, technique.to_json())
        set_attribute(node, PATIENT, json.dumps(picture.world_from_patient))
        if preview_of is None:
            node.RemoveAttribute(PREVIEW)
        else:
            node.SetAttribute(PREVIEW, json.dumps(preview_of.to_dict()))
        _apply_window(node, picture, _FOLLOWING if preview_of is not None else 0.0 if moving else 1.0)


def reset_window(node: Any, window: str = "auto") -> None:
    """Take a window back that the user changed: a preset's, or that of the pixels within the shutters."""
    technique = replace(technique_of_image(node), window=window)
    settings = display_settings(technique)
    if window == "auto":
        values = arrayFromVolume(node)[0]
        if settings.collimator is not None:
            values = values[settings.collimator.field_mask(camera_of(node))]
        center, width = auto_window(values, log=technique.log)
    else:
        center, width = preset_window(window, log=technique.log)
    _set_window(node, settings, center - width / 2, center + width / 2)


def is_xray(node: Any) -> bool:
    """Whether a volume is an X-ray of ours, a copy of one, or shows a recorded one."""
    return node.GetAttribute(CAMERA) is not None


def camera_of(node: Any) -> Camera:
    """The camera that took an image; ValueError for a volume that is no X-ray of ours."""
    text = node.GetAttribute(CAMERA) if node is not None else None
    if not text:
        raise ValueError(f"{node.GetName() if node else 'Nothing'} is no X-ray image: shoot one first.")
    return Camera.from_dict(json.loads(text))


def world_from_patient(node: Any) -> FloatArray | None:
    """From the patient's own RAS to the world's when a picture was taken, (4, 4); None where that was not kept."""
    text = node.GetAttribute(PATIENT)
    return np.array(json.loads(text)) if text else None


def is_preview(node: Any) -> bool:
    """Whether a picture has fewer pixels than the exposure that it stands for."""
    return node.GetAttribute(PREVIEW) is not None


def exposed_camera(node: Any) -> Camera:
    """The camera of the exposure behind an image, with all of the detector's pixels; ValueError as in `camera_of`."""
    shown = camera_of(node)
    return Camera.from_dict(json.loads(node.GetAttribute(PREVIEW))) if is_preview(node) else shown


def difference(node: Any, arm: CArm, technique: Technique) -> str:
    """What happened since an image was taken, in words; "" where one taken now would be the same."""
    here, there = arm.camera(), exposed_camera(node)
    places = zip((here.source_ras, here.ras_from_pixel), (there.source_ras, there.ras_from_pixel), strict=True)
    if (here.width, here.height) != (there.width, there.height) or not all(
        np.allclose(a, b, rtol=0.0, atol=_SAME_PLACE_MM) for a, b in places
    ):
        return "the C-arm moved"
    try:
        now = _with_field(technique, display_settings(technique, arm))
    except ValueError:  # such as a collimator that makes no sense
        return "the settings changed"
    then = technique_of_image(node)
    # What shows the picture, and what makes it, are no part of it.
    return "" if replace(then, window=now.window, device=now.device) == now else "the settings changed"


def technique_of_image(node: Any) -> Technique:
    """The settings that an image was taken with."""
    return Technique.from_json(node.GetAttribute(TECHNIQUE) or "{}")


def _with_field(technique: Technique, settings: DisplaySettings) -> Technique:
    """With the field that is shown in words: the C-arm may have another detector later."""
    opening = settings.collimator
    return technique if opening is None or technique.collimator else replace(technique, collimator=opening.words)


def _apply_window(node: Any, picture: Picture, step: float) -> None:
    """step: the part of the way that an automatic window goes from where it is to the picture's own."""
    settings = picture.settings
    display = node.GetDisplayNode()
    if display is None:
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
    with NodeModify(display):
        display.SetAutoWindowLevel(False)
        if display.GetColorNodeID() != (color := _INVERTED if grows_dark(settings) else _GREY):
            display.SetAndObserveColorNodeID(color)
        kind = _kind(settings)
        shown = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
        before = json.loads(node.GetAttribute(_WINDOW) or "[]")
        # Another preset or kind of picture asks for its window; else the user's own is kept.
        center, width = picture.window
        low, high = center - width / 2, center + width / 2
        if before and before[0] == kind:
            if step == 0.0 or not _is_window(shown, before[1:]):
                return
            low, high = (there + step * (own - there) for there, own in zip(shown, (low, high), strict=True))
        _set_window(node, settings, low, high)


def _set_window(node: Any, settings: DisplaySettings, low: float, high: float) -> None:
    """A window that is not the user's own."""
    display = node.GetDisplayNode()
    display.SetWindowLevelMinMax(low, high)
    shown = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
    node.SetAttribute(_WINDOW, json.dumps([_kind(settings), *shown]))


def _kind(settings: DisplaySettings) -> str:
    return f"{settings.log} {settings.polarity} {settings.window}"


def _is_window(shown: Sequence[float], set_before: Sequence[float]) -> bool:
    """Whether nobody has touched a window since it was set: scene files keep six digits of its width and level."""
    low, high = set_before
    return np.allclose(shown, set_before, rtol=0.0, atol=_WINDOW_TOLERANCE * abs(high - low))


def _black(settings: DisplaySettings) -> float:
    """A value that is black whatever the window: beyond anything that a patient shows."""
    bright_is_high = not grows_dark(settings)
    if settings.log:
        return 0.0 if bright_is_high else 100.0
    return 0.0 if bright_is_high else 1.0e3
