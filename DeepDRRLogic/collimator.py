"""Collimators: the part of the detector that the shutters leave open, pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from .affine import as_floats

if TYPE_CHECKING:
    from .geometry import Camera

Unit = Literal["px", "mm"]
Field = tuple[float, float, float, float]
"""A rectangle (u0, v0, u1, v1) in fractions of the detector's width and height."""

WHOLE_DETECTOR: Field = (0.0, 0.0, 1.0, 1.0)

# Pixels whose sides differ by less are square: over a usual detector it makes less than a pixel.
_SQUARE = 1e-3


def check_field(field: Field) -> Field:
    """The field itself; ValueError unless it is a part of the detector."""
    u0, v0, u1, v1 = field
    if not (0.0 <= u0 < u1 <= 1.0 and 0.0 <= v0 < v1 <= 1.0):
        raise ValueError(f"The field {field} is not within (0, 0, 1, 1); give (u0, v0, u1, v1) with u0 < u1, v0 < v1.")
    return field


@dataclass(frozen=True)
class CircularCollimator:
    """A round opening on the detector, as an image intensifier has.

    In "px", `center` is a pixel (u, v) and `radius` counts pixels. In "mm", `center` is measured on the
    detector from its middle, along u and v, and `radius` is in mm. Without a centre: the middle of the
    detector.
    """

    radius: float
    center: tuple[float, float] | None = None
    unit: Unit = "px"

    def __post_init__(self) -> None:
        _check_unit(self.unit)
        object.__setattr__(self, "radius", float(as_floats(self.radius, (), "The collimator's radius")))
        if self.center is not None:
            object.__setattr__(self, "center", tuple(as_floats(self.center, (2,), "The collimator's center").tolist()))
        if self.radius <= 0:
            raise ValueError(f"The collimator's radius is {self.radius} {self.unit}; it must be positive.")

    def field_mask(self, camera: Camera) -> npt.NDArray[np.bool_]:
        """(H, W), true where the centre of the pixel lies in the opening or on its border."""
        u, v = _coordinates(camera, self.unit)
        center_u, center_v = self.center or _middle(camera, self.unit)
        inside = (u - center_u) ** 2 + (v - center_v) ** 2 <= self.radius**2
        return _not_closed(inside, self)

    @property
    def words(self) -> str:
        """What `parse_collimator` makes this opening of."""
        center = "" if self.center is None else f"@{self.center[0]!r},{self.center[1]!r}"
        return f"circle:{self.radius!r}{self.unit}{center}"

    def field(self, camera: Camera) -> Field:
        """The square of the same middle and area: what scatter models take for the beam."""
        u, v = self.center or _middle(camera, self.unit)
        half = 0.5 * math.sqrt(math.pi) * self.radius
        return _fractions((u - half, v - half, u + half, v + half), camera, self)

    def in_mm(self, camera: Camera) -> CircularCollimator:
        """The same opening in "mm", which holds for other pixels of the same detector too.

        Raises ValueError where the camera's pixels are not square: a circle in pixels is none in mm then.
        """
        if self.unit == "mm":
            return self
        pitch_u, pitch_v = camera.pixel_pitch_mm
        if not math.isclose(pitch_u, pitch_v, rel_tol=_SQUARE):
            raise ValueError(
                f"A circle in pixels of {pitch_u:g} mm by {pitch_v:g} mm is none on the detector; "
                "give the opening in mm, as in circle:80mm."
            )
        center = None if self.center is None else _from_middle_mm(*self.center, camera)
        return CircularCollimator(self.radius * pitch_u, center, "mm")


@dataclass(frozen=True)
class RectangularCollimator:
    """Four straight shutters at u0 ≤ u ≤ u1 and v0 ≤ v ≤ v1.

    In "px", the limits are pixel coordinates; in "mm", distances on the detector from its middle.
    """

    u0: float
    v0: float
    u1: float
    v1: float
    unit: Unit = "px"

    def __post_init__(self) -> None:
        _check_unit(self.unit)
        for name in ("u0", "v0", "u1", "v1"):
            limit = as_floats(getattr(self, name), (), f"The collimator's {name}", finite=False)
            object.__setattr__(self, name, float(limit))
        if not (self.u0 <= self.u1 and self.v0 <= self.v1):
            raise ValueError(
                f"The collimator's limits are u {self.u0}…{self.u1}, v {self.v0}…{self.v1} {self.unit}; "
                "each must run from the smaller to the larger value."
            )

    def field_mask(self, camera: Camera) -> npt.NDArray[np.bool_]:
        """(H, W), true where the centre of the pixel lies in the opening or on its border."""
        u, v = _coordinates(camera, self.unit)
        inside = (u >= self.u0) & (u <= self.u1) & (v >= self.v0) & (v <= self.v1)
        return _not_closed(inside, self)

    @property
    def words(self) -> str:
        """What `parse_collimator` makes this opening of."""
        return f"rect:{self.u0!r},{self.v0!r},{self.u1!r},{self.v1!r}{self.unit}"

    def field(self, camera: Camera) -> Field:
        """The opening in fractions of the detector: what scatter models take for the beam."""
        return _fractions((self.u0, self.v0, self.u1, self.v1), camera, self)

    def in_mm(self, camera: Camera) -> RectangularCollimator:
        """The same opening in "mm", which holds for other pixels of the same detector too."""
        if self.unit == "mm":
            return self
        return RectangularCollimator(
            *_from_middle_mm(self.u0, self.v0, camera), *_from_middle_mm(self.u1, self.v1, camera), "mm"
        )


Collimator = CircularCollimator | RectangularCollimator


def parse_collimator(text: str) -> Collimator:
    """A collimator from words: "circle:80mm", "circle:200px@320,240", "rect:-60,-80,60,80mm".

    A circle is a radius with an optional centre behind "@", a rectangle is u0,v0,u1,v1; the unit is "px"
    where none is given. Raises ValueError with these examples for anything else.
    """
    shape, _, rest = text.strip().lower().partition(":")
    size, _, center = rest.partition("@")
    unit: Unit = "mm" if size.endswith("mm") else "px"
    numbers = _numbers(size, unit)
    try:
        if shape == "circle" and len(numbers) == 1:
            if not center:
                return CircularCollimator(numbers[0], unit=unit)
            if len(middle := _numbers(center, unit)) == 2:
                return CircularCollimator(numbers[0], (middle[0], middle[1]), unit)
        if shape in ("rect", "rectangle") and len(numbers) == 4 and not center:
            u0, v0, u1, v1 = numbers
            return RectangularCollimator(u0, v0, u1, v1, unit)
    except ValueError as error:
        raise ValueError(_NOT_A_COLLIMATOR.format(text=text, reason=f": {str(error).rstrip('.')}")) from error
    raise ValueError(_NOT_A_COLLIMATOR.format(text=text, reason=""))


def _numbers(text: str, unit: Unit) -> list[float]:
    """The numbers between the commas, of which there are none where one is no number."""
    try:
        return [float(part) for part in text.removesuffix(unit).split(",")]
    except ValueError:
        return []


_NOT_A_COLLIMATOR = (
    "{text!r} is not a collimator{reason}. Write circle:80mm, circle:200px@320,240 or rect:-60,-80,60,80mm."
)


def _check_unit(unit: str) -> None:
    if unit not in ("px", "mm"):
        raise ValueError(f"The collimator's unit is {unit!r}; it must be 'px' or 'mm'.")


def _middle(camera: Camera, unit: Unit) -> tuple[float, float]:
    return (0.0, 0.0) if unit == "mm" else ((camera.width - 1) / 2, (camera.height - 1) / 2)


def _coordinates(camera: Camera, unit: Unit) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Coordinates of the pixel centres in the collimator's unit: a row of u and a column of v."""
    u, v = np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64)
    if unit == "mm":
        pitch_u, pitch_v = camera.pixel_pitch_mm
        u, v = (u - (camera.width - 1) / 2) * pitch_u, (v - (camera.height - 1) / 2) * pitch_v
    return u[None, :], v[:, None]


def _from_middle_mm(u: float, v: float, camera: Camera) -> tuple[float, float]:
    middle_u, middle_v = _middle(camera, "px")
    pitch_u, pitch_v = camera.pixel_pitch_mm
    return (u - middle_u) * pitch_u, (v - middle_v) * pitch_v


def _fractions(limits: Field, camera: Camera, collimator: Collimator) -> Field:
    """Limits in the collimator's unit as a field, no narrower than a pixel; ValueError where nothing is left open."""
    collimator.field_mask(camera)
    sizes = np.array([camera.width, camera.height])
    low, high = np.reshape(limits, (2, 2))
    if collimator.unit == "mm":
        low, high = (0.5 * (sizes - 1) + edge / np.array(camera.pixel_pitch_mm) for edge in (low, high))
    low, high = (np.clip(edge, -0.5, sizes - 0.5) for edge in (low, high))
    middle, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), 0.5)
    edges = np.clip((np.concatenate([middle - half, middle + half]) + 0.5) / np.tile(sizes, 2), 0.0, 1.0)
    u0, v0, u1, v1 = edges.tolist()
    return u0, v0, u1, v1


def _not_closed(inside: npt.NDArray[np.bool_], collimator: Collimator) -> npt.NDArray[np.bool_]:
    if not inside.any():
        height, width = inside.shape
        raise ValueError(f"{collimator} leaves no pixel of the {width}×{height} detector open; move or widen it.")
    return inside
