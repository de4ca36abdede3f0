"""X-ray images as files: pictures, measurements, and one format that loses nothing.

| suffix | what it holds |
|---|---|
| .npz | every field of the image, exactly; the one format that `load_image` reads |
| .png | the picture as displayed, 16 (or 8) bits, window recorded |
| .tif, .tiff | a quantity as float32, one page per channel or material |
| .nrrd | a quantity as float32 on the detector plane, where it stands in the patient's space |
| .json | the sidecar alone |
| .dcm | the picture for DICOM viewers: an X-ray angiographic image, 16 bits, all values beyond the window too |

Beside each of them lies a sidecar, the name with `.json` appended: camera, projection matrix, metadata,
and the window of a picture. The matrices are those of the file's own pixels, mirrored where the picture is;
the camera is that of the exposure.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .affine import check_affine
from .display import DisplaySettings, grows_dark, render_display, resolve_window, shuttered
from .files import replaced_when_written, require_writable_place
from .geometry import Camera
from .image import Quantity, XRayImage, as_json_values

SUFFIXES = (".png", ".tif", ".tiff", ".nrrd", ".npz", ".json", ".dcm")
FORMAT_NAME = "DeepDRR X-ray image"
FORMAT_VERSION = 1

_PLANES = ("signal", "photons", "mean_energy_kev", "area_densities")
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])


def save_image(
    image: XRayImage,
    path: str | os.PathLike[str],
    *,
    settings: DisplaySettings | None = None,
    quantity: Quantity = "signal",
    bits: Literal[8, 16] = 16,
) -> None:
    """Write `image` in the format of the suffix and its sidecar; both or neither.

    `settings` shape a .png or .dcm, `bits` are of a .png.
    `quantity` is what a .tif or .nrrd holds: by default the raw detector signal, "log" for -ln(I/I0),
    "area_densities" for one plane per material. Existing files are replaced. Raises ValueError for an unknown
    suffix or a missing folder.
    """
    target = Path(path)
    require_image_path(target)
    if quantity not in get_args(Quantity):
        raise ValueError(f"Unknown quantity {quantity!r}; known are {', '.join(get_args(Quantity))}.")
    suffix = target.suffix.lower()
    content: dict[str, Any]
    if suffix == ".json":
        with replaced_when_written(target) as (temporary,):
            _write_json(temporary, sidecar(image, {}))
        return
    with replaced_when_written(target, sidecar_path(target)) as (temporary, temporary_sidecar):
        if suffix == ".npz":
            content = {"holds": "every field"}
            _write_npz(image, temporary)
        elif suffix in (".png", ".dcm"):
            settings = shuttered(image, settings or DisplaySettings())
            settings = replace(settings, window=resolve_window(image, settings))
            if suffix == ".png":
                content = _picture_content(settings, bits)
                _write_png(render_display(image, settings, bits=bits), temporary, content)
            else:
                content = _stored_content(settings)
                _write_dcm(image, settings, temporary)
        else:
            planes = image.quantity(quantity)
            content = {"holds": quantity, "dtype": "float32"}
            write = _write_nrrd if suffix == ".nrrd" else _write_tiff
            write(planes, image.camera, temporary, content)
        shown = settings if suffix in (".png", ".dcm") else None
        _write_json(temporary_sidecar, sidecar(image, {"file": target.name, **content}, shown))


def require_image_path(path: str | os.PathLike[str]) -> None:
    """Raise ValueError, before an image is made, for an unknown suffix or a missing folder."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Cannot write {target}: the name must end in one of {', '.join(SUFFIXES)}.")
    require_writable_place(target)


def load_image(path: str | os.PathLike[str]) -> XRayImage:
    """Read an image saved as `.npz`; every field is restored exactly. ValueError for anything else."""
    source = Path(path)
    if source.suffix.lower() != ".npz":
        raise ValueError(f"Cannot load {source}: only .npz keeps every field of an image; save it as .npz.")
    if not source.is_file():
        raise ValueError(f"Cannot load {source}: there is no such file.")
    try:
        with np.load(source, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            planes = {name: archive[name] for name in _PLANES if name in archive}
        if header["format"] != FORMAT_NAME or header["format_version"] > FORMAT_VERSION:
            raise ValueError(f"format {header['format']!r} version {header['format_version']}")
        return XRayImage(
            **planes,
            unattenuated_signal=tuple(header["unattenuated_signal"]),
            material_names=tuple(header["material_names"]),
            camera=Camera.from_dict(header["camera"]),
            metadata=header["metadata"],
        )
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source} is not an X-ray image of this program, or is damaged: {error}.") from error


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Where the sidecar of an image file lies: `shot.png` has `shot.png.json`, `shot.nrrd` its own."""
    target = Path(path)
    return target if target.suffix.lower() == ".json" else target.with_name(target.name + ".json")


def sidecar(image: XRayImage, content: dict[str, Any], shown: DisplaySettings | None = None) -> dict[str, Any]:
    """All about `image` but its pixels, ready for JSON; `content` says what the file beside it holds.

    `shown` is how a picture is shown, None where the file has the exposure's own pixels.
    """
    camera = image.camera
    mirror = _pixel_from_shown(camera, shown)
    return {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "content": content,
        "unattenuated_signal": list(image.unattenuated_signal),
        "channels": len(image.channels),
        "material_names": list(image.material_names),
        "projection_pixel_from_ras": (mirror[np.ix_([0, 1, 3], [0, 1, 3])] @ camera.projection).tolist(),
        "ras_from_pixel": (camera.ras_from_pixel @ mirror).tolist(),
        "pixel_pitch_mm": list(camera.pixel_pitch_mm),
        "camera": camera.to_dict(),
        "metadata": image.metadata,
    }


def _pixel_from_shown(camera: Camera, shown: DisplaySettings | None) -> npt.NDArray[np.float64]:
    """The matrix (4, 4) from pixels of the picture (u, v, 0, 1) to those of the exposure, and its own inverse."""
    mirror = np.eye(4)
    for axis, size, flipped in (
        (0, camera.width, shown is not None and shown.flip_horizontal),
        (1, camera.height, shown is not None and shown.flip_vertical),
    ):
        if flipped:
            mirror[axis, axis], mirror[axis, 3] = -1.0, size - 1.0
    return mirror


def _picture_content(settings: DisplaySettings, bits: int) -> dict[str, Any]:
    """What turns the grey values of a picture back into physical ones."""
    assert isinstance(settings.window, tuple)
    center, width = settings.window
    darkens = grows_dark(settings)
    return {
        "holds": "log" if settings.log else "transmission",
        "dtype": f"uint{bits}",
        "window_center": center,
        "window_width": width,
        "value_at_black": center + width / 2 if darkens else center - width / 2,
        "value_at_white": center - width / 2 if darkens else center + width / 2,
        "display": as_json_values(
            {
                **asdict(settings),
                "collimator": settings.collimator
                and {"shape": type(settings.collimator).__name__, **asdict(settings.collimator)},
            }
        ),
    }


def _stored_content(settings: DisplaySettings) -> dict[str, Any]:
    """The same for a DICOM object, whose greys from black to white are not those of the window; 0 is no value."""
    from .dicom.writing import value_scale

    slope, intercept = value_scale(settings)
    return _picture_content(settings, 16) | {
        "value_at_black": intercept,
        "value_at_white": intercept + slope * 65535,
    }


def _write_npz(image: XRayImage, path: Path) -> None:
    header = json.dumps(sidecar(image, {}), allow_nan=False).encode()
    planes = {name: getattr(image, name) for name in _PLANES if getattr(image, name) is not None}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, header=np.frombuffer(header, np.uint8), **planes)


def _write_png(grey: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], path: Path, content: dict[str, Any]) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    for key in ("holds", "window_center", "window_width", "value_at_black", "value_at_white"):
        text.add_text(f"DeepDRR {key}", str(content[key]))
    Image.fromarray(grey).save(path, pnginfo=text)


def _write_dcm(image: XRayImage, settings: DisplaySettings, path: Path) -> None:
    from .dicom.writing import write_dicom

    write_dicom(image, settings, path)


def _write_tiff(planes: npt.NDArray[np.float32], camera: Camera, path: Path, content: dict[str, Any]) -> None:
    from PIL import Image

    pages = [Image.fromarray(plane) for plane in planes]
    # TIFF counts pixels per centimetre; the pitch is the detector's own.
    pitch_u, pitch_v = camera.pixel_pitch_mm
    pages[0].save(
        path,
        save_all=True,
        append_images=pages[1:],
        description=json.dumps(content),
        resolution_unit="cm",
        x_resolution=10 / pitch_u,
        y_resolution=10 / pitch_v,
    )


def _write_nrrd(planes: npt.NDArray[np.float32], camera: Camera, path: Path, content: dict[str, Any]) -> None:
    """A volume one pixel thick with voxels where the detector's pixels are; planes become components."""
    import SimpleITK as sitk

    affine = check_affine(camera.ras_from_pixel, "The detector's ras_from_pixel")
    lps_from_pixel = _LPS_FROM_RAS @ affine[:3]
    spacing_mm = np.linalg.norm(lps_from_pixel[:, :3], axis=0)
    if len(planes) == 1:
        volume = sitk.GetImageFromArray(planes[0][None])
    else:
        volume = sitk.GetImageFromArray(np.moveaxis(planes, 0, -1)[None], isVector=True)
    volume.SetSpacing(spacing_mm.tolist())
    volume.SetDirection((lps_from_pixel[:, :3] / spacing_mm).ravel().tolist())
    volume.SetOrigin(lps_from_pixel[:, 3].tolist())
    volume.SetMetaData("DeepDRR content", json.dumps(content))
    try:
        sitk.WriteImage(volume, str(path), useCompression=True)
    except RuntimeError as error:  # what SimpleITK makes of a full disk
        raise OSError(f"The image cannot be written to {path.parent}: is the disk full, or write-protected?") from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
