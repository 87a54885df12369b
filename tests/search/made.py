"""Searches in which losses are made up in place of measured, and nothing runs in another process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tapc.search.given
import tapc.search.run
from search.inline import InlineWorkers
from search.tiny import facts, made_row, tiny_table
from tapc.flow.losses import LossRow
from tapc.flow.losses import generate as builder
from tapc.flow.losses.draw import Drawn
from tapc.flow.losses.facts import LayerFacts
from tapc.flow.losses.measure import Setup
from tapc.flow.losses.table import flat

PAUSE = 0.005
_facts: dict[str, tuple[LayerFacts, ...]] = {}
_scored: dict[str, dict[str, Any]] = {}


def layers_of(setup: Setup) -> tuple[LayerFacts, ...]:
    return _facts.setdefault(setup.digest, facts(setup))


def canary(setup: Setup, drawn: Drawn) -> LossRow:
    return made_row(layers_of(setup), drawn)


def loss(setup: Setup, drawn: Drawn) -> dict[str, Any]:
    """Make up a configuration's losses, and note beside the model that they were measured."""
    time.sleep(PAUSE)
    with Path(setup.source.model).with_name("measured").open("a") as stream:
        stream.write(f"{drawn.key}\n")
    return flat(made_row(layers_of(setup), drawn))


def scoring(setup: Setup) -> dict[str, Any]:
    if setup.digest not in _scored:
        table = tiny_table(setup)
        values = {"alone": table.alone, "layers": [layer.model_dump(mode="json") for layer in table.layers]}
        values |= {"interface": table.interface, "statistics": table.statistics, "scores": table.scores}
        _scored[setup.digest] = values
    return _scored[setup.digest]


def make_up(put: Callable[[Any, str, Any], object] = setattr) -> None:
    put(tapc.search.given, "facts_of", scoring)
    put(tapc.search.given, "measure_loss", loss)
    put(builder, "measure", canary)
    put(builder, "choose", lambda network, scores, distortion, alone: {})
    put(tapc.search.run, "ProcessWorkers", lambda jobs: InlineWorkers())
