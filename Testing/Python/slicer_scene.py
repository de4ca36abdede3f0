"""A MRML scene of Slicer's core, without Slicer, Qt or a display; tests that need it are skipped without it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

MODULE = Path(__file__).resolve().parents[2] / "DeepDRRSlicer"

pytest.importorskip("slicer_core", reason="slicer-core, the core of 3D Slicer from PyPI, is not installed")
sys.path.insert(0, str(MODULE))

import numpy as np  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from slicer.util import arrayFromVolume, vtkMatrixFromArray  # noqa: E402

from DeepDRRSlicerLib.material_nodes import TAG_MATERIAL  # noqa: E402
from DeepDRRSlicerLib.technique import Technique  # noqa: E402

QUIET = Technique(noise=False)
SHOT = Technique(kvp=75.0, seed=3, collimator="circle:70px", window="pelvis")
BONE, SOFT = "DeepDRR_bone", "DeepDRR_soft_tissue"

_LOGICS = (
    "vtkSlicerVolumesLogic",
    "vtkSlicerSegmentationsModuleLogic",
    "vtkSlicerSubjectHierarchyModuleLogic",
    "vtkSlicerModelsLogic",
    "vtkSlicerTransformLogic",
    "vtkSlicerMarkupsLogic",
    "vtkSlicerSequencesLogic",
)
_KEPT: list[Any] = []


def make_scene() -> Any:
    """A new scene that is Slicer's from now on, able to read and write scene files."""
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    kept: list[Any] = [scene, logic]
    for name in _LOGICS:
        module = getattr(slicer, name)()
        module.SetMRMLScene(scene)
        module.SetMRMLApplicationLogic(logic)
        kept.append(module)
    remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(logic)
    # An empty folder of its own: the manager looks through all of it.
    cache = tempfile.TemporaryDirectory(prefix="slicer-cache")
    remote.GetCacheManager().SetRemoteCacheDirectory(cache.name)
    data.SetMRMLScene(scene)
    data.SetMRMLApplicationLogic(logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    _KEPT[:] = [(*kept, remote, data, cache)]
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(
        segmentations=SimpleNamespace(logic=lambda: kept[3]), volumes=SimpleNamespace(logic=lambda: kept[2])
    )
    return scene


def add_ct(scene: Any, hu: np.ndarray, ras_from_ijk: np.ndarray | None = None, name: str = "CT") -> Any:
    """A volume node with these values [k, j, i], 2 mm apart and around the origin unless said otherwise."""
    from DeepDRRLogic.volume import CTVolume
    from DeepDRRSlicerLib.ct_nodes import volume_node

    if ras_from_ijk is None:
        ras_from_ijk = np.diag([2.0, 2.0, 2.0, 1.0])
        ras_from_ijk[:3, 3] = -(np.array(hu.shape[::-1]) - 1.0)
    return volume_node(scene, CTVolume(hu, ras_from_ijk, name))


def add_transform(scene: Any, matrix: np.ndarray, name: str = "Transform") -> Any:
    """A linear transform node of a matrix (4, 4)."""
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(vtkMatrixFromArray(matrix))
    return node


def body_hu(shape: tuple[int, int, int] = (40, 50, 60)) -> np.ndarray:
    """A block of tissue in air with a block of bone in it."""
    hu = np.full(shape, -1000, np.int16)
    k, j, i = (n // 5 for n in shape)
    hu[k:-k, j:-j, i:-i] = 40
    hu[2 * k : -2 * k, 2 * j : -2 * j, 2 * i : -2 * i] = 900
    return hu


def add_ball(scene: Any, representation: str = "Closed surface") -> Any:
    """A segmentation of one surface, a ball of 15 mm, as an implant read from an STL file is."""
    ball = vtk.vtkSphereSource()
    ball.SetRadius(15.0)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    segment = slicer.vtkSegment()
    segment.SetName("Ball")
    segment.SetTag(TAG_MATERIAL, "cobalt_chrome")
    segment.AddRepresentation(representation, ball.GetOutput())
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Ball")
    node.GetSegmentation().SetSourceRepresentationName(representation)
    node.GetSegmentation().AddSegment(segment, "Ball")
    return node


def add_bend(scene: Any) -> Any:
    """A transform that bends whatever is under it."""
    spline = vtk.vtkThinPlateSplineTransform()
    places, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for n in range(8):
        corner = np.array([(n >> axis & 1) - 0.5 for axis in range(3)]) * 200.0
        places.InsertNextPoint(corner)
        moved.InsertNextPoint(corner * (1.3 if n == 7 else 1.0))
    spline.SetSourceLandmarks(places)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    node.SetAndObserveTransformToParent(spline)
    return node


def shot(logic: Any, ct: Any, segmentation: Any, carm: Any) -> np.ndarray:
    """The values of a picture without noise, which stay when the next is taken."""
    return arrayFromVolume(logic.render(ct, segmentation, carm, QUIET))[0].copy()


def layer_of(segmentation_node: Any, segment_id: str) -> np.ndarray:
    """The labelmap behind a segment, [k, j, i], not a copy."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    image = segmentation_node.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def edited(segmentation_node: Any, segment_id: str) -> None:
    """Say that a segment's labelmap was painted in, as the Segment Editor does."""
    segmentation = segmentation_node.GetSegmentation()
    image = segmentation.GetSegment(segment_id).GetRepresentation("Binary labelmap")
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)


def add_segment(
    segmentation_node: Any, name: str, values: np.ndarray, ras_from_ijk: np.ndarray, tags: dict[str, str] | None = None
) -> str:
    """A segment of its own labelmap, as a user adds one."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(
        numpy_to_vtk(np.ascontiguousarray(values, np.uint8).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    )
    image.SetImageToWorldMatrix(vtkMatrixFromArray(ras_from_ijk))
    segment = slicer.vtkSegment()
    segment.SetName(name)
    for key, value in (tags or {}).items():
        segment.SetTag(key, value)
    segment.AddRepresentation("Binary labelmap", image)
    segmentation_node.GetSegmentation().AddSegment(segment, name)
    return name


def run_python(script: str, cwd: Path | None = None) -> str:
    """What a script prints in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Clock:
    """A timer and a clock that go as fast as the test wants."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[tuple[float, int, Any]] = []

    def __call__(self) -> float:
        return self.now

    def call_later(self, milliseconds: int, function: Any) -> None:
        self.waiting.append((self.now + milliseconds / 1000.0, len(self.waiting), function))

    def run(self, seconds: float) -> None:
        """Let the time pass, calling what falls due in its order."""
        end = self.now + seconds
        while due := [item for item in self.waiting if item[0] <= end]:
            item = min(due, key=lambda waiting: waiting[:2])
            self.waiting.remove(item)
            self.now = max(self.now, item[0])
            item[2]()
        self.now = end
