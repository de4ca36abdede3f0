"""Solid shapes for the C-arm's parts: skins over stacked outlines, with rounded edges and smooth normals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

FloatArray = npt.NDArray[np.float64]

# Edges sharper than this stay sharp; the facets of a rounding, which meet at less, are shaded as one.
_FEATURE_ANGLE_DEG = 40.0
_CORNER_STEPS = 6
_EDGE_STEPS = 4
_SHORTEST_SIDE = 0.05


class Station(NamedTuple):
    """A rounded rectangle across an axis: where along it, its two full widths and corner radius, mm."""

    along: float
    width: float
    depth: float
    corner: float


def box(
    stations: Sequence[Station | tuple[float, float, float, float]], axis: str, edge: float = 8.0
) -> vtk.vtkPolyData:
    """The solid through `stations` along `axis`, with both ends rounded by `edge` mm.

    The width and the depth lie along the other two axes in the order x, y, z. The centre line is the axis
    itself; see `moved`.
    """
    sections = _rounded_ends([Station(*station) for station in stations], edge)
    rings = [np.insert(_outline(s), "xyz".index(axis), s.along, axis=1) for s in sections]
    return _skin(np.array(rings))


def round_bar(stations: Iterable[tuple[float, float]], axis: str, edge: float = 4.0) -> vtk.vtkPolyData:
    """The turned solid through (along, diameter) `stations` on `axis`, with both ends rounded by `edge` mm."""
    return box([(along, diameter, diameter, diameter / 2) for along, diameter in stations], axis, edge)


def arc(
    radius: float, half_angle_deg: float, thickness: float, width: float, corner: float, edge: float = 6.0
) -> vtk.vtkPolyData:
    """A bar bent about the z axis, around the direction +x: `thickness` is radial, `width` along z, mm."""
    reach = np.radians(half_angle_deg) * radius
    count = max(int(half_angle_deg), 8)
    stations = [Station(s, thickness, width, corner) for s in np.linspace(-reach, reach, count)]
    rings = []
    for station in _rounded_ends(stations, edge):
        outline, angle = _outline(station), station.along / radius
        distance = radius + outline[:, 0]
        rings.append(np.column_stack((distance * np.cos(angle), distance * np.sin(angle), outline[:, 1])))
    return _skin(np.array(rings))


def tube(points: npt.ArrayLike, diameter: float, closed: bool = False) -> vtk.vtkPolyData:
    """A round bar along a line of `points`, (n, 3) mm."""
    path = np.asarray(points, dtype=np.float64)
    line = vtk.vtkPolyData()
    line.SetPoints(_points(path))
    ids = [*range(len(path)), *([0] if closed else [])]
    cells = vtk.vtkCellArray()
    cells.InsertNextCell(len(ids), ids)
    line.SetLines(cells)
    filter_ = vtk.vtkTubeFilter()
    filter_.SetInputData(line)
    filter_.SetRadius(diameter / 2)
    filter_.SetNumberOfSides(16)
    filter_.CappingOn()
    filter_.Update()
    return _plain(filter_.GetOutput())


def pyramid(apex: npt.ArrayLike, outline: npt.ArrayLike) -> vtk.vtkPolyData:
    """The sides between a point and an `outline` of points (n, 3) around the base; the base is left open."""
    base = np.asarray(outline, dtype=np.float64)
    ids = np.arange(len(base))
    triangles = np.column_stack((ids, np.roll(ids, -1), np.full(len(base), len(base))))
    return _with_normals(_poly_data(np.vstack((base, np.asarray(apex, dtype=np.float64))), list(triangles)))


def moved(poly_data: vtk.vtkPolyData, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> vtk.vtkPolyData:
    """A copy, shifted by mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return transformed(poly_data, matrix)


def transformed(poly_data: vtk.vtkPolyData, matrix: npt.ArrayLike) -> vtk.vtkPolyData:
    """A copy under an affine map (4, 4); normals follow, and stay outward under a reflection."""
    transform = vtk.vtkTransform()
    transform.SetMatrix(np.asarray(matrix, dtype=np.float64).ravel().tolist())
    filter_ = vtk.vtkTransformPolyDataFilter()
    filter_.SetInputData(poly_data)
    filter_.SetTransform(transform)
    filter_.Update()
    result = filter_.GetOutput()
    if np.linalg.det(np.asarray(matrix)[:3, :3]) < 0:
        reverse = vtk.vtkReverseSense()
        reverse.SetInputData(result)
        reverse.ReverseCellsOn()
        reverse.Update()
        result = reverse.GetOutput()
    return _plain(result)


def merged(*solids: vtk.vtkPolyData) -> vtk.vtkPolyData:
    """All solids as one."""
    append = vtk.vtkAppendPolyData()
    for solid in solids:
        append.AddInputData(solid)
    append.Update()
    return _plain(append.GetOutput())


def _outline(station: Station) -> FloatArray:
    # A straight piece is left even in a circle: points that coincide would make facets without a normal.
    corner = min(station.corner, station.width / 2 - _SHORTEST_SIDE, station.depth / 2 - _SHORTEST_SIDE)
    angles = np.linspace(0.0, np.pi / 2, _CORNER_STEPS + 1)
    quarters = []
    for turn, (sign_u, sign_v) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        center = np.array([sign_u * (station.width / 2 - corner), sign_v * (station.depth / 2 - corner)])
        a = angles + turn * np.pi / 2
        quarters.append(center + corner * np.column_stack((np.cos(a), np.sin(a))))
    return np.vstack(quarters)


def _rounded_ends(stations: list[Station], edge: float) -> list[Station]:
    """The stations with a quarter circle of `edge` mm added inside both ends."""
    direction = np.sign(stations[-1].along - stations[0].along)
    angles = np.linspace(0.0, np.pi / 2, _EDGE_STEPS + 1)[:-1]

    def rounding(end: Station, inwards: float) -> list[Station]:
        r = min(edge, end.width / 2 - 0.5, end.depth / 2 - 0.5)
        steps = []
        for a in angles:
            inset = r * (1 - np.sin(a))
            along = end.along + inwards * r * (1 - np.cos(a))
            steps.append(Station(along, end.width - 2 * inset, end.depth - 2 * inset, max(end.corner - inset, 0.5)))
        return [*steps, Station(end.along + inwards * r, end.width, end.depth, end.corner)]

    first, last = rounding(stations[0], direction), rounding(stations[-1], -direction)
    low, high = sorted((first[-1].along, last[-1].along))
    return [*first, *(s for s in stations[1:-1] if low < s.along < high), *reversed(last)]


def _skin(rings: FloatArray) -> vtk.vtkPolyData:
    """The closed surface over `rings` (n, m, 3), with a flat lid on the first and the last."""
    if _is_inside_out(rings):
        rings = rings[::-1]
    n, m = rings.shape[:2]
    ids = np.arange(n * m).reshape(n, m)
    after = np.roll(ids, -1, axis=1)
    quads = np.stack((ids[:-1], after[:-1], after[1:], ids[1:]), axis=-1).reshape(-1, 4)
    return _with_normals(_poly_data(rings.reshape(-1, 3), [*quads, ids[0][::-1], ids[-1]]))


def _is_inside_out(rings: FloatArray) -> bool:
    """Whether the outlines run clockwise, seen from where the next one lies."""
    outline = rings[0] - rings[0].mean(axis=0)
    area = np.cross(outline, np.roll(outline, -1, axis=0)).sum(axis=0)
    return bool(area @ (rings[1].mean(axis=0) - rings[0].mean(axis=0)) < 0)


def _poly_data(points: FloatArray, cells: list[npt.NDArray[np.int64]]) -> vtk.vtkPolyData:
    offsets = np.concatenate(([0], np.cumsum([len(cell) for cell in cells]))).astype(np.int64)
    polygons = vtk.vtkCellArray()
    polygons.SetData(
        numpy_to_vtkIdTypeArray(offsets, deep=True),
        numpy_to_vtkIdTypeArray(np.concatenate(cells).astype(np.int64), deep=True),
    )
    result = vtk.vtkPolyData()
    result.SetPoints(_points(points))
    result.SetPolys(polygons)
    return result


def _points(points: FloatArray) -> vtk.vtkPoints:
    result = vtk.vtkPoints()
    result.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    return result


def _with_normals(poly_data: vtk.vtkPolyData) -> vtk.vtkPolyData:
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(poly_data)
    normals.SetFeatureAngle(_FEATURE_ANGLE_DEG)
    normals.ConsistencyOff()
    normals.Update()
    return _plain(normals.GetOutput())


def _plain(poly_data: vtk.vtkPolyData) -> vtk.vtkPolyData:
    """A copy that keeps no pipeline alive."""
    result = vtk.vtkPolyData()
    result.ShallowCopy(poly_data)
    return result
