"""From options to where source and detector stand."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import PositionOptions

if TYPE_CHECKING:
    from ..carm import CArm
    from ..collimator import Collimator
    from ..geometry import Camera


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
    chosen = _one_of(options, "primary", "lao", "rao"), _one_of(options, "secondary", "cran", "caud")
    return (primary if chosen[0] is None else chosen[0]), (secondary if chosen[1] is None else chosen[1])


def _one_of(options: PositionOptions, direct: str, positive: str, negative: str) -> float | None:
    given = [name for name in (direct, positive, negative) if getattr(options, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join('--' + name for name in given)} say the same angle; give one of them.")
    if not given:
        return None
    angle = float(getattr(options, given[0]))
    return -angle if given[0] == negative else angle


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
    angles = [
        f"{name}{getattr(options, name):g}"
        for name in ("primary", "lao", "rao", "secondary", "cran", "caud")
        if getattr(options, name) is not None
    ]
    return "_".join(([options.view] if options.view else []) + angles) or "rest"


def _position_of_sidecar(path: Path) -> Position:
    """The camera of an image, and its C-arm if the image knows one."""
    from ..carm import CArm
    from ..carm_limits import CArmLimits
    from ..geometry import Camera

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
