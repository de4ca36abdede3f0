"""Slicer's views: its own displayable managers draw offscreen, Qt's mouse, wheel and key events drive them."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtkmodules import vtkInteractionStyle, vtkRenderingFreeType  # noqa: F401 - registered by being imported
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkRenderingUI import vtkGenericRenderWindowInteractor

from .stand_in import stand_in

_MANAGERS_3D = (
    "Camera View Model ThreeDReformat Crosshair3D OrientationMarker Ruler "
    "Segmentations3D Markups Transforms3D LinearTransforms"
)
_MANAGERS_2D = (
    "Crosshair ModelSlice OrientationMarker Ruler ScalarBar Segmentations2D Markups Transforms2D LinearTransforms"
)
_BUTTONS = {QtCore.Qt.LeftButton: "Left", QtCore.Qt.RightButton: "Right", QtCore.Qt.MiddleButton: "Middle"}


def _manager_name(short: str) -> str:
    stem, dimension = (short[:-2], short[-2:]) if short.endswith(("2D", "3D")) else (short, "")
    return f"vtkMRML{stem}DisplayableManager{dimension}"


class _View(QtWidgets.QWidget):
    """A VTK window that is drawn when asked and painted into a Qt widget."""

    def __init__(self, factory: Any, managers: str, style: Any, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFocusPolicy(QtCore.Qt.StrongFocus)
        self.setMinimumSize(60, 40)
        self._picture, self._stale, self._renders = None, True, 0
        self._renderer, self._window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self._interactor = vtkGenericRenderWindowInteractor()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)  # with samples, translucent segments and all handles vanish without a word
        self._window.AddRenderer(self._renderer)
        self._interactor.SetRenderWindow(self._window)
        self._interactor.Initialize()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in map(_manager_name, managers.split()):
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._renderer)
        self._group.Initialize(factory, self._renderer)
        self._group.AddObserver(vtk.vtkCommand.UpdateEvent, self._needs_drawing)
        self._style = style
        self._style.SetDisplayableManagers(self._group)

    def renderWindow(self) -> Any:
        return self._window

    def interactor(self) -> Any:
        return self._interactor

    def interactorStyle(self) -> Any:
        return self._style

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._group.GetDisplayableManagerByClassName(name)

    def _needs_drawing(self, *_: object) -> None:
        self.scheduleRender()

    def scheduleRender(self) -> None:
        self._stale = True
        self.update()

    def forceRender(self) -> None:
        self._stale = True
        self._draw()
        self.update()

    def _draw(self) -> None:
        """Two passes where handles were just made: the first one lets them size themselves."""
        self._stale = False
        self._window.Render()
        self._renders += 1
        width, height = self._window.GetSize()
        pixels = vtk.vtkUnsignedCharArray()
        self._window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, pixels)
        rgba = vtk_to_numpy(pixels).reshape(height, width, 4)[::-1].copy()
        self._picture = QtGui.QImage(rgba.data, width, height, 4 * width, QtGui.QImage.Format_RGBX8888).copy()

    def resizeEvent(self, _: QtGui.QResizeEvent) -> None:
        self._interactor.UpdateSize(self.width(), self.height())
        self._window.SetSize(self.width(), self.height())
        self._resized()
        self._interactor.ConfigureEvent()
        self._stale = True

    def _resized(self) -> None:
        pass

    def paintEvent(self, _: QtGui.QPaintEvent) -> None:
        if self._stale or self._picture is None:
            self._draw()
        QtGui.QPainter(self).drawImage(0, 0, self._picture)

    def _place(self, event: Any) -> None:
        held, at = event.modifiers(), event.position()
        control, shift, alt = (
            int(bool(held & key)) for key in (QtCore.Qt.ControlModifier, QtCore.Qt.ShiftModifier, QtCore.Qt.AltModifier)
        )
        self._interactor.SetEventInformation(
            int(at.x()), int(self.height() - 1 - at.y()), control, shift, chr(0), 0, None
        )
        self._interactor.SetAltKey(alt)

    def _button(self, event: QtGui.QMouseEvent, what: str) -> None:
        self._place(event)
        if event.button() in _BUTTONS:
            getattr(self._interactor, f"{_BUTTONS[event.button()]}Button{what}Event")()

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        self._button(event, "Press")

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:
        self._button(event, "Release")

    def mouseDoubleClickEvent(self, event: QtGui.QMouseEvent) -> None:
        self._button(event, "DoubleClick")

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:
        self._place(event)
        self._interactor.MouseMoveEvent()

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        self._place(event)
        forward = event.angleDelta().y() > 0
        (self._interactor.MouseWheelForwardEvent if forward else self._interactor.MouseWheelBackwardEvent)()

    def enterEvent(self, _: QtCore.QEvent) -> None:
        self._interactor.EnterEvent()

    def leaveEvent(self, _: QtCore.QEvent) -> None:
        self._interactor.LeaveEvent()

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
        self._key(event)
        self._interactor.KeyPressEvent()
        self._interactor.CharEvent()

    def keyReleaseEvent(self, event: QtGui.QKeyEvent) -> None:
        self._key(event)
        self._interactor.KeyReleaseEvent()

    def _key(self, event: QtGui.QKeyEvent) -> None:
        held = event.modifiers()
        control, shift = (int(bool(held & k)) for k in (QtCore.Qt.ControlModifier, QtCore.Qt.ShiftModifier))
        name = QtGui.QKeySequence(event.key()).toString()
        self._interactor.SetKeyEventInformation(control, shift, (event.text() or chr(0))[0], 0, name)


@stand_in
class qMRMLThreeDView(_View):  # noqa: N801
    def __init__(self, node: Any, parent: QtWidgets.QWidget | None = None) -> None:
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, _MANAGERS_3D, slicer.vtkMRMLThreeDViewInteractorStyle(), parent)
        self._renderer.GradientBackgroundOn()
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyle3D())
        self._style.SetInteractor(self._interactor)
        application = slicer.app.applicationLogic()
        self._logic = slicer.vtkMRMLViewLogic()
        self._logic.SetMRMLApplicationLogic(application)
        application.GetViewLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.AddViewNode(node.GetLayoutName())
        self._node = node
        self._node.SetUseDepthPeeling(False)  # ten times slower on a software renderer
        self._group.SetMRMLDisplayableNode(self._node)

    def mrmlViewNode(self) -> Any:
        return self._node

    def renderer(self) -> Any:
        return self._renderer

    def cameraNode(self) -> Any:
        return self.displayableManagerByClassName("vtkMRMLCameraDisplayableManager").GetCameraNode()

    def resetCamera(self) -> None:
        self._renderer.ResetCamera()
        self._renderer.ResetCameraClippingRange()

    def resetFocalPoint(self) -> None:
        self.resetCamera()


@stand_in
class qMRMLSliceView(_View):  # noqa: N801
    def __init__(self, node: Any, parent: QtWidgets.QWidget | None = None) -> None:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, _MANAGERS_2D, slicer.vtkMRMLSliceViewInteractorStyle(), parent)
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        overlay = vtk.vtkRenderer()
        overlay.GetActiveCamera().ParallelProjectionOn()
        overlay.SetLayer(1)
        self._window.SetNumberOfLayers(max(2, self._window.GetNumberOfLayers()))
        self._window.AddRenderer(overlay)
        self._mapper, self._actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._actor.SetVisibility(False)
        self._renderer.AddViewProp(self._actor)
        application = slicer.app.applicationLogic()
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(self._logic)
        self._style.SetSliceLogic(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceNode(node)
        self._node = node
        self._group.SetMRMLDisplayableNode(self._node)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._style.SetInteractor(self._interactor)
        self._port = None
        self._logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._new_image)
        self._new_image()

    def _new_image(self, *_: object) -> None:
        port = self._logic.GetImageDataConnection()
        if port is not self._port:
            self._port = port
            self._mapper.SetInputConnection(port)
            self._actor.SetVisibility(bool(port))
        self.scheduleRender()

    def _resized(self) -> None:
        self._logic.ResizeSliceNode(self.width(), self.height())

    def mrmlSliceNode(self) -> Any:
        return self._node
