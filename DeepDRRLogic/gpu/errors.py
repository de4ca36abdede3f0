"""Why a device is not used: the CPU does the work then."""

from __future__ import annotations


class DeviceError(RuntimeError):
    """A device that cannot be used, or no longer; the message says why. The CPU always can."""


class DeviceMemoryError(DeviceError):
    """The device has too little free memory; the message says how much is needed, before any is taken."""
