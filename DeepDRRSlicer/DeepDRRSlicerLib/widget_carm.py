"""The panel's third section: the C-arm. Uses Qt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import qt
import slicer

from DeepDRRLogic.carm_presets import carm_presets, carm_views

from . import carm_display, ct_nodes, layout, material_nodes, points, viewpoint
from .carm_nodes import CArmNodes
from .patient_model import PatientModel
from .widget_panel import Panel
from .widget_words import angle_words, titled

_FIELDS = {
    "primarySlider": "primary_angle_deg",
    "secondarySlider": "secondary_angle_deg",
    "rollSlider": "roll_deg",
    "sourceDetectorSpin": "source_to_detector_mm",
    "sourceIsocenterSpin": "source_to_isocenter_mm",
    "pitchSpin": "pixel_pitch_mm",
    "columnsSpin": "width",
    "rowsSpin": "height",
}
_PARTS = {
    "isocenter_ras_mm": ("isocenterRSpin", "isocenterASpin", "isocenterSSpin"),
    "detector_shift_mm": ("shiftUSpin", "shiftVSpin"),
}
_JOINTS = {"liftSpin": "lift", "wigwagSpin": "wigwag"}
_WHOLE = ("columnsSpin", "rowsSpin")


class CArmSection:
    """Shows the C-arm's own transforms and settings as numbers, and sets them; keeps no copy of either."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._showing = False
        self._attempt = partial(panel.attempt, section="carmSection")
        self._patient = PatientModel(slicer.mrmlScene, qt.QTimer.singleShot)
        self._machines, self._views = list(carm_presets()), list(carm_views())
        ui = panel.ui
        ui.carmSelector.addAttribute("vtkMRMLLinearTransformNode", "DeepDRR.CArm")
        for box, names, tips in (
            (ui.machineSelector, self._machines, carm_presets()),
            (ui.viewSelector, ["", *self._views], carm_views()),
        ):
            for name in names:
                box.addItem(titled(name) or "choose a view…")
            for index, name in enumerate(names):
                box.setItemData(index, tips.get(name, ""), 3)  # Qt.ToolTipRole
        self._connect()

    def update(self) -> None:
        ui, carm = self._panel.ui, self._panel.carm
        ui.removeCarmButton.enabled = CArmNodes.is_root(self._panel.parameters.carm)  # also one that lost a joint
        names = (*_FIELDS, *_JOINTS, *(n for group in _PARTS.values() for n in group))
        checks = ("showArmCheck", "showBeamCheck", "showImageCheck", "showHandlesCheck")
        buttons = ("isocenterCtButton", "isocenterCrosshairButton", "isocenterPointButton")
        for name in (*names, *checks, *buttons, "machineSelector", "viewSelector"):
            getattr(ui, name).enabled = carm is not None
        self.show()
        self._show_patient()

    def scene_closed(self) -> None:
        self._patient.close()

    def close(self) -> None:
        self._patient.close()

    def _show_patient(self) -> None:
        """What the C-arm is aimed at, where no segments show it."""
        parameters, segments = self._panel.parameters, self._panel.parameters.segmentation
        if self._panel.carm is None:
            self._patient.close()
        elif not parameters.showPatient or material_nodes.is_seen_in_3d(segments):
            self._patient.hide()
        else:
            self._patient.show(parameters.ctVolume)

    def _connect(self) -> None:
        ui = self._panel.ui
        for name in _FIELDS:
            signal = "valueChanged(int)" if name in _WHOLE else "valueChanged(double)"
            getattr(ui, name).connect(signal, self._field_setter(name))
        for field, names in _PARTS.items():
            for index, name in enumerate(names):
                getattr(ui, name).connect("valueChanged(double)", self._part_setter(field, index))
        for name in _JOINTS:
            getattr(ui, name).connect("valueChanged(double)", self._joint_setter(name))
        ui.addCarmButton.connect("clicked(bool)", self._add)
        ui.removeCarmButton.connect("clicked(bool)", self._remove)
        ui.machineSelector.connect("activated(int)", self._choose_machine)
        ui.viewSelector.connect("activated(int)", self._choose_view)
        ui.isocenterCtButton.connect("clicked(bool)", self._to_ct)
        ui.isocenterCrosshairButton.connect("clicked(bool)", self._to_crosshair)
        ui.isocenterPointButton.connect("clicked(bool)", self._to_point)
        ui.showArmCheck.connect("toggled(bool)", self._show_arm)
        ui.showBeamCheck.connect("toggled(bool)", self._show_beam)
        ui.showHandlesCheck.connect("toggled(bool)", self._show_handles)

    def _field_setter(self, name: str) -> Callable[[float], None]:
        def changed(value: float) -> None:
            self._set(name, **{_FIELDS[name]: value})

        return changed

    def _part_setter(self, field: str, index: int) -> Callable[[float], None]:
        """Sets one of several numbers; the others stay as they are, which is finer than what is shown of them."""

        def changed(value: float) -> None:
            if not self._showing and self._panel.carm is not None:
                with self._attempt(edit=field):
                    numbers = list(getattr(self._panel.carm.arm(), field))
                    numbers[index] = value
                    self._panel.carm.set(**{field: tuple(numbers)})

        return changed

    def _joint_setter(self, name: str) -> Callable[[float], None]:
        def changed(value: float) -> None:
            if not self._showing and self._panel.carm is not None:
                with self._attempt(edit=name):
                    self._panel.carm.set_joint(_JOINTS[name], value)

        return changed

    def _set(self, edit: str, **fields: Any) -> None:
        if not self._showing and self._panel.carm is not None:
            with self._attempt(edit=edit):
                self._panel.carm.set(**fields)

    def show(self) -> None:
        """Bring the numbers up to where the C-arm is now, whoever moved it."""
        ui, carm = self._panel.ui, self._panel.carm
        if carm is None:
            ui.readoutLabel.text = "Add a C-arm to aim with."
            ui.limitsLabel.visible = False
            return
        self._showing = True
        try:
            self._show_numbers(carm)
            ui.machineSelector.currentIndex = self._machines.index(carm.preset) if carm.preset in self._machines else -1
            ui.viewSelector.currentIndex = 0
            ui.showArmCheck.checked = carm_display.are_parts_shown(carm, beam=False)
            ui.showBeamCheck.checked = carm_display.are_parts_shown(carm, beam=True)
            ui.showHandlesCheck.checked = carm_display.are_handles_shown(carm)
        except ValueError as error:
            self._panel.say(str(error), is_error=True, unasked=True)
        finally:
            self._showing = False

    def _show_numbers(self, carm: CArmNodes) -> None:
        ui, arm = self._panel.ui, carm.arm()
        for name, field in _FIELDS.items():
            _show_number(getattr(ui, name), getattr(arm, field))
        for field, names in _PARTS.items():
            for name, value in zip(names, getattr(arm, field), strict=True):
                _show_number(getattr(ui, name), value)
        for name, joint in _JOINTS.items():
            _show_number(getattr(ui, name), carm.joint_value(joint))
        width, height = carm.field_of_view_mm()
        ui.readoutLabel.text = (
            f"{angle_words(*carm.dicom_angles_deg())}; {width:.0f} × {height:.0f} mm at the isocentre"
        )
        beyond, ct = carm.violations(), self._panel.parameters.ctVolume
        cautions = ["Out of this machine's reach: " + "; ".join(beyond)] if beyond else []
        with suppress(ValueError):  # a CT that will not do is said under CT
            cautions += filter(None, [self._panel.logic.caution(carm, ct)])
        ui.limitsLabel.text = "\n".join(cautions)
        ui.limitsLabel.setStyleSheet("color: #b26a00")
        ui.limitsLabel.visible = bool(cautions)

    def _add(self, _checked: bool = False) -> None:
        with self._attempt(undoable=True, busy=True):
            self._panel.need_simulator()
            name = slicer.mrmlScene.GenerateUniqueName("C-arm") if self._panel.logic.carms() else "C-arm"
            carm = self._panel.logic.carm(name, volumeNode=self._panel.parameters.ctVolume)
            carm_display.set_handles_shown(carm, True)
            self._panel.parameters.carm = carm.root
            if not self._panel.xray_view.is_mapped:
                layout.show_layout(layout.layout_node_of(slicer.mrmlScene))
            viewpoint.look_at_carm(carm)

    def _remove(self, _checked: bool = False) -> None:
        with self._attempt(undoable=True):
            carm = CArmNodes.of(self._panel.parameters.carm)
            left = [other for other in self._panel.logic.carms() if other.root is not carm.root]
            self._panel.parameters.carm = left[0].root if left else None
            carm.remove()

    def _choose_machine(self, index: int) -> None:
        with self._attempt(undoable=True), viewpoint.kept_in_view(self._panel.arm):
            self._panel.arm.set_preset(self._machines[index])

    def _choose_view(self, index: int) -> None:
        if index > 0:
            with self._attempt(undoable=True):
                self._panel.arm.set_view(self._views[index - 1])

    def _to_ct(self, _checked: bool = False) -> None:
        with self._attempt(undoable=True):
            if self._panel.parameters.ctVolume is None:
                raise ValueError("There is no CT: choose one under CT.")
            self._move_to(ct_nodes.center_ras(self._panel.parameters.ctVolume))

    def _to_crosshair(self, _checked: bool = False) -> None:
        with self._attempt(undoable=True):
            crosshair = slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode")
            place = tuple(crosshair.GetCrosshairRAS())
            if place == (0.0, 0.0, 0.0):
                raise ValueError("The crosshair is not set: hold Shift and move the mouse over a slice of the CT.")
            self._move_to(points.in_depth(place, self._panel.arm))

    def _to_point(self, _checked: bool = False) -> None:
        with self._attempt(undoable=True):
            landmarks = self._panel.parameters.landmarks
            if landmarks is None or landmarks.GetNumberOfControlPoints() == 0:
                raise ValueError("There is no point: choose a list of points under Acquire, and place one.")
            self._move_to(tuple(points.points_ras(landmarks)[0].tolist()))

    def _move_to(self, position_ras_mm: tuple[float, ...]) -> None:
        self._panel.arm.set(isocenter_ras_mm=position_ras_mm)

    def _show_arm(self, shown: bool) -> None:
        if not self._showing:
            carm_display.set_parts_shown(self._panel.arm, shown, beam=False)

    def _show_beam(self, shown: bool) -> None:
        if not self._showing:
            carm_display.set_parts_shown(self._panel.arm, shown, beam=True)

    def _show_handles(self, shown: bool) -> None:
        if not self._showing:
            carm_display.set_handles_shown(self._panel.arm, shown)


def _show_number(widget: Any, value: float) -> None:
    """Shows what is, also where it lies beyond the range that is offered."""
    if not widget.minimum <= value <= widget.maximum:
        widget.minimum, widget.maximum = min(widget.minimum, value), max(widget.maximum, value)
    widget.value = value
