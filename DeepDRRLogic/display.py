"""What a viewer sees: from a measured signal to grey values, without touching the measurement.

The way of a value: channel → log or linear → window → polarity → grey → shutters → flips. Everything here
is a choice of presentation; with a fixed window the same transmission is the same grey in every image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import numpy.typing as npt

from .affine import as_floats
from .checks import check_kind, chosen
from .collimator import CircularCollimator, Collimator, RectangularCollimator

if TYPE_CHECKING:
    from .image import XRayImage

Float32Array = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Window = tuple[float, float]
Polarity = Literal["bones_bright", "bones_dark"]

# Lower and upper attenuation -ln(I/I0) of the body parts at diagnostic tube voltages (80-120 kV).
_PRESET_LIMITS: dict[str, tuple[float, float]] = {
    "full": (0.0, 10.0),
    "chest": (1.0, 6.5),
    "abdomen": (3.5, 9.0),
    "pelvis": (2.5, 8.5),
    "extremity": (0.0, 3.5),
}
_AUTO_PERCENTILES = (8.0, 99.8)
# Less attenuation than 2 to 3 cm of tissue has: the beam passed beside the patient, or through skin and clothes.
_FREE_BEAM_LOG = 0.5
# More than that stands for a pixel that no photon reached; see XRayImage.log.
_NO_SIGNAL_LOG = 80.0
# Narrower than this, a blank exposure would show nothing but its noise.
_SMALLEST_AUTO_WIDTH = 0.05
# Below this part of the field the object is too small to set the window alone.
_SMALLEST_OBJECT_FRACTION = 0.001


@dataclass(frozen=True)
class DisplaySettings:
    """How an image is presented.

    `log`: show -ln(I/I0); else the transmission I/I0. `window`: (center, width) in units of what is
    shown, the name of a preset (see `window_presets`), or None or "auto" for robust percentiles of the
    open field. `polarity`: "bones_bright" as on a radiograph, "bones_dark" as in fluoroscopy, in log and
    linear alike. `flip_horizontal` and `flip_vertical` turn only the picture; pixel coordinates of
    `Camera.project` then no longer apply to it. `collimator`: outside its opening the picture is black
    at either polarity; None is that of the exposure. `channel`: which detector channel is shown; None shows
    the sum of all.
    """

    log: bool = True
    window: Window | str | None = None
    polarity: Polarity = "bones_bright"
    flip_horizontal: bool = False
    flip_vertical: bool = False
    collimator: Collimator | None = None
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.polarity not in ("bones_bright", "bones_dark"):
            raise ValueError(f"polarity is {self.polarity!r}; it must be 'bones_bright' or 'bones_dark'.")
        if isinstance(self.window, str):
            object.__setattr__(self, "window", chosen("window", self.window, window_presets()))
        elif self.window is not None:
            center, width = as_floats(self.window, (2,), "window").tolist()
            check_window((center, width))
            object.__setattr__(self, "window", (center, width))
        openings = (CircularCollimator, RectangularCollimator, type(None))
        check_kind("collimator", self.collimator, openings, 'parse_collimator("circle:80mm")')
        if self.channel is not None:
            check_kind("channel", self.channel, Integral, "0")
            object.__setattr__(self, "channel", int(self.channel))


def window_presets() -> tuple[str, ...]:
    """The names a window may have; "auto" looks at the image, all others do not."""
    return ("auto", *_PRESET_LIMITS)


def preset_window(name: str, *, log: bool = True) -> Window:
    """(center, width) of a fixed preset: of -ln(I/I0), or of I/I0 for the same range of attenuation."""
    lower, upper = _PRESET_LIMITS[chosen("fixed window", name, _PRESET_LIMITS)]
    if not log:
        lower, upper = float(np.exp(-upper)), float(np.exp(-lower))
    return (lower + upper) / 2, upper - lower


def check_window(window: Window) -> None:
    """Raise ValueError unless center and width are finite and the width positive."""
    center, width = window
    if not (np.isfinite(center) and np.isfinite(width) and width > 0):
        raise ValueError(f"The window is center {center}, width {width}; the width must be positive, both finite.")


def displayed_values(image: XRayImage, settings: DisplaySettings) -> Float32Array:
    """-ln(I/I0) or I/I0, (H, W) float32, of one channel or the sum of all; before window, shutters, flips."""
    channels = image.channels
    if settings.channel is not None and not 0 <= settings.channel < len(channels):
        raise ValueError(f"channel is {settings.channel}; this image has channels 0 to {len(channels) - 1}.")
    if len(channels) > 1:
        shown = slice(None) if settings.channel is None else slice(settings.channel, settings.channel + 1)
        reference = (float(sum(image.unattenuated_signal[shown])),)
        image = replace(image, signal=channels[shown].sum(axis=0), unattenuated_signal=reference)
    return image.log() if settings.log else image.transmission()


def shuttered(image: XRayImage, settings: DisplaySettings) -> DisplaySettings:
    """The settings, with the shutters of the exposure where they name none."""
    return settings if settings.collimator is not None else replace(settings, collimator=image.collimator)


def resolve_window(image: XRayImage, settings: DisplaySettings) -> Window:
    """The (center, width) that `render_display` uses: as given, of the preset, or chosen for this image."""
    settings = shuttered(image, settings)
    return _resolve(displayed_values(image, settings), image, settings)


@overload
def render_display(
    image: XRayImage, settings: DisplaySettings = ..., *, bits: Literal[8] = ...
) -> npt.NDArray[np.uint8]: ...
@overload
def render_display(
    image: XRayImage, settings: DisplaySettings = ..., *, bits: Literal[16]
) -> npt.NDArray[np.uint16]: ...
@overload
def render_display(
    image: XRayImage, settings: DisplaySettings = ..., *, bits: Literal[8, 16]
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]: ...
def render_display(
    image: XRayImage, settings: DisplaySettings | None = None, *, bits: Literal[8, 16] = 8
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """The picture, (H, W) uint8 or uint16, 0 black: windowed, shuttered and flipped as the settings say."""
    settings = shuttered(image, settings or DisplaySettings())
    if bits not in (8, 16):
        raise ValueError(f"bits is {bits!r}; it must be 8 or 16.")
    values = displayed_values(image, settings)
    window = _resolve(values, image, settings)
    grey: Grey = to_uint8(values, window) if bits == 8 else to_uint16(values, window)
    if grows_dark(settings):
        np.invert(grey, out=grey)
    if settings.collimator is not None:
        grey[~settings.collimator.field_mask(image.camera)] = 0
    down = -1 if settings.flip_vertical else 1
    right = -1 if settings.flip_horizontal else 1
    return grey[::down, ::right].copy()


def grows_dark(settings: DisplaySettings) -> bool:
    """Whether a larger displayed value is darker: bones attenuate much and transmit little."""
    return settings.log != (settings.polarity == "bones_bright")


def to_uint8(values: npt.ArrayLike, window: Window) -> npt.NDArray[np.uint8]:
    """Grey 0…255 for center - width/2 … center + width/2, rounded to nearest; outside saturates, NaN is 0."""
    return _to_grey(values, window, 255).astype(np.uint8)


def to_uint16(values: npt.ArrayLike, window: Window) -> npt.NDArray[np.uint16]:
    """Grey 0…65535 for center - width/2 … center + width/2, rounded to nearest; else as `to_uint8`."""
    return _to_grey(values, window, 65535).astype(np.uint16)


def _to_grey(values: npt.ArrayLike, window: Window, largest: int) -> npt.NDArray[np.float64]:
    check_window(window)
    center, width = window
    grey = np.array(values, np.float64)
    # Clipped before scaling: infinities and huge values then cannot overflow into NaN.
    np.clip(grey, center - width / 2, center + width / 2, out=grey)
    grey -= center - width / 2
    grey *= largest / width
    np.rint(grey, out=grey)
    np.clip(grey, 0, largest, out=grey)
    return np.nan_to_num(grey, copy=False, nan=0.0)


def _resolve(values: Float32Array, image: XRayImage, settings: DisplaySettings) -> Window:
    if isinstance(settings.window, tuple):
        return settings.window
    if settings.window is not None and settings.window != "auto":
        return preset_window(settings.window, log=settings.log)
    if settings.collimator is not None:
        values = values[settings.collimator.field_mask(image.camera)]
    return auto_window(values, log=settings.log)


def auto_window(values: npt.ArrayLike, *, log: bool = True) -> Window:
    """A window for these displayed values alone: 8th to 99.8th percentile of what lies behind the patient.

    The free beam beside the patient is left out where anything else is in view, else an arm's length of air
    would set the contrast. This is a choice of display: grey values of two images with "auto" are not
    comparable.
    """
    shown = np.asarray(values, np.float64).ravel()
    seen = shown[shown < _NO_SIGNAL_LOG] if log else shown
    shown = seen if seen.size else shown
    attenuated = shown[shown > _FREE_BEAM_LOG] if log else shown[shown < np.exp(-_FREE_BEAM_LOG)]
    if attenuated.size > _SMALLEST_OBJECT_FRACTION * shown.size:
        shown = attenuated
    low, high = _AUTO_PERCENTILES if log else tuple(100.0 - limit for limit in reversed(_AUTO_PERCENTILES))
    lower, upper = (float(limit) for limit in np.percentile(shown, (low, high)))
    if log:
        upper = max(upper, lower + _SMALLEST_AUTO_WIDTH)
    else:
        lower = min(lower, upper - _SMALLEST_AUTO_WIDTH)
    return (lower + upper) / 2, upper - lower
