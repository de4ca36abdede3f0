"""DeepDRR for 3D Slicer: realistic X-ray images from CT, aimed with a virtual C-arm."""

import importlib
import sys
import unittest

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
    """Offers the phantoms in Sample Data, and the materials as names for segments."""
    from DeepDRRSlicerLib import sample_data

    sample_data.register_samples()
    sample_data.register_terminology(slicer.modules.terminologies.logic())


class DeepDRRSlicerLogic(ScriptedLoadableModuleLogic, SceneLogic):
    """Everything the module can do, without its panel; see DeepDRRSlicerLib/scene_logic.py."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        SceneLogic.__init__(self)

    def getParameterNode(self):
        """The panel's choices in this scene."""
        from DeepDRRSlicerLib.parameters import DeepDRRSlicerParameterNode

        return DeepDRRSlicerParameterNode(super().getParameterNode())


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
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneRenewed)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneRenewed)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
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

    def exit(self):
        """Called whenever the user leaves it: the X-ray goes on following what is edited elsewhere."""

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneRenewed(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onNodeRemoved(self, caller, event):
        if self.panel.parameters is not None and not slicer.mrmlScene.IsClosing():
            self.panel.update()

    def initializeParameterNode(self):
        """Takes the scene's choices up, with the CT at hand where none was chosen yet."""
        self.setParameterNode(self.logic.getParameterNode())
        parameters = self.panel.parameters
        if parameters.ctVolume is None:
            firstVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if firstVolume is not None:
                parameters.ctVolume = firstVolume

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
        """Developers: reload the library's files too."""
        for name in sorted((n for n in sys.modules if n.startswith(LIBRARY + ".")), reverse=True):
            importlib.reload(sys.modules[name])
        ScriptedLoadableModuleWidget.onReload(self)


class DeepDRRSlicerTest(ScriptedLoadableModuleTest, unittest.TestCase):
    """placeholder"""
