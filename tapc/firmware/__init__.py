"""Firmware: C library folder -> images for the board and for its simulated twin."""

from tapc.firmware.build import FirmwareImages, build_firmware
from tapc.firmware.memory import MemoryUse, memory_of
from tapc.firmware.toolchain import RegionOverflowError

__all__ = ["FirmwareImages", "MemoryUse", "RegionOverflowError", "build_firmware", "memory_of"]
