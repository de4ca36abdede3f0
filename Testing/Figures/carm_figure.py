"""Draws the C-arms of the 3D view around the built-in phantom, in a few positions.

pip install slicer-core        # brings VTK
python Testing/Figures/carm_figure.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import vtk
from figure_options import figure_options
from PIL import Image, ImageDraw, ImageFont
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "DeepDRRSlicer")]

from DeepDRRLogic.affine import rigid
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.phantom import phantom
from DeepDRRSlicerLib.carm_dimensions import Dimensions
from DeepDRRSlicerLib.carm_model import build_parts, group_matrices
from DeepDRRSlicerLib.kinematics import angles_of, gantry_rotation

FOLDER = ROOT / "Resources" / "Screenshots"
PANEL = (600, 540)
SKIN_HU, BONE_HU = -300.0, 250.0


class Shot(NamedTuple):
    """One panel: a machine, its angles, and its caption."""

    preset: str
    primary_deg: float
    secondary_deg: float
    caption: str


SHOTS = (
    Shot("mobile_flat_panel", 0, 0, "at rest: tube under the table (PA)"),
    Shot("mobile_flat_panel", 30, 20, "LAO 30°, CRAN 20°: orbit and tilt"),
    Shot("mobile_flat_panel", 90, 20, "left lateral, CRAN 20°: the machine is wheeled"),
    Shot("mobile_image_intensifier", -35, 0, "image intensifier, RAO 35°"),
    Shot("biplane_frontal", 30, -20, "biplane angiography, LAO 30°, CAUD 20°"),
    Shot("mobile_flat_panel", 180, 0, "AP: tube over the table, from the other side"),
)


def main() -> None:
    folder = figure_options(__doc__, FOLDER).parse_args().output
    patient = phantom(spacing_mm=3.0, region="chest")
    panels = [panel(shot, patient.ct) for shot in SHOTS]
    figure = Image.new("RGB", (3 * PANEL[0], 2 * PANEL[1]))
    for number, picture in enumerate(panels):
        figure.paste(picture, (number % 3 * PANEL[0], number // 3 * PANEL[1]))
    folder.mkdir(parents=True, exist_ok=True)
    figure.save(folder / "carm.png", optimize=True)


def panel(shot: Shot, ct) -> Image.Image:
    renderer = vtk.vtkRenderer()
    renderer.GradientBackgroundOn()
    renderer.SetBackground(0.757, 0.765, 0.910)  # Slicer's own colours
    renderer.SetBackground2(0.455, 0.471, 0.745)
    add_body(renderer, ct)
    arm = CArm.preset(shot.preset, isocenter_ras_mm=tuple(ct.center_ras))
    add_machine(renderer, arm.with_angles(shot.primary_deg, shot.secondary_deg))
    lights = vtk.vtkLightKit()
    lights.SetKeyLightIntensity(0.85)
    lights.AddLightsToRenderer(renderer)
    picture = render(renderer, np.asarray(ct.center_ras), to_the_right=shot.primary_deg < 170)
    font = ImageFont.load_default(size=19)
    ImageDraw.Draw(picture).text((18, 14), shot.caption, fill=(255, 255, 255), font=font)
    return picture


def add_body(renderer: vtk.vtkRenderer, ct) -> None:
    grid = vtk.vtkImageData()
    grid.SetDimensions(*ct.hu.shape[::-1])
    grid.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(ct.hu).ravel(), deep=True))
    for level, color, opacity in ((SKIN_HU, (0.87, 0.66, 0.55), 0.22), (BONE_HU, (0.96, 0.93, 0.82), 1.0)):
        surface = vtk.vtkFlyingEdges3D()
        surface.SetInputData(grid)
        surface.SetValue(0, level)
        surface.Update()
        actor = actor_of(surface.GetOutput(), ct.ras_from_ijk)
        actor.GetMapper().ScalarVisibilityOff()
        actor.GetProperty().SetColor(color)
        actor.GetProperty().SetOpacity(opacity)
        renderer.AddActor(actor)


def add_machine(renderer: vtk.vtkRenderer, arm: CArm) -> None:
    dimensions = Dimensions.of(arm)
    matrices = group_matrices(dimensions, rigid(gantry_rotation(angles_of(arm)), arm.isocenter_in_patient_ras_mm))
    for part in build_parts(dimensions).values():
        actor = actor_of(part.poly_data, matrices[part.group])
        looks = actor.GetProperty()
        looks.SetColor(part.finish.color)
        looks.SetOpacity(part.finish.opacity)
        looks.SetSpecular(part.finish.specular)
        looks.SetSpecularPower(part.finish.power)
        looks.SetAmbient(part.finish.ambient)
        looks.SetInterpolationToPhong()
        renderer.AddActor(actor)


def actor_of(poly_data: vtk.vtkPolyData, matrix) -> vtk.vtkActor:
    mapper = vtk.vtkPolyDataMapper()
    mapper.SetInputData(poly_data)
    actor = vtk.vtkActor()
    actor.SetMapper(mapper)
    placed = vtk.vtkMatrix4x4()
    placed.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    actor.SetUserMatrix(placed)
    return actor


def render(renderer: vtk.vtkRenderer, isocenter: np.ndarray, to_the_right: bool) -> Image.Image:
    side = 1.0 if to_the_right else -1.0
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(8)
    window.SetSize(*PANEL)
    window.AddRenderer(renderer)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(*(isocenter + np.array([side * 2050, 1250, -4000])))
    camera.SetFocalPoint(*(isocenter + np.array([side * 500, -215, 0])))
    camera.SetViewUp(0, 1, 0)
    camera.SetViewAngle(29)
    renderer.ResetCameraClippingRange()
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(PANEL[1], PANEL[0], -1)
    return Image.fromarray(np.ascontiguousarray(pixels[::-1, :, :3]))


if __name__ == "__main__":
    main()
