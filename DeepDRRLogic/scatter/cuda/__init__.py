"""The Monte Carlo for NVIDIA GPUs: transport.cu, shipped as transport.ptx, and what launches it."""

from __future__ import annotations
