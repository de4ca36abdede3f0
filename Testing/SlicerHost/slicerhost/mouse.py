"""Mouse and keyboard, as a user has them: every event goes through Qt's event loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtTest import QTest

_LEFT, _NONE = QtCore.Qt.LeftButton, QtCore.Qt.NoButton


def settle(milliseconds: int = 0) -> None:
    """Lets events and timers run for a while."""
    end = time.perf_counter() + milliseconds / 1000
    QtWidgets.QApplication.processEvents()
    while time.perf_counter() < end:
        QtWidgets.QApplication.processEvents()
        time.sleep(0.002)


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `condition` returns once it is true; AssertionError after `seconds`."""
    end = time.perf_counter() + seconds
    while True:
        QtWidgets.QApplication.processEvents()
        value = condition()
        if value:
            return value
        if time.perf_counter() > end:
            raise AssertionError(f"nothing came of {condition} within {seconds:g} s")
        time.sleep(0.005)


def move(view: QtWidgets.QWidget, x: float, y: float, held: Any = _NONE) -> None:
    at = QtCore.QPointF(x, y)
    there = view.mapToGlobal(at)
    event = QtGui.QMouseEvent(QtCore.QEvent.MouseMove, at, there, _NONE, held, QtCore.Qt.NoModifier)
    QtWidgets.QApplication.sendEvent(view, event)


def drag(
    view: QtWidgets.QWidget,
    start: tuple[float, float],
    end: tuple[float, float],
    steps: int = 8,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Press at `start`, move to `end`, release; `on_step` is called after every move."""
    move(view, *start)
    QTest.mousePress(view, _LEFT, QtCore.Qt.NoModifier, QtCore.QPoint(*map(round, start)))
    for n in range(1, steps + 1):
        here = [a + (b - a) * n / steps for a, b in zip(start, end, strict=True)]
        move(view, *here, held=_LEFT)
        settle()
        on_step()
    QTest.mouseRelease(view, _LEFT, QtCore.Qt.NoModifier, QtCore.QPoint(*map(round, end)))
    settle()


def click(widget: QtWidgets.QWidget, x: float | None = None, y: float | None = None) -> None:
    """A click on a widget's middle, or on its indicator where only that takes clicks."""
    if not widget.isVisible():
        raise AssertionError(f"{widget.objectName() or type(widget).__name__} is not visible: no mouse can reach it")
    if not widget.isEnabled():
        raise AssertionError(f"{widget.objectName() or type(widget).__name__} is disabled: no click does anything")
    if isinstance(widget, (QtWidgets.QCheckBox, QtWidgets.QRadioButton)) and x is None:
        x = 8
    size = widget.size()
    at = QtCore.QPoint(round(size.width() / 2 if x is None else x), round(size.height() / 2 if y is None else y))
    QTest.mouseClick(widget, _LEFT, QtCore.Qt.NoModifier, at)
    settle()


def type_number(widget: QtWidgets.QWidget, value: float) -> None:
    """Types a number into a spin box, or into the one inside a slider widget, and presses Enter."""
    spin = QtWidgets.QAbstractSpinBox
    box = widget if isinstance(widget, spin) else widget.findChild(spin)
    if not (box.isVisible() and box.isEnabled()):
        raise AssertionError(f"{widget.objectName()} can not be typed into: hidden or disabled")
    box.setFocus()
    box.selectAll()
    QTest.keyClicks(box, f"{value:g}")
    QTest.keyClick(box, QtCore.Qt.Key_Return)
    settle()


def choose(box: QtWidgets.QWidget, text: str) -> None:
    """Opens a combo box and clicks an entry of its list."""
    combo = box if isinstance(box, QtWidgets.QComboBox) else box.findChild(QtWidgets.QComboBox)
    if not (combo.isVisible() and combo.isEnabled()):
        raise AssertionError(f"{box.objectName()} can not be used: hidden or disabled")
    found = combo.findText(text)
    if found < 0:
        entries = [combo.itemText(n) for n in range(combo.count())]
        raise AssertionError(f"{box.objectName()} has no {text!r}, but {entries}")
    combo.showPopup()
    entries = combo.view()
    index = combo.model().index(found, combo.modelColumn())
    entries.scrollTo(index)
    settle(20)
    QTest.mouseClick(entries.viewport(), _LEFT, QtCore.Qt.NoModifier, entries.visualRect(index).center())
    settle(20)


def handles(view: Any, display_nodes: list[Any], step: int = 5) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
    """Where handles answer to the mouse: (which display node, type, index) → positions, found by hovering."""
    found: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    for y in range(2, view.height(), step):
        for x in range(2, view.width(), step):
            move(view, x, y)
            for n, node in enumerate(display_nodes):
                if node.GetActiveInteractionType() > 0:
                    found[n, node.GetActiveInteractionType(), node.GetActiveInteractionIndex()].append((x, y))
    return dict(found)
