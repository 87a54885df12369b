"""tapc-bench: mixed-precision configurations of networks, measured, and shipped as tables."""

from tapc.bench.configurations.table import BenchTable, LayerFacts, Provenance, Row, load_table, save_table, table_names

__all__ = ["BenchTable", "LayerFacts", "Provenance", "Row", "load_table", "save_table", "table_names"]
