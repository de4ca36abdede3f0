"""The projector for NVIDIA GPUs, by their driver or PyCUDA: kernels.cu, shipped as kernels.ptx, and what launches it.

PTX is that file.
"""

from __future__ import annotations

from importlib import resources

PTX = resources.files(__package__).joinpath("kernels.ptx")
