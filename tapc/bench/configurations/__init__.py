"""tapc-bench: mixed-precision configurations of networks, measured, and shipped as tables."""

from tapc.bench.configurations.table import BenchTable, Provenance, Row, load_table, save_table, table_names
from tapc.flow.losses.facts import LayerFacts

__all__ = ["BenchTable", "LayerFacts", "Provenance", "Row", "load_table", "save_table", "table_names"]
