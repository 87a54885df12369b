"""What Keras 3 writes beside its layers: choices of negative tokens, and the states of random generators."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from frontend.tflite_builder import TfliteBuilder, litert
from frontend.tflite_loops import LoopBuilder
from tapc.base.errors import UnsupportedError
from tapc.frontend import load
from tflite_variables import VariablesBuilder

ROWS, TOKENS, BOOL, INT32 = 9, 5, 6, 2


def embedding(added: int = ROWS, limit: int = 0) -> bytes:
    """Return a layer over rows of a table, read by `t + added if t < limit else t`."""
    b = LoopBuilder(1, TOKENS)
    b.graph.tensors[b.input].type = INT32
    below = b.whole("LESS", [b.input, b.number(limit)], 1, TOKENS, of=BOOL)
    wrapped = b.whole("ADD", [b.input, b.number(added)], 1, TOKENS, table="AddOptions")
    chosen = b.whole("SELECT", [below, wrapped, b.input], 1, TOKENS)
    rows = b.operator("GATHER", [b.weights(ROWS, 4), chosen], (1, TOKENS, 4), "GatherOptions")
    return b.finish(b.product(b.reshape(rows, 1, 4 * TOKENS), 3))


def test_tokens_choose_rows(tmp_path: Path) -> None:
    blob = embedding()
    (tmp_path / "net.tflite").write_bytes(blob)
    loaded = load(tmp_path / "net.tflite")
    assert "checked against LiteRT" in loaded.provenance
    (port,) = loaded.inputs
    assert port.tokens == ROWS
    session = ort.InferenceSession(loaded.onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    for first in range(ROWS):
        x = ((first + np.arange(TOKENS)) % ROWS).astype(np.int32)[None]
        (found,) = session.run(None, {port.name: x.reshape(port.shape).astype(np.int64)})
        np.testing.assert_allclose(found.reshape(-1), litert(blob, x).reshape(-1), atol=1e-5)


@pytest.mark.parametrize(("added", "limit"), [(ROWS - 1, 0), (ROWS, 1)])
def test_other_choices_are_refused(added: int, limit: int, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(embedding(added, limit))
    with pytest.raises(UnsupportedError, match="operator LESS is not supported"):
        load(tmp_path / "net.tflite")


@pytest.mark.parametrize("read", [False, True])
def test_variables_that_nothing_depends_on_are_left_out(read: bool, tmp_path: Path) -> None:
    """A generator's seed changes with each call, and one variable with another."""
    b = VariablesBuilder(TfliteBuilder(1, 4))
    net = b.net
    seed, other = (b.variable(name, np.zeros((1, 4), np.float32)) for name in ("seed", "other"))
    before = b.read(seed)
    later = net.operator("ADD", [before, b.read(other)], (1, 4), "AddOptions")
    b.assign(seed, later)
    b.assign(other, net.operator("ADD", [b.read(seed), net.input], (1, 4), "AddOptions"))
    operands = [net.input, later if read else net.weights(1, 4)]
    (tmp_path / "net.tflite").write_bytes(b.finish(net.operator("MUL", operands, (1, 4), "MulOptions")))
    loaded = load(tmp_path / "net.tflite")
    assert [state.input for state in loaded.states] == (["seed", "other"] if read else [])
    assert "checked against LiteRT" in loaded.provenance
