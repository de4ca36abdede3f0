"""X-rays out of the scene: files that others can read, and copies that stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DeepDRRLogic.image_io import sidecar_path

from .technique import display_settings
from .xray_nodes import technique_of_image

if TYPE_CHECKING:
    from DeepDRRLogic.image import XRayImage


def export(image: XRayImage, node: Any, path: Path) -> list[Path]:
    """Write an exposure as it is shown: the window is that of the view, and values keep their physical meaning.

    Pictures (.png, .dcm) are windowed; .tif and .nrrd hold -ln(I/I0), or the signal where the view is linear. Returns
    the files written. Raises ValueError for any other suffix, and for a place that cannot be written to.
    """
    technique = technique_of_image(node)
    settings = display_settings(technique)
    display = node.GetDisplayNode()
    if display is not None and display.GetWindow() > 0:
        settings = replace(settings, window=(display.GetLevel(), display.GetWindow()))
    image.save(path, settings=settings, quantity="log" if technique.log else "signal")
    return [path] if sidecar_path(path) == path else [path, sidecar_path(path)]


def copy_image(node: Any) -> Any:
    """A second node with the same pixels, place, window and provenance."""
    scene = node.GetScene()
    copied = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(f"{node.GetName()} copy"))
    name = copied.GetName()
    copied.CopyContent(node, True)
    copied.SetName(name)
    for key in node.GetAttributeNames():
        copied.SetAttribute(key, node.GetAttribute(key))
    for role in (r for n in range(node.GetNumberOfNodeReferenceRoles()) if (r := node.GetNthNodeReferenceRole(n))):
        if role.startswith("DeepDRR."):
            copied.SetNodeReferenceID(role, node.GetNodeReferenceID(role))
    copied.CreateDefaultDisplayNodes()
    if node.GetDisplayNode() is not None:
        copied.GetDisplayNode().CopyContent(node.GetDisplayNode())
    return copied
