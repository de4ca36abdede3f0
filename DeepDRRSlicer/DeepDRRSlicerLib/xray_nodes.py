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

from DeepDRRLogic.display import DisplaySettings, displayed_values, grows_dark, resolve_window
from DeepDRRLogic.geometry import Camera

from .technique import Technique, display_settings

if TYPE_CHECKING:
    from DeepDRRLogic.carm import CArm
    from DeepDRRLogic.image import XRayImage

CAMERA = "DeepDRR.Camera"
TECHNIQUE = "DeepDRR.Technique"
CT_ROLE, SEGMENTATION_ROLE, CARM_ROLE = "DeepDRR.ct", "DeepDRR.segmentation", "DeepDRR.carm"
_WINDOW = "DeepDRR.Window"
_WINDOW_TOLERANCE = 1e-4
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
    """What a viewer sees of an exposure: values (H, W), -ln(I/I0) or I/I0, the shutters black, and their window."""

    values: npt.NDArray[np.float32]
    camera: Camera
    settings: DisplaySettings
    window: tuple[float, float]


def picture_of(image: XRayImage, technique: Technique, arm: CArm | None = None) -> Picture:
    """How an exposure is shown as chosen. Touches no scene, so any thread may do it."""
    settings = display_settings(technique, arm)
    values = displayed_values(image, settings)
    if settings.collimator is not None:
        values = np.where(settings.collimator.field_mask(image.camera), values, np.float32(_black(settings)))
    return Picture(values, image.camera, settings, resolve_window(image, settings))


def show_picture(node: Any, picture: Picture, technique: Technique, *, moving: bool = False) -> None:
    """Write a picture into its node, with the technique that made it; the round field of the detector is part of that.

    A window that the user has changed by hand stays as it is until `reset_window`. While the C-arm is `moving` an
    automatic window stays too: it would flicker.
    """
    opening = picture.settings.collimator
    if opening is not None and not technique.collimator:
        technique = replace(technique, collimator=opening.words)  # the C-arm may have another detector later
    with NodeModify(node):
        write_image(node, picture.values, picture.camera)
        node.SetAttribute(TECHNIQUE, technique.to_json())
        _apply_window(node, picture, moving)


def reset_window(node: Any) -> None:
    """Forget that the user changed the window: the next picture brings its own."""
    node.RemoveAttribute(_WINDOW)


def is_xray(node: Any) -> bool:
    """Whether a volume is an X-ray of ours, a copy of one, or shows a recorded one."""
    return node.GetAttribute(CAMERA) is not None


def camera_of(node: Any) -> Camera:
    """The camera that took an image; ValueError for a volume that is no X-ray of ours."""
    text = node.GetAttribute(CAMERA) if node is not None else None
    if not text:
        raise ValueError(f"{node.GetName() if node else 'Nothing'} is no X-ray image: shoot one first.")
    return Camera.from_dict(json.loads(text))


def technique_of_image(node: Any) -> Technique:
    """The settings that an image was taken with."""
    return Technique.from_json(node.GetAttribute(TECHNIQUE) or "{}")


def _apply_window(node: Any, picture: Picture, moving: bool) -> None:
    settings = picture.settings
    display = node.GetDisplayNode()
    if display is None:
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
    with NodeModify(display):
        display.SetAutoWindowLevel(False)
        if display.GetColorNodeID() != (color := _INVERTED if grows_dark(settings) else _GREY):
            display.SetAndObserveColorNodeID(color)
        kind = f"{settings.log} {settings.polarity} {settings.window}"
        shown = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
        before = json.loads(node.GetAttribute(_WINDOW) or "[]")
        # Another preset or kind of picture asks for its window; else the user's own is kept.
        if before and before[0] == kind and not _is_window(shown, before[1:]):
            return
        if before and before[0] == kind and moving:
            return
        center, width = picture.window
        display.SetWindowLevelMinMax(center - width / 2, center + width / 2)
        shown = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
        node.SetAttribute(_WINDOW, json.dumps([kind, *shown]))


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
