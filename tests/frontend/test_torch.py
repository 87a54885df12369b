"""torch modules: `file.py:callable`, the zoo, and their errors."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frontend.canonical_form import assert_canonical, operators, run
from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.frontend import load
from tapc.frontend.torch_source import import_module
from tapc.zoo.resnet8 import ResNet8

SOURCE = """
import torch
from torch import nn

def pair():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6(), nn.Dropout(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, 5), nn.Softmax(-1)), (1, 3, 8, 8)

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))

def attributed():
    module = bare()
    module.input_shape = (3, 2, 2)
    return module

def bad_weights():
    module = nn.Linear(4, 2)
    module.weight.data[1, 2] = float("nan")
    return module, (1, 4)

class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
    def forward(self, x):
        return self.a(x) if x.sum() <= 0 else x.relu() * 3.0 + self.a(-x)

def branch():
    return Branch(), (1, 4)

class Two(nn.Module):
    def forward(self, x):
        return x.relu(), x

def two():
    return Two(), (1, 4)

class Both(nn.Module):
    def forward(self, x, depth):
        return {"sum": (x + depth).relu(), "product": x.flatten(1) * depth.flatten(1)}

def both():
    return Both(), ((1, 3, 4, 5), (3, 4, 5))

def wanting():
    return Both(), (1, 3, 4, 5)

class Odd(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 1)

def odd():
    return Odd(), (1, 4)

def raises():
    raise RuntimeError("no such checkpoint")

def number():
    return 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(SOURCE)
    return path


def test_module_with_shape(file: Path) -> None:
    loaded = load(f"{file}:pair")
    assert_canonical(loaded.onnx)
    assert operators(loaded.onnx) == ["Conv", "Clip", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
    assert (loaded.name, loaded.input_shape, loaded.output_shape) == ("pair", (1, 3, 8, 8), (1, 5))
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-6
    assert (loaded.pixel_scale, loaded.labels) == (1.0, None)


def test_same_seed_gives_the_same_bytes(file: Path) -> None:
    one, two, other = (load(f"{file}:pair", seed=seed).onnx.SerializeToString() for seed in (1, 1, 2))
    assert one == two != other


def test_shape_from_option_attribute_or_error(file: Path) -> None:
    assert load(f"{file}:bare", input_shape=(1, 3, 2, 2)).input_shape == (1, 3, 2, 2)
    assert load(f"{file}:attributed").input_shape == (1, 3, 2, 2)
    with pytest.raises(UsageError, match=r"input shape is unknown; return \(module, \(1, C, H, W\)\)"):
        load(f"{file}:bare")


@pytest.mark.parametrize(
    "module", [nn.Conv1d(6, 4, 3), nn.Sequential(nn.Conv1d(6, 4, 3, groups=2), nn.Flatten(), nn.Linear(72, 3))]
)
def test_signals_of_three_dimensions(module: nn.Module) -> None:
    """(1, C, T) is what 1-D layers take; where a module takes (1, 1, H, W), three numbers are C, H, W as ever."""
    loaded = load(module, input_shape=(1, 6, 20))
    assert loaded.inputs[0].size == 120
    x = np.random.default_rng(0).random((1, 6, 20), np.float32)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(x)).numpy()
    found = run(loaded.onnx, loaded.inputs[0].canonical(x))
    np.testing.assert_allclose(found, loaded.outputs[0].canonical(wanted).reshape(found.shape), atol=1e-5)
    assert load(nn.Conv2d(1, 2, 3), input_shape=(1, 6, 20)).input_shape == (1, 1, 6, 20)


def test_sequences_of_a_recurrent_layer() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(5, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last: torch.Tensor = self.gru(x)[0][:, -1]
            return last

    module = Last().eval()
    loaded = load(module, input_shape=(1, 7, 5))
    x = np.random.default_rng(0).random((1, 7, 5), np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    found = run(loaded.onnx, loaded.inputs[0].canonical(x))
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)


def test_nothing_is_written_beside_the_users_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load(f"{file}:pair")
    assert list(file.parent.iterdir()) == [file]
    assert not sys.dont_write_bytecode


def test_nothing_is_printed(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(f"{file}:pair")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("bad_weights", DataError, r"parameter 'weight' holds NaN"),
        ("branch", DataError, r"differs from its source"),
        ("wanting", UsageError, r"inputs \['x', 'depth'\] and 1 shape\(s\); give one for each"),
        ("odd", UnsupportedError, r"CumSum|cumsum"),
        ("raises", UsageError, r"raises failed: RuntimeError: no such checkpoint"),
        ("number", UsageError, r"returned int; it must return an nn.Module"),
        ("missing", UsageError, r"no callable 'missing'; it has: .*bare"),
    ],
)
def test_errors(file: Path, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(f"{file}:{name}")


def test_weights_file(file: Path, tmp_path: Path) -> None:
    state = {"1.weight": torch.arange(24, dtype=torch.float32).reshape(2, 12) / 10}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    x = np.random.default_rng(0).random((1, 3, 2, 2), np.float32)
    for name in ("w.safetensors", "w.pt"):
        loaded = load(f"{file}:attributed", weights=tmp_path / name)
        np.testing.assert_allclose(run(loaded.onnx, x), x.reshape(1, 12) @ state["1.weight"].numpy().T, rtol=1e-5)
    with pytest.raises(DataError, match="no such weights file"):
        load(f"{file}:attributed", weights=tmp_path / "none.pt")
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"missing weights \['1.weight'\], unexpected weights \['other'\]"):
        load(f"{file}:attributed", weights=tmp_path / "w.safetensors")


def test_missing_file() -> None:
    with pytest.raises(DataError, match=r"nowhere.py: no such file"):
        load("nowhere.py:net")


def trained_resnet8() -> nn.Module:
    """ResNet-8 with BatchNorm statistics that are far from the identity."""
    torch.manual_seed(4)
    module = ResNet8()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias, 0, 0.3)
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def test_zoo_network_with_given_weights(tmp_path: Path) -> None:
    module = trained_resnet8()
    state = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
    save_file(state, tmp_path / "r.safetensors")
    loaded = load("resnet8", weights=tmp_path / "r.safetensors")
    assert_canonical(loaded.onnx)
    assert (loaded.name, loaded.input_shape, loaded.output_shape) == ("resnet8", (1, 3, 32, 32), (1, 10))
    assert loaded.pixel_scale == 1 / 255
    assert loaded.labels is not None
    assert loaded.labels[3] == "cat"
    layers = [node.name for node in loaded.onnx.graph.node if node.op_type in ("Conv", "Gemm")]
    expected = [key.removesuffix(".weight") for key in state if key.endswith("weight") and state[key].ndim > 1]
    assert sorted(layers) == sorted(expected)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        y = module(x).numpy()
    np.testing.assert_allclose(run(loaded.onnx, x.numpy()), y, rtol=1e-4, atol=1e-5)


def test_both_exporters_give_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.export is the way out where the TorchScript exporter fails or is gone."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    original = torch.onnx.export

    def without_torchscript(*args: object, **options: object) -> object:
        if not options["dynamo"]:
            raise RuntimeError("gone")
        return original(*args, **options)

    from tapc.frontend.canonical import canonicalize

    first = canonicalize(import_module(module, (1, 3, 4, 4), "m", "test").graph)
    monkeypatch.setattr(torch.onnx, "export", without_torchscript)
    second = canonicalize(import_module(module, (1, 3, 4, 4), "m", "test").graph)
    assert operators(first) == operators(second)
    assert [n.name for n in first.graph.node if n.op_type == "Conv"] == ["0"]
    assert [n.name for n in second.graph.node if n.op_type == "Conv"] != [""]
    x = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    np.testing.assert_allclose(run(first, x), run(second, x), rtol=1e-4, atol=1e-6)


def test_several_inputs_and_outputs_have_the_names_of_the_module(file: Path) -> None:
    loaded = load(f"{file}:both")
    assert_canonical(loaded.onnx)
    assert [(port.name, port.shape) for port in loaded.inputs] == [("x", (1, 3, 4, 5)), ("depth", (1, 3, 4, 5))]
    assert [(port.name, port.shape) for port in loaded.outputs] == [("sum", (1, 3, 4, 5)), ("product", (1, 60))]
    assert loaded.source_error is not None
    assert [port.name for port in load(f"{file}:two").outputs] == ["output_0", "output_1"]
