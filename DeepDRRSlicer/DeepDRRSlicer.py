"""DeepDRR for 3D Slicer: realistic X-ray images from CT, aimed with a virtual C-arm."""

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from DeepDRRSlicerLib.scene_logic import SceneLogic

LIBRARY = "DeepDRRSlicerLib"


class DeepDRRSlicer(ScriptedLoadableModule):
    """What Slicer shows about the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("DeepDRR X-ray simulator")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Simulation")]
        parent.dependencies = ["Segmentations", "Markups", "Sequences"]
        parent.contributors = ["DeepDRR for 3D Slicer contributors"]
        parent.helpText = _(
            "Load a CT, let it be split into materials, correct them by hand, take hold of the C-arm in the 3D view, "
            "and watch the X-ray change: polychromatic, with scatter and noise, in physical units."
        )
        parent.acknowledgementText = _(
            "After DeepDRR: M. Unberath, J.-N. Zaech et al., MICCAI 2018, doi:10.1007/978-3-030-00937-3_12. "
            "For research and education; not a medical device."
        )
        slicer.app.connect("startupCompleted()", register)


def register():
    """Offers the phantoms in Sample Data and the materials as names for segments, and makes the layouts known."""
    from DeepDRRSlicerLib import layout, sample_data

    sample_data.register_samples()
    sample_data.register_terminology(slicer.modules.terminologies.logic())
    layout.register_layouts(layout.layout_node_of(slicer.mrmlScene))


class DeepDRRSlicerLogic(ScriptedLoadableModuleLogic, SceneLogic):
    """Everything the module can do, without its panel; see DeepDRRSlicerLib/scene_logic.py."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        SceneLogic.__init__(self)

    def getParameterNode(self):
        """The panel's choices in this scene."""
        from DeepDRRSlicerLib.parameters import DeepDRRSlicerParameterNode, forget_unknown_choices

        node = super().getParameterNode()
        for name in forget_unknown_choices(node):
            logging.warning("%s: what the scene was saved with is not available here; the usual is taken.", name)
        return DeepDRRSlicerParameterNode(node)


class DeepDRRSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Connects the parameter node to the .ui, and hands the rest to the sections in DeepDRRSlicerLib/widget_*.py."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._guiTag = None

    def setup(self):
        """Called when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        from DeepDRRSlicerLib.widget_sections import make_panel

        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/DeepDRRSlicer.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = DeepDRRSlicerLogic()
        self.panel = make_panel(self.ui, self.logic)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndBatchProcessEvent, self.onSceneRenewed)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.addObserver(scene, scene.EndUndoEvent, self.onSceneUndone)
        self.addObserver(scene, scene.EndRedoEvent, self.onSceneUndone)
        self.initializeParameterNode()

    def cleanup(self):
        """Called before the module is unloaded."""
        self.removeObservers()
        self.setParameterNode(None)
        if self.panel is not None:
            self.panel.close()

    def enter(self):
        """Called whenever the user opens the module."""
        self.initializeParameterNode()
        self.panel.materials.enter()

    def exit(self):
        """Called whenever the user leaves it: the X-ray goes on following what is edited elsewhere."""
        self.panel.materials.exit()

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)
        self.panel.scene_closed()

    def onSceneRenewed(self, caller, event):
        """A scene was closed, read or imported, as Slicer does in one batch: only after it is it whole."""
        self.logic.tidyUp()
        if self.parent.isEntered:
            self.initializeParameterNode()
        else:
            self.panel.update()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        scene = slicer.mrmlScene
        if scene.IsBatchProcessing():
            return
        if not node.IsA("vtkMRMLDisplayNode") and not scene.IsUndoing() and not scene.IsRedoing():
            self.logic.tidyUp()
        self.panel.update()

    def onSceneUndone(self, caller, event):
        self.panel.undone()

    def initializeParameterNode(self):
        """Takes the scene's choices up, with a CT at hand where none was chosen yet."""
        from DeepDRRSlicerLib.ct_nodes import looks_like_ct

        self.setParameterNode(self.logic.getParameterNode())
        parameters = self.panel.parameters
        if parameters.ctVolume is None:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            parameters.ctVolume = next(filter(looks_like_ct, volumes), None)

    def setParameterNode(self, parameters):
        """Shows other choices: those of a scene that was read, or none while a scene is closed."""
        previous = self.panel.parameters if self.panel is not None else None
        if previous is not None:
            previous.disconnectGui(self._guiTag)
            self.removeObserver(previous.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        if self.panel is None:
            return
        self.panel.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.uiWidget)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.panel.update()

    def onParametersChanged(self, caller=None, event=None):
        self.panel.update()

    def onReload(self):
        """Developers: import the library's files anew too, in whatever order they need each other."""
        for name in [n for n in sys.modules if n == LIBRARY or n.startswith(LIBRARY + ".")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class DeepDRRSlicerTest(ScriptedLoadableModuleTest):
    """The module from end to end, for Slicer's test button and CTest: real Slicer, nothing stood in for."""

    def setUp(self):
        if lacking := self.lacking():
            self.skipTest(lacking)
        slicer.mrmlScene.Clear()
        self.folder = tempfile.TemporaryDirectory(prefix="DeepDRRSlicerTest")

    def tearDown(self):
        slicer.mrmlScene.Clear()
        self.folder.cleanup()

    def lacking(self):
        """In words, the packages that are not installed: tests leave Slicer's Python as it is."""
        from DeepDRRSlicerLib import dependencies

        lines = dependencies.missing()
        return dependencies.explain(lines) if lines else ""

    def runTest(self):
        """Each scenario on an empty scene."""
        if lacking := self.lacking():
            self.delayDisplay("Skipped. " + lacking)
            return
        for scenario in (
            self.test_an_edited_segment_changes_the_xray_where_it_lies,
            self.test_panel_and_transforms_are_one_state,
            self.test_a_saved_scene_takes_the_same_xray,
            self.test_points_and_sweep,
            self.test_undo_takes_back_what_was_aimed,
        ):
            self.setUp()
            try:
                scenario()
            finally:
                self.tearDown()
        self.delayDisplay("Test passed")

    def aim(self):
        """A small CT, its segments and a C-arm with few pixels, as a user would have them."""
        from DeepDRRSlicerLib.ct_nodes import phantom_node

        logic = DeepDRRSlicerLogic()
        ct = phantom_node(slicer.mrmlScene, "chest", 4.0)
        segmentation = logic.segment(ct, "threshold")
        carm = logic.carm(preset="deepdrr_paper", volumeNode=ct)
        return logic, ct, segmentation, carm

    def pixels(self, imageNode):
        return slicer.util.arrayFromVolume(imageNode)[0].copy()

    def test_an_edited_segment_changes_the_xray_where_it_lies(self):
        self.delayDisplay("Segment, edit, shoot")
        logic, ct, segmentation, carm = self.aim()
        before = self.pixels(logic.render(ct, segmentation, carm))
        bone = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Bone")
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, bone, ct).copy()
        middle = tuple(slice(n // 2 - 3, n // 2 + 3) for n in voxels.shape)
        self.assertEqual(voxels[middle].max(), 0, "the phantom's middle is soft")
        voxels[middle] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, segmentation, bone, ct)
        change = np.abs(self.pixels(logic.render(ct, segmentation, carm)) - before)
        u, v = logic.projectPoints([carm.arm().isocenter_ras_mm], carm)[0]
        rows, columns = np.nonzero(change > 0.5 * change.max())
        self.assertGreater(change.max(), 0.02)
        self.assertLess(np.hypot(columns.mean() - u, rows.mean() - v), 20.0)

    def test_panel_and_transforms_are_one_state(self):
        self.delayDisplay("Aim with the panel and with the transforms")
        widget = slicer.modules.deepdrrslicer.widgetRepresentation().self()
        _logic, ct, segmentation, carm = self.aim()
        widget.initializeParameterNode()
        parameters = widget.panel.parameters
        parameters.ctVolume, parameters.segmentation, parameters.carm = ct, segmentation, carm.root
        parameters.live = False
        self.assertEqual(widget.ui.materialTable.rowCount, 3)
        widget.ui.primarySlider.value = 30.0
        self.assertAlmostEqual(carm.dicom_angles_deg()[0], 30.0, places=6)
        carm.set(secondary_angle_deg=-10.0)
        self.assertAlmostEqual(widget.ui.secondarySlider.value, -10.0, places=6)
        turn = vtk.vtkTransform()
        turn.RotateZ(45.0)
        carm.node("primary").SetMatrixTransformToParent(turn.GetMatrix())
        self.assertAlmostEqual(widget.ui.primarySlider.value, 45.0, places=6)
        widget.ui.shootButton.click()
        self.assertTrue(widget.ui.statusLabel.text.startswith("Shot"), widget.ui.messageLabel.text)
        self.assertIs(parameters.xrayImage, carm.image_node())

    def test_a_saved_scene_takes_the_same_xray(self):
        self.delayDisplay("Save, close, load, shoot again")
        logic, ct, segmentation, carm = self.aim()
        carm.set(primary_angle_deg=-25.0, secondary_angle_deg=12.0)
        shot = self.pixels(logic.render(ct, segmentation, carm))
        path = str(Path(self.folder.name) / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        logic = DeepDRRSlicerLogic()
        carm = logic.carms()[0]
        np.testing.assert_allclose(carm.dicom_angles_deg(), (-25.0, 12.0), atol=1e-9)
        ct = slicer.util.getNode("Phantom chest")
        segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        np.testing.assert_allclose(self.pixels(logic.render(ct, segmentation, carm)), shot, atol=1e-4)

    def test_points_and_sweep(self):
        self.delayDisplay("Project a point, record a sweep")
        logic, ct, segmentation, carm = self.aim()
        points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
        points.AddControlPoint(carm.arm().isocenter_ras_mm)
        np.testing.assert_allclose(logic.projectPoints(points, carm), [(309.5, 239.5)], atol=1e-6)
        homogeneous = logic.projectionMatrix(carm) @ [*carm.arm().isocenter_ras_mm, 1.0]
        np.testing.assert_allclose(homogeneous[:2] / homogeneous[2], (309.5, 239.5), atol=1e-6)
        browser = logic.sweep(ct, segmentation, carm, startDeg=-10.0, stopDeg=10.0, frames=3, width=128)
        self.assertEqual(browser.GetNumberOfItems(), 3)
        self.assertAlmostEqual(carm.dicom_angles_deg()[0], 0.0, places=6)

    def test_undo_takes_back_what_was_aimed(self):
        self.delayDisplay("Aim, undo, redo")
        widget = slicer.modules.deepdrrslicer.widgetRepresentation().self()
        _logic, ct, segmentation, carm = self.aim()
        widget.initializeParameterNode()
        parameters = widget.panel.parameters
        parameters.ctVolume, parameters.segmentation, parameters.carm = ct, segmentation, carm.root
        parameters.live = False
        scene, wasOn = slicer.mrmlScene, slicer.mrmlScene.GetUndoFlag()
        scene.SetUndoOn()
        try:
            scene.ClearUndoStack()
            widget.ui.primarySlider.value = 30.0
            widget.ui.primarySlider.value = 31.0
            self.assertEqual(scene.GetNumberOfUndoLevels(), 1)
            scene.Undo()
            self.assertAlmostEqual(carm.dicom_angles_deg()[0], 0.0, places=6)
            self.assertAlmostEqual(widget.ui.primarySlider.value, 0.0, places=6)
            scene.Redo()
            self.assertAlmostEqual(widget.ui.primarySlider.value, 31.0, places=6)
            widget.ui.removeCarmButton.click()
            self.assertIsNone(parameters.carm)
            scene.Undo()
            self.assertAlmostEqual(widget.panel.carm.dicom_angles_deg()[0], 31.0, places=6)
        finally:
            scene.ClearUndoStack()
            scene.SetUndoFlag(wasOn)
