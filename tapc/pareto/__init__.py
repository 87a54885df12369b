"""Accuracy against bytes, BOPs and measured latency."""

from tapc.pareto.page import write_pages
from tapc.pareto.run import SETTINGS, Front, Point, pareto

__all__ = ["SETTINGS", "Front", "Point", "pareto", "write_pages"]
