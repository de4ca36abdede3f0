"""Makes the panel out of its sections. Uses Qt."""

from __future__ import annotations

from typing import Any

from .widget_acquire import AcquireSection
from .widget_carm import CArmSection
from .widget_ct import CTSection
from .widget_live import LiveSection
from .widget_materials import MaterialsSection
from .widget_panel import Panel
from .widget_xray import XRaySection


def make_panel(ui: Any, logic: Any) -> Panel:
    """The panel with its sections, in the order in which one works."""
    panel = Panel(ui, logic)
    live = LiveSection(panel)
    panel.acquire = AcquireSection(panel)
    panel.aim = CArmSection(panel)
    panel.materials = MaterialsSection(panel)
    panel.scan = CTSection(panel)
    panel.technique = XRaySection(panel)
    panel.sections = [
        panel.scan,
        panel.materials,
        panel.aim,
        panel.technique,
        panel.acquire,
        live,
    ]
    return panel
