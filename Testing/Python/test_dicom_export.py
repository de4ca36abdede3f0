"""X-rays as DICOM: complete by the standard, shown as the picture, and physical again by what the file says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_windowing

from DeepDRRLogic._version import __version__
from DeepDRRLogic.carm import CArm
from DeepDRRLogic.collimator import CircularCollimator, Collimator, RectangularCollimator
from DeepDRRLogic.display import DisplaySettings, displayed_values
from DeepDRRLogic.geometry import Camera
from DeepDRRLogic.image import XRayImage
from DeepDRRLogic.image_io import sidecar_path
from DeepDRRLogic.spectrum import Spectrum
from DeepDRRLogic.volume import CTVolume

WIDTH, HEIGHT = 48, 36
ARM = CArm(width=WIDTH, height=HEIGHT, pixel_pitch_mm=4.0, source_to_detector_mm=1200, source_to_isocenter_mm=800)

# PS3.3, what the modules of an X-Ray Angiographic Image (A.14.3) must have: of type 1 with a value, of type 2 even if
# it is empty. Those that depend on something (1C, 2C) are here where it is so.
TYPE_1 = {
    "SOP Common C.12.1": ["SOPClassUID", "SOPInstanceUID"],
    "General Study C.7.2.1": ["StudyInstanceUID"],
    "General Series C.7.3.1": ["Modality", "SeriesInstanceUID"],
    "Image Pixel C.7.6.3": [
        "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
        "PixelRepresentation", "PixelData",
    ],
    "X-Ray Image C.8.7.1": ["ImageType", "PixelIntensityRelationship"],
    "X-Ray Acquisition C.8.7.2": ["RadiationSetting"],
    "VOI LUT C.11.2": ["WindowCenter", "WindowWidth"],
}  # fmt: skip
TYPE_2 = {
    "Patient C.7.1.1": ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"],
    "General Study C.7.2.1": ["StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"],
    "General Series C.7.3.1": ["SeriesNumber", "Laterality"],
    "General Equipment C.7.5.1": ["Manufacturer"],
    "General Image C.7.6.1": ["InstanceNumber", "PatientOrientation"],
    "X-Ray Acquisition C.8.7.2": ["KVP", "Exposure"],
    "XA Positioner C.8.7.5": ["PositionerPrimaryAngle", "PositionerSecondaryAngle"],
}
MAPPING_TYPE_1 = [
    "RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped", "RealWorldValueSlope",
    "RealWorldValueIntercept", "LUTExplanation", "LUTLabel", "MeasurementUnitsCodeSequence",
]  # fmt: skip


def an_image(camera: Camera | None = None, channels: int = 1, **metadata: Any) -> XRayImage:
    """Attenuation from 0.5 to 8.5 that grows to the right and downwards, without a symmetry."""
    camera = camera or ARM.camera()
    right = np.linspace(0, 6, camera.width)
    down = np.linspace(0, 2, camera.height)[:, None]
    attenuation = (0.5 + right + down) * np.ones((channels, 1, 1))
    reference = 1000.0 * (1 + np.arange(channels))
    return XRayImage(
        signal=reference[:, None, None] * np.exp(-attenuation),
        unattenuated_signal=tuple(reference),
        photons=np.ones(attenuation.shape[1:]),
        mean_energy_kev=np.full(attenuation.shape[1:], 60.0),
        camera=camera,
        metadata=metadata,
    )


def exported(image: XRayImage, folder: Path, **settings: Any) -> pydicom.Dataset:
    image.save(folder / "shot.dcm", settings=DisplaySettings(**settings))
    return pydicom.dcmread(folder / "shot.dcm")


def physical(dataset: pydicom.Dataset) -> np.ndarray:
    mapping = dataset.RealWorldValueMappingSequence[0]
    return mapping.RealWorldValueSlope * dataset.pixel_array + mapping.RealWorldValueIntercept


def shown(dataset: pydicom.Dataset) -> np.ndarray:
    """What a viewer makes of it, 0 to 255."""
    windowed = apply_windowing(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    return np.asarray(windowed) / (65535 / 255)


@pytest.mark.parametrize("metadata", [{}, {"carm": asdict(ARM), "spectrum": asdict(Spectrum.preset("90kV"))}])
def test_it_has_all_that_the_standard_asks_for(tmp_path: Path, metadata: dict[str, Any]) -> None:
    dataset = exported(an_image(**metadata), tmp_path)
    for keyword in chain.from_iterable(TYPE_1.values()):
        assert keyword in dataset and dataset[keyword].VM > 0 and dataset[keyword].value != "", keyword
    for keyword in chain.from_iterable(TYPE_2.values()):
        assert keyword in dataset, keyword
    mapping = dataset.RealWorldValueMappingSequence[0]
    assert all(keyword in mapping for keyword in MAPPING_TYPE_1)
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.12.1" == dataset.file_meta.MediaStorageSOPClassUID
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert (dataset.Modality, dataset.PhotometricInterpretation) == ("XA", "MONOCHROME2")
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) == (16, 16, 15, 0)
    assert (dataset.Rows, dataset.Columns) == (HEIGHT, WIDTH)
    assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "SINGLE PLANE"]
    assert "ModalityLUTSequence" not in dataset and "RescaleSlope" not in dataset


def test_it_says_that_it_is_simulated_and_not_of_whom(tmp_path: Path) -> None:
    dataset = exported(an_image(patient={"ct": "/data/Mustermann.nii.gz"}, ct="Mustermann"), tmp_path)
    assert dataset.PatientName == "Simulated^DeepDRR"
    assert (dataset.Manufacturer, dataset.SoftwareVersions) == ("DeepDRR", __version__)
    assert "Simulated" in dataset.SeriesDescription and "Simulated" in dataset.ImageComments
    assert dataset.BurnedInAnnotation == "NO"
    assert b"Mustermann" not in (tmp_path / "shot.dcm").read_bytes()


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("polarity", ["bones_bright", "bones_dark"])
def test_its_greys_become_values_again_within_half_a_step(tmp_path: Path, log: bool, polarity: Any) -> None:
    image = an_image()
    dataset = exported(image, tmp_path, log=log, polarity=polarity, window=(3.0, 1.0))
    values = image.log() if log else image.transmission()
    np.testing.assert_allclose(physical(dataset), values, rtol=0, atol=0.51 * (5e-4 if log else 3e-5))
    content = json.loads(sidecar_path(tmp_path / "shot.dcm").read_text())["content"]
    black, white = content["value_at_black"], content["value_at_white"]
    np.testing.assert_allclose(black + dataset.pixel_array / 65535 * (white - black), physical(dataset), atol=1e-9)
    assert content["holds"] == ("log" if log else "transmission")


def test_only_what_is_proportional_to_the_beam_says_so(tmp_path: Path) -> None:
    assert exported(an_image(), tmp_path, log=False, polarity="bones_dark").PixelIntensityRelationship == "LIN"
    assert exported(an_image(), tmp_path, log=False).PixelIntensityRelationship == "DISP"
    assert exported(an_image(), tmp_path).PixelIntensityRelationship == "DISP"


def test_the_same_attenuation_is_the_same_grey_in_every_image(tmp_path: Path) -> None:
    image = an_image()
    other = replace(image, signal=np.where(np.arange(WIDTH) < 10, image.signal, image.signal * 1e-3))
    first, second = (exported(one, tmp_path).pixel_array for one in (image, other))
    assert np.array_equal(first[:, :10], second[:, :10])


def test_pixels_without_a_signal_take_the_end_of_the_scale(tmp_path: Path) -> None:
    image = an_image()
    signal = image.signal.copy()
    signal[0, 0], signal[0, 1], signal[0, 2] = 0.0, -5.0, 1e6
    image = replace(image, signal=signal)
    assert exported(image, tmp_path).pixel_array[0, :3].tolist() == [65535, 65535, 1]
    assert exported(image, tmp_path, polarity="bones_dark").pixel_array[0, :3].tolist() == [1, 1, 65535]


SHOWN = [
    DisplaySettings(),
    DisplaySettings(window="chest"),
    DisplaySettings(polarity="bones_dark"),
    DisplaySettings(log=False),
    DisplaySettings(log=False, polarity="bones_dark"),
    DisplaySettings(flip_horizontal=True),
    DisplaySettings(flip_vertical=True, polarity="bones_dark"),
    DisplaySettings(collimator=RectangularCollimator(5, 3, 30, 20), flip_horizontal=True),
    DisplaySettings(collimator=CircularCollimator(50, unit="mm"), polarity="bones_dark"),
]


@pytest.mark.parametrize("settings", SHOWN, ids=str)
def test_it_opens_as_the_picture_looks(tmp_path: Path, settings: DisplaySettings) -> None:
    image = an_image()
    image.save(tmp_path / "shot.dcm", settings=settings)
    image.save(tmp_path / "shot.png", settings=settings)
    grey = shown(pydicom.dcmread(tmp_path / "shot.dcm"))
    with Image.open(tmp_path / "shot.png") as file:
        picture = np.asarray(file) / (65535 / 255)
    np.testing.assert_allclose(grey, picture, rtol=0, atol=0.3)
    np.testing.assert_allclose(grey, image.display(settings), rtol=0, atol=0.8)
    assert np.ptp(picture) == 255


@pytest.mark.parametrize("polarity", ["bones_bright", "bones_dark"])
def test_a_window_of_few_greys_is_not_shifted_by_one(tmp_path: Path, polarity: Any) -> None:
    dataset = exported(an_image(), tmp_path, window=(4.0, 0.5), polarity=polarity)
    grey = np.clip((physical(dataset) - 3.75) / 0.5, 0, 1) * 255
    expected = grey if polarity == "bones_bright" else 255 - grey
    np.testing.assert_allclose(shown(dataset), expected, rtol=0, atol=1e-3)
    assert ((grey > 0) & (grey < 255)).sum() > 50


def test_simpleitk_reads_the_same_pixels_and_their_size(tmp_path: Path) -> None:
    image = an_image()
    uneven = Camera.from_projection(np.diag([1.0, 1.25, 1.0]) @ image.camera.projection, WIDTH, HEIGHT, 1200.0)
    dataset = exported(replace(image, camera=uneven), tmp_path)
    read = sitk.ReadImage(str(tmp_path / "shot.dcm"))
    assert np.array_equal(sitk.GetArrayFromImage(read)[0], dataset.pixel_array)
    assert read.GetSpacing()[:2] == pytest.approx((4.0, 3.2))
    assert [float(pitch) for pitch in dataset.ImagerPixelSpacing] == pytest.approx([3.2, 4.0])  # of rows, of columns


@pytest.mark.parametrize(
    ("primary", "secondary", "orientation"),
    [
        (0, 0, ["L", "F"]),
        (180, 0, ["L", "F"]),
        (90, 0, ["P", "F"]),
        (-90, 0, ["A", "F"]),
        (30, 0, ["LP", "F"]),
        (-30, 0, ["LA", "F"]),
        (0, 25, ["L", "FA"]),
        (0, -25, ["L", "FP"]),
        (-20.5, 15.25, None),
        (100, 100, None),
    ],
)
def test_angles_are_those_of_the_c_arm(tmp_path: Path, primary: float, secondary: float, orientation: Any) -> None:
    arm = ARM.with_angles(primary, secondary, 0).at(detector_shift_mm=(30, -20))
    dataset = exported(an_image(arm.camera()), tmp_path)
    angles = dataset.PositionerPrimaryAngle, dataset.PositionerSecondaryAngle
    assert [float(angle) for angle in angles] == pytest.approx(arm.dicom_angles_deg, abs=1e-5)
    assert orientation is None or list(dataset.PatientOrientation) == orientation


def test_a_flipped_picture_says_where_it_leads(tmp_path: Path) -> None:
    assert list(exported(an_image(), tmp_path, flip_horizontal=True).PatientOrientation) == ["R", "F"]
    assert list(exported(an_image(), tmp_path, flip_vertical=True).PatientOrientation) == ["L", "H"]


def test_a_patient_that_lay_turned_in_the_world_says_where_the_picture_leads(tmp_path: Path) -> None:
    turned = an_image(world_from_patient=np.diag([-1.0, -1.0, 1.0, 1.0]).tolist())
    assert list(exported(turned, tmp_path).PatientOrientation) == ["R", "F"]
    assert list(exported(turned, tmp_path, flip_horizontal=True).PatientOrientation) == ["L", "F"]
    on_its_side = [[0, 0, 1, 5], [1, 0, 0, 6], [0, 1, 0, 7], [0, 0, 0, 1]]  # its R, A and H lead to A, H and R
    assert list(exported(an_image(world_from_patient=on_its_side), tmp_path).PatientOrientation) == ["F", "P"]


@pytest.mark.parametrize("place", [None, "here", [[1, 0], [0, 1]], np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.inf)])
def test_no_side_is_named_where_the_patient_cannot_have_lain(tmp_path: Path, place: Any) -> None:
    dataset = exported(an_image(world_from_patient=place), tmp_path)
    assert "PatientOrientation" in dataset and not dataset.PatientOrientation


def test_distances_and_magnification_are_those_of_the_c_arm(tmp_path: Path) -> None:
    known = exported(an_image(carm=asdict(ARM)), tmp_path)
    assert (known.DistanceSourceToDetector, known.DistanceSourceToPatient) == (1200, 800)
    assert known.EstimatedRadiographicMagnificationFactor == 1.5
    unknown = exported(an_image(), tmp_path)
    assert unknown.DistanceSourceToDetector == 1200
    assert "DistanceSourceToPatient" not in unknown and "EstimatedRadiographicMagnificationFactor" not in unknown


@pytest.mark.parametrize(("mas", "whole"), [(2.0, 2), (0.3, None)])
def test_voltage_and_tube_load_are_written_where_they_are_known(tmp_path: Path, mas: float, whole: int | None) -> None:
    spectrum, camera = Spectrum.preset("90kV"), ARM.camera()
    photons = spectrum.photons_per_pixel(mas, camera.pixel_area_mm2, camera.source_to_detector_mm)
    known = exported(an_image(spectrum=asdict(spectrum), photons_per_pixel=photons), tmp_path)
    assert (known.KVP, known.Exposure, known.ExposureInuAs) == (90, whole, 1000 * mas)
    unknown = exported(an_image(photons_per_pixel=photons), tmp_path)
    assert unknown.KVP is None and unknown.Exposure is None and "ExposureInuAs" not in unknown


@pytest.mark.parametrize(
    ("collimator", "expected"),
    [
        (RectangularCollimator(5, 3, 30, 20), (WIDTH - 30, WIDTH - 5, 4, 21)),
        (RectangularCollimator(-20, -40, 60, 80, "mm"), (10, 29, 9, 36)),
        (CircularCollimator(50, unit="mm"), (round((WIDTH + 1) / 2), round((HEIGHT + 1) / 2), 12)),
        (CircularCollimator(10, (7, 9)), (WIDTH - 7, 10, 10)),
    ],
)
def test_the_shutters_are_described_as_the_picture_has_them(
    tmp_path: Path, collimator: Collimator, expected: tuple[int, ...]
) -> None:
    dataset = exported(an_image(), tmp_path, collimator=collimator, flip_horizontal=True)
    is_open = dataset.pixel_array > 0
    v, u = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1]
    if isinstance(collimator, CircularCollimator):
        row, column = dataset.CenterOfCircularCollimator
        radius = dataset.RadiusOfCircularCollimator
        assert (dataset.CollimatorShape, column, row, radius) == ("CIRCULAR", *expected)
        distance = np.hypot(u - column, v - row)
        assert is_open[distance < radius - 2].all() and not is_open[distance > radius + 2].any()
    else:
        sides = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
        left, right, upper, lower = (dataset[f"Collimator{side}Edge"].value for side in sides)
        assert (dataset.CollimatorShape, left, right, upper, lower) == ("RECTANGULAR", *expected)
        assert np.array_equal(is_open, (left <= u) & (u <= right) & (upper <= v) & (v <= lower))
    assert "CollimatorShape" not in exported(an_image(), tmp_path)


def test_uids_tell_exposures_and_pictures_apart_and_the_same_is_the_same(tmp_path: Path) -> None:
    def uids(image: XRayImage, **settings: Any) -> tuple[str, str, str]:
        dataset = exported(image, tmp_path, **settings)
        return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID

    first = uids(an_image(seed=1))
    written = (tmp_path / "shot.dcm").read_bytes()
    assert len(set(first)) == 3
    assert uids(an_image(seed=1)) == first and (tmp_path / "shot.dcm").read_bytes() == written
    darker = uids(an_image(seed=1), polarity="bones_dark")
    assert darker[:2] == first[:2] and darker[2] != first[2]
    for other in (an_image(seed=2), an_image(ARM.with_angles(1, 0).camera(), seed=1)):
        assert not set(uids(other)) & set(first)


def test_of_several_channels_one_or_the_sum_is_shown(tmp_path: Path) -> None:
    image = an_image(channels=2)
    image = replace(image, signal=image.signal * np.array([1.0, 0.5], np.float32)[:, None, None])
    for channel in (None, 0, 1):
        values = displayed_values(image, DisplaySettings(channel=channel))
        np.testing.assert_allclose(physical(exported(image, tmp_path, channel=channel)), values, atol=3e-4)
    with pytest.raises(ValueError, match="channel is 2; this image has channels 0 to 1"):
        image.save(tmp_path / "other.dcm", settings=DisplaySettings(channel=2))
    assert {path.name for path in tmp_path.iterdir()} == {"shot.dcm", "shot.dcm.json"}


def test_the_sidecar_gives_the_camera_back(tmp_path: Path) -> None:
    image = an_image(ARM.with_angles(33, -12, 5).camera(), seed=3)
    exported(image, tmp_path, window=(4.0, 5.0))
    values = json.loads(sidecar_path(tmp_path / "shot.dcm").read_text())
    assert Camera.from_dict(values["camera"]) == image.camera
    assert values["metadata"] == {"seed": 3}
    assert (values["content"]["window_center"], values["content"]["window_width"]) == (4.0, 5.0)
    assert values["content"]["file"] == "shot.dcm"


def test_a_failure_leaves_the_old_files_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from DeepDRRLogic import image_io

    image = an_image()
    image.save(tmp_path / "shot.dcm")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def write_half_and_fail(image: XRayImage, settings: DisplaySettings, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_io, "_write_dcm", write_half_and_fail)
    with pytest.raises(OSError, match=r"shot\.dcm.*No space left"):
        replace(image, signal=image.signal * 2).save(tmp_path / "shot.dcm")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("of_folder", [True, False])
def test_it_is_no_ct_to_the_reader_of_cts(tmp_path: Path, of_folder: bool) -> None:
    exported(an_image(carm=asdict(ARM)), tmp_path)
    with pytest.raises(ValueError, match="holds no CT, but XA: X-rays can be computed from a CT only"):
        CTVolume.read(tmp_path if of_folder else tmp_path / "shot.dcm")
