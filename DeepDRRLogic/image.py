"""The result of a simulated exposure: what the detector measured, where, and how to make it again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .checks import check_kind, check_range

if TYPE_CHECKING:
    from .collimator import Collimator
    from .display import DisplaySettings
    from .geometry import Camera

Float32Array = npt.NDArray[np.float32]
Quantity = Literal["signal", "transmission", "log", "photons", "mean_energy_kev", "area_densities"]

# The smallest normal float32: what stands in for a signal without a logarithm, -ln of it is about 87.
SMALLEST_TRANSMISSION = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False, kw_only=True)
class XRayImage:
    """One exposure: detector signal with its unattenuated reference, per-pixel physics, camera, provenance.

    `signal`: (H, W), or (C, H, W) for a detector with C > 1 channels, float32, in the detector's own unit;
    (1, H, W) is kept as (H, W). `unattenuated_signal`: one I0 per channel, the signal of the same detector,
    spectrum and photon number with nothing in the beam. `photons`: (H, W) detected photons per pixel, as expected
    without noise, scattered ones included.
    `mean_energy_kev`: (H, W). `area_densities`: (M, H, W) in g/cm², one plane per name in
    `material_names`, or None. `metadata`: anything JSON can hold (NumPy values are converted); together
    with `camera` it says how to make the image again.

    Raises ValueError when shapes disagree with the camera, values are not finite, I0 is not positive or the
    metadata cannot be written as JSON. Two images are equal when every field is, to the bit.
    """

    signal: Float32Array
    unattenuated_signal: tuple[float, ...]
    photons: Float32Array
    mean_energy_kev: Float32Array
    area_densities: Float32Array | None = None
    material_names: tuple[str, ...] = ()
    camera: Camera
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pixels = (self.camera.height, self.camera.width)
        signal = _float32("signal", self.signal)
        if signal.ndim == 3 and signal.shape[0] == 1:
            signal = signal[0]
        if signal.ndim not in (2, 3) or signal.shape[-2:] != pixels:
            raise ValueError(
                f"signal has shape {signal.shape}, but the camera's detector is (height, width) = {pixels}; "
                "give (H, W) or (channels, H, W)."
            )
        fields: dict[str, Any] = {"signal": signal}
        for name in ("photons", "mean_energy_kev"):
            fields[name] = _float32(name, getattr(self, name))
            if fields[name].shape != pixels:
                raise ValueError(f"{name} has shape {fields[name].shape}; the camera's detector is {pixels}.")
        fields["unattenuated_signal"] = _positive_per_channel(
            self.unattenuated_signal, 1 if signal.ndim == 2 else signal.shape[0]
        )
        fields["material_names"] = tuple(str(name) for name in self.material_names)
        if self.area_densities is not None:
            densities = fields["area_densities"] = _float32("area_densities", self.area_densities)
            wanted = (len(self.material_names), *pixels)
            if densities.shape != wanted:
                raise ValueError(
                    f"area_densities has shape {densities.shape}; {len(self.material_names)} material names "
                    f"and the camera ask for {wanted}."
                )
        fields["metadata"] = as_json_values(self.metadata)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        pitch_u, pitch_v = self.camera.pixel_pitch_mm
        return (
            f"XRayImage({self.camera.width}×{self.camera.height} pixels of {pitch_u:.3g}×{pitch_v:.3g} mm, "
            f"{len(self.channels)} channel(s), materials {', '.join(self.material_names) or 'unknown'})"
        )

    @property
    def collimator(self) -> Collimator | None:
        """The opening that the exposure was taken with, None without one: the signal beside it is the open beam's."""
        from .collimator import parse_collimator

        words = self.metadata.get("collimator")
        try:
            return parse_collimator(words) if isinstance(words, str) else None
        except ValueError:  # words of the caller's own
            return None

    @property
    def channels(self) -> Float32Array:
        """The signal as (C, H, W), also where C is 1."""
        return self.signal.reshape(-1, *self.signal.shape[-2:])

    def transmission(self) -> Float32Array:
        """I / I0, shape of `signal`; not clipped, so noise may carry it below 0 or above 1."""
        return self.signal / self._reference()

    def log(self, least_transmission: float = SMALLEST_TRANSMISSION) -> Float32Array:
        """-ln(I / I0), shape of `signal`: the line integral of attenuation (Beer–Lambert), 0 in free air.

        The same physical transmission gives the same number in every image: nothing is scaled by the
        image's own extremes. A signal of zero or below (no photon arrived, or readout noise won) has no
        logarithm; it counts as `least_transmission`, by default the smallest normal float32, which gives
        87.3. All values above are exact. For training sets 1e-4 (9.2) or so keeps lone dark pixels from
        dwarfing the rest. ValueError unless it lies in 0 to 1.
        """
        check_range("least_transmission", least_transmission, SMALLEST_TRANSMISSION, 1.0)
        values = np.maximum(self.transmission(), np.float32(least_transmission))
        np.log(values, out=values)
        return np.subtract(np.float32(0), values, out=values)

    def quantity(self, name: Quantity) -> Float32Array:
        """The named quantity as planes (N, H, W): channels of a signal, or one plane per material."""
        planes: dict[str, Float32Array | None] = {
            "photons": self.photons,
            "mean_energy_kev": self.mean_energy_kev,
            "area_densities": self.area_densities,
        }
        if name not in get_args(Quantity):
            raise ValueError(f"Unknown quantity {name!r}; known are {', '.join(get_args(Quantity))}.")
        if name == "signal":
            return self.channels
        values = self.log() if name == "log" else self.transmission() if name == "transmission" else planes[name]
        if values is None:
            raise ValueError("This image has no area densities: give one that a simulator made.")
        return values.reshape(-1, *values.shape[-2:])

    def display(
        self, settings: DisplaySettings | None = None, *, bits: Literal[8, 16] = 8
    ) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """What a viewer sees, (H, W) uint8 or uint16; see `DeepDRRLogic.display.render_display`."""
        from .display import DisplaySettings, render_display

        settings = DisplaySettings() if settings is None else settings
        check_kind("settings", settings, DisplaySettings, 'DisplaySettings(window="chest")')
        return render_display(self, settings, bits=bits)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        settings: DisplaySettings | None = None,
        quantity: Quantity = "signal",
        bits: Literal[8, 16] = 16,
    ) -> None:
        """Write the image as the suffix says, with a JSON sidecar beside; see `image_io.save_image`."""
        from .image_io import save_image

        save_image(self, path, settings=settings, quantity=quantity, bits=bits)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> XRayImage:
        """Read back an image saved as `.npz`: every field exactly as it was."""
        from .image_io import load_image

        return load_image(path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, XRayImage):
            return NotImplemented
        if (self.area_densities is None) != (other.area_densities is None):
            return False
        return (
            self.unattenuated_signal == other.unattenuated_signal
            and self.material_names == other.material_names
            and self.metadata == other.metadata
            and self.camera.to_dict() == other.camera.to_dict()
            and np.array_equal(self.signal, other.signal)
            and np.array_equal(self.photons, other.photons)
            and np.array_equal(self.mean_energy_kev, other.mean_energy_kev)
            and (
                self.area_densities is None
                or other.area_densities is None
                or np.array_equal(self.area_densities, other.area_densities)
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def _reference(self) -> Float32Array:
        reference = np.asarray(self.unattenuated_signal, np.float32)
        return reference[0] if self.signal.ndim == 2 else reference[:, None, None]


def as_json_values(value: Any, where: str = "metadata") -> Any:
    """A copy of `value` as JSON would give it back: NumPy values as numbers and lists, tuples as lists.

    Infinity, such as the open end of an energy bin, becomes the text "inf" or "-inf", which float() reads.
    Raises ValueError naming the place of what JSON cannot hold: other objects, and NaN.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json_values(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return as_json_values(value.tolist(), where)
    if isinstance(value, list | tuple):
        return [as_json_values(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and not math.isnan(value)):
        return value  # nearly all there is: a spectrum alone has 200 numbers, and each picture has its spectrum
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {value!r}, which JSON cannot hold; give numbers, text or lists.") from error
    return value


def _float32(name: str, values: npt.ArrayLike) -> Float32Array:
    array = np.asarray(values, np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite.")
    return array


def _positive_per_channel(values: npt.ArrayLike, channels: int) -> tuple[float, ...]:
    references = tuple(float(value) for value in np.atleast_1d(np.asarray(values, np.float64)))
    if len(references) != channels:
        raise ValueError(f"unattenuated_signal has {len(references)} values for {channels} channel(s); give one each.")
    if not all(np.isfinite(value) and value > 0 for value in references):
        raise ValueError(f"unattenuated_signal is {references}; every channel's I0 must be positive and finite.")
    return references
