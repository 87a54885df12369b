"""Networks are told apart by what they compute, whatever their files are called."""

from pathlib import Path

import onnx
from onnx import numpy_helper

from graph_builder import residual
from tapc.bench.configurations import table_names
from tapc.flow.losses import loss_names
from tapc.flow.losses.identities import identities
from tapc.flow.losses.table import SEARCHED
from tapc.frontend import load
from tapc.frontend.identity import network_digest


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network with other names for everything."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    new: dict[str, str] = {}

    def other(name: str) -> str:
        return new.setdefault(name, f"t{len(new)}") if name else ""

    for item in (*copy.graph.initializer, *copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        item.name = other(item.name)
    for node in copy.graph.node:
        node.name = f"n.{node.name}"
        for names in (node.input, node.output):
            names[:] = [other(name) for name in names]
    copy.graph.name = "another"
    return copy


def test_a_digest_knows_no_names_but_every_weight_and_wire() -> None:
    model = residual(0).onnx
    found = network_digest(model)
    assert network_digest(renamed(model)) == found
    changed = renamed(model)
    last = changed.graph.initializer[-1]
    array = numpy_helper.to_array(last).copy()
    array.flat[-1] += 1
    last.CopyFrom(numpy_helper.from_array(array, last.name))
    rewired = renamed(model)
    add = next(node for node in rewired.graph.node if node.op_type == "Add")
    add.input[1] = add.input[0]
    other = renamed(model)
    next(node for node in other.graph.node if node.op_type == "Conv").attribute[0].i += 1
    digests = {found, *map(network_digest, (changed, rewired, other, residual(1).onnx))}
    assert len(digests) == 5


def test_the_networks_that_come_with_tapc_have_digests() -> None:
    assert {*table_names(), *loss_names(), *loss_names(SEARCHED)} <= set(identities())
    assert len(set(identities().values())) == len(identities())


def test_a_copy_of_a_file_is_the_same_network(shared_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another.tflite"
    copy.write_bytes((shared_data / "mlperf-tiny" / "kws_ref_model_float32.tflite").read_bytes())
    assert network_digest(load(str(copy), keep=False).onnx) == identities()["dscnn"]
