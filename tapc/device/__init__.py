"""Devices: run firmware and measure it."""

from tapc.device.choose import device_for, missing, obstacle
from tapc.device.interface import Device, DeviceRun, Images, LoadedImage, Progress, Timing

__all__ = ["Device", "DeviceRun", "Images", "LoadedImage", "Progress", "Timing", "device_for", "missing", "obstacle"]
