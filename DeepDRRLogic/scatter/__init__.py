"""The place of scatter in the image formation: between the primary and the noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..detector import Detector
    from ..exposure import Exposure
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum


class ScatterModel(Protocol):
    """Anything that can tell how much scattered radiation the detector receives in a view."""

    def estimate(
        self,
        area_densities: npt.NDArray[np.float32],
        materials: Sequence[Material],
        camera: Camera,
        spectrum: Spectrum,
        detector: Detector,
    ) -> Exposure:
        """The scattered exposure, in the units of `exposure.expose`: it is added to the primary as it is."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """What the image's metadata say of the model, so that the image can be made again."""
        ...
