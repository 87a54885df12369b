"""What a search found, as tables and as JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tapc.base.terminal import Table, columns, print_table, say, visible

if TYPE_CHECKING:
    from tapc.search import Outcome
    from tapc.search.fitness import Fitness


def summary(outcome: "Outcome") -> dict[str, Any]:
    """Return a search's outcome as JSON values."""
    from tapc.search.elsewhere import to_json

    return {
        "run": str(outcome.folder),
        "winner": outcome.key,
        "proxy": outcome.program.model_dump(mode="json"),
        "fitness": outcome.fitness.to_dict(),
        "baselines": {name: None if f is None else f.to_dict() for name, f in outcome.baselines.items()},
        "held_out": outcome.held_out,
        "elsewhere": to_json(outcome.elsewhere),
        "unseen": {name: None if f is None else f.to_dict() for name, f in outcome.unseen.items()},
        "agreement": None if outcome.agreement is None else asdict(outcome.agreement),
        "above_every_built_in": outcome.above,
        "beats_every_built_in": outcome.beaten,
        "population": [c.key for c in outcome.evolution.population],
        "candidates": len(outcome.evolution.candidates),
        "all": [
            {"key": c.key, "operator": c.operator, "status": c.status, "kind": c.kind, "fitness": None}
            | ({} if c.judged is None else {"fitness": c.judged.to_dict()})
            for c in outcome.evolution.candidates
        ],
        "measured": outcome.measured,
        "cached": outcome.cached,
        "digest": outcome.digest,
    }


def print_outcome(outcome: "Outcome") -> None:
    """Print a search's outcome: the winner, and every built-in beside it; at most 80 columns wide."""
    program = outcome.program
    print_table(_ranking(outcome))
    print_table(_by_network(outcome))
    say(f"\n{outcome.key} {program.name}, by {program.origin.generator}: {program.reasoning.strip()}\n")
    click.echo(visible(program.code.strip()))
    found = outcome.agreement
    if found is not None and found.rho is not None:
        say(
            f"\nrank correlation of the fitness of {found.candidates} candidates with their mean rho on networks that "
            f"were not searched: {found.rho:.2f}; with their accuracy there: {found.accuracy:.2f}"
        )
    say(
        f"\nfitness {outcome.fitness.phi:.4f}, {verdict(outcome)}\n"
        f"{outcome.measured} configurations measured, {outcome.cached} known before; log digest {outcome.digest[:16]}\n"
        f"report: {outcome.folder / 'report.html'}\n"
        f"use it: tapc compile MODEL --board BOARD --proxy {outcome.folder / 'proxy.toml'}"
    )


def _ranking(outcome: "Outcome") -> Table:
    from tapc.flow.losses.ranking import REFERENCES

    costs = any(f is not None and f.cost for f in outcome.baselines.values())
    unseen = any(f is not None for f in outcome.unseen.values())
    numbers = ["fitness", "rho", "accuracy", *(["cost"] if costs else [])]
    numbers += ["held out"] if outcome.held_out is not None else []
    numbers += ["unseen"] if unseen else []
    table = Table("fitness on the search's networks, and elsewhere", columns("proxy", *numbers, right=tuple(numbers)))
    rows = [(outcome.key, outcome.fitness), *outcome.baselines.items()]
    for name, f in sorted(rows, key=lambda row: -(row[1].phi if row[1] else float("-inf"))):
        label = f"{name} (measured)" if name == REFERENCES[0] else name
        cells = ["-"] * (4 if costs else 3)
        if f is not None:
            cells = [
                f"{f.phi:.4f}",
                f"{f.rho:.3f}",
                f"{f.accuracy:.3f}",
                *([f"{f.cost:.3f}" if f.cost else "-"] if costs else []),
            ]
        if outcome.held_out is not None:
            cells.append(_phi(outcome.elsewhere.get(name, {}).get(outcome.held_out)))
        if unseen:
            cells.append(_phi(outcome.unseen.get(name)))
        table.add(label, *cells, style="bold" if f is outcome.fitness else "")
    return table


def _by_network(outcome: "Outcome") -> Table:
    """Return the winner's figures on every network, and the best of the built-in proxies."""
    from tapc.flow.losses.ranking import REFERENCES

    numbers, bests = ("rho", "accuracy"), ("best rho", "best accuracy")
    title = f"{outcome.key} by network"
    table = Table(title, columns("network", *numbers, *bests, right=numbers, prose=("network", *bests)))
    searched = {n.network: n for n in outcome.fitness.networks}
    elsewhere = {name: f.networks[0] for name, f in outcome.elsewhere.get(outcome.key, {}).items()}
    rivals = [name for name, f in outcome.baselines.items() if f is not None and name not in REFERENCES]
    for name, own in (searched | elsewhere).items():
        if name in searched:
            others = {r: next(n for n in _of(outcome, r).networks if n.network == name) for r in rivals}
        else:
            others = {r: outcome.elsewhere[r][name].networks[0] for r in rivals if name in outcome.elsewhere.get(r, {})}
        role = "searched" if name in searched else "held out" if name == outcome.held_out else "unseen"
        best = ["-", "-"]
        if others:
            rho, accuracy = (max(others, key=lambda r, of=of: getattr(others[r], of)) for of in numbers)  # type: ignore[misc]
            best = [f"{others[rho].rho:.3f} {rho}", f"{others[accuracy].accuracy:.3f} {accuracy}"]
        table.add(f"{name} ({role})", f"{own.rho:.3f}", f"{own.accuracy:.3f}", *best)
    return table


def _of(outcome: "Outcome", name: str) -> "Fitness":
    fitness = outcome.baselines[name]
    assert fitness is not None
    return fitness


def _phi(fitness: "Fitness | None") -> str:
    return "-" if fitness is None else f"{fitness.phi:.4f}"


def verdict(outcome: "Outcome") -> str:
    """Say in words how the winner stands beside the built-in proxies."""
    from tapc.flow.losses.ranking import REFERENCES

    better = [(f.phi, name) for name, f in outcome.baselines.items()
              if f is not None and name not in REFERENCES and f.phi >= outcome.fitness.phi]  # fmt: skip
    if better:
        phi, name = max(better)
        return f"not above the built-in {name}'s ({phi:.4f}): use that one (--proxy {name}), or search longer"
    above = "above every built-in proxy's where it was searched"
    if outcome.beaten is None:
        return f"{above}; no network is left that could show whether that holds elsewhere"
    if outcome.beaten:
        return f"{above}, and on networks that had no say"
    own = outcome.unseen[outcome.key]
    if own is None:
        return f"{above}, but it fails on networks that had no say"
    best = [(f.phi, name) for name, f in outcome.unseen.items()
            if f is not None and name not in (outcome.key, *REFERENCES)]  # fmt: skip
    phi, name = max(best)
    return f"{above}, but on networks that had no say {own.phi:.4f} is not above {name}'s {phi:.4f}"
