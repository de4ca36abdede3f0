"""After training: bone as large as it is in patients.

Simulated contrast medium makes soft tissue with the CT numbers of bone far more common in training than in patients, so
that a network that learnt it well draws bone too small where it is not sure. One number, added to bone's logits, mends
that. On CTs that were trained on a network is surer than on others: they would ask for too small a number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .augmentation import BONE

_EDGES = np.linspace(-2.0, 2.0, 33)


class BoneBias:
    """Finds what has to be added to the logits of bone for the best mean Dice of bone over CTs."""

    def __init__(self) -> None:
        self._dice: list[npt.NDArray[np.float64]] = []

    def add(self, probabilities: npt.NDArray[np.float16], bone: npt.NDArray[np.bool_]) -> None:
        """One CT: probabilities (3, n) of its voxels, and which of them are bone; ValueError where none is."""
        if not bone.any():
            raise ValueError("A CT without bone says nothing about how large bone is: leave it out.")
        chances = np.maximum(probabilities.astype(np.float32), 1e-7)
        which = np.searchsorted(_EDGES, np.log(chances[BONE] / chances[:BONE].max(0)))
        soft, true = (np.bincount(which[bone == truth], minlength=len(_EDGES) + 1) for truth in (False, True))
        extra, found = (counts.sum() - counts.cumsum()[:-1] for counts in (soft, true))  # beyond each edge
        self._dice.append(2.0 * found / (found + extra + true.sum()))

    @property
    def value(self) -> float:
        """The number, a multiple of 0.125 from -2 to 2, of equals the nearest to 0; ValueError before any CT.

        What leads by more than minus that is bone.
        """
        if not self._dice:
            raise ValueError("No CT to calibrate on: name at least one.")
        mean = np.mean(self._dice, axis=0)
        return -float(min(_EDGES[mean >= mean.max() - 1e-9], key=abs))
