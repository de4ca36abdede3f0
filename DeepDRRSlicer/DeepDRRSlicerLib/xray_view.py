"""The X-ray's own slice view: its plane is the detector, upright in every pose, whoever moves the C-arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from .layout import XRAY, XRAY_VIEWS
from .mrml import in_scene, ras_from_ijk, world_from_parent

FloatArray = npt.NDArray[np.float64]

# A picture in the 3D view is small on the screen; its texture is made anew for every frame.
_LARGEST_TEXTURE = 512


def slice_to_ras(image_node: Any) -> FloatArray:
    """SliceToRAS (4, 4) of the view that shows a picture as its pixels lie: i to the right, j downwards.

    It is right-handed for a mirrored picture too, whose IJKToRAS is not, and its origin is the picture's
    middle. The picture's linear parent transform is followed.
    """
    world_from_ijk = world_from_parent(image_node) @ ras_from_ijk(image_node)
    right = world_from_ijk[:3, 0] / np.linalg.norm(world_from_ijk[:3, 0])
    up = -world_from_ijk[:3, 1] / np.linalg.norm(world_from_ijk[:3, 1])
    columns, rows, _ = image_node.GetImageData().GetDimensions()
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = right, up, np.cross(right, up)
    matrix[:3, 3] = (world_from_ijk @ [(columns - 1) / 2, (rows - 1) / 2, 0.0, 1.0])[:3]
    return matrix


def size_mm(image_node: Any) -> tuple[float, float]:
    """Width and height of a picture from edge to edge, mm."""
    world_from_ijk = world_from_parent(image_node) @ ras_from_ijk(image_node)
    columns, rows, _ = image_node.GetImageData().GetDimensions()
    steps = np.linalg.norm(world_from_ijk[:3, :2], axis=0)
    return float(columns * steps[0]), float(rows * steps[1])


class XRayView:
    """Keeps one slice view on the plane of one picture.

    Zoom and pan are the user's: they are set when a picture of another size is shown, and by `fit`. A view that is
    not zoomed keeps showing the whole picture when its window changes size. Slicer moves slice views when a volume is
    chosen, a slice is scrolled or a point jumped to; this one returns to its picture, and brings it back where another
    volume is put in its place. What is laid over it stays. Works without a layout manager: the view's nodes are
    singletons, made here if need be.
    """

    def __init__(self, scene: Any, tag: str = XRAY, on_picture: Callable[[Any], None] = lambda image: None) -> None:
        """tag: "XRay" or "XRay2", the singleton tags of the layouts' X-ray views.

        on_picture(image node, or None) is called when the picture in the view is another one, or lies elsewhere.
        """
        if tag not in XRAY_VIEWS:
            raise ValueError(f"There is no X-ray view {tag!r}. Choose one of: {', '.join(XRAY_VIEWS)}.")
        self._scene = scene
        self._tag = tag
        self._on_picture = on_picture
        self._image: Any = None
        self._size_mm: tuple[float, float] | None = None
        self._view_size: tuple[int, int] | None = None
        self._is_fitted = True
        self._observed: list[tuple[Any, int]] = []
        self._placing = False

    @property
    def image_node(self) -> Any:
        """The picture shown, or None."""
        return self._image

    @property
    def slice_node(self) -> Any:
        """The view's vtkMRMLSliceNode."""
        return self._singleton("vtkMRMLSliceNode")

    @property
    def composite_node(self) -> Any:
        """The view's vtkMRMLSliceCompositeNode, which names the volumes shown in it."""
        return self._singleton("vtkMRMLSliceCompositeNode")

    @property
    def is_mapped(self) -> bool:
        """Whether the present layout has the view."""
        return bool(self.slice_node.IsMappedInLayout())

    def show(self, image_node: Any) -> None:
        """Show a picture, and follow it from now on; None leaves the view empty."""
        if image_node is not self._image:
            self.close()
            self._image = image_node
            self._observe()
        composite = self.composite_node
        composite.SetDoPropagateVolumeSelection(False)
        composite.SetLinkedControl(False)
        composite.SetHotLinkedControl(False)
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)
        composite.SetBackgroundVolumeID(image_node.GetID() if image_node is not None else None)
        self.update()

    def update(self) -> None:
        """Bring the view back to where its picture is; nothing happens if it is there."""
        if self._placing or self._image is None or self._image.GetImageData() is None:
            return
        self._placing = True
        try:
            self._place()
            self._on_picture(self._image)
        finally:
            self._placing = False

    def fit(self) -> None:
        """Zoom and pan such that the whole picture fills the view."""
        if self._image is None or self._image.GetImageData() is None:
            return
        node = self.slice_node
        self._size_mm, self._view_size, self._is_fitted = size_mm(self._image), tuple(node.GetDimensions()[:2]), True
        was = node.StartModify()
        node.SetXYZOrigin(0.0, 0.0, 0.0)
        node.SetFieldOfView(*_fitting(self._size_mm, self._view_size), node.GetFieldOfView()[2])
        node.EndModify(was)

    @property
    def on_detector(self) -> bool:
        """Whether the picture is shown on the detector in the 3D views."""
        return bool(self.slice_node.GetSliceVisible())

    @on_detector.setter
    def on_detector(self, shown: bool) -> None:
        self.slice_node.SetSliceEdgeVisibility3D(False)
        self.slice_node.SetSliceVisible(shown)

    def close(self) -> None:
        """Stop following; the view keeps what it shows."""
        for subject, observer in self._observed:
            subject.RemoveObserver(observer)
        self._observed.clear()
        self._image = None
        self._on_picture(None)

    def _place(self) -> None:
        node = self.slice_node
        wanted = slice_to_ras(self._image)
        present = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        if not np.allclose(present, wanted, rtol=0.0, atol=1e-6):
            slicer.util.updateVTKMatrixFromArray(node.GetSliceToRAS(), wanted)
        shape = size_mm(self._image)
        if self._wants_fit(node, shape):
            self.fit()
        self._size_texture(node, shape)
        node.UpdateMatrices()
        _settle(node)

    def _wants_fit(self, node: Any, shape: tuple[float, float]) -> bool:
        """Whether the picture has a new size, or a view that the user has not zoomed or panned has."""
        if self._size_mm is None or not np.allclose(shape, self._size_mm, rtol=1e-3):
            return True
        view_size = tuple(node.GetDimensions()[:2])
        if view_size != self._view_size:
            self._view_size = view_size
            return self._is_fitted
        width, height = _fitting(shape, view_size)
        self._is_fitted = np.allclose([*node.GetFieldOfView()[:2], *node.GetXYZOrigin()[:2]], [width, height, 0, 0])
        return False

    def _size_texture(self, node: Any, shape: tuple[float, float]) -> None:
        """The whole picture in 3D, whatever part of it the view is zoomed to."""
        columns, rows, _ = self._image.GetImageData().GetDimensions()
        step = max(1.0, max(columns, rows) / _LARGEST_TEXTURE)
        texture = (max(1, round(columns / step)), max(1, round(rows / step)), 1)
        extent = (*shape, 1.0)
        if node.GetSliceResolutionMode() != node.SliceResolutionCustom:
            node.SetSliceResolutionMode(node.SliceResolutionCustom)
        if not np.allclose(node.GetUVWExtents(), extent, rtol=1e-9) or tuple(node.GetUVWDimensions()) != texture:
            node.SetUVWExtentsAndDimensions(extent, texture)

    def _observe(self) -> None:
        if self._image is None:
            return
        followed = (
            (self.slice_node, vtk.vtkCommand.ModifiedEvent),
            (self._image, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent),
            (self._image, slicer.vtkMRMLTransformableNode.TransformModifiedEvent),
            (self._image, vtk.vtkCommand.ModifiedEvent),
        )
        # Before the slice logic looks, so that nothing is drawn from a plane the view is leaving.
        for subject, event in followed:
            self._observed.append((subject, subject.AddObserver(event, self._on_modified, 1.0)))
        composite = self.composite_node
        self._observed.append((composite, composite.AddObserver(vtk.vtkCommand.ModifiedEvent, self._bring_back, 1.0)))

    def _on_modified(self, _caller: Any, _event: str) -> None:
        # New pixels are told of at once, even while whoever writes them has not yet said where they lie.
        if not self._image.GetDisableModifiedEvent():
            self.update()

    def _bring_back(self, composite: Any, _event: str) -> None:
        if in_scene(self._image) and not self._scene.IsClosing():
            composite.SetBackgroundVolumeID(self._image.GetID())

    def _singleton(self, class_name: str) -> Any:
        node = self._scene.GetSingletonNode(self._tag, class_name)
        if node is not None:
            return node
        node = self._scene.CreateNodeByClass(class_name)
        node.UnRegister(None)
        node.SetLayoutName(self._tag)
        node.SetName(self._tag)
        if class_name == "vtkMRMLSliceNode":
            style = XRAY_VIEWS[self._tag]
            node.SetViewGroup(style.group)
            node.SetLayoutLabel(style.label)
            node.SetLayoutColor(*(int(style.color[n : n + 2], 16) / 255 for n in (1, 3, 5)))
        return self._scene.AddNode(node)


def _fitting(shape_mm: tuple[float, float], view_size: tuple[int, int]) -> tuple[float, float]:
    """The field of view, mm, in which a picture just fits into a view of so many pixels."""
    columns, rows = (max(n, 1) for n in view_size)
    scale = max(shape_mm[0] / columns, shape_mm[1] / rows)
    return scale * columns, scale * rows


def _settle(node: Any) -> None:
    """Bring XYToRAS and UVWToRAS in line with a plane, zoom or texture that was set while the node told of a change.

    vtkMRMLSliceNode ignores UpdateMatrices then, and would be left with matrices of two different states.
    """
    ras_from_slice = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    frames = (
        (node.GetXYToSlice(), node.GetXYToRAS(), node.GetFieldOfView(), node.GetDimensions(), node.GetXYZOrigin()),
        (node.GetUVWToSlice(), node.GetUVWToRAS(), node.GetUVWExtents(), node.GetUVWDimensions(), node.GetUVWOrigin()),
    )
    for to_slice, to_ras, extent, pixels, origin in frames:
        slice_from_pixel = slicer.util.arrayFromVTKMatrix(to_slice)
        for axis in (0, 1):
            slice_from_pixel[axis, axis] = extent[axis] / max(pixels[axis], 1)
            slice_from_pixel[axis, 3] = origin[axis] - extent[axis] / 2
        ras_from_pixel = ras_from_slice @ slice_from_pixel
        if not np.array_equal(slicer.util.arrayFromVTKMatrix(to_ras), ras_from_pixel):
            slicer.util.updateVTKMatrixFromArray(to_slice, slice_from_pixel)
            slicer.util.updateVTKMatrixFromArray(to_ras, ras_from_pixel)
