"""The Monte Carlo on an emulated GPU: the machine, and what is simulated on it."""

from __future__ import annotations

import ctypes
import math
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from emulated_gpu import emulation
from shapes import centred_affine
from test_scatter import slab

from DeepDRRLogic.carm import CArm
from DeepDRRLogic.phantom import phantom
from DeepDRRLogic.projector.cuda.check import trusted_gpu
from DeepDRRLogic.scatter import running
from DeepDRRLogic.scatter.montecarlo import CancelledError, simulate
from DeepDRRLogic.volume import MaterialVolume


@contextmanager
def a_machine_with_a_gpu():
    """Where "auto" is the GPU, and the CPU does not take over unasked."""

    def refuse(error):
        raise AssertionError(f"the GPU did not do it: {error}")

    with emulation(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pycuda", None)
        patch.setitem(sys.modules, "pycuda.driver", None)
        patch.setattr(running, "_warn", refuse)
        trusted_gpu.cache_clear()
        yield trusted_gpu()
    trusted_gpu.cache_clear()


def run_of(monkeypatch, *args, **settings):
    """The run that `simulate` would carry out."""
    runs = []

    def keep(run, *others):
        runs.append(run)
        return []

    with monkeypatch.context() as patch, pytest.raises(CancelledError):
        patch.setattr("DeepDRRLogic.scatter.montecarlo.carry_out", keep)
        simulate(*args, **settings)
    return runs[0]


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def an_oblique_slab():
    turn = np.array([[math.cos(0.4), -math.sin(0.4), 0], [math.sin(0.4), math.cos(0.4), 0], [0, 0, 1.0]])
    volume = slab(12, 30, bone=True)
    density = volume.density_g_cm3 * np.linspace(0.3, 1.5, 30, dtype=np.float32)
    affine = centred_affine(volume.shape, (10.0,) * 3, (20, 10, 850), turn)
    return MaterialVolume(density, volume.labels, volume.materials, affine)


def a_patient():
    torso = phantom(spacing_mm=5.0)
    volume = MaterialVolume.from_ct(torso.ct, torso.labels)
    arm = CArm(isocenter_ras_mm=tuple(volume.center_ras), width=310, height=240, pixel_pitch_mm=1.2)
    return volume, arm.with_angles(20, 10).camera()
