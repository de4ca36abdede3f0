"""Phantoms as cases: labels that are exact, in the same sense as those of the CTs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from bodies import AIR_MAX_HU, body_mask
from grids import Mask, Scan
from scipy import ndimage

from DeepDRRLogic.phantom import phantom


def phantom_case(
    options: Mapping[str, Any],
) -> tuple[Scan, npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask, Mask]:
    """Scan, labels, weight, metal and body of a phantom; options as `phantom`'s, with `blur_mm` of the CT added.

    The phantom calls lung soft tissue; a CT's lung is air here, and so is the phantom's.
    """
    choice = dict(options)
    blur_mm, noise_hu = float(choice.pop("blur_mm", 0.0)), float(choice.pop("noise_hu", 0.0))
    made = phantom(**choice)
    hu = made.ct.hu.astype(np.float32)
    spacing = made.ct.spacing_mm
    labels = made.labels.labels.copy()
    labels[(labels == 1) & (hu < AIR_MAX_HU)] = 0
    if blur_mm > 0.0:
        hu = ndimage.gaussian_filter(hu, blur_mm / spacing[0])
    if noise_hu > 0.0:
        rng = np.random.default_rng([int(choice.get("seed", 0)), 17])
        grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), 0.5)
        hu += noise_hu / float(grain.std()) * grain
    r, a, s = (float(x) for x in made.ct.ras_from_ijk[:3, 3])
    scan = Scan(np.rint(np.clip(hu, -1024, 3071)).astype(np.int16), spacing, (r, a, s))
    plain = Scan(made.ct.hu, spacing, (r, a, s))
    return scan, labels, np.ones(hu.shape, np.uint8), np.zeros(hu.shape, np.bool_), body_mask(plain)
