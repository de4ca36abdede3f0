"""A limb to train on, and a network that is quick to train; tests that need PyTorch are skipped without it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from DeepDRRLogic.segmentation.augmentation import AIR, BONE, SOFT  # noqa: E402
from DeepDRRLogic.segmentation.patches import make_case  # noqa: E402
from DeepDRRLogic.segmentation.vnet import Layout  # noqa: E402

torch.set_num_threads(1)  # the tests themselves run beside each other

LAYOUT = Layout(convolutions_down=(1, 1), convolutions_up=(1, 1))
SPACING_MM = (0.86, 0.86, 1.0)
SHAPE = (32, 36, 40)


def a_limb(shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Air around a cylinder of soft tissue with a bone of cortex and marrow in it: HU and labels, [k, j, i]."""
    _, j, i = np.indices(shape)
    radius = np.hypot(j - shape[1] // 2, i - shape[2] // 2)
    hu = np.select([radius < 4, radius < 7, radius < 15], [-20, 900, 40], -1000).astype(np.int16)
    labels = np.select([radius < 7, radius < 15], [BONE, SOFT], AIR).astype(np.uint8)
    return hu, labels


@functools.cache
def the_case():
    """The limb as a case, all of which is known."""
    hu, labels = a_limb()
    return make_case("limb", "someone", hu, labels, np.ones_like(labels), SPACING_MM)


def noisy_limb(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A larger limb with noise, whose ends are of unknown truth: HU, labels and weights, [k, j, i]."""
    hu, labels = a_limb((40, 48, 44))
    noisy = hu + np.random.default_rng(seed).normal(0, 20, hu.shape)
    weight = np.ones(hu.shape, np.uint8)
    weight[:3] = weight[-3:] = 0
    return np.rint(noisy).clip(-1024, 3071).astype(np.int16), labels, weight


def noisy_case(number: int, name: str = "", patient: str = ""):
    """A noisy limb as a case, called case_0, case_1 and so on of patient 0, patient 1 and so on."""
    return make_case(name or f"case_{number}", patient or f"patient {number}", *noisy_limb(number), SPACING_MM)
