"""What a network keeps between calls: pairs of inputs and outputs that the user names."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import stateful
from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.frontend import load
from tapc.frontend.verify import onnx_runner
from tapc.graph.state import State, states


def steps(run, x: np.ndarray, size: int, initial: float = 0.0) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Run a network whose state is the last `size` inputs and outputs, step by step."""
    state, found = np.full((1, size), initial, np.float32), []
    for row in x:
        y = run(np.concatenate([row.reshape(1, -1), state], axis=1)).reshape(1, -1)
        state = y[:, -size:]
        found.append(y[0])
    return np.array(found)


@pytest.mark.parametrize("lead", [(1,), (1, 1), (2, 1), (2, 1, 3)])
def test_a_state_may_have_its_batch_anywhere_and_stands_last(lead: tuple[int, ...], tmp_path: Path) -> None:
    loaded = load(stateful.cell(tmp_path / "cell.onnx", lead=lead), state=["h_in=h_out"])
    assert [port.name for port in loaded.inputs] == ["x", "h_in"]
    assert [port.name for port in loaded.outputs] == ["y", "h_out"]
    assert loaded.states == (State("h_in", "h_out"),)
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5
    size = int(np.prod(lead)) * 8
    x = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    assert loaded.run is not None
    np.testing.assert_allclose(steps(onnx_runner(loaded.onnx), x, size), steps(loaded.run, x, size), atol=1e-5)


def test_both_sides_of_a_state_lie_alike(tmp_path: Path) -> None:
    loaded = load(stateful.window(tmp_path / "w.onnx"), state={"past": "past_out"})
    before, after = loaded.inputs[-1], loaded.outputs[-1]
    assert before.shape == after.shape
    assert before.loops == after.loops


def test_delays_keep_their_order(tmp_path: Path) -> None:
    loaded = load(stateful.delays(tmp_path / "d.onnx"), state=["a=a_out", "b=b_out"])
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    y = steps(onnx_runner(loaded.onnx), x, 8)
    np.testing.assert_array_equal(y[2:, :4], x[:-2])


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (["h=h_out"], UsageError, "no input 'h'; it has 'h_in', 'x'"),
        (["h_in=out"], UsageError, "no output 'out'; it has 'h_out', 'y'"),
        (["h_in"], UsageError, "INPUT=OUTPUT"),
        (["h_in=h_out", "x=h_out"], UsageError, "'h_out' is in two pairs"),
        (["h_in=y"], UnsupportedError, r"state 'h_in' has shape \(1, 8\), and 'y', which it is to become, \(1, 3\)"),
        (["h_in=h_out", "x=y"], UnsupportedError, "every input of the network is a state"),
    ],
)
def test_what_is_no_state_is_told(given: list[str], error: type[Exception], text: str, tmp_path: Path) -> None:
    path = stateful.cell(tmp_path / "cell.onnx")
    with pytest.raises(error, match=text):
        load(path, state=given)


def test_sources_that_say_it_themselves_take_no_pairs() -> None:
    with pytest.raises(UsageError, match="the zoo model resnet8 keeps nothing"):
        load("resnet8", state=["a=b"])


def test_a_module_that_returns_its_state() -> None:
    import torch

    class Cell(torch.nn.Module):
        input_shape = ((1, 5), (1, 4))

        def __init__(self) -> None:
            super().__init__()
            self.cell = torch.nn.Linear(9, 4)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, h: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
            new = torch.tanh(self.cell(torch.cat([h, x], 1)))
            return {"kept": new, "y": self.head(new)}

    module = Cell()
    module.input_shape = ((1, 4), (1, 5))
    loaded = load(module, state={"h": "kept"})
    assert [port.name for port in loaded.inputs] == ["x", "h"]
    assert loaded.source_error is not None
    x, h = torch.randn(1, 5), torch.randn(1, 4)
    expected = module(h, x)
    assert loaded.run is not None
    found = loaded.run(np.concatenate([x, h], axis=1))
    np.testing.assert_allclose(found[:, :2], expected["y"].detach(), atol=1e-5)
    np.testing.assert_allclose(found[:, 2:], expected["kept"].detach(), atol=1e-5)


@pytest.mark.parametrize("dynamo", [False, True])
def test_the_state_of_a_module_may_have_any_shape(dynamo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Cell(torch.nn.Module):
        input_shape = ((1, 5), (2, 1, 3))

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(8, 3), torch.nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a = torch.tanh(self.first(torch.cat([x, h[0]], 1)))
            b = torch.tanh(self.second(torch.cat([a, h[1]], 1)))
            return b * 2, torch.stack([a, b])

    if dynamo:
        export = torch.onnx.export

        def only_new(*arguments, dynamo: bool, **options):  # type: ignore[no-untyped-def]
            if not dynamo:
                raise RuntimeError("the other exporter")
            return export(*arguments, dynamo=True, **options)

        monkeypatch.setattr(torch.onnx, "export", only_new)
    module = Cell()
    loaded = load(module, state={"h": "output_1"})
    assert loaded.states == (State("h", "output_1"),)
    assert loaded.outputs[-1].source == (2, 1, 3)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    found, h = steps(onnx_runner(loaded.onnx), x, 6), torch.zeros(2, 1, 3)
    for row, y in zip(x, found, strict=True):
        expected, h = module(torch.from_numpy(row[None]), h)
        np.testing.assert_allclose(y[:3], expected.detach()[0], atol=1e-5)


def test_damaged_metadata_are_told(tmp_path: Path) -> None:
    model = load(stateful.cell(tmp_path / "cell.onnx"), state=["h_in=h_out"]).onnx
    for text in ("[", "[1]", "[]", '[{"input": "x", "output": "h_out", "initial": [0]}]'):
        onnx.helper.set_model_props(model, {"tapc.states": text})
        with pytest.raises(DataError, match=r"metadata tapc\.states of the graph are damaged"):
            states(model)


def test_a_float_tflite_file_goes_on_as_in_its_own_runtime(tmp_path: Path) -> None:
    tflite_variables = pytest.importorskip("tflite_variables")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    initial = np.array([[1.0, -2.0, 0.5, 3.0]], np.float32)
    blob = tflite_variables.averaging(initial)
    (tmp_path / "mean.tflite").write_bytes(blob)
    loaded = load(tmp_path / "mean.tflite")
    assert loaded.states == (State("mean", "mean.next", (1.0, -2.0, 0.5, 3.0)),)
    assert "checked against LiteRT" in loaded.provenance
    interpreter = Interpreter(model_content=blob, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    run, state = onnx_runner(loaded.onnx), initial
    for step in x[:, None]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], step)
        interpreter.invoke()
        expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        y = run(np.concatenate([step, state], axis=1)).reshape(1, -1)
        np.testing.assert_allclose(y[:, :3], expected, atol=1e-5)
        state = y[:, 3:]
