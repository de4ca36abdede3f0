"""Where the edges of a picture lead in the patient, in DICOM's letters. Knows no Slicer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from DeepDRRLogic.affine import patient_letters


class Edges(NamedTuple):
    """A word of one to three letters for each edge of a picture."""

    left: str
    right: str
    upper: str
    lower: str


def edges(patient_from_pixel: npt.ArrayLike) -> Edges:
    """The letters at the edges of a picture whose columns and rows lead as the first two columns of a matrix do.

    patient_from_pixel: (3, 3) or (4, 4), from u, v, … to RAS in the patient; a mirrored picture has a mirrored matrix.
    """
    right, down = np.asarray(patient_from_pixel, np.float64)[:3, :2].T
    return Edges(*(patient_letters(to) for to in (-right, right, -down, down)))
