"""What a proxy program must return. What it returns is checked, and never repaired."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tapc.proxy.columns import Mode, Row, Table, view
from tapc.proxy.sandbox import Call, Sandbox, SandboxError


class ContractError(Exception):
    """A program breaks the contract, or failed in the sandbox.

    Attributes
    ----------
    kind : str
        What went wrong, for counting: a kind of `tapc.proxy.sandbox.SandboxError`, "scores" or "bits".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Target:
    """What a program's own ``allocate`` has to reach.

    Attributes
    ----------
    bits : float
        Largest average weight bits over all parameters.
    choices : tuple of int
        Weight bits on offer, ascending.
    """

    bits: float
    choices: tuple[int, ...]


def scored(
    sandbox: Sandbox, code: str, tables: Sequence[Sequence[Row]], mode: Mode, *, twice: bool = False
) -> list[list[float]]:
    """Run ``score`` on tables, in one process, and check what it returns.

    Parameters
    ----------
    sandbox : Sandbox
    code : str
    tables : sequence of tables
        One per network.
    mode : {"statistics", "metadata"}
        Which columns the program sees.
    twice : bool
        Run everything twice and compare.

    Raises
    ------
    ContractError
        The program fails, or does not return one finite float >= 0 per layer with at least one above 0.
    """
    calls = [Call("score", (visible(table, mode, code),)) for table in tables]
    results = _run(sandbox, code, calls, twice)
    return [_check_scores(result, table) for result, table in zip(results, tables, strict=True)]


def channels_scored(sandbox: Sandbox, code: str, table: Sequence[Row], mode: Mode) -> list[list[float]]:
    """Run ``score_channels`` on a table and check what it returns.

    Raises
    ------
    ContractError
        The program fails, or does not return a list per layer with one finite float >= 0 per output channel.
    """
    (value,) = _run(sandbox, code, [Call("score_channels", (visible(table, mode, code),))], False)
    if not isinstance(value, list) or len(value) != len(table):
        raise ContractError("scores", f"score_channels(layers) must return a list of {len(table)} lists of numbers")
    for row, own in zip(table, value, strict=True):
        if not isinstance(own, list) or len(own) != row["out_channels"] or not all(map(_is_score, own)):
            raise ContractError(
                "scores",
                f"score_channels gave layer {row['name']!r} {own!r:.80}; it must be a list of {row['out_channels']:g} "
                "finite numbers that are not negative",
            )
    return [[float(score) for score in own] for own in value]


def visible(table: Sequence[Row], mode: Mode, code: str) -> Table:
    """Return what a program sees of a table: channel columns only where its code mentions "channel_".

    They are most of a table's bytes, and most programs have no use for them.
    """
    rows = view(table, mode)
    if "channel_" in code:
        return rows
    return [{name: cell for name, cell in row.items() if not isinstance(cell, list)} for row in rows]


def allocated(
    sandbox: Sandbox,
    code: str,
    scores: Sequence[Sequence[float]],
    tables: Sequence[Sequence[Row]],
    targets: Sequence[Target],
    mode: Mode,
    *,
    twice: bool = False,
) -> list[list[int]]:
    """Run ``allocate`` on tables, in one process, and check what it returns.

    Raises
    ------
    ContractError
        The program fails, returns bits that are not on offer, or more bits than the target allows.
    """
    calls = [
        Call("allocate", (list(s), visible(table, mode, code), {"bits": t.bits, "choices": list(t.choices)}))
        for s, table, t in zip(scores, tables, targets, strict=True)
    ]
    results = _run(sandbox, code, calls, twice)
    return [_check_bits(r, table, t) for r, table, t in zip(results, tables, targets, strict=True)]


def _run(sandbox: Sandbox, code: str, calls: Sequence[Call], twice: bool) -> list[Any]:
    from tapc.proxy.sandbox import check_source, run_twice

    try:
        check_source(code)
        return run_twice(sandbox, code, calls) if twice else sandbox.run(code, calls)
    except SandboxError as error:
        raise ContractError(error.kind, str(error)) from error


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _check_scores(value: Any, table: Sequence[Row]) -> list[float]:
    if not isinstance(value, list) or len(value) != len(table):
        what = f"a list of {len(value)}" if isinstance(value, list) else f"{type(value).__name__}"
        raise ContractError("scores", f"score(layers) must return a list of {len(table)} numbers, not {what}")
    for row, score in zip(table, value, strict=True):
        if not _is_score(score):
            raise ContractError(
                "scores",
                f"score of layer {row['name']!r} is {score!r}; it must be a finite number that is not negative",
            )
    if not any(value):
        raise ContractError("scores", "every score is 0, which ranks nothing")
    return [float(score) for score in value]


def _check_bits(value: Any, table: Sequence[Row], target: Target) -> list[int]:
    if not isinstance(value, list) or len(value) != len(table):
        raise ContractError("bits", f"allocate(scores, layers, target) must return a list of {len(table)} bit widths")
    for row, bits in zip(table, value, strict=True):
        if isinstance(bits, bool) or bits not in target.choices:
            raise ContractError(
                "bits", f"allocate gave layer {row['name']!r} {bits!r} bits; on offer are {list(target.choices)}"
            )
    parameters = [float(row["parameters"]) for row in table]  # type: ignore[arg-type]
    average = math.fsum(p * b for p, b in zip(parameters, value, strict=True)) / math.fsum(parameters)
    if average > target.bits * (1 + 1e-9):
        raise ContractError("bits", f"allocate used {average:.4f} bits per weight on average; allowed: {target.bits}")
    return [int(bits) for bits in value]


def describe(target: Target) -> dict[str, Any]:
    """Return a target as JSON values."""
    return asdict(target)
