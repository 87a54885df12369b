"""Devices: run firmware and measure it."""

from tapc.device.qemu import DeviceRun, Progress, QemuRunner

__all__ = ["DeviceRun", "Progress", "QemuRunner"]
