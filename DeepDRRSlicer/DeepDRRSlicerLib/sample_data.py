"""The built-in phantom in Slicer's Sample Data module, and our materials among Slicer's terminologies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from . import dependencies
from .ct_nodes import phantom_node

CATEGORY = "DeepDRR"
_RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
_TERMINOLOGY = _RESOURCES / "Terminologies" / "DeepDRRMaterials.term.json"


@dataclass(frozen=True)
class Sample:
    """A phantom as Sample Data offers it: its region, and the voxel size that keeps it to a few seconds."""

    name: str
    region: str
    spacing_mm: float

    @property
    def thumbnail(self) -> Path:
        """Its X-ray."""
        return _RESOURCES / "Icons" / f"{self.name}.png"

    def load(self, _source: Any = None) -> Any:
        """Compute the phantom's CT into the scene; Sample Data calls it in place of a download.

        None, after saying why, where packages that it needs are missing and not to be had.
        """
        try:
            dependencies.install(dependencies.missing(), ask=slicer.util.confirmOkCancelDisplay)
        except ValueError as error:
            slicer.util.errorDisplay(str(error))  # Sample Data itself would say nothing
            return None
        return phantom_node(slicer.mrmlScene, region=self.region, spacing_mm=self.spacing_mm)


SAMPLES = (
    Sample("PhantomChest", "chest", 1.5),
    Sample("PhantomPelvis", "pelvis", 1.5),
    Sample("PhantomTorso", "torso", 2.0),
)


def register_samples() -> None:
    """Offer the phantoms in Sample Data's category "DeepDRR"; nothing is computed or downloaded until one is chosen."""
    import SampleData

    for sample in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            # Sample Data counts addresses and files, even where nothing is downloaded.
            uris=f"phantom:{sample.region}",
            fileNames=f"{sample.name}.nrrd",
            nodeNames=f"Phantom {sample.region}",
            customDownloader=sample.load,
            thumbnailFileName=str(sample.thumbnail),
        )


def register_terminology(logic: Any) -> str:
    """Add our materials to what a segment can be called, and return the context's name.

    logic: the Terminologies module's. ValueError where the file is missing or no terminology.
    """
    context = str(logic.LoadTerminologyFromFile(str(_TERMINOLOGY)))
    if not context:
        raise ValueError(f"{_TERMINOLOGY} could not be read: reinstall the extension.")
    return context
