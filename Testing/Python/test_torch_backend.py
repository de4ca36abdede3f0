"""The torch backend where it does more than the others: gradients with respect to the pose, and registration."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from shapes import centred_affine, view, volume_of
from test_projector import LEFT_HANDED, low_pass

from DeepDRRLogic.gpu.errors import DeviceError, DeviceMemoryError
from DeepDRRLogic.projector import make_projector

torch = pytest.importorskip("torch", reason="torch is not installed")
torch_backend = pytest.importorskip("DeepDRRLogic.projector.torch_backend")
TorchProjector, rigid_motion = torch_backend.TorchProjector, torch_backend.rigid_motion

SMALL = {"size": (10, 8), "pitch": 4.0}


@functools.cache
def smooth_volume():
    """Matter that ends softly within its volume, so that the integrals have derivatives."""
    shape = (22, 24, 26)
    rng = np.random.default_rng(5)
    k, j, i = np.indices(shape)
    distance = np.sqrt(((k - 10.5) / 9) ** 2 + ((j - 11.5) / 10) ** 2 + ((i - 12.5) / 11) ** 2)
    density = np.clip(1 - distance, 0, 1) * (1 + 0.4 * low_pass(rng.normal(size=shape), passes=4))
    labels = np.digitize(low_pass(rng.normal(size=shape), passes=4), (-0.2, 0.3))
    return volume_of(density, labels, centred_affine(shape, (2.0, 1.7, 1.9), (12.0, -7.0, 30.0), LEFT_HANDED))


def a_camera(**settings):
    return view(25, -15, isocenter=(12.0, -7.0, 30.0), **(SMALL | settings))


@pytest.mark.parametrize("component", range(6))
def test_derivatives_by_the_pose_add_up_to_what_the_pose_changes(component):
    projector, camera = TorchProjector(smooth_volume(), "cpu"), a_camera()
    v, u = np.indices((8, 10))
    weights = torch.from_numpy(np.stack([u - 4.5, v - 3.5, u + v - 8.0]))
    # Linear interpolation has a kink at every voxel: over a degree or a millimetre they even out.
    steps = (np.arange(-20, 21) / 20) * (0.01 if component < 3 else 0.5)
    values, slopes = [], []
    for step in steps:
        motion = torch.tensor([0.02, -0.01, 0.03, 0.4, -0.3, 0.2], dtype=torch.float64)
        motion[component] += step
        motion.requires_grad_()
        value = (weights * projector.moved(camera, motion)).sum()
        value.backward()
        values.append(value.item())
        slopes.append(motion.grad[component].item())
    assert np.trapezoid(slopes, steps) == pytest.approx(values[-1] - values[0], rel=0.03)


def test_voxels_of_large_volumes_are_found_in_whole_numbers():
    stride = 401 * 403
    found = torch_backend.first_voxels(600, stride, torch.device("cpu"))
    np.testing.assert_array_equal(found.numpy(), np.arange(600, dtype=np.int64) * stride)


def test_the_autocast_of_a_training_step_does_not_move_the_rays():
    projector, camera = TorchProjector(smooth_volume(), "cpu"), a_camera()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = projector.moved(camera, torch.zeros(6))
    np.testing.assert_array_equal(rounded.numpy(), projector.moved(camera, torch.zeros(6)).numpy())


def test_between_kinks_the_derivative_is_exact():
    projector, camera = TorchProjector(smooth_volume(), "cpu"), a_camera(size=(5, 4), pitch=6.0)
    at = torch.tensor([0.021, -0.013, 0.033, 0.41, -0.33, 0.27], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda motion: projector.moved(camera, motion), at, eps=1e-7, atol=1e-4)


def test_a_moved_camera_sees_what_the_motion_says():
    projector, camera = TorchProjector(smooth_volume(), "cpu"), a_camera()
    motion = torch.tensor([0.2, -0.3, 0.1, 5.0, -4.0, 3.0])
    moved = camera.moved(rigid_motion(motion, projector.center_ras))
    with torch.inference_mode():
        assert np.allclose(projector.moved(camera, motion).numpy(), projector.project(moved), atol=1e-4)
        assert np.allclose(projector.moved(camera, torch.zeros(6)).numpy(), projector.project(camera), atol=1e-5)


def test_a_camera_that_lost_its_way_finds_back_by_the_documented_lines():
    projector, camera = TorchProjector(smooth_volume(), "cpu"), a_camera(size=(20, 16), pitch=3.0)
    away = np.array([0.05, -0.04, 0.06, 3.0, -2.0, 2.5])
    mu = torch.tensor([m.mass_attenuation_cm2_g(60.0).item() for m in projector.materials])
    target = torch.tensordot(mu, torch.from_numpy(projector.project(camera)), 1)
    start = camera.moved(rigid_motion(torch.from_numpy(away), projector.center_ras))

    motion = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.LBFGS([motion], line_search_fn="strong_wolfe", max_iter=60, tolerance_change=1e-12)

    def loss():
        optimizer.zero_grad()
        value = (torch.tensordot(mu, projector.moved(start, motion), 1) - target).square().mean()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(loss)
    assert loss().item() < 1e-3 * before
    found = rigid_motion(motion, projector.center_ras) @ rigid_motion(torch.from_numpy(away), projector.center_ras)
    assert np.degrees(np.arccos(np.clip((np.trace(found[:3, :3]) - 1) / 2, -1, 1))) < 0.5
    # Along the beam one view sees little: only the shift across it is asked for.
    shift = found[:3, :3] @ projector.center_ras + found[:3, 3] - projector.center_ras
    assert np.abs(camera.camera_from_ras[:2, :3] @ shift).max() < 0.2


def test_chunks_change_nothing_but_the_memory(monkeypatch):
    projector, camera = TorchProjector(smooth_volume(), "cpu"), a_camera()
    whole = projector.project(camera)
    most = []
    march = TorchProjector._march

    def counted(self, source, rays, axis, oblique):
        most.append(len(rays) * self._size[axis] * (2 if oblique else 1))
        return march(self, source, rays, axis, oblique)

    monkeypatch.setattr(TorchProjector, "_march", counted)
    monkeypatch.setattr(torch_backend, "SAMPLES_AT_A_TIME", 500)
    assert np.allclose(projector.project(camera), whole, rtol=1e-6, atol=1e-6)
    assert len(most) > 5 and max(most) <= 500


def test_asked_for_torch_works_on_the_cpu_as_well():
    camera = a_camera()
    projector = make_projector(smooth_volume(), "torch")
    assert projector.device == "torch"
    cpu = make_projector(smooth_volume(), "cpu").project(camera)
    assert np.linalg.norm(projector.project(camera) - cpu) < 0.02 * np.linalg.norm(cpu)


def test_errors_of_a_torch_device_are_ours(monkeypatch):
    projector = TorchProjector(smooth_volume(), "cpu")

    def out_of_memory(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(*arguments):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(projector, "area_densities", out_of_memory)
    with pytest.raises(DeviceMemoryError, match="out of memory"):
        projector.project(a_camera())
    monkeypatch.setattr(projector, "area_densities", broken)
    monkeypatch.setattr(projector, "device", torch.device("meta"))
    with pytest.raises(DeviceError, match="launch failure"):
        projector._on_device(broken)


def test_a_gpu_with_too_little_memory_is_refused_before_it_is_filled(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    with pytest.raises(DeviceMemoryError, match=r"GB are free.*downsampled"):
        TorchProjector(smooth_volume(), "cuda")


def test_a_device_without_float64_and_without_grid_sample_is_enough():
    """Apple's GPUs have no float64 at all, and came late to sampling volumes and its gradient."""
    from torch.utils._python_dispatch import TorchDispatchMode

    called = set()

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            called.add(str(function))
            for one in out if isinstance(out, (tuple, list)) else (out,):
                assert not (isinstance(one, torch.Tensor) and one.dtype == torch.float64), function
            return out

    camera = a_camera()
    with Watching():
        projector = TorchProjector(smooth_volume(), "cpu")
        projector.project(camera)
        motion = torch.zeros(6, requires_grad=True)
        projector.moved(camera, motion).sum().backward()
    assert motion.grad.dtype == torch.float32 and motion.grad.abs().min() > 0
    assert any("index_select" in name for name in called) and not any("grid_sample" in name for name in called)
