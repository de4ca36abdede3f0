"""What the module can do, for the panel, the Python console and scripts alike: nodes and values in, nodes out.

Methods are named as Slicer names them. None needs Qt or the module itself:

    logic = SceneLogic()
    segmentation = logic.segment(ct)
    arm = logic.carm(volumeNode=ct)
    arm.set(primary_angle_deg=30)
    image = logic.render(ct, segmentation, arm)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from DeepDRRLogic.aim import is_inside, may_hit
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.carm_presets import carm_presets
from DeepDRRLogic.checks import chosen
from DeepDRRLogic.segmentation import method_for, segment, segmentation_methods
from DeepDRRLogic.volume import MaterialLabels

from . import carm_display, ct_nodes, exporting, exposing, material_nodes, points, sweeps, waiting, xray_nodes
from .background import SegmentationJob
from .carm_nodes import CArmNodes
from .mrml import in_scene, scene_or_default
from .patient import Patient
from .technique import Technique

if TYPE_CHECKING:
    from DeepDRRLogic.image import XRayImage
    from DeepDRRLogic.projector.devices import Choice

    from .patient import Quality

NEW_CARM = "mobile_flat_panel"
"""The machine that a C-arm is which is added without a word on it."""

THRESHOLDS = "thresholds"
"""In place of a segmentation: the CT is split by thresholds, whatever segmentations there are."""


class SceneLogic:
    """The work of the module on one scene; keeps patients and exposures at hand, but no state that matters."""

    def __init__(self, scene: Any | None = None) -> None:
        self._scene = scene
        self._patient: Patient | None = None
        # By node, not by ID: another scene gives the same IDs to other nodes.
        self._images: dict[Any, XRayImage] = {}

    @property
    def scene(self) -> Any:
        return scene_or_default(self._scene)

    def sceneClosed(self) -> None:
        """Let go of the CT, its densities and all exposures: whatever is asked for next is of another scene."""
        self._patient = None
        self._images.clear()

    def tidyUp(self) -> None:
        """After nodes were deleted elsewhere: take out of the scene and of memory what they leave behind."""
        carm_display.remove_orphans(self.scene)
        if self._patient is not None and not in_scene(self._patient.volume_node):
            self._patient = None
        self._images = {node: kept for node, kept in self._images.items() if in_scene(node)}

    def verdict(self, volumeNode: Any | None) -> str:
        """One line on whether a volume will do as a CT."""
        return ct_nodes.verdict(volumeNode)

    def segmentationMethods(self) -> tuple[str, ...]:
        """The methods that `segment` knows."""
        return ("auto", *segmentation_methods())

    def methodInUse(self, method: str = "auto", **options: Any) -> str:
        """What "auto" stands for here: the V-Net, or thresholds where some are given or PyTorch is not installed."""
        return method_for(method, options)

    def segment(
        self, volumeNode: Any, method: str = "auto", segmentationNode: Any | None = None, **options: Any
    ) -> Any:
        """Split a CT into materials: a segmentation node, new or the one given, with a segment per material.

        method: "vnet", which takes a minute or so, "threshold", or "auto" for whichever there is (see `methodInUse`).
        """
        labels = segment(ct_nodes.ct_volume(volumeNode), method, **options)
        return self.applyLabels(labels, volumeNode, segmentationNode)

    def startSegmentation(self, volumeNode: Any, method: str = "auto", **options: Any) -> SegmentationJob:
        """The same in a process of its own: poll the job, then hand it to `finishSegmentation`."""
        return SegmentationJob(ct_nodes.ct_volume(volumeNode), self.methodInUse(method, **options), options)

    def finishSegmentation(self, job: SegmentationJob, volumeNode: Any, segmentationNode: Any | None = None) -> Any:
        """Put the result of a finished job into the scene; a segmentation that was deleted meanwhile is made anew.

        ValueError where the job failed or was cancelled, and where its CT is gone: no other may get these materials.
        """
        if not in_scene(volumeNode):
            raise ValueError("The CT that was segmented is gone: choose a CT and press Segment again.")
        segmentationNode = segmentationNode if in_scene(segmentationNode) else None
        return self.applyLabels(job.labels(), volumeNode, segmentationNode)

    def applyLabels(self, labels: MaterialLabels, volumeNode: Any, segmentationNode: Any | None = None) -> Any:
        """Labels on a CT's grid as a segmentation node, new or the one given."""
        return material_nodes.segmentation_from_labels(labels, volumeNode, segmentationNode)

    def carm(
        self,
        name: str = "C-arm",
        preset: str | None = None,
        volumeNode: Any | None = None,
        **fields: Any,
    ) -> CArmNodes:
        """The C-arm of that name, or a new one around the middle of a CT; fields as in DeepDRRLogic.CArm are set.

        One that is there becomes the machine `preset`, if that is given, and stays where it is aimed. A new one is by
        default a "mobile_flat_panel".
        """
        preset = preset and chosen("C-arm preset", preset, carm_presets())
        found = next((arm for arm in self.carms() if arm.name == name), None)
        if found is None:
            if volumeNode is not None and "isocenter_ras_mm" not in fields:
                fields["isocenter_ras_mm"] = ct_nodes.center_ras(volumeNode)
            machine = preset or NEW_CARM
            arm = CArm.preset(machine, on_limit="warn").at(**fields)
            found = CArmNodes.create(self.scene, name, arm, machine)
        elif preset in (None, found.preset) and not fields:
            return found
        else:
            if preset not in (None, found.preset):
                found.set_preset(preset)
            if fields:
                found.set(**fields)
        carm_display.update_model(found)
        return found

    def carms(self) -> list[CArmNodes]:
        """Every C-arm in the scene."""
        return [arm for arm in CArmNodes.all(self.scene) if arm.is_valid()]

    def patient(self, volumeNode: Any, segmentationNode: Any | None = None) -> Patient:
        """The CT with its materials, up to date; made once, and after an edit brought up to date where it changed."""
        patient = self.known_patient(volumeNode, segmentationNode)
        patient.update()
        return patient

    def known_patient(self, volumeNode: Any, segmentationNode: Any | None = None) -> Patient:
        """The same as it was when it was last brought up to date."""
        if volumeNode is None:
            raise ValueError("No CT chosen: load one, or take a sample.")
        known = self._patient
        if known is None or known.volume_node is not volumeNode or known.segmentation_node is not segmentationNode:
            # Memory is planned for one patient: another CT takes the place of the one before.
            known = self._patient = Patient(volumeNode, segmentationNode)
        return known

    def render(
        self,
        volumeNode: Any,
        segmentationNode: Any | None = None,
        carm: CArmNodes | None = None,
        technique: Technique | None = None,
        imageNode: Any | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Shoot: an X-ray of full quality, in the image node given, or the C-arm's own.

        Without a segmentation the one that belongs to the CT is taken, or else thresholds, as always where it is
        THRESHOLDS; without a C-arm the first of the scene, or a new one around the CT. With `progress` a thread makes
        it: progress(fraction) is called until it is done, and may process events; None where cancelled() turned true,
        or where the CT or the C-arm were deleted meanwhile.
        """
        segmentationNode = _segmentation(volumeNode, segmentationNode)
        carm = carm or next(iter(self.carms()), None) or self.carm(volumeNode=volumeNode)
        technique = technique or Technique()
        arm = carm.arm()
        patient = self.patient(volumeNode, segmentationNode)
        exposure = exposing.prepare(patient, arm.camera(), technique, arm)
        if progress is None:
            image = exposing.expose(exposure)
        else:
            made = waiting.exposed(exposure, progress, cancelled)
            if made is None or not in_scene(volumeNode) or not carm.is_valid():
                return None
            image = made
        node = self.imageOf(carm) if imageNode is None else imageNode
        self.show(node, image, patient, carm, technique)
        carm_display.show_collimator(carm, technique.collimator)
        return node

    def show(
        self,
        imageNode: Any,
        image: XRayImage,
        patient: Patient,
        carm: CArmNodes,
        technique: Technique,
        picture: xray_nodes.Picture | None = None,
    ) -> None:
        """Put an exposure into its node, with all that is needed to make it again."""
        picture = picture or xray_nodes.picture_of(image, technique, carm.arm())
        xray_nodes.show_picture(imageNode, picture, technique)
        self._refer(imageNode, patient, carm)
        self._images[imageNode] = image

    def preview(
        self, imageNode: Any, image: XRayImage, patient: Patient, carm: CArmNodes, technique: Technique
    ) -> None:
        """Show an exposure in few pixels, with all that is needed to make the whole one."""
        arm = carm.arm()
        picture = xray_nodes.picture_of(image, technique, arm)
        xray_nodes.show_picture(imageNode, picture, technique, preview_of=arm.camera())
        self._refer(imageNode, patient, carm)

    def _refer(self, imageNode: Any, patient: Patient, carm: CArmNodes) -> None:
        """What an exposure was made of; the one that was at hand before is let go of."""
        for role, node in (
            (xray_nodes.CT_ROLE, patient.volume_node),
            (xray_nodes.SEGMENTATION_ROLE, patient.segmentation_node),
            (xray_nodes.CARM_ROLE, carm.root),
        ):
            wanted = node.GetID() if node is not None else None
            if imageNode.GetNodeReferenceID(role) != wanted:
                imageNode.SetNodeReferenceID(role, wanted)
        self._images = {node: kept for node, kept in self._images.items() if in_scene(node) and node is not imageNode}

    def imageOf(self, carm: CArmNodes) -> Any:
        """The image node of a C-arm, made if there is none."""
        node = carm.image_node()
        if not in_scene(node):
            node = xray_nodes.image_node(self.scene, f"{carm.name} X-ray")
            carm.set_image_node(node)
        return node

    def keepCopy(
        self,
        imageNode: Any,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Any | None:
        """A copy of an X-ray that later exposures leave alone; a preview is made whole first, as in `xray`."""
        xray_nodes.camera_of(imageNode)
        if xray_nodes.is_preview(imageNode) and self.xray(imageNode, progress=progress, cancelled=cancelled) is None:
            return None
        copied = exporting.copy_image(imageNode)
        if imageNode in self._images:
            self._images[copied] = self._images[imageNode]
        return copied

    def isAtHand(self, imageNode: Any) -> bool:
        """Whether `xray` need not expose anew."""
        known = self._images.get(imageNode)
        return known is not None and known.camera == xray_nodes.exposed_camera(imageNode)

    def xray(
        self,
        imageNode: Any,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> XRayImage | None:
        """The exposure behind an image node; after loading a scene it is made again from what the node refers to.

        So is that of a preview, which it takes the place of in the node. progress, cancelled, and None: as in `render`.
        """
        if self.isAtHand(imageNode):
            return self._images[imageNode]
        camera = xray_nodes.exposed_camera(imageNode)
        volume = imageNode.GetNodeReference(xray_nodes.CT_ROLE)
        if not in_scene(volume):
            raise ValueError(f"The CT behind {imageNode.GetName()} is gone: shoot again.")
        root = imageNode.GetNodeReference(xray_nodes.CARM_ROLE)
        arm = CArmNodes(root).arm() if CArmNodes.is_root(root) else None
        patient = self.patient(volume, imageNode.GetNodeReference(xray_nodes.SEGMENTATION_ROLE))
        technique = xray_nodes.technique_of_image(imageNode)
        arm = arm if arm is not None and arm.camera() == camera else None
        exposure = exposing.prepare(patient, camera, technique, arm)
        if progress is None:
            image = exposing.expose(exposure)
        else:
            made = waiting.exposed(exposure, progress, cancelled)
            if made is None or not in_scene(imageNode):
                return None
            image = made
        if xray_nodes.is_preview(imageNode) and xray_nodes.exposed_camera(imageNode) == camera:
            xray_nodes.show_picture(imageNode, xray_nodes.picture_of(image, technique, arm), technique)
        self._images[imageNode] = image
        return image

    def sweep(
        self,
        volumeNode: Any,
        segmentationNode: Any | None = None,
        carm: CArmNodes | None = None,
        technique: Technique | None = None,
        *,
        joint: str = "primary",
        startDeg: float = -90.0,
        stopDeg: float = 90.0,
        frames: int = 37,
        width: int | None = 512,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Turn the C-arm from angle to angle and record what it sees: a sequence browser, ready to play.

        Segmentation and C-arm as in `render`.
        """
        segmentationNode = _segmentation(volumeNode, segmentationNode)
        carm = carm or next(iter(self.carms()), None) or self.carm(volumeNode=volumeNode)
        patient = self.patient(volumeNode, segmentationNode)
        turn = sweeps.Sweep(joint, startDeg, stopDeg, frames, width)
        node = self.imageOf(carm)
        return sweeps.record(turn, patient, carm, node, technique or Technique(), progress, cancelled)

    def projectPoints(self, points_: Any, carm: CArmNodes) -> npt.NDArray[np.float64]:
        """Pixels (n, 2) of a markups node's points, or of an array (n, 3) in RAS mm; NaN behind the source."""
        return carm.camera().project(points.points_ras(points_))

    def showPoints(
        self,
        markupsNode: Any,
        imageNode: Any,
        markersNode: Any | None = None,
        viewNodeIDs: Sequence[str] = (),
    ) -> Any:
        """Markers on the X-ray where the points appear, with the same labels: a node of their own."""
        return points.show_points(markupsNode, imageNode, markersNode, viewNodeIDs)

    def projectionMatrix(self, carm: CArmNodes) -> npt.NDArray[np.float64]:
        """The matrix (3, 4) from RAS mm to pixels of the full detector."""
        return carm.projection()

    def export(
        self,
        imageNode: Any,
        path: str | Path,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Path]:
        """Write an X-ray as .png, .dcm, .tif, .nrrd, .npz or .json, with a sidecar that holds the projection matrix.

        A preview is made whole first, as in `xray`; no files where that was called off.
        """
        image = self.xray(imageNode, progress=progress, cancelled=cancelled)
        return [] if image is None else exporting.export(image, imageNode, Path(path))

    def projectsOn(self, quality: Quality, device: str) -> Choice | None:
        """What projects the CT at hand: the device that is meant, or another where that gave up; None without a CT."""
        known = self._patient
        if known is None or known.volume is None:
            return None
        return known.simulator(quality, device).projects_on

    def caution(self, carm: CArmNodes, volumeNode: Any | None) -> str:
        """What is odd about an exposure of a CT from where a C-arm stands, with the remedy; "" where nothing is."""
        if volumeNode is None or volumeNode.GetImageData() is None:
            return ""
        camera, grid = carm.camera(), ct_nodes.VolumeGrid.of(volumeNode)
        if is_inside(camera.source_ras, grid):
            return "The source is inside the patient: increase the distance from source to isocentre."
        return "" if may_hit(camera, grid) else "No ray meets the CT: press CT centre under C-arm."


def _segmentation(volume: Any | None, given: Any | None) -> Any | None:
    """The segmentation that is meant; None for thresholds."""
    if isinstance(given, str):
        if given != THRESHOLDS:
            raise ValueError(f"{given!r} is no segmentation: give a segmentation node, or {THRESHOLDS!r}.")
        return None
    return material_nodes.segmentation_of(volume) if given is None and volume is not None else given
