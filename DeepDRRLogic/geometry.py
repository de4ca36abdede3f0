"""Frames and cameras: how millimetres in the patient become pixels of the picture.

World coordinates are RAS (x to the patient's right, y to the front, z to the head) in millimetres. A matrix
called `a_from_b` maps coordinates of frame b to frame a. Voxel and pixel centres lie at integers: a picture
of W×H pixels covers [-0.5, W-0.5] × [-0.5, H-0.5]; u counts columns, v counts rows downwards. The page
Resources/Documentation/geometry.md shows all of it in one figure. Affine matrices in general: affine.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from .affine import FloatArray, apply, as_floats, check_rigid, inverse_rigid
from .checks import check_kind

_logger = logging.getLogger(__name__)

# A projection matrix says where a point appears but not how far away the detector stands.
_ASSUMED_SOURCE_TO_DETECTOR_MM = 1000.0
_SINGULAR = 1e-9


@dataclass(frozen=True, eq=False)
class Camera:
    """A point source and a flat detector: the pinhole model of one X-ray exposure.

    `intrinsics` is K (3, 3), upper triangular, in pixels, K[2, 2] = 1. A negative fx = K[0, 0] means that the
    picture is read from the detector's side, by a viewer who faces the tube; see `is_mirrored`.
    `camera_from_ras` (4, 4) is a right-handed rigid motion, in mm: its origin is the source, z points from
    the source to the detector. `width` and `height` count pixels; `source_to_detector_mm` is taken along z.
    Raises ValueError for anything that is no such camera. Arrays are kept as read-only float64.
    Model: Hartley and Zisserman, Multiple View Geometry, 2nd ed. 2004, chapter 6.
    """

    intrinsics: FloatArray
    camera_from_ras: FloatArray
    width: int
    height: int
    source_to_detector_mm: float

    def __post_init__(self) -> None:
        intrinsics = _check_intrinsics(self.intrinsics)
        camera_from_ras = check_rigid(self.camera_from_ras, "camera_from_ras")
        for array in (intrinsics, camera_from_ras):
            array.setflags(write=False)
        values = {
            "intrinsics": intrinsics,
            "camera_from_ras": camera_from_ras,
            "width": check_pixel_count(self.width, "width"),
            "height": check_pixel_count(self.height, "height"),
            "source_to_detector_mm": _check_distance(self.source_to_detector_mm),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_projection(
        cls,
        projection: npt.ArrayLike,
        width: int,
        height: int,
        source_to_detector_mm: float | None = None,
        *,
        in_front_ras: npt.ArrayLike | None = None,
    ) -> Camera:
        """The camera of a (3, 4) projection matrix that maps RAS mm to pixels, at whatever scale.

        P and -P give every point the same pixel but look into opposite directions. The sign given is taken to
        make depth positive towards the detector, as `projection` does; where it may be arbitrary, as after a
        least-squares calibration, name a point `in_front_ras` (3,) of the patient, in mm, to settle it.
        Without `source_to_detector_mm` 1000 mm is assumed, with a warning: pixels do not depend on it, pixel
        pitch and the place of the detector do. fy is positive; fx is negative for a mirrored picture; skew is
        kept. Raises ValueError where P is not finite, singular, or a parallel projection.
        RQ decomposition, source in closed form: Hartley and Zisserman 2004, sections 6.2.2 to 6.2.4.
        """
        P = as_floats(projection, (3, 4), "projection")
        scale = float(np.linalg.norm(P[2, :3]))
        if scale == 0.0:
            raise ValueError(
                f"The third row of the projection matrix is {P[2].tolist()}: a parallel projection, "
                "which has no X-ray source. Give the matrix of a central projection."
            )
        P = P / scale
        if in_front_ras is not None:
            P = P * _sign_of_depth(P, as_floats(in_front_ras, (3,), "in_front_ras"))
        if source_to_detector_mm is None:
            source_to_detector_mm = _ASSUMED_SOURCE_TO_DETECTOR_MM
            _logger.warning("No source_to_detector_mm given with the projection matrix: assuming 1000 mm.")
        intrinsics, rotation = _decompose(P[:, :3])
        camera_from_ras = np.eye(4)
        camera_from_ras[:3, :3] = rotation
        camera_from_ras[:3, 3] = rotation @ np.linalg.solve(P[:, :3], P[:, 3])
        return cls(intrinsics, camera_from_ras, width, height, source_to_detector_mm)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Camera:
        """The camera that `to_dict` wrote; raises ValueError naming a key that is missing or not known."""
        check_kind("values", values, Mapping, "camera.to_dict()")
        names = list(cls.__dataclass_fields__)
        missing = [name for name in names if name not in values]
        unknown = [name for name in values if name not in names]
        if missing or unknown:
            raise ValueError(f"Not a camera: missing {missing}, unknown {unknown}. A camera has {names}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for JSON; `from_dict` restores the camera exactly."""
        return {
            "intrinsics": self.intrinsics.tolist(),
            "camera_from_ras": self.camera_from_ras.tolist(),
            "width": self.width,
            "height": self.height,
            "source_to_detector_mm": self.source_to_detector_mm,
        }

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Camera) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        arrays = (*self.intrinsics.ravel().tolist(), *self.camera_from_ras.ravel().tolist())
        return (*arrays, self.width, self.height, self.source_to_detector_mm)

    @property
    def projection(self) -> FloatArray:
        """P = K [R|t], shape (3, 4): RAS mm to (u·depth, v·depth, depth), depth in mm from the source."""
        return self.intrinsics @ self.camera_from_ras[:3]

    @property
    def ras_from_camera(self) -> FloatArray:
        """The inverse of `camera_from_ras`, shape (4, 4)."""
        return inverse_rigid(self.camera_from_ras)

    @property
    def source_ras(self) -> FloatArray:
        """The focal spot, shape (3,), RAS mm."""
        return self.ras_from_camera[:3, 3]

    @property
    def principal_axis_ras(self) -> FloatArray:
        """Unit normal of the detector, from the source to the detector, shape (3,)."""
        return self.camera_from_ras[2, :3].copy()

    @property
    def ras_from_pixel(self) -> FloatArray:
        """(u, v, w, 1) to RAS mm, shape (4, 4): the `ras_from_ijk` of the picture where the detector stands.

        Columns: the step of one pixel in u, of one pixel in v, the unit normal from source to detector (w in
        mm), and the centre of pixel (0, 0). Left-handed for a mirrored picture: pixels stay where they are.
        """
        camera_from_pixel = np.zeros((4, 4))
        camera_from_pixel[:3, [0, 1, 3]] = self.source_to_detector_mm * np.linalg.inv(self.intrinsics)
        camera_from_pixel[2, 2] = 1.0
        camera_from_pixel[3, 3] = 1.0
        return self.ras_from_camera @ camera_from_pixel

    @property
    def pixel_pitch_mm(self) -> tuple[float, float]:
        """Distance of neighbouring pixel centres on the detector in u and v, source_to_detector_mm / |f|."""
        steps = self.source_to_detector_mm * np.linalg.inv(self.intrinsics)[:, :2]
        pitch_u, pitch_v = np.linalg.norm(steps, axis=0).tolist()
        return pitch_u, pitch_v

    @property
    def pixel_area_mm2(self) -> float:
        """The area of a pixel on the detector."""
        pitch_u, pitch_v = self.pixel_pitch_mm
        return pitch_u * pitch_v

    @property
    def detector_center_ras(self) -> FloatArray:
        """The middle of the W×H detector, shape (3,), RAS mm; not the principal point where it is shifted."""
        return apply(self.ras_from_pixel, [(self.width - 1) / 2, (self.height - 1) / 2, 0.0])

    @property
    def is_mirrored(self) -> bool:
        """Whether the picture is read from the detector's side, facing the tube, not from the source."""
        return bool(self.intrinsics[0, 0] * self.intrinsics[1, 1] < 0)

    def project(self, points_ras: npt.ArrayLike) -> FloatArray:
        """Pixels (u, v), shape (..., 2), of points (..., 3) in RAS mm; NaN at and behind the source.

        Points whose X-ray misses the detector get the pixel they would have on a larger one.
        """
        points = as_floats(points_ras, (..., 3), "points_ras")
        P = self.projection
        homogeneous = points @ P[:, :3].T + P[:, 3]
        depth_mm = homogeneous[..., 2:]
        return np.divide(
            homogeneous[..., :2], depth_mm, out=np.full((*points.shape[:-1], 2), np.nan), where=depth_mm > 0
        )

    def rays(self, pixels: npt.ArrayLike | None = None) -> FloatArray:
        """Unit directions (..., 3) in RAS from the source through pixels (..., 2).

        Without an argument, of all pixels: shape (height, width, 3).
        """
        if pixels is None:
            v, u = np.mgrid[: self.height, : self.width].astype(np.float64)
            uv = np.stack((u, v), axis=-1)
        else:
            uv = as_floats(pixels, (..., 2), "pixels")
        ras_from_homogeneous = self.camera_from_ras[:3, :3].T @ np.linalg.inv(self.intrinsics)
        directions = uv @ ras_from_homogeneous[:, :2].T + ras_from_homogeneous[:, 2]
        unit: FloatArray = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        return unit

    def moved(self, ras_from_ras: npt.ArrayLike) -> Camera:
        """The camera carried along by a rigid motion (4, 4) of RAS: a point moved alike keeps its pixel."""
        motion = check_rigid(ras_from_ras, "ras_from_ras")
        camera_from_ras = self.camera_from_ras @ inverse_rigid(motion)
        return Camera(self.intrinsics, camera_from_ras, self.width, self.height, self.source_to_detector_mm)

    def resampled(self, width: int, height: int) -> Camera:
        """The same detector with other pixels: outer edges stay where they are, so pixel centres move."""
        scale_u = check_pixel_count(width, "width") / self.width
        scale_v = check_pixel_count(height, "height") / self.height
        new_from_old = np.array(
            [[scale_u, 0.0, (scale_u - 1.0) / 2], [0.0, scale_v, (scale_v - 1.0) / 2], [0.0, 0.0, 1.0]]
        )
        intrinsics = new_from_old @ self.intrinsics
        return Camera(intrinsics, self.camera_from_ras, width, height, self.source_to_detector_mm)


def _decompose(M: FloatArray) -> tuple[FloatArray, FloatArray]:
    """K (3, 3) and R (3, 3) with M = K R, the third row of M being a unit vector.

    The rows are taken from below: the last is the optical axis, what the second adds is y, and x = y × z
    keeps the frame right-handed. So the handedness of M ends up where it belongs, in the sign of fx.
    """
    conditioned = M / np.maximum(np.linalg.norm(M, axis=1, keepdims=True), np.finfo(float).tiny)
    if abs(np.linalg.det(conditioned)) < _SINGULAR:
        raise ValueError(
            f"The left 3×3 part of the projection matrix is singular: {M.tolist()}. It must map RAS mm to "
            "pixels of a plane the source does not lie in; check rows, columns and their order."
        )
    z = M[2]
    cy = M[1] @ z
    y = M[1] - cy * z
    fy = np.linalg.norm(y)
    y = y / fy
    # A second pass removes what cancellation left of z in y when cy is much larger than fy.
    y = y - (y @ z) * z
    y = y / np.linalg.norm(y)
    x = np.cross(y, z)
    K = np.array([[M[0] @ x, M[0] @ y, M[0] @ z], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return K, np.stack((x, y, z))


def _sign_of_depth(P: FloatArray, point_ras: FloatArray) -> float:
    depth_mm = float(P[2, :3] @ point_ras + P[2, 3])
    if depth_mm == 0.0:
        raise ValueError(
            f"in_front_ras {point_ras.tolist()} lies beside the source: it cannot tell front from back. "
            "Give a point of the patient, such as the centre of the CT."
        )
    return float(np.sign(depth_mm))


def _check_intrinsics(intrinsics: npt.ArrayLike) -> FloatArray:
    K = as_floats(intrinsics, (3, 3), "intrinsics")
    if np.any(np.tril(K, -1) != 0.0) or K[2, 2] != 1.0:
        raise ValueError(
            f"intrinsics must be upper triangular with 1 in the corner, not {K.tolist()}: "
            "divide by K[2, 2], or use Camera.from_projection for a general matrix."
        )
    if K[0, 0] == 0.0 or K[1, 1] == 0.0:
        raise ValueError(
            f"The focal lengths are {K[0, 0]} and {K[1, 1]} pixels and must not be zero: "
            "give source_to_detector_mm / pixel pitch."
        )
    return K


def check_pixel_count(count: float, name: str) -> int:
    """The count as int; ValueError unless it is a whole number of pixels, at least 1."""
    if isinstance(count, bool) or not isinstance(count, Real) or count % 1 != 0 or count < 1:
        raise ValueError(f"{name} is {count!r}: give a whole number of pixels, at least 1.")
    return int(count)


def _check_distance(source_to_detector_mm: float) -> float:
    if not (isinstance(source_to_detector_mm, Real) and 0.0 < source_to_detector_mm < np.inf):
        raise ValueError(
            f"source_to_detector_mm is {source_to_detector_mm!r}: give a positive distance in mm; "
            "the detector cannot stand at or behind the source."
        )
    return float(source_to_detector_mm)
