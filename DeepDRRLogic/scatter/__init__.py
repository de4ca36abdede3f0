"""The place of scatter in the image formation: between the primary and the noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..checks import chosen

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..collimator import Field
    from ..detector import Detector
    from ..exposure import Exposure
    from ..geometry import Camera
    from ..materials import Material
    from ..spectrum import Spectrum
    from ..volume import MaterialVolume
    from .antiscatter import AntiScatterGrid


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


@runtime_checkable
class CollimatedScatter(ScatterModel, Protocol):
    """A scatter model that knows how narrow a beam is."""

    def in_field(self, field: Field) -> ScatterModel:
        """The same model in a beam that the shutters leave so much of the detector, see `Collimator.field`."""
        ...


@runtime_checkable
class GriddedScatter(ScatterModel, Protocol):
    """A scatter model that knows what an anti-scatter grid takes of it."""

    def behind(self, grid: AntiScatterGrid) -> ScatterModel:
        """The same model behind a grid."""
        ...


@runtime_checkable
class RandomScatter(ScatterModel, Protocol):
    """A scatter model that draws random numbers, which differ from image to image."""

    def drawn(self, seed: int) -> ScatterModel:
        """The same model for the image of this seed."""
        ...


@runtime_checkable
class WatchableScatter(ScatterModel, Protocol):
    """A scatter model that takes long enough for somebody to ask how far it is, or to call it off."""

    def watched(self, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> ScatterModel:
        """The same model; it calls progress(done, total), from any thread, and ends where cancelled() turns true.

        Then `estimate` raises montecarlo.CancelledError, or returns what has been found so far.
        """
        ...


def _montecarlo(volumes: Sequence[MaterialVolume], threads: int | None, device: str) -> ScatterModel:
    from .montecarlo import MonteCarloScatter

    return MonteCarloScatter(volumes, threads=threads, device="auto" if device == "torch" else device)


def _kernel(volumes: Sequence[MaterialVolume], threads: int | None, _device: str) -> ScatterModel:
    from .kernel import KernelScatter

    return KernelScatter(volumes, threads=threads)


def _network(volumes: Sequence[MaterialVolume], threads: int | None, _device: str) -> ScatterModel:
    from .network import NetworkScatter

    return NetworkScatter(volumes, threads=threads)


def _paper(volumes: Sequence[MaterialVolume], threads: int | None, _device: str) -> ScatterModel:
    from .paper import PaperNetworkScatter

    return PaperNetworkScatter(volumes, threads=threads)


SCATTER_MODELS: dict[str, Callable[[Sequence[MaterialVolume], int | None, str], ScatterModel]] = {
    "kernel": _kernel,
    "network": _network,
    "network-paper": _paper,
    "montecarlo": _montecarlo,
}
"""Scatter models by name, made from the volumes of a simulator, its number of threads and its device."""


def make_scatter(
    model: ScatterModel | str | None,
    volumes: Sequence[MaterialVolume],
    threads: int | None = None,
    device: str = "auto",
) -> ScatterModel | None:
    """The model of that name with its default parameters, or what was given.

    ValueError for an unknown name, TypeError for what is no model.
    """
    if isinstance(model, str):
        return SCATTER_MODELS[chosen("scatter model", model, SCATTER_MODELS)](volumes, threads, device)
    if model is not None and not hasattr(model, "estimate"):
        raise TypeError(f"scatter = {model!r:.60}: give {', '.join(map(repr, SCATTER_MODELS))}, a model, or None.")
    return model


__all__ = [
    "SCATTER_MODELS",
    "CollimatedScatter",
    "GriddedScatter",
    "RandomScatter",
    "ScatterModel",
    "WatchableScatter",
    "make_scatter",
]
