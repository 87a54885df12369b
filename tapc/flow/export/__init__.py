"""Builds as packages for other people's projects, one folder for each ecosystem."""

from tapc.flow.export.formats import FORMATS
from tapc.flow.export.write import Exported, export, stale

__all__ = ["FORMATS", "Exported", "export", "stale"]
