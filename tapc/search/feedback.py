"""What prompts tell: the networks in numbers, how proxies did on each, the hand-made ones beside them, and failures."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import rankdata

from tapc.flow.losses.ranking import REFERENCES
from tapc.proxy.columns import Row, columns
from tapc.search.candidate import Background, Candidate
from tapc.search.fitness import Fitness, NetworkFitness
from tapc.search.networks import SearchNetwork
from tapc.search.options import SearchOptions

SHOWN = (
    "op", "kernel_h", "out_channels", "output_pixels", "parameter_share", "mac_share", "readers", "activation",
    "activation_slope", "addition_share", "average_pooled", "layers_behind", "logit_gain", "logit_gain_alike",
    "weight_range_ratio", "weight_error_2", "output_error_2", "gptq_error_2", "gptq_error_4", "input_sparsity",
)  # fmt: skip
"""Columns of the table in the prompt, in which a text of a few thousand characters has room."""

MOST_LAYERS = 60
RIVALS = ("uniform", "sqnr", "hawq_v2", "tap")
CEILINGS = REFERENCES
MISRANKED = 3
_SENTENCE = 300


def describe(network: SearchNetwork, options: SearchOptions) -> dict[str, Any]:
    """Return a network as prompts show it: a line per layer, and the statistics as rows of a table."""
    visible = {column.name for column in columns(options.inputs)}
    shown = [name for name in SHOWN if name in visible]
    rows = network.table
    return {
        "name": network.name,
        "layers": [
            f"{row['name']}: {row['op']} {row['kernel_h']}x{row['kernel_w']}, {row['in_channels']} -> "
            f"{row['out_channels']} channels, output {row['output_height']}x{row['output_width']}"
            for row in rows
        ],
        "header": ["layer", *shown, "measured error"],
        "rows": [_cells(row, shown, network.errors[str(row["name"])]) for row in rows[:MOST_LAYERS]],
        "left_out": max(0, len(rows) - MOST_LAYERS),
    }


def _cells(row: Row, shown: Sequence[str], error: float) -> list[str]:
    return [str(row["name"]), *(_text(row[name]) for name in shown), _text(error)]


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def feedback(candidate: Candidate, networks: Sequence[SearchNetwork]) -> dict[str, Any]:
    """Return what a prompt tells of a proxy: its two parts, and how it did, on each network."""
    assert candidate.program is not None
    assert candidate.judged is not None
    fitness = candidate.judged
    return {
        "name": candidate.program.name,
        "reasoning": candidate.program.reasoning,
        "code": candidate.program.code,
        "fitness": fitness.phi,
        "rho": fitness.rho,
        "accuracy": fitness.accuracy,
        "cost": fitness.cost,
        "networks": [
            shown(judged) | {"misranked": misranked(network, scores)}
            for judged, network, scores in zip(fitness.networks, networks, candidate.scores, strict=True)
        ],
    }


def shown(judged: NetworkFitness) -> dict[str, Any]:
    """Return a proxy's figures on one network; what fitness is made of has its names and texts here alone."""
    figures = {"rho": f"{judged.rho:.3f}", "accuracy": f"{judged.accuracy:.3f}"}
    if judged.cost:
        figures["cost"] = f"{judged.cost:.3f}"
    return {
        "name": judged.network,
        "figures": figures,
        "budgets": [
            f"at {b.budget:g} bits {b.weights} loses {b.loss:.3g} (least measured {b.best:.3g})" for b in judged.budgets
        ],
    }


def misranked(network: SearchNetwork, scores: Sequence[float]) -> list[str]:
    """Return the layers whose rank by score is furthest from that by measured error, the worst first."""
    names, count = network.layer_names, len(scores)
    by_score = rankdata([-score for score in scores], method="average")
    by_error = rankdata([-network.errors[name] for name in names], method="average")
    order = sorted(range(count), key=lambda i: (-abs(by_score[i] - by_error[i]), i))
    return [
        f"{names[i]} is scored {'too high' if by_score[i] < by_error[i] else 'too low'}: number {by_score[i]:g} of "
        f"{count} by score, {by_error[i]:g} by measured error ({network.errors[names[i]]:.3g})"
        for i in order[:MISRANKED]
        if by_score[i] != by_error[i]
    ]


def rivals(baselines: Mapping[str, Fitness | None]) -> list[dict[str, Any]]:
    """Return the hand-made proxies to beat, then the measurements that no proxy can beat by much."""
    return [
        {
            "name": name,
            "ceiling": name in CEILINGS,
            "fitness": fitness.phi,
            "networks": [shown(judged) for judged in fitness.networks],
        }
        for name in (*RIVALS, *CEILINGS)
        if (fitness := baselines.get(name)) is not None
    ]


def tried(background: Background) -> list[dict[str, Any]]:
    """Return changes that did not raise the fitness above the best parent's, with what they cost."""
    return [
        {"name": child.program.name, "loss": parent - child.fitness, "reasoning": _short(child.program.reasoning)}
        for child, parent in background.tried
        if child.program is not None and child.fitness is not None
    ]


def known(background: Background) -> list[dict[str, Any]]:
    """Return what the population holds, in a line each."""
    return [
        {"name": member.program.name, "fitness": member.fitness, "reasoning": _short(member.program.reasoning)}
        for member in background.population
        if member.program is not None
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SENTENCE else line[: _SENTENCE - 3] + "..."
