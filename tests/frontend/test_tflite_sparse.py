"""Sparse weights: what LiteRT makes of them, in rows and in blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frontend.tflite_builder import TfliteBuilder, schema
from tapc.frontend import load


def vector(values: Any) -> Any:
    found = schema.Int32VectorT()
    found.values = [int(value) for value in values]
    return found


def level(size: int = 0, segments: Any = None, indices: Any = None) -> Any:
    meta = schema.DimensionMetadataT()
    if segments is None:
        meta.format, meta.denseSize = schema.DimensionType.DENSE, size
        return meta
    meta.format = schema.DimensionType.SPARSE_CSR
    meta.arraySegmentsType = meta.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    meta.arraySegments, meta.arrayIndices = vector(segments), vector(indices)
    return meta


@pytest.mark.parametrize("blocks", [False, True])
def test_dense_layer(blocks: bool, tmp_path: Path) -> None:
    builder = TfliteBuilder(1, 8)
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (4, 8)).astype(np.float32)
    weights *= np.repeat(rng.random((4, 2)) < 0.5, 4, axis=1) if blocks else rng.random((4, 8)) < 0.4
    weights[0, 0] = 1.0
    sparsity = schema.SparsityParametersT()
    if blocks:  # 1 x 4
        parts = weights.reshape(4, 2, 4)
        rows, columns = np.nonzero(parts.any(axis=2))
        stored, sparsity.traversalOrder, sparsity.blockMap = parts[rows, columns].reshape(-1), [0, 1, 2], [1]
    else:
        rows, columns = np.nonzero(weights)
        stored, sparsity.traversalOrder, sparsity.blockMap = weights[rows, columns], [0, 1], []
    segments = [0, *np.cumsum(np.bincount(rows, minlength=4))]
    sparsity.dimMetadata = [level(4), level(0, segments, columns), *([level(4)] if blocks else [])]
    index = builder.constant(stored)
    builder.graph.tensors[index].shape, builder.graph.tensors[index].sparsity = [4, 8], sparsity
    dense = builder.operator("DENSIFY", [index], (4, 8), "DensifyOptions")
    output = builder.operator("FULLY_CONNECTED", [0, dense, -1], (1, 4), "FullyConnectedOptions")
    path = tmp_path / "net.tflite"
    path.write_bytes(builder.finish(output))
    loaded = load(path)
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5
    kernel = next(t for t in loaded.onnx.graph.initializer if t.name.endswith("weight"))
    np.testing.assert_array_equal(np.frombuffer(kernel.raw_data, np.float32).reshape(4, 8), weights)
