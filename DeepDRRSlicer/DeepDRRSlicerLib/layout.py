"""Slicer layouts that show the X-ray beside the 3D view and the CT's slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slicer import vtkMRMLLayoutNode

XRAY = "XRay"
SECOND_XRAY = "XRay2"


@dataclass(frozen=True)
class SliceViewStyle:
    """How a slice view is set up when it is made.

    group: views of one group follow each other's zoom, pan and slice; an X-ray must follow nothing.
    """

    orientation: str
    label: str
    color: str
    group: int = 0


XRAY_VIEWS = {
    XRAY: SliceViewStyle("Coronal", "X", "#00808F", group=54),
    SECOND_XRAY: SliceViewStyle("Sagittal", "X2", "#7A5AA6", group=55),
}


@dataclass(frozen=True)
class Layout:
    """A layout as the layout manager knows it: a number that stays the same between versions, and its XML."""

    layout_id: int
    name: str
    title: str
    description: str
    xml: str


def _split(direction: str, *items: tuple[int, str]) -> str:
    inside = "".join(f'<item splitSize="{size}">{view}</item>' for size, view in items)
    return f'<layout type="{direction}" split="true">{inside}</layout>'


def _slice_view(tag: str, style: SliceViewStyle) -> str:
    properties = {
        "orientation": style.orientation,
        "viewlabel": style.label,
        "viewcolor": style.color,
        "viewgroup": style.group,
    }
    inside = "".join(
        f'<property name="{name}" action="default">{value}</property>' for name, value in properties.items()
    )
    return f'<view class="vtkMRMLSliceNode" singletontag="{tag}">{inside}</view>'


_THREE_D = (
    '<view class="vtkMRMLViewNode" singletontag="1"><property name="viewlabel" action="default">1</property></view>'
)
_XRAY_VIEW, _SECOND_XRAY_VIEW = (_slice_view(tag, style) for tag, style in XRAY_VIEWS.items())
_AXIAL = _slice_view("Red", SliceViewStyle("Axial", "R", "#F34A33"))
_CORONAL = _slice_view("Green", SliceViewStyle("Coronal", "G", "#6EB04B"))
_SAGITTAL = _slice_view("Yellow", SliceViewStyle("Sagittal", "Y", "#EDD54C"))
_CT_ROW = _split("horizontal", (333, _AXIAL), (333, _CORONAL), (333, _SAGITTAL))

LAYOUTS = (
    Layout(
        5401,
        "workplace",
        "X-ray workplace",
        "3D view and X-ray, above the CT's axial, coronal and sagittal slices",
        _split("vertical", (620, _split("horizontal", (500, _THREE_D), (500, _XRAY_VIEW))), (380, _CT_ROW)),
    ),
    Layout(
        5402,
        "side_by_side",
        "3D and X-ray",
        "3D view and X-ray side by side",
        _split("horizontal", (500, _THREE_D), (500, _XRAY_VIEW)),
    ),
    Layout(
        5403,
        "xray_large",
        "Large X-ray",
        "X-ray, beside a column of 3D view, axial and coronal slice",
        _split(
            "horizontal",
            (700, _XRAY_VIEW),
            (300, _split("vertical", (334, _THREE_D), (333, _AXIAL), (333, _CORONAL))),
        ),
    ),
    Layout(
        5404,
        "biplane",
        "Biplane X-ray",
        "3D view and axial slice, above two X-rays",
        _split(
            "vertical",
            (500, _split("horizontal", (500, _THREE_D), (500, _AXIAL))),
            (500, _split("horizontal", (500, _XRAY_VIEW), (500, _SECOND_XRAY_VIEW))),
        ),
    ),
)


def layout_named(name: str) -> Layout:
    """The layout of this name; ValueError lists those there are."""
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ValueError(f"There is no layout {name!r}. Choose one of: {', '.join(layout.name for layout in LAYOUTS)}.")


def layout_node_of(scene: Any) -> vtkMRMLLayoutNode | None:
    """What the views are laid out by; None where nothing lays them out, as in a Slicer without a main window."""
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def register_layouts(layout_node: vtkMRMLLayoutNode | None) -> None:
    """Make all layouts known to the layout node, if there is one; calling it again does no harm.

    Scenes are saved with the number of their layout alone. One that was read before its layout was known is shown now.
    """
    if layout_node is None:
        return
    for layout in LAYOUTS:
        if not layout_node.SetLayoutDescription(layout.layout_id, layout.xml):
            layout_node.AddLayoutDescription(layout.layout_id, layout.xml)
    if (arrangement := layout_node.GetViewArrangement()) in [layout.layout_id for layout in LAYOUTS]:
        layout_node.SetViewArrangement(arrangement)


def show_layout(layout_node: vtkMRMLLayoutNode | None, name: str = "workplace") -> None:
    """Switch the views to a layout, registering it first if need be; nothing happens where there are no views."""
    wanted = layout_named(name)
    register_layouts(layout_node)
    if layout_node is not None:
        layout_node.SetViewArrangement(wanted.layout_id)
