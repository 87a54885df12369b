import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tapc.base.errors import DataError, UsageError
from tapc.graph.network import Group, Layer, Network
from tapc.proxy import FunctionProxy, ProxyContext, get_proxy, normalize, proxy_names, register_proxy
from tapc.proxy.builtin.tap import activation_entropy

NAMES = ("stem", "body", "head")
NETWORK = Network(
    "net",
    tuple(Layer(name, "dense", (4, 3), 12, i, i + 1, i) for i, name in enumerate(NAMES)),
    tuple(Group((f"t{i}",), i in (0, 3)) for i in range(4)),
)


@pytest.fixture
def context():
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(0, 1 + i, (4, 3)).astype(np.float32) for i, name in enumerate(NAMES)}
    activations = {
        name: rng.laplace(0, 1, (20, 3, 8)).astype(np.float32) * (10.0 if i else 1) for i, name in enumerate(NAMES)
    }
    return ProxyContext(NETWORK, weights, activations)


def test_registry_lists_the_built_in_proxies():
    assert {"uniform", "tap", "error"} <= set(proxy_names())
    assert all(get_proxy(name).name == name and get_proxy(name).summary for name in proxy_names())


def test_unknown_proxy_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown proxy 'tapp'; known: .*tap"):
        get_proxy("tapp")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        register_proxy("tap", "again")(lambda context: {})


def test_uniform_is_one_everywhere(context):
    assert get_proxy("uniform").score(context) == dict.fromkeys(NAMES, 1.0)


def test_tap_follows_the_formula(context):
    raw = []
    for depth, name in enumerate(NAMES):
        samples = context.activations[name][:16].ravel().astype(np.float64)
        edges = np.linspace(samples.min(), samples.max(), 257)
        index = np.minimum(np.searchsorted(edges, samples, side="right") - 1, 255)
        entropy = scipy.stats.entropy(np.bincount(index, minlength=256), base=2)
        norm = math.sqrt(sum(float(w) ** 2 for w in context.weights[name].ravel()))
        raw.append(norm * entropy * math.exp(-depth / 3))
    scores = get_proxy("tap").score(context)
    assert [scores[name] for name in NAMES] == pytest.approx(np.array(raw) / np.mean(raw), rel=1e-6)


def test_tap_uses_sixteen_samples(context):
    changed = {name: values.copy() for name, values in context.activations.items()}
    changed["body"][16:] = 1e6
    assert get_proxy("tap").score(replace(context, activations=changed)) == get_proxy("tap").score(context)


def test_tap_needs_finite_samples(context):
    with pytest.raises(DataError, match=r"'body'.*calibration data"):
        get_proxy("tap").score(replace(context, activations={**context.activations, "body": np.zeros((0, 3))}))
    broken = np.full((2, 3), np.nan, np.float32)
    with pytest.raises(DataError, match=r"'head'.*NaN"):
        get_proxy("tap").score(replace(context, activations={**context.activations, "head": broken}))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=200), st.integers(1, 64))
def test_entropy_equals_scipy(values, bins):
    array = np.array(values, np.float32)
    counts = np.histogram(array.astype(np.float64), bins=bins)[0]
    assert activation_entropy(array, bins) == pytest.approx(scipy.stats.entropy(counts, base=2), abs=1e-9)


def test_entropy_extremes():
    assert activation_entropy(np.full(10, 3.0, np.float32)) == 0
    assert activation_entropy(np.arange(256, dtype=np.float32)) == pytest.approx(8)


def test_error_is_the_measured_error(context):
    measured = {"stem": 0.5, "body": 0.02, "head": 0.1}
    asked = []

    def output_error(name, bits):
        asked.append((name, bits))
        return measured[name]

    scores = get_proxy("error").score(replace(context, output_error=output_error))
    assert [scores[name] / scores["stem"] for name in NAMES] == pytest.approx([1, 0.04, 0.2])
    assert asked == [(name, 2) for name in NAMES]


def test_error_cannot_do_without_measurements(context):
    with pytest.raises(UsageError, match="calibration data"):
        get_proxy("error").score(context)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_scores_name_the_layer(context, bad):
    proxy = FunctionProxy("mine", "", lambda context: {"stem": 1.0, "body": bad, "head": 1.0})
    with pytest.raises(DataError, match=r"'mine' gave layer 'body' the score"):
        proxy.score(context)
    measured = replace(context, output_error=lambda name, bits: bad)
    with pytest.raises(DataError, match="'stem'"):
        get_proxy("error").score(measured)


def test_scores_must_be_complete_known_and_not_all_zero():
    with pytest.raises(DataError, match="layer 'head' no score"):
        normalize("mine", {"stem": 1.0, "body": 1.0}, NETWORK)
    with pytest.raises(DataError, match="'tail'"):
        normalize("mine", {**dict.fromkeys(NAMES, 1.0), "tail": 1.0}, NETWORK)
    with pytest.raises(DataError, match="every layer the score 0"):
        normalize("mine", dict.fromkeys(NAMES, 0.0), NETWORK)


@given(st.lists(st.floats(0, 1e308), min_size=3, max_size=3).filter(any))
def test_normalized_scores_have_mean_one(values):
    scores = normalize("mine", dict(zip(NAMES, values, strict=True)), NETWORK)
    assert sum(scores.values()) / 3 == pytest.approx(1)
    largest = max(values)
    assert [s / max(scores.values()) for s in scores.values()] == pytest.approx([v / largest for v in values])
