"""X-ray images as DICOM objects of the class X-Ray Angiographic Image Storage (PS3.3 A.14), for viewers and archives.

Stored are 16-bit greys that grow brighter, as the class knows MONOCHROME2 only (PS3.3 C.8.7.1), each a fixed step of
-ln(I/I0) or I/I0; the window is that of the display settings. A Modality LUT of this class would lead back to beam
intensity (C.8.7.1.1.2), and some viewers apply one before the window while others do not. So there is none, and what a
grey means is said by the Real World Value Mapping of the General Image Module (C.7.6.1, C.7.6.16.2.11).
"""

from __future__ import annotations

import hashlib
import json
from math import atan2, degrees
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..affine import check_affine, patient_letters
from ..collimator import CircularCollimator
from ..display import displayed_values, grows_dark

if TYPE_CHECKING:
    from ..display import DisplaySettings
    from ..geometry import Camera
    from ..image import XRayImage

_XA_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.12.1"

# The least value that a grey stands for, and the step between greys: well below the noise of any detector, and the
# same in all images, so that a viewer's window holds from one to the next.
_LEAST_LOG, _LOG_STEP = -2.0, 5e-4
_LEAST_TRANSMISSION, _TRANSMISSION_STEP = -0.4, 3e-5
# What the shutters hide; no value is stored as this.
_CLOSED = 0
_DARKEST, _BRIGHTEST = 1, 65535

_LARGEST_INTEGER_STRING = 2**31 - 1

_WHO = {
    "PatientName": "Simulated^DeepDRR",
    "PatientID": "DeepDRR",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "ReferringPhysicianName": "",
    "StudyID": "1",
    "AccessionNumber": "",
    "StudyDescription": "Simulated X-ray",
    "Modality": "XA",
    "SeriesNumber": 1,
    "Laterality": "",
    "SeriesDescription": "Simulated X-ray",
    "Manufacturer": "DeepDRR",
    "ManufacturerModelName": "DeepDRRLogic",
    "SoftwareVersions": __version__,
    "InstanceNumber": 1,
    "ImageType": ["DERIVED", "SECONDARY", "SINGLE PLANE"],
    "DerivationDescription": "X-ray image simulated from CT",
    "ImageComments": "Simulated X-ray image, computed from CT by DeepDRR. Nobody was exposed; not for diagnosis.",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "RadiationSetting": "GR",
}


def write_dicom(image: XRayImage, settings: DisplaySettings, path: Path) -> None:
    """Write the picture that `settings` make of `image`; their window must be (center, width)."""
    import pydicom
    from pydicom.uid import UID, ExplicitVRLittleEndian

    stored = stored_values(image, settings)
    attributes = {
        **_WHO,
        **_uids(image, settings),
        **_pixels(stored),
        **_meaning(settings),
        **_exposure(image),
        **_positioner(image),
        **_collimator(image.camera, settings),
        "PatientOrientation": _patient_orientation(image, settings),
        "ImagerPixelSpacing": [_decimal(pitch) for pitch in reversed(image.camera.pixel_pitch_mm)],
    }
    dataset = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(_XA_IMAGE_STORAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def value_scale(settings: DisplaySettings) -> tuple[float, float]:
    """(slope, intercept): -ln(I/I0) or I/I0 is slope · stored + intercept, for what is stored as 1 to 65535."""
    least, step = (_LEAST_LOG, _LOG_STEP) if settings.log else (_LEAST_TRANSMISSION, _TRANSMISSION_STEP)
    return (-step, least + step * (_DARKEST + _BRIGHTEST)) if grows_dark(settings) else (step, least)


def stored_values(image: XRayImage, settings: DisplaySettings) -> npt.NDArray[np.uint16]:
    """The picture (H, W), shuttered and flipped; values beyond the scale, as behind no photons, take its end."""
    slope, intercept = value_scale(settings)
    greys = (displayed_values(image, settings).astype(np.float64) - intercept) / slope
    stored = np.clip(np.rint(greys), _DARKEST, _BRIGHTEST).astype("<u2")
    if settings.collimator is not None:
        stored[~settings.collimator.field_mask(image.camera)] = _CLOSED
    return np.ascontiguousarray(_flipped(stored, settings))


def _flipped(pixels: npt.NDArray[Any], settings: DisplaySettings) -> npt.NDArray[Any]:
    return pixels[:: -1 if settings.flip_vertical else 1, :: -1 if settings.flip_horizontal else 1]


def _uids(image: XRayImage, settings: DisplaySettings) -> dict[str, str]:
    """The same exposure is the same study and series, and in the same settings the same object, whenever saved."""
    from pydicom.uid import generate_uid

    made_how = json.dumps([image.camera.to_dict(), image.metadata, image.unattenuated_signal])
    exposure = [hashlib.sha256(image.signal.tobytes()).hexdigest(), made_how]
    return {
        "SOPClassUID": _XA_IMAGE_STORAGE,
        "SOPInstanceUID": generate_uid(entropy_srcs=["image", *exposure, repr(settings)]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series", *exposure]),
        "StudyInstanceUID": generate_uid(entropy_srcs=["study", *exposure]),
    }


def _pixels(stored: npt.NDArray[np.uint16]) -> dict[str, Any]:
    """Image Pixel Module, PS3.3 C.7.6.3."""
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": stored.tobytes(),
    }


def _meaning(settings: DisplaySettings) -> dict[str, Any]:
    """How greys relate to the beam, how they are shown, and what they mean.

    DICOM's window of width w and center c runs from c - 0.5 - (w - 1)/2 to c - 0.5 + (w - 1)/2, PS3.3 C.11.2.1.2.1.
    """
    from pydicom import Dataset

    assert isinstance(settings.window, tuple)
    center, width = settings.window
    slope, intercept = value_scale(settings)
    unit, mapping = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "1", "UCUM", "no units"
    mapping.RealWorldValueFirstValueMapped = _DARKEST
    mapping.RealWorldValueLastValueMapped = _BRIGHTEST
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, intercept
    mapping.LUTLabel = "-ln(I/I0)" if settings.log else "I/I0"
    mapping.LUTExplanation = "Attenuation -ln(I/I0)" if settings.log else "Transmission I/I0"
    mapping.MeasurementUnitsCodeSequence = [unit]
    return {
        # LOG would ask for a Modality LUT (PS3.3 A.14.3); DISP is "ready to be displayed".
        "PixelIntensityRelationship": "DISP" if settings.log or grows_dark(settings) else "LIN",
        "WindowCenter": _decimal((center - intercept) / slope + 0.5),
        "WindowWidth": _decimal(width / abs(slope) + 1),
        "RealWorldValueMappingSequence": [mapping],
    }


def _exposure(image: XRayImage) -> dict[str, Any]:
    """X-Ray Acquisition Module, PS3.3 C.8.7.2: the tube as far as the image knows it, its load from N0."""
    kvp = _known(image, "spectrum", "kvp")
    photons, per_mas = _known(image, "photons_per_pixel"), _known(image, "spectrum", "photons_per_mas_mm2_at_1m")
    values: dict[str, Any] = {"KVP": kvp and _decimal(kvp), "Exposure": None}
    if photons and per_mas:
        camera = image.camera
        mas = photons / (per_mas * camera.pixel_area_mm2 * (1000 / camera.source_to_detector_mm) ** 2)
        whole = {"Exposure": round(mas), "ExposureInuAs": round(1000 * mas)}
        values |= {name: load for name, load in whole.items() if 0 < load <= _LARGEST_INTEGER_STRING}
    return values


def _positioner(image: XRayImage) -> dict[str, Any]:
    """XA Positioner Module, PS3.3 C.8.7.5: where the beam goes, as `carm.beam_frame_ras` has it, and distances."""
    right, front, up = image.camera.principal_axis_ras.tolist()
    detector_mm = image.camera.source_to_detector_mm
    isocenter_mm = _known(image, "carm", "source_to_isocenter_mm")
    values = {
        "PositionerPrimaryAngle": degrees(atan2(-right, front)),
        "PositionerSecondaryAngle": degrees(atan2(up, (right**2 + front**2) ** 0.5)),
        "DistanceSourceToDetector": detector_mm,
    }
    if isocenter_mm:
        values["DistanceSourceToPatient"] = isocenter_mm
        values["EstimatedRadiographicMagnificationFactor"] = detector_mm / isocenter_mm
    return {keyword: _decimal(round(value, 6) + 0.0) for keyword, value in values.items()}


def _collimator(camera: Camera, settings: DisplaySettings) -> dict[str, Any]:
    """X-Ray Collimator Module, PS3.3 C.8.7.3: the opening in rows and columns of the picture, the first being 1."""
    opening = settings.collimator
    if opening is None:
        return {}
    if isinstance(opening, CircularCollimator):
        u, v, radius = _circle(opening, camera)
        row = camera.height - v if settings.flip_vertical else v + 1
        column = camera.width - u if settings.flip_horizontal else u + 1
        return {
            "CollimatorShape": "CIRCULAR",
            "CenterOfCircularCollimator": [round(row), round(column)],
            "RadiusOfCircularCollimator": round(radius),
        }
    rows, columns = np.nonzero(_flipped(opening.field_mask(camera), settings))
    return {
        "CollimatorShape": "RECTANGULAR",
        "CollimatorLeftVerticalEdge": int(columns.min()) + 1,
        "CollimatorRightVerticalEdge": int(columns.max()) + 1,
        "CollimatorUpperHorizontalEdge": int(rows.min()) + 1,
        "CollimatorLowerHorizontalEdge": int(rows.max()) + 1,
    }


def _circle(opening: CircularCollimator, camera: Camera) -> tuple[float, float, float]:
    """Centre u, v and radius in pixels, the radius along u."""
    middle_u, middle_v = (camera.width - 1) / 2, (camera.height - 1) / 2
    if opening.unit == "px":
        return *(opening.center or (middle_u, middle_v)), opening.radius
    pitch_u, pitch_v = camera.pixel_pitch_mm
    u, v = opening.center or (0.0, 0.0)
    return middle_u + u / pitch_u, middle_v + v / pitch_v, opening.radius / pitch_u


def _patient_orientation(image: XRayImage, settings: DisplaySettings) -> list[str]:
    """Where rows and columns of the picture lead in the patient, as "L" and "F" in an AP view: PS3.3 C.7.6.1.1.1.

    A patient that lay turned in the world is told of by the metadata's "world_from_patient", [4][4]; where that cannot
    be one, nothing is said.
    """
    try:
        place = check_affine(image.metadata.get("world_from_patient", np.eye(4)), shear_tolerance_deg=90.0)
    except ValueError:
        return []
    along_row, along_column = np.linalg.solve(place[:3, :3], image.camera.ras_from_pixel[:3, :2]).T
    if settings.flip_horizontal:
        along_row = -along_row
    if settings.flip_vertical:
        along_column = -along_column
    return [patient_letters(along_row), patient_letters(along_column)]


def _known(image: XRayImage, *keys: str) -> float | None:
    """The positive number that the image's metadata hold there, if any."""
    value: Any = image.metadata
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _decimal(value: float) -> Any:
    """A decimal string, which has 16 characters at most."""
    from pydicom.valuerep import DSfloat

    return DSfloat(value, auto_format=True)
