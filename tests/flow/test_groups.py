"""Channel granularity: groups of output channels get bits of their own under the budgets, and the device is exact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import tapc
from graph_builder import Builder, Model
from tapc.allocate.groups import ChannelLosses
from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.base.options import Options
from tapc.flow.decide import Evidence
from tapc.flow.groups import divisions, in_groups
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.graph.network import Layer, Network
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.quantize import calibrate
from tapc.quantize.runtime import Float

OPTIONS = Options(target_bits=3, granularity="channel", calibration=32, eval=2)


def uneven() -> Model:
    """Return two layers of whose 16 channels the network's output hears every fourth, and one in between."""
    b = Builder((1, 3, 8, 8))
    y = b.node("Relu", [b.conv("x", "one", 3, 16)], "one.relu")
    y = b.node("Relu", [b.conv(y, "dw", 16, 16, groups=16)], "dw.relu")
    y = b.node("Relu", [b.conv(y, "two", 16, 16)], "two.relu")
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    model = b.build(b.gemm(y, "fc", 16, 5))
    for tensor in model.onnx.graph.initializer:
        if tensor.name in ("two.weight", "fc.weight"):
            value = onnx.numpy_helper.to_array(tensor).copy()
            value[:, np.arange(16) % 4 > 0] *= 0.02
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return model


def draw(count: int = 40) -> Float:
    return np.random.default_rng(0).normal(0, 1, (count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("groups") / "net.onnx"
    onnx.save(uneven().onnx, path)
    return path


@pytest.fixture(scope="module")
def result(network: Path) -> tapc.Result:
    return tapc.compile(network, board="nrf52840dk", data=draw(), output=network.parent / "build", options=OPTIONS)


def evidence(network: Path, options: Options) -> Evidence:
    model, x = load(str(network)), draw()
    return Evidence(model, analyse(model.onnx, "net"), calibrate(model, x, seed=0), x, options)


def test_groups_are_exact_on_the_device_within_the_budget(result: tapc.Result) -> None:
    report = result.report
    assert report.exact
    assert report.average_weight_bits <= 3
    assert report.channel_groups
    layers = {layer.name: layer for layer in report.layers}
    for name, groups in report.channel_groups.items():
        assert name in ("one", "two")
        assert sum(channels for _, channels in groups) == 16
        assert [bits for bits, _ in groups] == sorted({bits for bits, _ in groups}, reverse=True)
        assert [layers[f"{name}_part{index}"].w_bits for index in range(len(groups))] == [bits for bits, _ in groups]


def test_channels_that_are_heard_get_the_bits(result: tapc.Result, network: Path) -> None:
    """The output hears every fourth channel of `one`: these are in its wide group, told by their weights."""
    groups = result.report.channel_groups["one"]
    given = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(network).graph.initializer}["one.weight"]
    wide = result.quantized.layers["one_part0"].weights.dequantized()
    heard = given[::4].reshape(4, -1)
    unit = heard / np.linalg.norm(heard, axis=1, keepdims=True)
    found = wide.reshape(len(wide), -1) / np.linalg.norm(wide.reshape(len(wide), -1), axis=1, keepdims=True)
    assert groups[0][1] < 16
    assert (unit @ found.T).max(axis=1).min() > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"wbits": (4,)}, "--wbits 2,4,8"), ({"allocator": "proxy"}, "leave out --allocator proxy")],
)
def test_options_that_leave_nothing_to_divide(network: Path, changes: dict[str, object], message: str) -> None:
    options = replace(OPTIONS, **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        in_groups(evidence(network, options), load_board("nrf52840dk"), load_target("cortex-m4"), options)


def test_a_network_of_fixed_orders_is_refused(tmp_path: Path) -> None:
    b = Builder((1, 3, 8, 8))
    y = b.node("Relu", [b.conv("x", "small", 3, 4)], "relu")
    onnx.save(b.build(b.conv(b.conv(y, "dw", 4, 4, groups=4), "last", 4, 16)).onnx, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedError, match="no layer of net can be divided"):
        in_groups(evidence(tmp_path / "net.onnx", OPTIONS), load_board("nrf52840dk"), load_target("cortex-m4"), OPTIONS)


def test_layers_whose_bits_are_given_stay_whole(network: Path, tmp_path: Path) -> None:
    (tmp_path / "bits.toml").write_text("[weights]\ntwo = 2\n", encoding="utf-8")
    options = replace(OPTIONS, overrides=tmp_path / "bits.toml", pin_first=True)
    with pytest.raises(UnsupportedError, match="not pinned or overridden"):
        in_groups(evidence(network, options), load_board("nrf52840dk"), load_target("cortex-m4"), options)


def test_where_all_bits_fit_nothing_is_divided(network: Path) -> None:
    options = replace(OPTIONS, target_bits=None)
    given = evidence(network, options)
    found = in_groups(given, load_board("nrf52840dk"), load_target("cortex-m4"), options)
    assert found.evidence is given
    assert "nothing to add" in found.warnings[0]


def test_a_proxy_may_score_channels_itself(network: Path, tmp_path: Path) -> None:
    """Sixteen channels of `one` and `two` are there; the classifier's five are not, and it is refused for them."""
    code = (
        "def score(layers):\n    return [x['macs'] for x in layers]\n\n\ndef score_channels(layers):\n    return {}\n"
    )
    board, target = load_board("nrf52840dk"), load_target("cortex-m4")
    own = "[[float(i < 4) for i in range(int(x['out_channels']))] for x in layers]"
    for returned in (own, own.replace("int(x['out_channels'])", "16")):
        (tmp_path / "mine.py").write_text(code.format(returned), encoding="utf-8")
        options = replace(OPTIONS, proxy=str(tmp_path / "mine.py"), rounding="nearest")
        if returned == own:
            found = in_groups(evidence(network, options), board, target, options)
            assert found.groups or "pay" in found.warnings[0]
        else:
            with pytest.raises(DataError, match="score_channels gave layer 'fc'"):
                in_groups(evidence(network, options), board, target, options)


def test_where_code_counts_layers_of_one_shape_may_have_halves_that_share_kernels() -> None:
    shapes = {"one": (16, 3, 1, 1), "two": (16, 16, 1, 1), "three": (16, 16, 1, 1), "fc": (5, 16)}
    layers = tuple(Layer(name, "conv", shape, 64, 0, 0, depth) for depth, (name, shape) in enumerate(shapes.items()))
    losses = {
        layer.name: ChannelLosses(
            {bits: np.geomspace(1, 0.01, layer.weight_shape[0]) / bits**2 for bits in (2, 4, 8)},
            layer.parameters // layer.weight_shape[0],
            0 if layer.name == "fc" else 4,
        )
        for layer in layers
    }
    network = Network("net", layers, ())
    free, dear = (list(divisions(network, losses, 3.0, code)) for code in ({}, dict.fromkeys(shapes, 1e4)))
    assert [joining for _, joining in free] == [True, True]
    halves, joining = dear[-1]
    assert not joining
    assert {name: tuple(size for _, size in parts) for name, parts in halves.items()} == {
        "one": (16,), "two": (8, 8), "three": (8, 8), "fc": (5,)
    }  # fmt: skip
    assert max(len(parts) for sizes, joining in dear if joining for parts in sizes.values()) == 1
