"""Families of instruction sets, for which kernels are written."""

from typing import Literal

Isa = Literal["dsp", "mve", "scalar"]
"""The DSP extension of Armv7E-M, Helium of Armv8.1-M, and what every Cortex-M has."""
