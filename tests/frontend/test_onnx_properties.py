"""Random geometry and random chains of folds, against onnxruntime on the graph as it was written."""

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from frontend.canonical_form import assert_canonical, build, operators, run
from tapc.frontend.canonical import canonicalize

RNG = np.random.default_rng(3)


def rand(*shape: int) -> Any:
    return RNG.normal(0, 0.7, shape).astype(np.float32)


def node(op: str, inputs: list[str], output: str, **attrs: Any) -> Any:
    return helper.make_node(op, inputs, [output], **attrs)


BN = {"g": rand(4), "b": rand(4), "m": rand(4), "v": np.abs(rand(4)) + 0.3}


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    mode=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    op=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
)
def test_auto_pad(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], mode: str, op: str) -> None:
    assume(all(s <= k for s, k in zip(stride, kernel, strict=True)))  # onnxruntime refuses gaps with SAME
    attrs: dict[str, Any] = {"strides": stride, "auto_pad": mode, "kernel_shape": kernel}
    inputs, constants = (["x", "w"], {"w": rand(2, 2, *kernel)}) if op == "Conv" else (["x"], {})
    model = build([node(op, inputs, "y", **attrs)], (1, 2, *size), "y", constants)
    canonical = canonicalize(model)
    assert_canonical(canonical)
    x = np.random.default_rng(0).normal(size=(1, 2, *size)).astype(np.float32)
    np.testing.assert_allclose(run(canonical, x), run(model, x), rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["Add", "Sub", "Mul", "Div", "RSub", "BatchNormalization", "Relu"]), max_size=6),
    seed=st.integers(0, 1000),
)
def test_chains_of_affine_operations(steps: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, constants, value = [node("Conv", ["x", "w"], "v")], {"w": rand(4, 3, 1, 1), **BN}, "v"
    for index, step in enumerate(steps):
        output = f"v{index}"
        constants[f"k{index}"] = rng.uniform(0.5, 2, (4, 1, 1)).astype(np.float32)
        if step == "Relu":
            nodes.append(node("Relu", [value], output))
        elif step == "BatchNormalization":
            nodes.append(node(step, [value, "g", "b", "m", "v_"], output))
        elif step == "RSub":
            nodes.append(node("Sub", [f"k{index}", value], output))
        else:
            nodes.append(node(step, [value, f"k{index}"], output))
        value = output
    constants["v_"] = constants.pop("v")
    model = build(nodes, (1, 3, 4, 5), value, constants)
    canonical = canonicalize(model)
    assert_canonical(canonical)
    assert set(operators(canonical)) <= {"Conv", "Relu"}
    x = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(canonical, x), run(model, x), rtol=1e-3, atol=1e-4)
