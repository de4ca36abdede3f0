"""The C-arm: joint angles and distances, as its console shows them, turned into a `Camera`.

Angles are DICOM's, fixed to the patient however he lies (PS3.3 C.8.7.5.1.2): the primary angle is a longitude
in the transaxial plane (+ to the patient's left, LAO), the secondary a latitude (+ to the head, CRAN), and
both say where the detector is, seen from the isocentre. Resources/Documentation/geometry.md shows it all.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .affine import FloatArray, as_floats, rigid
from .carm_limits import CArmLimits
from .carm_presets import carm_presets, preset_settings, view_angles_deg
from .checks import check_kind, chosen
from .geometry import Camera, check_pixel_count

if TYPE_CHECKING:
    from .collimator import CircularCollimator

_logger = logging.getLogger(__name__)

ReadFrom = Literal["front", "detector", "source"]
FieldShape = Literal["rectangular", "circular"]
OnLimit = Literal["raise", "warn"]

_LEFT = np.array([-1.0, 0.0, 0.0])
_ANTERIOR = np.array([0.0, 1.0, 0.0])
_SUPERIOR = np.array([0.0, 0.0, 1.0])

# A lateral is read from its detector's side whether cos(90°) comes out as +6e-17 or, at 270°, as -2e-16.
_LATERAL = 1e-9


@dataclass(frozen=True, kw_only=True)
class CArm:
    """A C-arm in one position, around an isocentre in the patient; `camera()` is the exposure it would take.

    isocenter_ras_mm: where the isocentre lies in the patient before the table moves, (3,).
    primary_angle_deg, secondary_angle_deg: + is LAO, + is CRAN. Any angle is allowed; none is ever clipped.
    roll_deg: turns the picture in its plane, positive clockwise as the viewer sees its content.
    pixel_pitch_mm: of the square pixels, on the detector. width, height: pixels; fewer of one pitch see less, while
    `camera().resampled(256, 256)` sees the same on other pixels.
    detector_shift_mm: how far the middle of the detector is off the central ray, along the picture's u, v.
    table_shift_ras_mm: how far the table carried the patient; the isocentre moves the other way in him.
    field_shape: "circular" for an image intensifier, with its field_diameter_mm on the detector.
    read_from: "front" (default) shows the patient's right on the viewer's left in AP and PA alike: it reads
    the picture from the detector's side where the beam leaves at the front or square to it, from the source's
    where it leaves at the back. "detector" and "source" fix the side.
    limits, on_limit: a position outside raises ValueError, or is logged with "warn".
    Raises ValueError naming the value for a position that cannot be.
    """

    isocenter_ras_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    primary_angle_deg: float = 0.0
    secondary_angle_deg: float = 0.0
    roll_deg: float = 0.0
    source_to_detector_mm: float = 1020.0
    source_to_isocenter_mm: float = 530.0
    width: int = 1536
    height: int = 1536
    pixel_pitch_mm: float = 0.194
    detector_shift_mm: tuple[float, float] = (0.0, 0.0)
    table_shift_ras_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    field_shape: FieldShape = "rectangular"
    field_diameter_mm: float | None = None
    read_from: ReadFrom = "front"
    name: str = "C-arm"
    limits: CArmLimits = field(default_factory=CArmLimits)
    on_limit: OnLimit = "raise"

    def __post_init__(self) -> None:
        for name, size in (("isocenter_ras_mm", 3), ("detector_shift_mm", 2), ("table_shift_ras_mm", 3)):
            object.__setattr__(self, name, tuple(as_floats(getattr(self, name), (size,), name).tolist()))
        for name in ("primary_angle_deg", "secondary_angle_deg", "roll_deg"):
            object.__setattr__(self, name, float(as_floats(getattr(self, name), (), name)))
        self._check_sizes()
        self._check_choices()
        self._check_limits()

    def _check_sizes(self) -> None:
        for name in ("source_to_detector_mm", "source_to_isocenter_mm", "pixel_pitch_mm"):
            value = float(as_floats(getattr(self, name), (), name))
            if value <= 0:
                raise ValueError(f"{name} is {value:g}: give a positive length in mm.")
            object.__setattr__(self, name, value)
        if self.source_to_isocenter_mm >= self.source_to_detector_mm:
            raise ValueError(
                f"source_to_isocenter_mm {self.source_to_isocenter_mm:g} is not less than "
                f"source_to_detector_mm {self.source_to_detector_mm:g}: the isocentre lies between source "
                "and detector. Are the two exchanged?"
            )
        for name in ("width", "height"):
            object.__setattr__(self, name, check_pixel_count(getattr(self, name), name))

    def _check_choices(self) -> None:
        for name, choices in (("read_from", ReadFrom), ("field_shape", FieldShape), ("on_limit", OnLimit)):
            if getattr(self, name) not in get_args(choices):
                allowed = ", ".join(get_args(choices))
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {allowed}.")
        diameter = self.field_diameter_mm
        if diameter is not None:
            diameter = float(as_floats(diameter, (), "field_diameter_mm"))
            object.__setattr__(self, "field_diameter_mm", diameter)
        if self.field_shape == "circular" and not (diameter is not None and 0 < diameter < np.inf):
            raise ValueError(f"A circular field needs a positive field_diameter_mm, not {diameter}.")
        if self.field_shape == "rectangular" and diameter is not None:
            raise ValueError(f'field_diameter_mm {diameter:g} belongs to field_shape "circular".')

    def _check_limits(self) -> None:
        check_kind("limits", self.limits, CArmLimits, "CArmLimits(), which allows everything")
        violations = self.limits.violations(self)
        if not violations:
            return
        message = f"{self.name} cannot reach this position: {'; '.join(violations)}."
        if self.on_limit == "raise":
            raise ValueError(f'{message} Choose another, or set on_limit="warn".')
        _logger.warning(message)

    @classmethod
    def preset(cls, name: str, /, **changes: Any) -> CArm:
        """A C-arm by name (`carm_presets()` lists them), with fields changed; ValueError if unknown."""
        name = chosen("C-arm preset", name, carm_presets())
        settings, limits = preset_settings(name)
        return cls(**{"name": name, "limits": CArmLimits(**limits), **settings}).at(**changes)

    def at(self, **changes: Any) -> CArm:
        """The same C-arm with fields changed by name; ValueError for a field it does not have."""
        unknown = sorted(set(changes) - set(_fields(self)))
        if unknown:
            raise ValueError(f"A C-arm has no {', '.join(unknown)}. Its fields are: {', '.join(_fields(self))}.")
        return dataclasses.replace(self, **changes)

    def with_angles(self, primary_deg: float, secondary_deg: float, roll_deg: float | None = None) -> CArm:
        """The same C-arm turned to other angles, degrees; the roll stays unless given."""
        roll_deg = self.roll_deg if roll_deg is None else roll_deg
        return self.at(primary_angle_deg=primary_deg, secondary_angle_deg=secondary_deg, roll_deg=roll_deg)

    def view(self, name: str) -> CArm:
        """The same C-arm turned to a named view (`carm_views()` lists them); ValueError if unknown."""
        return self.with_angles(*view_angles_deg(name))

    @property
    def dicom_angles_deg(self) -> tuple[float, float]:
        """Positioner Primary and Secondary Angle (0018,1510) and (0018,1511), in ±180° and ±90°.

        They say where the beam goes, not how the picture lies. Beyond a secondary angle of ±90°, over the head or
        under the feet, the arm's picture is turned by 180° from that of an arm with these angles: add 180° to
        `roll_deg` to have the arm's own again.
        """
        primary, secondary = _wrapped(self.primary_angle_deg), _wrapped(self.secondary_angle_deg)
        if abs(secondary) > 90.0:
            primary, secondary = _wrapped(primary + 180.0), _wrapped(180.0 - secondary)
        return primary, secondary

    @property
    def beam_direction_ras(self) -> FloatArray:
        """Unit vector along the central ray, from source to detector, shape (3,)."""
        return beam_frame_ras(self.primary_angle_deg, self.secondary_angle_deg)[0]

    @property
    def isocenter_in_patient_ras_mm(self) -> FloatArray:
        """The isocentre in patient coordinates, with the table shifted, shape (3,)."""
        return np.subtract(self.isocenter_ras_mm, self.table_shift_ras_mm)

    @property
    def magnification(self) -> float:
        """Size on the detector of what has size 1 at the isocentre."""
        return self.source_to_detector_mm / self.source_to_isocenter_mm

    @property
    def field_of_view_at_isocenter_mm(self) -> tuple[float, float]:
        """Width and height in mm of what is seen in the isocentre's plane; both the diameter if round."""
        if self.field_shape == "circular" and self.field_diameter_mm is not None:
            size_mm = (self.field_diameter_mm, self.field_diameter_mm)
        else:
            size_mm = (self.width * self.pixel_pitch_mm, self.height * self.pixel_pitch_mm)
        return size_mm[0] / self.magnification, size_mm[1] / self.magnification

    @property
    def is_read_from_detector(self) -> bool:
        """Whether the picture is read facing the tube: the mirror image of how it looks from the source."""
        if self.read_from == "front":
            return bool(self.beam_direction_ras @ _ANTERIOR >= -_LATERAL)
        return self.read_from == "detector"

    def field_collimator(self) -> CircularCollimator | None:
        """The round opening of an image intensifier, in the middle of the detector; None if rectangular."""
        from .collimator import CircularCollimator

        if self.field_diameter_mm is None:
            return None
        return CircularCollimator(self.field_diameter_mm / 2, unit="mm")

    def camera(self) -> Camera:
        """The camera of this position: P maps RAS of the patient, where the table carried him, to pixels."""
        side = -1.0 if self.is_read_from_detector else 1.0
        z, up = beam_frame_ras(self.primary_angle_deg, self.secondary_angle_deg)
        x, y = np.cross(-up, z), -up
        roll = np.radians(self.roll_deg)
        cosine, sine = np.cos(roll), side * np.sin(roll)
        rotation = np.stack((cosine * x - sine * y, sine * x + cosine * y, z))
        source = self.isocenter_in_patient_ras_mm - self.source_to_isocenter_mm * z
        focal = self.source_to_detector_mm / self.pixel_pitch_mm
        shift_u, shift_v = np.divide(self.detector_shift_mm, self.pixel_pitch_mm)
        intrinsics = [
            [side * focal, 0.0, (self.width - 1) / 2 - shift_u],
            [0.0, focal, (self.height - 1) / 2 - shift_v],
            [0.0, 0.0, 1.0],
        ]
        camera_from_ras = rigid(rotation, -rotation @ source)
        return Camera(np.array(intrinsics), camera_from_ras, self.width, self.height, self.source_to_detector_mm)


def beam_frame_ras(primary_deg: npt.ArrayLike, secondary_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Beam direction d, source to detector, and the picture's upward direction: unit vectors (..., 3) in RAS.

    d = cos α cos β A + sin α cos β L + sin β S with primary angle α, secondary angle β, and A, L, S to the
    patient's front, left and head (DICOM PS3.3 C.8.7.5.1.2). Up is ∂d/∂β, where the detector goes as
    β grows: square to d and as smooth as d at every angle, with no pole; it leads to the head at β = 0.
    """
    alpha, beta = np.radians(primary_deg)[..., None], np.radians(secondary_deg)[..., None]
    equator = np.cos(alpha) * _ANTERIOR + np.sin(alpha) * _LEFT
    direction = np.cos(beta) * equator + np.sin(beta) * _SUPERIOR
    up = np.cos(beta) * _SUPERIOR - np.sin(beta) * equator
    return direction, up


def _fields(value: CArm | CArmLimits) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}


def _wrapped(angle_deg: float) -> float:
    """The same angle in (-180, 180]."""
    return 180.0 - (180.0 - angle_deg) % 360.0
