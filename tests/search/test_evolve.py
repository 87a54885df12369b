import itertools
from fractions import Fraction
from typing import ClassVar

import pytest

from search.tiny import shipped_network
from tapc.proxy import Origin
from tapc.proxy.sandbox import Sandbox
from tapc.search.candidate import Draft, syntax_key
from tapc.search.controllers import OPERATORS, controller
from tapc.search.evolve import Evolver
from tapc.search.fitness import Judge
from tapc.search.generators import Offline
from tapc.search.log import NAME, EventLog, read_events
from tapc.search.options import SearchOptions
from tapc.search.population import survivors

COLUMNS = (
    "parameters",
    "macs",
    "weight_l2",
    "output_error_2",
    "weight_error_2",
    "input_std",
    "kernel_h",
    "output_size",
)


class Scripted:
    """Answers what the test says, and keeps what it was asked."""

    label = "scripted"
    prompts: ClassVar[dict] = {}
    parallel = 1

    def __init__(self, *codes):
        self.codes = iter(codes)
        self.asked = []
        self.backgrounds = []

    def generate(self, key, operator, parents, background, seed):
        self.asked.append((key, operator, [p.key for p in parents], [c.key for c in background.library]))
        self.backgrounds.append((key, background))
        code = next(self.codes)
        return Draft(key, "why", code) if code else Draft(problem="no idea")


def column(name, power=1):
    return f"def score(layers):\n    return [layer[{name!r}] ** {power} for layer in layers]\n"


@pytest.fixture(scope="module")
def network():
    return shipped_network()


def evolve(network, folder, generator, **options):
    chosen = SearchOptions(**{"beta": 0, **options})
    judge = Judge([network], chosen)
    with EventLog(folder) as log, Sandbox() as sandbox:
        evolution = Evolver(chosen, generator, judge, sandbox, log, Origin()).run(controller(chosen.controller))
    return evolution, read_events(folder / NAME)[0]


def test_what_each_candidate_becomes(network, tmp_path):
    codes = (
        column("parameters"),
        column("parameters") + "\n# the same in other words\n",
        "def score(layers):\n    return [2.5 * layer['parameters'] for layer in layers]\n",
        "def score(layers):\n    return [1.0]\n",
        "def score(layers):\n    return [float('nan') for layer in layers]\n",
        "import os\ndef score(layers):\n    return [1.0 for layer in layers]\n",
        "",
        column("macs"),
    )
    evolution, events = evolve(network, tmp_path, Scripted(*codes), generations=0, population=8)
    seen = [(c.status, c.kind) for c in evolution.candidates]
    assert seen == [
        ("ok", ""), ("duplicate", ""), ("duplicate", ""), ("invalid", "scores"), ("invalid", "result"),
        ("invalid", "forbidden"), ("invalid", "draft"), ("ok", ""),
    ]  # fmt: skip
    assert [c.message for c in evolution.candidates[1:3]] == ["g0s0", "g0s0"]
    assert {c.key for c in evolution.population} <= {"g0s0", "g0s7"}
    assert {e.key for e in events if e.kind == "judged"} == {"g0s0", "g0s7"}


def test_a_program_that_varies_is_invalid(network, tmp_path):
    code = "def score(layers):\n    return [float(int(repr(score).split('0x')[1][:-1], 16)) for x in layers]\n"
    evolution, _ = evolve(network, tmp_path, Scripted(code), generations=0, population=1)
    assert [(c.status, c.kind) for c in evolution.candidates] == [("invalid", "nondeterministic")]
    assert evolution.best is None


def test_parents_and_context_come_from_the_fittest(network, tmp_path):
    generator = Scripted(*(column(name, p) for p, name in itertools.product((1, 0.5, 2), COLUMNS)))
    evolution, events = evolve(network, tmp_path, generator, generations=2, population=8)
    selections = {e.key: e.data for e in events if e.kind == "selection"}
    for key, operator, parents, context in generator.asked:
        generation = int(key[1 : key.index("s")])
        assert len(parents) == {"initialization": 0, "mutation": 1, "crossover": 2}[operator]
        if generation == 0 or operator == "initialization":
            assert not context
            continue
        before = selections[f"g{generation - 1}"]
        assert set(parents) <= set(before["population"])
        assert context == before["library"]
        assert len(context) <= 2
    fitness = [c.fitness for c in evolution.population]
    assert fitness == sorted(fitness, reverse=True)
    assert evolution.best.fitness == max(c.fitness for c in evolution.candidates if c.fitness is not None)


def test_among_equals_the_newest_wins(network, tmp_path):
    # Tiny changes of scores, with which all predictions are ranked alike.
    codes = [
        f"def score(layers):\n    return [x['macs'] + {k} * (i == 0) for i, x in enumerate(layers)]\n" for k in (0, 1)
    ]
    evolution, _ = evolve(network, tmp_path, Scripted(*codes), generations=0, population=2)
    first, second = evolution.candidates
    assert first.scores != second.scores
    assert first.fitness == second.fitness
    assert first.behaviour == second.behaviour
    assert [c.key for c in evolution.population] == ["g0s1", "g0s0"]
    assert evolution.best.key == "g0s1"


def test_niches_are_bits_at_all_budgets(network, tmp_path):
    """Two proxies that lead to the same bits share a niche, and the worse of them comes after all other niches."""
    base = "x['output_error_2'] ** 0.5"
    codes = [
        f"def score(layers):\n    return [{base} * (1 + {k} * x['depth']) for x in layers]\n" for k in (0, 0.01, 0.02)
    ]
    codes += [column(name) for name in ("macs", "weight_l2")]
    evolution, _ = evolve(network, tmp_path, Scripted(*codes), generations=0, population=5)
    niches = {c.key: c.behaviour for c in evolution.candidates}
    picks = {c.key: c.judged.networks[0].picks for c in evolution.candidates}
    for a, b in itertools.combinations(niches, 2):
        assert (niches[a] == niches[b]) == (picks[a] == picks[b])
    assert len(set(niches.values())) < len(niches)
    kept = survivors([], evolution.candidates, len(set(niches.values())))
    assert {c.behaviour for c in kept} == set(niches.values())
    for key in niches:
        own = [c for c in evolution.candidates if c.behaviour == niches[key]]
        assert max(own, key=lambda c: (c.fitness, c.born)) in kept


def test_probabilities_follow_equations_7_and_8(network, tmp_path):
    options = SearchOptions(beta=0, generations=6, population=6, seed=3, controller="eq7")
    _, events = evolve(network, tmp_path, Offline(options), **options.model_dump())
    fitness, operator, twin = {}, {}, {}
    for e in events:
        if e.kind == "candidate":
            operator[e.key] = e.data["operator"]
        elif e.kind == "scored" and e.data["status"] == "duplicate":
            twin[e.key] = e.data["message"]
        elif e.kind == "judged":
            fitness[e.key] = Fraction(e.data["fitness"]["phi"])
    weights = dict.fromkeys(OPERATORS, Fraction(1, 3))
    compared = 0
    for t in range(7):
        found = next(e.data["probabilities"] for e in events if (e.kind, e.key) == ("generation", f"g{t}"))
        if min(weights.values()) < Fraction(1, 20):
            break  # from here on the floor has a say
        for name in OPERATORS:
            assert found[name] == pytest.approx(float(weights[name]), abs=1e-12)
        compared += 1
        if t == 0:
            continue
        means = {}
        for name in OPERATORS:
            keys = [k for k in operator if k.startswith(f"g{t}s") and operator[k] == name]
            if keys:
                means[name] = sum(max(fitness.get(twin.get(k, k), 0), 0) for k in keys) / len(keys)
        mu = sum(means.values()) / len(means)
        raised = {name: weights[name] * (means[name] / mu if name in means else 1) for name in OPERATORS}
        weights = {name: value / sum(raised.values()) for name, value in raised.items()}
    assert compared >= 4
    assert len(set(weights.values())) > 1


def test_equal_programs_are_recognized_and_others_are_not():
    a = "def score(layers):\n    '''Text.'''\n    return [x['macs'] for x in layers]  # comment\n"
    b = "def score(layers):\n\n    return [ x['macs'] for x in layers ]\n"
    c = b.replace("macs", "parameters")
    assert syntax_key(a) == syntax_key(b) != syntax_key(c)
