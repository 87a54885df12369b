from itertools import pairwise

import pytest

from tapc.allocate import AllocationError, AllocationOptions, Overrides, RamUse, build_problem, load_overrides, solve
from tapc.base.errors import BudgetError, DataError, UsageError
from tapc.graph.network import Group, Layer, Network

NAMES = ("stem.conv", "layer1.conv1", "layer1.conv2", "head.fc")


def network():
    """Four layers in a row; layer1.conv2 is added to the stem's output, so that group 1 is read twice."""
    groups = (
        Group(("input",), True),
        Group(("stem_relu", "add"), False),
        Group(("mid",), False),
        Group(("logits",), True),
    )
    wiring = ((0, 1), (1, 2), (2, 1), (1, 3))
    layers = tuple(
        Layer(name, "conv", (8, 10 * (i + 1)), 1000, reads, writes, i)
        for i, (name, (reads, writes)) in enumerate(zip(NAMES, wiring, strict=True))
    )
    return Network("net", layers, groups)


class Cost:
    def __init__(self):
        self.asked = []
        self.code_size = 0
        self.fast = False

    def algorithms(self, layer, w_bits, a_bits, out_bits):
        return ("", "fast") if self.fast else ("",)

    def flash_bytes(self, layer, w_bits, a_bits, out_bits, algorithm=""):
        self.asked.append((layer.name, w_bits, a_bits, out_bits))
        return (layer.parameters * w_bits // 8 + 4) * (3 if algorithm else 1)

    def code(self, layer, w_bits, a_bits, out_bits, algorithm=""):
        return f"{layer.op}{layer.parameters}w{w_bits}a{a_bits}{algorithm}", self.code_size

    def latency(self, layer, w_bits, a_bits, out_bits, algorithm=""):
        return layer.macs * (1.5 if w_bits == 8 else 2.0) / (4 if algorithm else 1)


DISTORTION = {name: {(w, a): 2.0 ** -(w + a) for w in (2, 4, 8) for a in (4, 8)} for name in NAMES}
ONES = dict.fromkeys(NAMES, 1.0)


def build(options=None, sensitivity=ONES, distortion=DISTORTION, **more):
    return build_problem(network(), sensitivity, distortion, Cost(), options or AllocationOptions(), **more)


def bits(options, **more):
    chosen = solve(build(options, **more)).bits
    return [chosen.weights[name] for name in NAMES], [chosen.activations[i] for i in range(4)]


def test_unlimited_takes_the_best_of_everything():
    assert bits(AllocationOptions(abits=(4, 8))) == ([8] * 4, [8] * 4)


def test_target_bits_counts_every_parameter():
    problem = build(AllocationOptions(target_bits=4))
    allocation = solve(problem)
    weights = {layer.name: layer.parameters for layer in network().layers}
    average = sum(weights[n] * b for n, b in allocation.bits.weights.items()) / sum(weights.values())
    assert average <= 4
    assert allocation.used["target_bits"].used == pytest.approx(average)
    assert allocation.used["target_bits"].limit == 4


def test_sensitivity_decides_who_keeps_bits():
    for favourite in NAMES[1:3]:
        chosen, _ = bits(AllocationOptions(target_bits=5), sensitivity={**ONES, favourite: 1e3})
        assert chosen[NAMES.index(favourite)] == 8


def test_uniform_bits_except_the_interface():
    assert bits(AllocationOptions(wbits=(4,), abits=(4,))) == ([4] * 4, [8, 4, 4, 8])
    assert solve(build(AllocationOptions(wbits=(4,), abits=(8,)))).status == "uniform"


def test_uniform_bits_keep_budgets():
    with pytest.raises(BudgetError, match="flash: the budget is 700 bytes"):
        bits(AllocationOptions(wbits=(8,), flash=700))


def test_pins_hold_weights_and_inputs_at_eight_bits():
    options = AllocationOptions(wbits=(2,), abits=(4,), pin_first=True, pin_last=True)
    assert bits(options) == ([8, 2, 2, 8], [8, 8, 4, 8])
    assert "pinned" in [layer.fixed_by for layer in build(options).layers]


def test_overrides_win_over_pins_and_offers():
    overrides = Overrides(weights={"stem.conv": 2, "layer1.conv1": 8}, activations={"add": 4})
    options = AllocationOptions(wbits=(4,), abits=(8,), pin_first=True, pin_last=True, overrides=overrides)
    assert bits(options) == ([2, 8, 4, 8], [8, 4, 8, 8])


def test_an_activation_override_by_layer_name_sets_the_layers_input():
    options = AllocationOptions(overrides=Overrides(activations={"layer1.conv2": 4}))
    assert bits(options)[1] == [8, 8, 4, 8]


def test_overrides_count_in_budgets_and_are_named():
    options = AllocationOptions(target_bits=4, overrides=Overrides(weights=dict.fromkeys(NAMES, 8)))
    with pytest.raises(BudgetError, match=r"average weight bits.*smallest budget that works is 8 .*override"):
        solve(build(options))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(weights={"layer1.conv3": 8}), r"\[weights\] \"layer1.conv3\".*did you mean.*'layer1.conv"),
        (Overrides(weights={"xyz": 8}), r"known: stem.conv"),
        (Overrides(activations={"ad": 4}), r"did you mean 'add'"),
        (Overrides(weights={"head.fc": 3}), r"\"head.fc\" = 3: not allowed; give one of 2, 4, 8"),
        (Overrides(activations={"add": 2}), r"\"add\" = 2: not allowed; give one of 4, 8"),
        (Overrides(activations={"input": 4}), r"\"input\" = 4.*stays at 8 bits"),
        (Overrides(activations={"stem.conv": 4}), r"\"stem.conv\" = 4.*stays at 8 bits"),
        (Overrides(activations={"add": 4, "stem_relu": 8}), r"\"add\" = 4 and \"stem_relu\" = 8 contradict"),
    ],
)
def test_overrides_that_do_not_fit_the_network(overrides, message):
    with pytest.raises(UsageError, match=message):
        build(AllocationOptions(overrides=overrides))


def test_an_interface_override_of_eight_is_accepted():
    assert bits(AllocationOptions(overrides=Overrides(activations={"input": 8})))[1][0] == 8


def test_overrides_file(tmp_path):
    path = tmp_path / "bits.toml"
    path.write_text('[weights]\n"layer1.conv1" = 8\n[activations]\n"mid" = 4\n')
    assert load_overrides(path) == Overrides(weights={"layer1.conv1": 8}, activations={"mid": 4})


@pytest.mark.parametrize("text", ['[weights]\n"a" = "8"\n', "[layers]\n", "[weights\n", '[weights]\n"a" = 8.0\n'])
def test_a_broken_overrides_file(tmp_path, text):
    path = tmp_path / "bits.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bits\.toml"):
        load_overrides(path)


def test_a_missing_overrides_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml"):
        load_overrides(tmp_path / "none.toml")


def test_the_cost_model_is_asked_with_the_output_bits():
    cost = Cost()
    build_problem(network(), ONES, DISTORTION, cost, AllocationOptions(wbits=(8,), abits=(4,)))
    assert cost.asked == [(NAMES[0], 8, 8, 4), (NAMES[1], 8, 4, 4), (NAMES[2], 8, 4, 4), (NAMES[3], 8, 4, 8)]


def test_fixed_parts_and_bops_are_counted():
    allocation = solve(build(AllocationOptions(wbits=(4,)), fixed_flash=1000, fixed_latency=5.0))
    assert allocation.used["flash"].used == 1000 + sum(80 * (i + 1) // 2 + 4 for i in range(4))
    assert allocation.used["latency"].used == 5 + 4 * 2000
    assert allocation.used["bops"].used == 4 * 1000 * 4 * 8


def test_algorithms_give_flash_for_time():
    """Bounded, the time is met by the algorithms that cost the fewest bits; unbounded, nothing is given for it."""
    cost = Cost()
    cost.fast = True

    def chosen(**budgets):
        return solve(build_problem(network(), ONES, DISTORTION, cost, AllocationOptions(**budgets)))

    slow, all_fast = 4 * 1000 * 1.5, 4 * 1000 * 1.5 / 4
    wide = chosen()
    assert wide.used["latency"].used == slow
    quick = chosen(latency=all_fast)
    assert quick.bits == wide.bits
    assert quick.used["latency"].used == all_fast
    assert quick.used["flash"].used == 3 * wide.used["flash"].used
    some = chosen(latency=0.7 * slow)
    assert some.bits == wide.bits
    assert wide.used["flash"].used < some.used["flash"].used < quick.used["flash"].used
    narrow = chosen(latency=0.7 * slow, flash=wide.used["flash"].used)
    assert narrow.objective > some.objective
    assert sum(narrow.bits.weights.values()) < sum(wide.bits.weights.values())
    with pytest.raises(AllocationError, match="latency"):
        chosen(latency=0.99 * all_fast)


def test_a_ram_budget_narrows_the_activations_at_the_peak():
    def ram(widths):
        return RamUse(100 * widths[1] + 50 * widths[2])

    assert bits(AllocationOptions(abits=(4, 8), ram=1000), ram=ram) == ([8] * 4, [8, 8, 4, 8])
    assert bits(AllocationOptions(abits=(4, 8), ram=800), ram=ram) == ([8] * 4, [8, 4, 8, 8])


def test_loosening_any_budget_never_raises_the_loss():
    losses = [solve(build(AllocationOptions(flash=flash))).objective for flash in range(220, 820, 50)]
    assert all(wider <= tighter for tighter, wider in pairwise(losses))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_bad_numbers_name_the_layer(bad):
    with pytest.raises(DataError, match=r"'head.fc': its sensitivity is"):
        build(sensitivity={**ONES, "head.fc": bad})
    with pytest.raises(DataError, match=r"'head.fc': its distortion at w4a8 is"):
        build(distortion={**DISTORTION, "head.fc": {**DISTORTION["head.fc"], (4, 8): bad}})


def test_missing_numbers_name_the_layer():
    with pytest.raises(DataError, match=r"'stem.conv': its sensitivity is missing"):
        build(sensitivity={})
    with pytest.raises(DataError, match=r"'stem.conv': its distortion at w2a8 is missing"):
        build(distortion={})


@pytest.mark.parametrize("options", [{"wbits": (3,)}, {"abits": (2, 8)}, {"wbits": ()}, {"flash": 0}, {"latency": -1}])
def test_options_that_are_not_possible(options):
    with pytest.raises(UsageError, match="--"):
        build(AllocationOptions(**options))
