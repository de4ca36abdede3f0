"""From options to where source and detector stand."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import PositionOptions
from .scene import refuse

if TYPE_CHECKING:
    from ..carm import CArm
    from ..collimator import Collimator
    from ..geometry import Camera


ANGLES = {"primary": ("primary", "lao", "rao"), "secondary": ("secondary", "cran", "caud")}
"""The options that say each angle."""


@dataclass(frozen=True)
class Position:
    """The camera, and the C-arm that holds it, if any."""

    camera: Camera
    carm: CArm | None

    @property
    def collimator(self) -> Collimator | None:
        """The field that the C-arm's detector has by nature."""
        return None if self.carm is None else self.carm.field_collimator()

    def metadata(self) -> dict[str, Any]:
        """What the image says of the C-arm that took it."""
        return {} if self.carm is None else {"carm": asdict(self.carm)}


def place(options: PositionOptions, center_ras: Any) -> Position:
    """The camera that the options describe, around the middle of the CT where no isocentre is given."""
    if options.camera is not None:
        others = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "camera"}
        given = {name: value for name, value in others.items() if value != getattr(PositionOptions, name)}
        refuse(f"--camera {options.camera} says where all stands", **given)
        return _position_of_sidecar(options.camera)
    from ..carm import CArm

    isocenter = options.isocenter if options.isocenter is not None else tuple(float(x) for x in center_ras)
    changes: dict[str, Any] = {
        "isocenter_ras_mm": isocenter,
        "roll_deg": options.roll,
        "on_limit": "warn" if options.ignore_limits else "raise",
        "source_to_detector_mm": options.source_detector_mm,
        "source_to_isocenter_mm": options.source_isocenter_mm,
        "pixel_pitch_mm": options.pixel_mm,
        "read_from": options.read_from,
    }
    size = None if options.size is None else parse_size(options.size)
    carm = CArm.preset(options.preset, **{name: value for name, value in changes.items() if value is not None})
    primary, secondary = angles_deg(options, (carm.primary_angle_deg, carm.secondary_angle_deg))
    pixels = {} if size is None else _pixels(carm, size, keeps_pitch=options.pixel_mm is not None)
    carm = carm.at(primary_angle_deg=primary, secondary_angle_deg=secondary, **pixels)
    return Position(carm.camera(), carm)


def angles_deg(options: PositionOptions, at_rest: tuple[float, float]) -> tuple[float, float]:
    """Primary and secondary angle of the named view, or of the C-arm at rest, where no angle is given."""
    from ..carm_presets import view_angles_deg

    primary, secondary = at_rest if options.view is None else view_angles_deg(options.view)
    return _angle(options, "primary", primary), _angle(options, "secondary", secondary)


def _angle(options: PositionOptions, axis: str, otherwise: float) -> float:
    """The angle given by one of its names, else `otherwise`; what a view has of it is not replaced."""
    given = [name for name in ANGLES[axis] if getattr(options, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join('--' + name for name in given)} say the same angle; give one of them.")
    if not given:
        return otherwise
    value = float(getattr(options, given[0]))
    angle = -value if given[0] in ("rao", "caud") else value
    if options.view is not None and otherwise not in (0.0, angle):
        raise ValueError(
            f"--view {options.view} has the {axis} angle {otherwise:g}, which --{given[0]} {value:g} would replace: "
            "give one of them. Without --view, --primary and --secondary say any position."
        )
    return angle


def parse_size(text: str) -> tuple[int, int | None]:
    """Width and height from "620x480", or the width and None from "620"."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height) if height else None
    except ValueError:
        size = 0, None
    if size[0] < 1 or (size[1] is not None and size[1] < 1):
        raise ValueError(f"--size is {text!r}; give pixels such as 620x480 or 512.")
    return size


def _pixels(carm: CArm, size: tuple[int, int | None], *, keeps_pitch: bool) -> dict[str, Any]:
    """What changes at a C-arm for a detector of other size in mm, or for other pixels, square ones, on its own."""
    width, height = size
    if keeps_pitch:
        return {"width": width, "height": height or width}
    natural = max(1, round(width * carm.height / carm.width))
    if height is not None and abs(height - natural) > 1:
        raise ValueError(
            f"--size {width}x{height} would squeeze the detector's {carm.width}×{carm.height} pixels; "
            f"give --size {width}x{natural}, or --pixel-mm for a detector of another shape."
        )
    pitch_mm = carm.pixel_pitch_mm * carm.width / width
    return {"width": width, "height": height or natural, "pixel_pitch_mm": pitch_mm}


def view_label(options: PositionOptions) -> str:
    """A word for file names."""
    if options.camera is not None:
        return options.camera.name.split(".")[0]
    names = [name for axis in ANGLES.values() for name in axis if getattr(options, name) is not None]
    angles = [f"{name}{getattr(options, name):g}" for name in names]
    return "_".join(([options.view] if options.view else []) + angles) or "rest"


def _position_of_sidecar(path: Path) -> Position:
    """The camera of an image, and its C-arm if the image knows one."""
    from ..carm import CArm
    from ..carm_limits import CArmLimits
    from ..geometry import Camera

    if not path.is_file():
        raise ValueError(f"There is no file {path}: give the .json file that lies beside an image.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        camera = Camera.from_dict(values.get("camera", values))
        carm = values.get("metadata", {}).get("carm")
        if carm is not None:
            limits = {joint: reach and tuple(reach) for joint, reach in carm["limits"].items()}
            carm = CArm(**{**carm, "limits": CArmLimits(**limits)})
        return Position(camera, carm)
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no camera; give the .json file that lies beside an image.") from error
