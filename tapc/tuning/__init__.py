"""Schedules of kernels, measured on the device."""
