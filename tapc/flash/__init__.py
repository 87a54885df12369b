"""Flashing: what each tool is called with, and what its failure means."""

from tapc.flash.plan import Call, Copy, plan
from tapc.flash.program import program

__all__ = ["Call", "Copy", "plan", "program"]
