"""The host itself: its stand-ins, the .ui, and what both say against Slicer's headers."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ctk
import pytest
import qt
import slicer
from conftest import ROOT
from PySide6 import QtCore, QtWidgets
from slicerhost import mouse, stand_in

UI = ROOT / "DeepDRRSlicer" / "Resources" / "UI" / "DeepDRRSlicer.ui"
HEADERS = Path(os.environ["SLICER_PYTHON_DIR"]).parents[2] if "SLICER_PYTHON_DIR" in os.environ else None


def widgets():
    return list(ElementTree.parse(UI).getroot().iter("widget"))


@pytest.mark.parametrize("name", sorted(stand_in.REGISTRY))
def test_a_stand_in_offers_no_more_than_the_real_class(name):
    assert stand_in.complaints(stand_in.REGISTRY[name]) == []


def test_a_stand_in_that_offers_more_is_refused():
    class ctkSliderWidget(QtWidgets.QWidget):  # noqa: N801
        cpp_signals = {"sliderMoved(int)": "sliderMoved"}  # noqa: RUF012

        def stepToNext(self):
            pass

    with pytest.raises(TypeError, match=r"no stepToNext.*no signal sliderMoved"):
        stand_in.stand_in(ctkSliderWidget)


def test_a_misspelt_property_signal_or_slot_is_an_error():
    slider = ctk.ctkSliderWidget()
    with pytest.raises(AttributeError, match="maximumm"):
        slider.maximumm = 3
    with pytest.raises(AttributeError, match=r"valueChange\(double\)"):
        slider.connect("valueChange(double)", print)
    with pytest.raises(AttributeError, match="overwritten"):
        slider.setValue = 3
    label = qt.QLabel()
    label.text = "x"
    assert label.text == "x", "properties are values, not methods"
    with pytest.raises(NotImplementedError, match="ctkMatrixWidget"):
        ctk.ctkMatrixWidget()


def test_every_property_in_the_ui_exists_and_can_be_set():
    for element in widgets():
        name = element.get("class")
        custom = name in stand_in.facts()
        qt_class = getattr(QtWidgets, stand_in.lineage(name)[-1] if custom else name)
        meta = qt_class.staticMetaObject
        known = {meta.property(n).name() for n in range(meta.propertyCount()) if meta.property(n).isWritable()}
        known |= stand_in.properties(name) if custom else set()
        given = {p.get("name") for p in element.findall("property") if p.get("stdset") != "0"}
        assert given <= known, f"{element.get('name')} ({name}): {given - known}"


def test_every_connection_in_the_ui_joins_a_signal_and_a_slot():
    classes = {element.get("name"): element.get("class") for element in widgets()}
    for connection in ElementTree.parse(UI).getroot().iter("connection"):
        sender, receiver = classes[connection.findtext("sender")], classes[connection.findtext("receiver")]
        signals = {s for ancestor in stand_in.lineage(sender)[:-1] for s in stand_in.facts()[ancestor]["signals"]}
        assert connection.findtext("signal") in signals
        assert connection.findtext("slot").split("(")[0] in stand_in.offered(receiver)


def test_every_parameter_in_the_ui_is_one_of_the_modules(bench):
    names = [p.findtext("string") for e in widgets() for p in e.findall("property") if p.get("stdset") == "0"]
    assert len(names) == len(set(names)) > 20
    for name in names:
        bench.parameters.getValue(name)


def test_every_control_says_what_it_does_and_lengths_and_angles_their_units():
    controls = ("Button", "Slider", "Spin", "Check", "Selector", "Edit", "Table", "Path")
    for element in widgets():
        if element.get("name").endswith(controls):
            tip = element.findtext("property[@name='toolTip']/string") or ""
            assert len(tip) > 10, element.get("name")
            if element.get("name").endswith(("Spin", "Slider")):
                assert re.search(r"mm|°|degrees|HU|kV|mAs|pixel|photons|pictures|seed", tip, re.I), element.get("name")


def test_no_label_or_number_is_clipped_on_a_small_screen(aimed):
    assert aimed.window.width == 1366 and aimed.window.height <= 768
    for section in ("ctSection", "materialsSection", "carmSection", "xraySection", "acquireSection"):
        aimed.open(section)
    mouse.settle(50)
    panel = aimed.widget.uiWidget
    room = aimed.window._scroll.viewport().width
    assert panel.width <= room, f"the panel is {panel.width} pixels wide, {room} are there"
    kinds = (QtWidgets.QPushButton, QtWidgets.QCheckBox, QtWidgets.QAbstractSpinBox, QtWidgets.QLabel)
    for widget in panel.findChildren(QtWidgets.QWidget):
        if (
            not isinstance(widget, kinds)
            or not widget.visible
            or (isinstance(widget, QtWidgets.QLabel) and widget.wordWrap)
        ):
            continue
        needed = (
            widget.minimumSizeHint.width()
            if isinstance(widget, QtWidgets.QAbstractSpinBox)
            else widget.sizeHint.width()
        )
        assert widget.width >= needed - 1, (
            f"{widget.objectName or widget.parent().objectName}: {widget.width} < {needed}"
        )


def test_the_facts_agree_with_slicers_headers():
    if HEADERS is None or not (HEADERS / "Libs" / "MRML" / "Widgets").is_dir():
        pytest.skip("SLICER_PYTHON_DIR does not point into a Slicer checkout with its headers")
    decorators = "".join(path.read_text(encoding="utf-8") for path in HEADERS.glob("Base/**/*PythonQtDecorators.h"))
    checked = 0
    for name, entry in stand_in.facts().items():
        header = next((HEADERS.glob(f"*/**/{name}.h")), None)
        if header is None:
            continue
        text = header.read_text(encoding="utf-8") + decorators
        checked += 1
        for wanted in (*entry["writable"], *entry["readable"]):
            assert re.search(rf"Q_PROPERTY\([^)]*\b{wanted}\b", text), f"{name} has no property {wanted}"
        for wanted in (*entry["methods"], *(signal.split("(")[0] for signal in entry["signals"])):
            assert re.search(rf"(\b|_){wanted}\(", text), f"{name} declares no {wanted}"
    assert checked > 10


def test_the_views_show_what_the_layout_node_says(bench):
    bench.add_carm()
    manager = slicer.app.layoutManager()
    assert manager.sliceWidget("XRay").visible and manager.threeDWidget(0).visible
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    assert not manager.sliceWidget("XRay").visible
    assert not manager.sliceWidget("XRay").mrmlSliceNode().IsMappedInLayout()
    assert QtCore.QObject.isWidgetType(manager.threeDWidget(0))
