"""The panel's second section: what the patient is made of. Uses Qt."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from DeepDRRLogic.materials import material

from . import material_nodes, patient
from .mrml import in_scene
from .widget_editor import EditorBox
from .widget_panel import Panel

_POLL_MS = 150
_FROM_CT = "from CT"
_DENSITY_TIP = (
    "Density in g/cm³. From CT: what the CT's values stand for. Bone painted where the CT shows soft tissue is then no "
    "denser than that, and hardly seen: type a density, such as {bone:g}"
)
_REPLACED = "The segments before are one Undo away: the arrow under 'Correct the segments by hand'."
_COLUMNS = (168, 0, 70)
_ROW_PX, _HEAD_PX = 25, 28
_ROWS = (4, 6)
"""The fewest and the most rows that the table has room for."""
_NO_NETWORK = (
    "Split by thresholds, which take contrast medium for bone. For the V-Net choose the method vnet: it needs PyTorch."
)


class MaterialsSection(VTKObservationMixin):  # type: ignore[misc]
    """Segments the CT in a process of its own, and says for every segment what it is made of."""

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel
        self._job: Any = None
        self._target: tuple[Any, Any] = (None, None)
        self._watched: tuple[Any, Any] = (None, None)
        self._filling = False
        self._shown: Any = None
        self._choices = material_nodes.material_choices()
        self._editor = EditorBox(panel)
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self._poll)
        ui = panel.ui
        ui.segmentButton.connect("clicked(bool)", self._start)
        ui.cancelSegmentButton.connect("clicked(bool)", self._cancel)
        ui.materialTable.connect("cellChanged(int,int)", self._edited)
        ui.segments3DCheck.connect("toggled(bool)", self._show_in_3d)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAddedEvent, self._node_added)
        self._prepare_table()
        self._show_progress(False)

    def update(self) -> None:
        parameters, ui = self._panel.parameters, self._panel.ui
        by_threshold = self._method() == "threshold"
        for name in ("airMaxSlider", "boneMinSlider"):
            getattr(ui, name).visible = by_threshold
            getattr(ui, name + "Label").visible = by_threshold
        if parameters.ctVolume is not None:
            patient.keep_thresholds(parameters.ctVolume, **self._thresholds())
        ui.segmentButton.enabled = parameters.ctVolume is not None and self._job is None
        self._watch(parameters.segmentation, parameters.ctVolume)
        self._fill_table()
        self._filling = True
        ui.segments3DCheck.enabled = parameters.segmentation is not None
        ui.segments3DCheck.checked = material_nodes.is_in_3d(parameters.segmentation)
        self._filling = False
        self._editor.update()
        material_nodes.keep_off_xrays(slicer.mrmlScene, parameters.segmentation)
        self._remark()

    def enter(self) -> None:
        """The module was opened."""
        self._editor.enter()

    def exit(self) -> None:
        """The module was left."""
        self._editor.exit()

    def scene_closed(self) -> None:
        self._end_job()
        self._watch(None, None)
        self._editor.scene_closed()

    def close(self) -> None:
        self.exit()
        self.scene_closed()
        self.removeObservers()

    def _start(self, _checked: bool = False) -> None:
        parameters = self._panel.parameters
        with self._panel.attempt():
            method = self._method()
            self._panel.need_simulator()
            if method == "vnet":
                self._panel.need_network("The V-Net", "choose the method 'threshold'")
            options = self._thresholds() | ({"tissues": True} if parameters.tissues else {})
            self._job = self._panel.logic.startSegmentation(parameters.ctVolume, method, **options)
            chosen, note = parameters.segmentation, ""
            if chosen is not None and not material_nodes.may_be_filled(chosen, parameters.ctVolume):
                note = f"{chosen.GetName()} stays as it is; these segments are new. "
                chosen = None
            self._target = (parameters.ctVolume, chosen)
            self._note = note + (_NO_NETWORK if (parameters.method, method) == ("auto", "threshold") else "")
            self._show_progress(True)
            self._timer.start()

    def _thresholds(self) -> dict[str, Any]:
        """Those on show; none where the method does without."""
        parameters = self._panel.parameters
        if self._method() != "threshold":
            return {}
        return {"air_max_hu": parameters.airMaxHu, "bone_min_hu": parameters.boneMinHu}

    def _method(self) -> str:
        return str(self._panel.logic.methodInUse(self._panel.parameters.method))

    def _poll(self) -> None:
        if self._job is None:
            return
        state = self._job.poll()
        bar = self._panel.ui.segmentProgress
        bar.maximum = 0 if state.fraction is None else 100
        bar.value = round(100 * (state.fraction or 0.0))
        bar.toolTip = state.message
        if not state.finished:
            return
        job, (volume, segmentation) = self._job, self._target
        self._end_job()
        with self._panel.attempt(busy=True):
            job.labels()  # where there are none, nothing is touched
            parameters = self._panel.parameters
            if parameters.ctVolume is not volume:  # no Undo reaches segments that are not shown: they stay
                self._panel.logic.finishSegmentation(job, volume)
                self._panel.say(f"{volume.GetName()} is segmented: choose it under CT to see its segments.")
                return
            note = self._note
            if in_scene(segmentation):
                parameters.segmentation = segmentation
                self._editor.save()
                if material_nodes.was_segmented(segmentation):
                    note = f"{note} {_REPLACED}".lstrip()
            parameters.segmentation = self._panel.logic.finishSegmentation(job, volume, segmentation)
            self._panel.say(note)

    def _cancel(self, _checked: bool = False) -> None:
        if self._job is None:
            return
        self._end_job()
        self._panel.say("Segmentation cancelled; the segments are as they were.")
        self._panel.update()

    def _end_job(self) -> None:
        """No job any more; one that still runs is cancelled."""
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()
        self._job, self._target = None, (None, None)
        self._show_progress(False)

    def _show_progress(self, running: bool) -> None:
        ui = self._panel.ui
        ui.segmentProgress.value = 0
        ui.segmentProgress.visible = running
        ui.cancelSegmentButton.visible = running
        ui.segmentButton.visible = not running

    def _remark(self) -> None:
        """What may not be meant. Segments are taken all the same: another CT may be a copy, or registered to this."""
        parameters, label = self._panel.parameters, self._panel.ui.segmentsLabel
        remarks = _remarks(parameters.segmentation, parameters.ctVolume) if parameters is not None else []
        label.setStyleSheet("color: #b26a00")
        label.text = "\n".join(remarks)
        label.visible = bool(remarks)

    def _watch(self, segmentation: Any, volume: Any) -> None:
        if (segmentation, volume) == self._watched:
            return
        self.removeObservers()  # of one method alone, it would hold on to what it watched
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAddedEvent, self._node_added)
        self._watched = (segmentation, volume)
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        events = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified")
        for event in (moved, *(getattr(slicer.vtkSegmentation, name) for name in events)) if segmentation else ():
            self.addObserver(segmentation, event, self._segments_changed)
        if volume is not None:
            self.addObserver(volume, moved, self._segments_changed)

    def _segments_changed(self, *_: object) -> None:
        self._fill_table()
        self._remark()

    @vtk.calldata_type(vtk.VTK_OBJECT)  # type: ignore[untyped-decorator]
    def _node_added(self, scene: Any, _event: str, node: Any) -> None:
        """A new view shows the segments too, unless it is an X-ray's."""
        if node.IsA("vtkMRMLAbstractViewNode") and not scene.IsBatchProcessing() and self._panel.parameters is not None:
            material_nodes.keep_off_xrays(scene, self._panel.parameters.segmentation)

    def _prepare_table(self) -> None:
        table = self._panel.ui.materialTable
        header = table.horizontalHeader()
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        for column, width in enumerate(_COLUMNS):
            if width:
                table.setColumnWidth(column, width)
        self._density_tip = _DENSITY_TIP.format(bone=material("bone").density_g_cm3)
        table.horizontalHeaderItem(2).setToolTip(self._density_tip)
        table.verticalHeader().setDefaultSectionSize(_ROW_PX)

    def _fill_table(self) -> None:
        node = self._panel.parameters.segmentation if self._panel.parameters is not None else None
        rows = material_nodes.segment_materials(node) if node is not None else []
        if rows == self._shown:
            return
        self._shown = rows
        self._filling = True
        table = self._panel.ui.materialTable
        table.setRowCount(len(rows))
        table.minimumHeight = table.maximumHeight = _HEAD_PX + _ROW_PX * min(max(len(rows), _ROWS[0]), _ROWS[1])
        for row, segment in enumerate(rows):
            table.setItem(row, 0, _name_item(segment))
            table.setCellWidget(row, 1, self._material_box(segment))
            text = _FROM_CT if segment.density_g_cm3 is None else f"{segment.density_g_cm3:g}"
            item = qt.QTableWidgetItem(text)
            item.setToolTip(self._density_tip)
            table.setItem(row, 2, item)
        self._filling = False

    def _material_box(self, segment: Any) -> Any:
        box = qt.QComboBox()
        for name, title in self._choices:
            box.addItem(title, name)
        box.setCurrentIndex([name for name, _ in self._choices].index(segment.material))
        box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        box.toolTip = f"What {segment.name} is made of"

        def chosen(index: int) -> None:
            self._set(segment.segment_id, material=self._choices[index][0])

        box.connect("activated(int)", chosen)
        return box

    def _edited(self, row: int, column: int) -> None:
        if self._filling or not self._shown:
            return
        item, segment = self._panel.ui.materialTable.item(row, column), self._shown[row]
        if column == 0:
            self._set(segment.segment_id, enabled=item.checkState() == qt.Qt.Checked)
            return
        text = item.text().strip().lower()
        try:
            density = "ct" if text in ("", "ct", _FROM_CT.lower()) else float(text.replace(",", "."))
        except ValueError:
            self._panel.say(f'"{item.text()}" is no density: give g/cm³, or "{_FROM_CT}".', is_error=True)
            self._refill()
            return
        self._set(segment.segment_id, density_g_cm3=density)

    def _set(self, segment_id: str, **values: Any) -> None:
        with self._panel.attempt():
            self._editor.save()
            material_nodes.set_material(self._panel.parameters.segmentation, segment_id, **values)
        self._refill()

    def _show_in_3d(self, shown: bool) -> None:
        node = self._panel.parameters.segmentation
        if self._filling or node is None:
            return
        with self._panel.attempt(busy=True):
            if shown:
                node.CreateClosedSurfaceRepresentation()
            else:
                node.RemoveClosedSurfaceRepresentation()

    def _refill(self) -> None:
        self._shown = None
        self._fill_table()


def _remarks(segments: Any, ct: Any) -> list[str]:
    """What may not be meant by segments with a CT; nothing where one of them is not chosen."""
    if segments is None or ct is None:
        return []
    found: list[str] = []
    its: Any = material_nodes.reference_volume(segments)
    if its is not None and its is not ct:
        found.append(
            f"{segments.GetName()} was made for {its.GetName()}, not for {ct.GetName()}: "
            "choose segments of this CT, or press Segment."
        )
    elif its is not None and _is_moved(segments, ct):
        found.append(
            f"{segments.GetName()} and {ct.GetName()} lie under different transforms, so the segments are off the CT: "
            "put both under the same one in the module Transforms."
        )
    if guesses := [s.name for s in material_nodes.segment_materials(segments) if s.is_guess]:
        others = f" and {len(guesses) - 1} more" if len(guesses) > 1 else ""
        found.append(
            f"Nobody has said what {guesses[0]}{others} is made of: soft tissue, under all other segments. "
            "Choose the material in the table."
        )
    return found


def _is_moved(segments: Any, ct: Any) -> bool:
    try:
        return material_nodes.is_moved(segments, ct)
    except ValueError:  # under a transform that bends; said by the X-ray
        return False


def _name_item(segment: Any) -> Any:
    item = qt.QTableWidgetItem(segment.name)
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
    item.setCheckState(qt.Qt.Checked if segment.enabled else qt.Qt.Unchecked)
    swatch = qt.QPixmap(12, 12)
    swatch.fill(qt.QColor(*(round(255 * part) for part in segment.color)))
    item.setIcon(qt.QIcon(swatch))
    return item
