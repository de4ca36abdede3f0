"""The layout manager: shows what the scene's layout node describes."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from .stand_in import stand_in
from .views import qMRMLSliceView, qMRMLThreeDView


class _Framed(QtWidgets.QWidget):
    """A view under a thin bar in the view's colour, as in Slicer."""

    def __init__(self, view: QtWidgets.QWidget, node: Any) -> None:
        super().__init__()
        self._bar, self._node, self._view = QtWidgets.QLabel(self), node, view
        self._bar.setFixedHeight(18)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._bar)
        layout.addWidget(view, 1)
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._label)
        self._label()

    def _label(self, *_: object) -> None:
        red, green, blue = (round(255 * c) for c in self._node.GetLayoutColor())
        text = self._node.GetLayoutLabel() or self._node.GetLayoutName()
        ink = "black" if 3 * red + 6 * green + blue > 1300 else "white"
        self._bar.setText(text)
        self._bar.setStyleSheet(
            f"background: rgb({red},{green},{blue}); color: {ink}; padding-left: 6px; "
            "font-weight: bold; font-size: 11px"
        )


@stand_in
class qMRMLThreeDWidget(_Framed):  # noqa: N801
    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    def mrmlViewNode(self) -> Any:
        return self._node


@stand_in
class qMRMLSliceWidget(_Framed):  # noqa: N801
    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def sliceLogic(self) -> Any:
        return self._view._logic

    def mrmlSliceNode(self) -> Any:
        return self._node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._view._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._view._logic.FitSliceToBackground()


@stand_in
class qSlicerLayoutManager(QtCore.QObject):  # noqa: N801
    """Builds the widgets of a layout from its XML, which Slicer's own layout logic has read."""

    layoutChanged = QtCore.Signal(int)
    cpp_signals = {"layoutChanged(int)": "layoutChanged"}  # noqa: RUF012
    layout = property(
        lambda self: self._node.GetViewArrangement(), lambda self, value: self._node.SetViewArrangement(value)
    )
    threeDViewCount = property(lambda self: len(self._three_d))

    def __init__(self, viewport: QtWidgets.QWidget) -> None:
        super().__init__()
        self._viewport, self._shown, self._contents = viewport, "", None
        self._three_d: dict[str, qMRMLThreeDWidget] = {}
        self._slices: dict[str, qMRMLSliceWidget] = {}
        viewport.setLayout(QtWidgets.QVBoxLayout())
        viewport.layout().setContentsMargins(0, 0, 0, 0)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._logic.GetLayoutNode()
        self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._rebuild)
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._rebuild()

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def setLayout(self, layout: int) -> None:
        self._node.SetViewArrangement(layout)

    def threeDWidget(self, which: int | str) -> qMRMLThreeDWidget | None:
        return self._three_d.get(which) if isinstance(which, str) else list(self._three_d.values())[which]

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._slices.get(name)

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slices)

    def resetThreeDViews(self) -> None:
        for widget in self._three_d.values():
            widget.threeDView().resetFocalPoint()

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def viewport(self) -> QtWidgets.QWidget:
        return self._viewport

    def _rebuild(self, *_: object) -> None:
        description = self._node.GetCurrentLayoutDescription() or ""
        if slicer.mrmlScene.IsBatchProcessing() or description == self._shown or not description:
            return
        self._shown = description
        for widget in (*self._three_d.values(), *self._slices.values()):
            widget.setParent(None)
        if self._contents is not None:
            self._contents.setParent(
                None
            )  # a deletion asked for waits for the next event loop, and takes room till then
            self._contents.deleteLater()
        self._contents = self._build(self._node.GetLayoutRootElement())
        self._viewport.layout().addWidget(self._contents)
        for widget in (*self._three_d.values(), *self._slices.values()):
            widget.setVisible(widget.parent() is not None)
            widget._node.SetMappedInLayout(widget.parent() is not None)
        self.layoutChanged.emit(self._node.GetViewArrangement())

    def _build(self, element: Any) -> QtWidgets.QWidget:
        if element.GetName() == "view":
            return self._view(element)
        kind = element.GetAttribute("type")
        children = [element.GetNestedElement(n) for n in range(element.GetNumberOfNestedElements())]
        if kind == "grid":
            box = QtWidgets.QWidget()
            grid = QtWidgets.QGridLayout(box)
            grid.setContentsMargins(0, 0, 0, 0)
            grid.setSpacing(2)
            for item in children:
                row, column = (int(item.GetAttribute(a) or 0) for a in ("row", "column"))
                grid.addWidget(self._build(item.GetNestedElement(0)), row, column)
            return box
        splitter = QtWidgets.QSplitter(QtCore.Qt.Vertical if kind == "vertical" else QtCore.Qt.Horizontal)
        splitter.setHandleWidth(2)
        sizes = []
        for item in children:
            splitter.addWidget(self._build(item.GetNestedElement(0)))
            sizes.append(int(item.GetAttribute("splitSize") or 0))
        splitter.setSizes([size or 500 for size in sizes])
        return splitter

    def _view(self, element: Any) -> QtWidgets.QWidget:
        node = self._logic.GetViewFromElement(element)
        name = node.GetName()  # as in Slicer, where it is View1 and the layout's name is 1
        if node.IsA("vtkMRMLSliceNode"):
            if name not in self._slices:
                self._slices[name] = qMRMLSliceWidget(qMRMLSliceView(node), node)
            return self._slices[name]
        if node.IsA("vtkMRMLViewNode"):
            if name not in self._three_d:
                self._three_d[name] = qMRMLThreeDWidget(qMRMLThreeDView(node), node)
            return self._three_d[name]
        return QtWidgets.QLabel(node.GetName())
