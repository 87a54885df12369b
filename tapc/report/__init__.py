"""Reports: what was compiled, what it costs and where every number comes from."""

from tapc.report.compilation import Compilation, Measured
from tapc.report.make import make_report
from tapc.report.schema import SCHEMA, LayerReport, Report
from tapc.report.table import print_report

__all__ = [
    "SCHEMA",
    "Compilation",
    "LayerReport",
    "Measured",
    "Report",
    "make_report",
    "print_report",
]
