"""The projector for NVIDIA GPUs, by their driver or PyCUDA: kernels.cu, shipped as kernels.ptx, and what launches it.

Nothing here imports PyCUDA before a GPU is asked for.
"""

from __future__ import annotations
