"""CT from DICOM folders and files, legacy slices and enhanced multi-frame, with every check before pixels
are read."""

from .headers import Series
from .listing import list_series
from .series import read_dicom

__all__ = ["Series", "list_series", "read_dicom"]
