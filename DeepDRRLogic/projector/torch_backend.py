"""The projector in plain torch, for any torch device, and differentiable with respect to the pose of the camera.

Rays are followed as on the GPU and the CPU: slice by slice along the axis of the volume that they follow most closely,
each slice standing for the part of the ray that is nearest to it (Joseph 1982).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.checkpoint import checkpoint

from ..gpu.errors import DeviceError, DeviceMemoryError
from .cuda.texels import box_of_matter
from .devices import torch_device

if TYPE_CHECKING:
    from ..geometry import Camera
    from ..volume import MaterialVolume

Result = TypeVar("Result")

CM_PER_MM = 0.1

STEEP = 0.35
"""Slope from which a slice is sampled twice."""

ONE_SAMPLE = (0.0,)
TWO_SAMPLES = (-(6.0**-0.5), 6.0**-0.5)
"""Where: the standard deviation of linear interpolation, which makes the rule exact to third order for oblique rays."""

SAMPLES_AT_A_TIME = 2**22
"""Bounds the memory of a projection to some 100 bytes times this."""


class TorchProjector:
    """Projects one material volume with torch; the protocol of projector.Projector, and `moved` for gradients.

    `device` is a torch device such as "cuda", "mps" or "cpu", by default the GPU that torch finds, else the CPU. The
    volume takes 4 bytes per voxel and material there. Raises DeviceMemoryError where the memory does not suffice,
    DeviceError where the device fails.
    """

    def __init__(self, volume: MaterialVolume, device: str | None = None) -> None:
        self.device = torch.device(device or _device_or_cpu())
        self.materials = volume.materials
        self.center_ras = np.asarray(volume.center_ras, np.float64)
        box = box_of_matter(volume)
        density, labels = volume.density_g_cm3[box], volume.labels[box]
        self._require_memory(4 * density.size * len(self.materials))
        shift = np.eye(4)
        shift[:3, 3] = [part.start for part in reversed(box)]
        self._ijk_from_ras = np.linalg.inv(np.asarray(volume.ras_from_ijk, np.float64) @ shift)
        self._size = labels.shape[::-1]
        self._strides = 1, self._size[0], self._size[0] * self._size[1]

        def partial_densities() -> torch.Tensor:
            """(voxels, n_materials): what one sample reads lies together."""
            out = torch.empty((density.size, len(self.materials)), dtype=torch.float32, device=self.device)
            for m in range(len(self.materials)):
                out[:, m] = torch.from_numpy(np.where(labels == m, density, np.float32(0.0)).ravel()).to(self.device)
            return out

        self._partial = self._on_device(partial_densities)

    def project(self, camera: Camera) -> npt.NDArray[np.float32]:
        """Area densities (n_materials, height, width), float32, in g/cm²."""

        def run() -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(self.area_densities(*self.rays(camera)).cpu(), np.float32)

        return self._on_device(run)

    def moved(self, camera: Camera, motion: torch.Tensor) -> torch.Tensor:
        """Area densities (n_materials, height, width) of a camera in motion, differentiable with respect to `motion`.

        `motion` (6,), on the device: a rotation vector in radians about the volume's centre, then a translation in mm,
        both in RAS; it moves source and detector together. Registration of a volume to an X-ray, whose line integrals
        are `target`, is a descent from where the camera is thought to be:

            motion = torch.zeros(6, requires_grad=True)
            optimizer = torch.optim.LBFGS([motion], line_search_fn="strong_wolfe")
            mu = torch.tensor([m.mass_attenuation_cm2_g(60.0).item() for m in projector.materials])
            def loss():
                optimizer.zero_grad()
                value = (torch.tensordot(mu, projector.moved(camera, motion), 1) - target).square().mean()
                value.backward()
                return value
            optimizer.step(loss)

        `rigid_motion(motion, projector.center_ras)` is the matrix for `camera.moved`.
        """
        source, pixels = self.rays(camera, motion.dtype)
        turn, shift = _rigid(motion, self._tensor(self.center_ras, motion.dtype))
        return self.area_densities(_turned(source, turn) + shift, _turned(pixels, turn) + shift)

    def rays(self, camera: Camera, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        """Source (3,) and pixel centres (height, width, 3) of a camera in RAS mm, on the device."""
        v, u = np.mgrid[: camera.height, : camera.width]
        ones = np.ones(u.shape)
        pixels = np.stack([u, v, 0 * ones, ones], axis=-1) @ camera.ras_from_pixel[:3].T
        return self._tensor(camera.source_ras, dtype), self._tensor(pixels, dtype)

    def area_densities(self, source_ras: torch.Tensor, pixels_ras: torch.Tensor) -> torch.Tensor:
        """Area densities (n_materials, ...) in g/cm² along the rays from a source (3,) to pixels (..., 3), RAS mm.

        Differentiable with respect to both. Memory is bounded: rays are marched in chunks, and in the backward pass
        each chunk is marched again. A training step's autocast does not reach it: it would round where the rays are.
        """
        with torch.autocast(self.device.type, enabled=False):
            return self._area_densities(source_ras, pixels_ras)

    def _area_densities(self, source_ras: torch.Tensor, pixels_ras: torch.Tensor) -> torch.Tensor:
        rotation, shift = (
            self._tensor(part, source_ras.dtype) for part in (self._ijk_from_ras[:3, :3], self._ijk_from_ras[:3, 3])
        )
        flat = pixels_ras.reshape(-1, 3)
        source = _turned(source_ras, rotation) + shift
        rays = _turned(flat - source_ras, rotation)
        lengths_cm = CM_PER_MM * torch.linalg.vector_norm(flat - source_ras, dim=1)
        # Which axis a ray follows, and whether it is steep, is a matter of sampling: it has no derivative.
        slopes = rays.detach().abs()
        axes = slopes.argmax(dim=1)
        steep = (torch.sort(slopes, dim=1).values[:, 1] / slopes.amax(dim=1).clamp_min(1e-12)) > STEEP
        order, pieces = [], []
        for axis in range(3):
            for oblique in (False, True):
                chosen = torch.nonzero((axes == axis) & (steep == oblique)).squeeze(1)
                step = max(1, SAMPLES_AT_A_TIME // (self._size[axis] * (2 if oblique else 1)))
                for part in torch.split(chosen, step) if len(chosen) else ():
                    order.append(part)
                    pieces.append(checkpoint(self._march, source, rays[part], axis, oblique, use_reentrant=False))
        marched = torch.cat(pieces, dim=1)[:, torch.argsort(torch.cat(order))]
        return (marched * lengths_cm).reshape(len(self.materials), *pixels_ras.shape[:-1])

    def _march(self, source: torch.Tensor, rays: torch.Tensor, axis: int, oblique: bool) -> torch.Tensor:
        """∫ρ dt over t in [0, 1] along source + t·ray in voxels, (n_materials, n_rays)."""
        slices = torch.arange(self._size[axis], dtype=rays.dtype, device=self.device)
        t0, t1 = self._clip(source, rays)
        along = rays[:, axis : axis + 1]
        faces = (slices[None, :, None] + slices.new_tensor([-0.5, 0.5]) - source[axis]) / along[:, :, None]
        faces = faces.clamp(t0[:, None, None], t1[:, None, None])
        low, high = faces.amin(dim=2), faces.amax(dim=2)
        part = high - low
        offsets = TWO_SAMPLES if oblique else ONE_SAMPLE
        total = torch.zeros(len(self.materials), len(rays), dtype=rays.dtype, device=self.device)
        for offset in offsets:
            t = 0.5 * (low + high) + offset * part
            total = total + self._sampled(source, rays, t, axis, part) / len(offsets)
        return total

    def _clip(self, source: torch.Tensor, rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The part t0…t1 of each ray, within [0, 1], that lies in the volume's extent; t1 = t0 where there is none."""
        # A ray along a face of voxels never crosses it: a step of 1e-9 voxels crosses it far away.
        safe = torch.where(rays.abs() < 1e-9, torch.full_like(rays, 1e-9), rays)
        size = rays.new_tensor([float(n) for n in self._size])
        first, second = (-0.5 - source) / safe, (size - 0.5 - source) / safe
        t0 = torch.minimum(first, second).amax(dim=1).clamp(0.0, 1.0)
        t1 = torch.maximum(first, second).amin(dim=1).clamp(0.0, 1.0)
        return t0, torch.maximum(t0, t1)

    def _sampled(
        self,
        source: torch.Tensor,
        rays: torch.Tensor,
        t: torch.Tensor,
        axis: int,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Partial densities at parameter t (n_rays, n_slices), interpolated within every slice, times a weight.

        Summed over the slices, (n_materials, n_rays). By plain indexing, which every device has, and its gradient too:
        the grid_sample of volumes came late to Apple's GPUs.
        """
        index = first_voxels(self._size[axis], self._strides[axis], self.device)
        ways = []
        for other in {0, 1, 2} - {axis}:
            last, stride = self._size[other] - 1, self._strides[other]
            place = (source[other] + t * rays[:, other : other + 1]).clamp(0.0, float(last))
            low = place.detach().floor().clamp_max(max(last - 1.0, 0.0))
            index = index + low.long() * stride
            ways.append(((0, 1.0 - (place - low)), (stride if last else 0, place - low)))
        total = torch.zeros(len(self.materials), len(rays), dtype=rays.dtype, device=self.device)
        for (step, share), (other_step, other_share) in itertools.product(*ways):
            found = self._partial.index_select(0, (index + (step + other_step)).ravel())
            found = found.to(rays.dtype).reshape(*index.shape, -1)
            total = total + torch.einsum("rs,rsm->mr", share * other_share * weight, found)
        return total

    def _tensor(self, values: npt.NDArray[np.floating[Any]], dtype: torch.dtype) -> torch.Tensor:
        """On the device; in its type already here, for not every device knows float64."""
        there = torch.from_numpy(np.array(values, np.float64 if dtype == torch.float64 else np.float32))
        return there.to(self.device, dtype)

    def _require_memory(self, needed: int) -> None:
        if self.device.type == "cuda":
            free, _ = self._on_device(lambda: torch.cuda.mem_get_info(self.device))
            if needed > free:
                self._on_device(torch.cuda.empty_cache)
                free, _ = self._on_device(lambda: torch.cuda.mem_get_info(self.device))
            if needed > free:
                raise DeviceMemoryError(
                    f"the volume needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
                    "volume.downsampled(2) needs an eighth"
                )

    def _on_device(self, work: Callable[[], Result]) -> Result:
        """work(), its errors of memory and device as DeviceError."""
        try:
            return work()
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(f"torch is out of memory ({error})") from error
        except RuntimeError as error:
            if self.device.type == "cpu":
                raise
            raise DeviceError(f"torch gave up ({error})") from error


def rigid_motion(motion: torch.Tensor, center_ras: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The matrix (4, 4) of a motion as TorchProjector.moved takes it, for Camera.moved."""
    matrix = np.eye(4)
    values = motion.detach().cpu().double()
    turn, shift = _rigid(values, torch.as_tensor(np.asarray(center_ras, np.float64)))
    matrix[:3, :3], matrix[:3, 3] = turn.numpy(), shift.numpy()
    return matrix


def _rigid(motion: torch.Tensor, center: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation (3, 3) and translation (3,) of x ↦ R·(x − center) + center + translation."""
    x, y, z = motion[:3]
    nothing = torch.zeros_like(x)
    turning = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing]).reshape(3, 3)
    # Not every device has it, and to all it is less than a kernel's launch.
    turn = torch.linalg.matrix_exp(turning.cpu()).to(motion.device)
    return turn, center + motion[3:] - _turned(center, turn)


def _turned(points: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Points (..., 3) by a matrix (3, 3); a matrix product may be rounded, by autocast or to TensorFloat-32."""
    return (points[..., None, :] * rotation).sum(-1)


def first_voxels(slices: int, stride: int, device: torch.device) -> torch.Tensor:
    """Where each slice begins among all voxels, in whole numbers: float32 knows them up to 2^24 only."""
    return torch.arange(slices, device=device) * stride


def _device_or_cpu() -> str:
    try:
        return torch_device()
    except DeviceError:
        return "cpu"
