"""An NVIDIA GPU, by its driver or PyCUDA: contexts, memory, textures, and kernels of PTX files.

What is computed there belongs to others, the projector and the Monte Carlo, each with its kernels in a folder `cuda`.
Nothing here imports PyCUDA before a GPU is asked for.
"""

from __future__ import annotations
