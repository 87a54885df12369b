"""Sample data: from files or arrays to a network's inputs, with labels, units and what is doubtful about them."""

from tapc.data.find import DATA_SETS, SHIPPED, find_data, shipped_note
from tapc.data.load import CALIBRATION_LIMIT, load_samples
from tapc.data.samples import Samples, Split, in_order, overlap, random_samples
from tapc.data.units import PixelUnits

__all__ = [
    "CALIBRATION_LIMIT",
    "DATA_SETS",
    "SHIPPED",
    "PixelUnits",
    "Samples",
    "Split",
    "find_data",
    "in_order",
    "load_samples",
    "overlap",
    "random_samples",
    "shipped_note",
]
