"""Stand-ins for the CTK widgets of the panel, and the module `ctk` that holds them."""

from __future__ import annotations

import types

from PySide6 import QtCore, QtGui, QtWidgets

from .stand_in import REGISTRY, absent, forwarded, stand_in, stored

Signal = QtCore.Signal
_HEADER = 24


def _row(widget: QtWidgets.QWidget) -> QtWidgets.QHBoxLayout:
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    return layout


class _HidesChildren:
    """How CTK collapses: children are hidden, and shown again unless they were hidden of their own while it was open.

    As in CTK, hiding a child while all are hidden goes unnoticed: it is shown when the box is opened.
    """

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.added() and isinstance(event.child(), QtWidgets.QWidget):
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if not self.__dict__.get("_forcing") and event.type() in (
            QtCore.QEvent.ShowToParent,
            QtCore.QEvent.HideToParent,
        ):
            child.setProperty("visibilityToParent", event.type() == QtCore.QEvent.ShowToParent)
            self._show_child(child)
        return False

    def _show_child(self, child: QtWidgets.QWidget) -> None:
        self._forcing = True
        child.setVisible(not self.collapsed and QtCore.QObject.property(child, "visibilityToParent") is not False)
        self._forcing = False

    def _show_children(self) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                self._show_child(child)


@stand_in
class ctkCollapsibleButton(_HidesChildren, QtWidgets.QAbstractButton):  # noqa: N801
    contentsCollapsed = Signal(bool)
    cpp_signals = {"contentsCollapsed(bool)": "contentsCollapsed"}  # noqa: RUF012
    collapsed = stored("collapsed", False, "_collapse")
    collapsedHeight = stored("collapsedHeight", 10)
    flat = stored("flat", False)
    contentsLineWidth = stored("contentsLineWidth", 1)

    def __init__(self, *arguments: object) -> None:
        super().__init__(next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None))
        self.setText(next((a for a in arguments if isinstance(a, str)), ""))
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(2, _HEADER + 2, 2, 2)
        self.toggled.connect(self._toggled)

    def _toggled(self, opened: bool) -> None:
        self.collapsed = not opened

    def _collapse(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)
        self._show_children()
        self.setMaximumHeight(_HEADER if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < _HEADER

    def sizeHint(self) -> QtCore.QSize:
        if self.collapsed or self.layout() is None:
            return QtCore.QSize(120, _HEADER)
        return self.layout().totalSizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        if self.collapsed or self.layout() is None:
            return QtCore.QSize(60, _HEADER)
        return self.layout().totalMinimumSize()

    def paintEvent(self, _: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), _HEADER - 2)
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(8, 6, 10, 10)
        direction = (
            QtWidgets.QStyle.PE_IndicatorArrowRight if self.collapsed else QtWidgets.QStyle.PE_IndicatorArrowDown
        )
        painter.drawPrimitive(direction, arrow)
        font = self.font()
        font.setBold(True)
        painter.setFont(font)
        painter.drawText(QtCore.QRect(26, 0, self.width() - 30, _HEADER - 2), QtCore.Qt.AlignVCenter, self.text())


@stand_in
class ctkCollapsibleGroupBox(_HidesChildren, QtWidgets.QGroupBox):  # noqa: N801
    collapsed = stored("collapsed", False, "_collapse")
    collapsedHeight = stored("collapsedHeight", 14)

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._toggled)

    def _toggled(self, opened: bool) -> None:
        self.collapsed = not opened

    def _collapse(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)
        self._show_children()
        self.setMaximumHeight(self.collapsedHeight + 8 if collapsed else 16777215)
        self.updateGeometry()

    def paintEvent(self, _: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionGroupBox()
        self.initStyleOption(option)
        option.subControls &= ~QtWidgets.QStyle.SC_GroupBoxCheckBox
        option.text = ("▸ " if self.collapsed else "▾ ") + self.title()
        painter.drawComplexControl(QtWidgets.QStyle.CC_GroupBox, option)


class _SliderBase(QtWidgets.QWidget):
    """A slider and a spin box that hold one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    cpp_signals = {  # noqa: RUF012
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "decimalsChanged(int)": "decimalsChanged",
    }
    _steps = 1000
    value = forwarded("value", "_spin")
    minimum = forwarded("minimum", "_spin", "_show")
    maximum = forwarded("maximum", "_spin", "_show")
    singleStep = forwarded("singleStep", "_spin")
    decimals = forwarded("decimals", "_spin")
    prefix = forwarded("prefix", "_spin")
    suffix = forwarded("suffix", "_spin")
    pageStep = stored("pageStep", 10.0)
    tracking = stored("tracking", True)
    spinBoxVisible = stored("spinBoxVisible", True, "_show_spin_box")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._busy = False
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        self._slider.setRange(0, self._steps)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        self._spin.setKeyboardTracking(False)
        layout = _row(self)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin)
        self._slider.valueChanged.connect(self._slid)
        self._spin.valueChanged.connect(self._spun)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def _slid(self, step: int) -> None:
        if not self._busy:
            low, high = self._spin.minimum(), self._spin.maximum()
            self._spin.setValue(low + step / self._steps * (high - low))

    def _spun(self, value: float) -> None:
        self._show()
        self.valueChanged.emit(value)

    def _show(self) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        self._busy = True
        self._slider.setValue(round((self._spin.value() - low) / (high - low) * self._steps) if high > low else 0)
        self._busy = False

    def _show_spin_box(self, visible: bool) -> None:
        self._spin.setVisible(visible)


@stand_in
class ctkSliderWidget(_SliderBase):  # noqa: N801
    pass


@stand_in
class ctkRangeWidget(QtWidgets.QWidget):  # noqa: N801
    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    cpp_signals = {  # noqa: RUF012
        "valuesChanged(double,double)": "valuesChanged",
        "minimumValueChanged(double)": "minimumValueChanged",
        "maximumValueChanged(double)": "maximumValueChanged",
    }
    minimum = property(lambda self: self._low.minimum(), lambda self, value: self.setRange(value, self.maximum))
    maximum = property(lambda self: self._high.maximum(), lambda self, value: self.setRange(self.minimum, value))
    minimumValue = property(lambda self: self._low.value(), lambda self, value: self._low.setValue(value))
    maximumValue = property(lambda self: self._high.value(), lambda self, value: self._high.setValue(value))
    decimals = property(lambda self: self._low.decimals(), lambda self, value: self._both("setDecimals", value))
    singleStep = property(lambda self: self._low.singleStep(), lambda self, value: self._both("setSingleStep", value))
    suffix = property(lambda self: self._low.suffix(), lambda self, value: self._both("setSuffix", value))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)
        layout = _row(self)
        for box, signal in ((self._low, self.minimumValueChanged), (self._high, self.maximumValueChanged)):
            box.setKeyboardTracking(False)
            layout.addWidget(box)
            box.valueChanged.connect(signal)
            box.valueChanged.connect(self._changed)
        self._high.setValue(99)

    def _both(self, setter: str, value: object) -> None:
        for box in (self._low, self._high):
            getattr(box, setter)(value)

    def _changed(self, _: float) -> None:
        if self._low.value() > self._high.value():
            (self._low if self.sender() is self._high else self._high).setValue(self.sender().value())
        self.valuesChanged.emit(self._low.value(), self._high.value())

    def setRange(self, low: float, high: float) -> None:
        self._low.setRange(low, high)
        self._high.setRange(low, high)

    def setValues(self, low: float, high: float) -> None:
        self._low.setValue(low)
        self._high.setValue(high)

    def setMinimumValue(self, value: float) -> None:
        self._low.setValue(value)

    def setMaximumValue(self, value: float) -> None:
        self._high.setValue(value)


@stand_in
class ctkPathLineEdit(QtWidgets.QWidget):  # noqa: N801
    currentPathChanged = Signal(str)
    cpp_signals = {"currentPathChanged(QString)": "currentPathChanged"}  # noqa: RUF012
    currentPath = property(lambda self: self._edit.text(), lambda self, value: self._edit.setText(value))
    nameFilters = stored("nameFilters", ())
    filters = stored("filters", None)
    settingKey = stored("settingKey", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit(self)
        browse = QtWidgets.QToolButton(self)
        browse.setText("…")
        layout = _row(self)
        layout.addWidget(self._edit)
        layout.addWidget(browse)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        """The host keeps no history."""


class _Ctk(types.ModuleType):
    def __getattr__(self, name: str) -> object:
        if name in REGISTRY:
            return REGISTRY[name]
        if name.startswith("ctk"):
            return absent(name)
        raise AttributeError(name)


ctk = _Ctk("ctk", "CTK's widgets, as far as the host stands in for them")
