"""The options of the commands, grouped as a user thinks of them: patient, position, exposure, picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


def _option(panel: str, *names: str, help: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=settings.pop("show", True), **settings)


DEFAULT_PHANTOM_SPACING_MM = 1.5

_PATIENT, _POSITION, _EXPOSURE, _PICTURE, _RUN = (
    "Patient",
    "Position of the C-arm",
    "Exposure",
    "Picture",
    "Run",
)

CtArgument = Annotated[
    str,
    typer.Argument(
        metavar="CT",
        help="NRRD, NIfTI, MHA file, DICOM folder or file; "
        "or phantom, phantom:chest, phantom:pelvis:7 (7 is the seed).",
        show_default=False,
    ),
]
Series = Annotated[
    str | None,
    _option(_PATIENT, "--series", help="Which DICOM series of a folder: UID, number or description.", show=False),
]
HuOffset = Annotated[
    float | None,
    _option(
        _PATIENT,
        "--hu-offset",
        help="Added to the values where they are no CT numbers, as -1024; where only some DICOM slices lack their "
        "rescale, to those.",
        show=False,
    ),
]
CorrectTilt = Annotated[
    bool,
    _option(_PATIENT, "--correct-tilt", help="Resample DICOM slices of a tilted gantry to a rectangular grid."),
]
Method = Annotated[
    str,
    _option(
        _PATIENT,
        "--method",
        help="How materials are separated: vnet, threshold, or auto: the V-Net where PyTorch is installed.",
    ),
]
KeepTable = Annotated[bool, _option(_PATIENT, "--keep-table", help="Keep the table; the V-Net makes air of it.")]
Tissues = Annotated[
    bool,
    _option(
        _PATIENT,
        "--tissues",
        help="Split bone and soft tissue further by their CT numbers, into spongy bone and fat besides.",
    ),
]
AirMaxHu = Annotated[
    float | None, _option(_PATIENT, "--air-max-hu", help="Thresholds: air up to this CT number.", show="-800")
]
BoneMinHu = Annotated[
    float | None, _option(_PATIENT, "--bone-min-hu", help="Thresholds: bone above this CT number.", show="350")
]
PhantomSpacing = Annotated[
    float, _option(_PATIENT, "--phantom-spacing", help="Voxel size of the phantom in mm.", hidden=True)
]
Quiet = Annotated[bool, _option(_RUN, "--quiet", "-q", help="Say nothing but warnings and errors.")]


@dataclass(frozen=True)
class PatientOptions:
    """The CT and its materials."""

    ct: CtArgument
    series: Series = None
    hu_offset: HuOffset = None
    correct_tilt: CorrectTilt = False
    segmentation: Annotated[
        Path | None,
        _option(
            _PATIENT,
            "--segmentation",
            help="Materials from this file: a .seg.nrrd, as `deepdrr segment` makes it once to save every picture the "
            "time of the V-Net; or a label map (.nrrd, .nii.gz, .mha) with --materials.",
        ),
    ] = None
    materials: Annotated[
        str | None,
        _option(
            _PATIENT,
            "--materials",
            metavar="V=NAME,...",
            help="What the values of that label map stand for, as 1=soft_tissue,25-50=bone; 0 is air unless it is "
            "named. In a .seg.nrrd the same for names of segments.",
            show=False,
        ),
    ] = None
    method: Method = "auto"
    keep_table: KeepTable = False
    tissues: Tissues = False
    air_max_hu: AirMaxHu = None
    bone_min_hu: BoneMinHu = None
    ct_energy_kev: Annotated[
        float | None,
        _option(_PATIENT, "--ct-energy-kev", help="Effective energy of the CT's own beam.", show="that of 120 kV"),
    ] = None
    phantom_spacing: PhantomSpacing = DEFAULT_PHANTOM_SPACING_MM


@dataclass(frozen=True)
class PositionOptions:
    """Where source and detector stand."""

    preset: Annotated[str, _option(_POSITION, "--preset", help="C-arm; `deepdrr presets` lists them.")] = (
        "radiography_room"
    )
    view: Annotated[
        str | None,
        _option(_POSITION, "--view", help="Named view: ap, pa, lateral_left, inlet, ...; listed by `presets`."),
    ] = None
    primary: Annotated[float | None, _option(_POSITION, "--primary", help="Primary angle in degrees, + is LAO.")] = None
    secondary: Annotated[
        float | None, _option(_POSITION, "--secondary", help="Secondary angle in degrees, + is CRAN.")
    ] = None
    lao: Annotated[float | None, _option(_POSITION, "--lao", help="The same as --primary.")] = None
    rao: Annotated[float | None, _option(_POSITION, "--rao", help="The same as --primary with a minus.")] = None
    cran: Annotated[float | None, _option(_POSITION, "--cran", help="The same as --secondary.")] = None
    caud: Annotated[float | None, _option(_POSITION, "--caud", help="The same as --secondary with a minus.")] = None
    roll: Annotated[float, _option(_POSITION, "--roll", help="Turn of the picture, degrees clockwise.")] = 0.0
    isocenter: Annotated[
        tuple[float, float, float] | None,
        _option(
            _POSITION,
            "--isocenter",
            metavar="R A S",
            help="Isocentre in RAS mm.",
            show="middle of the CT",
        ),
    ] = None
    source_detector_mm: Annotated[
        float | None,
        _option(_POSITION, "--source-detector-mm", help="Source to detector.", show="of the preset"),
    ] = None
    source_isocenter_mm: Annotated[
        float | None,
        _option(_POSITION, "--source-isocenter-mm", help="Source to isocentre.", show="of the preset"),
    ] = None
    size: Annotated[
        str | None,
        _option(
            _POSITION,
            "--size",
            metavar="W[xH]",
            help="Pixels of the picture. The detector keeps its size in mm, unless --pixel-mm is given.",
            show="of the preset",
        ),
    ] = None
    pixel_mm: Annotated[
        float | None,
        _option(_POSITION, "--pixel-mm", help="Pixel pitch: a detector of other size in mm.", show="of the preset"),
    ] = None
    read_from: Annotated[
        str | None,
        _option(
            _POSITION,
            "--read-from",
            help="Side that the picture is read from: detector, source, or front, which shows the patient's right on "
            "the left in AP and PA alike. A sweep keeps the side of its first frame: front would mirror the picture "
            "where the arm passes a lateral.",
            show="front",
        ),
    ] = None
    ignore_limits: Annotated[
        bool, _option(_POSITION, "--ignore-limits", help="Only warn where the C-arm cannot reach.")
    ] = False
    camera: Annotated[
        Path | None,
        _option(
            _POSITION,
            "--camera",
            help="Camera of an earlier image: its .json sidecar, instead of all of the above.",
        ),
    ] = None


@dataclass(frozen=True)
class ExposureOptions:
    """Tube, detector and noise."""

    kv: Annotated[float, _option(_EXPOSURE, "--kv", help="Tube voltage in kV.")] = 90.0
    filter_mm: Annotated[
        float | None,
        _option(_EXPOSURE, "--filter-mm", help="Whole filtration in mm aluminium.", show="usual for the voltage"),
    ] = None
    copper_mm: Annotated[float, _option(_EXPOSURE, "--copper-mm", help="Additional copper in mm.")] = 0.0
    photons: Annotated[
        float | None,
        _option(_EXPOSURE, "--photons", help="Photons per pixel with nothing in the beam.", show="500000"),
    ] = None
    mas: Annotated[float | None, _option(_EXPOSURE, "--mas", help="Tube load in mAs, instead of --photons.")] = None
    detector: Annotated[
        str,
        _option(_EXPOSURE, "--detector", help="Detector: ideal, csi_flat_panel, photon_counting, energy_bins."),
    ] = "ideal"
    scatter: Annotated[
        str | None,
        _option(
            _EXPOSURE,
            "--scatter",
            help="Scattered radiation: network, network-paper (both need torch), kernel, montecarlo (exact, slow).",
            show="none",
        ),
    ] = None
    grid: Annotated[
        float | None,
        _option(
            _EXPOSURE,
            "--grid",
            metavar="RATIO",
            help="Ratio of an anti-scatter grid before the detector, such as 10.",
            show="none",
        ),
    ] = None
    noise: Annotated[bool, _option(_EXPOSURE, "--noise/--no-noise", help="Quantum and readout noise.")] = True
    seed: Annotated[int, _option(_EXPOSURE, "--seed", help="Same seed, same noise.", min=0)] = 0


@dataclass(frozen=True)
class PictureOptions:
    """How the picture is presented."""

    log: Annotated[
        bool, _option(_PICTURE, "--log/--linear", help="Show attenuation -ln(I/I0), or transmission I/I0.")
    ] = True
    polarity: Annotated[
        str, _option(_PICTURE, "--polarity", help="bones_bright as a radiograph, bones_dark as fluoroscopy.")
    ] = "bones_bright"
    window: Annotated[
        str,
        _option(
            _PICTURE,
            "--window",
            help="auto, chest, abdomen, pelvis, extremity, full, or CENTER,WIDTH in units of what is shown.",
        ),
    ] = "auto"
    collimator: Annotated[
        str | None,
        _option(
            _PICTURE,
            "--collimator",
            help="circle:80mm, circle:200px@320,240 or rect:-60,-80,60,80mm.",
            show="of the preset",
        ),
    ] = None
    flip_horizontal: Annotated[bool, _option(_PICTURE, "--flip-horizontal", help="Mirror left to right.")] = False
    flip_vertical: Annotated[bool, _option(_PICTURE, "--flip-vertical", help="Mirror top to bottom.")] = False


@dataclass(frozen=True)
class RunOptions:
    """How the work is done."""

    device: Annotated[str, _option(_RUN, "--device", help="auto, cuda, torch or cpu.")] = "auto"
    threads: Annotated[
        int | None, _option(_RUN, "--threads", help="Threads of the CPU.", show="one per core", min=1)
    ] = None
    quiet: Quiet = False
