"""Measures a loss table in parallel processes; whatever kills it, it goes on where it was."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tapc
from tapc.base.cache import digest, tree_digest
from tapc.base.errors import OutputError, UsageError
from tapc.base.files import write_whole
from tapc.base.progress import Advance
from tapc.flow.losses.draw import Drawn, choose, draw, groups_at
from tapc.flow.losses.facts import LayerFacts, NetworkFacts, network_facts
from tapc.flow.losses.measure import (
    SOUNDS,
    Setup,
    Source,
    float_metric,
    in_this_process,
    measure,
    prepare,
    start_process,
)
from tapc.flow.losses.partial import append_line, in_processes
from tapc.flow.losses.table import ROUNDINGS, LossProvenance, LossTable, flat, row_of
from tapc.graph.network import WEIGHT_BITS, Network
from tapc.quantize import layer_distortion
from tapc.quantize.alone import measured_losses

Alone = dict[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes
    ----------
    setup : Setup
    facts : NetworkFacts
    alone : dict of str to tuple of tuple of float
        As in `LossTable`.
    choices : dict of str to str
        ``proxy@budget`` -> key.
    wanted : dict of str to Drawn
        By content: network, samples, bits, and what the code measures of one configuration.
    """

    setup: Setup
    facts: NetworkFacts
    alone: Alone
    choices: dict[str, str]
    wanted: dict[str, Drawn]


def generate(
    source: Source,
    *,
    count: int,
    folder: Path,
    command: str,
    jobs: int = 1,
    advance: Advance = lambda done, total: None,
) -> LossTable:
    """Measure a network's configurations.

    Parameters
    ----------
    source : Source
    count : int
        Configurations that are drawn; those that allocators choose come besides.
    folder : Path
        Of partial results: a line per configuration in NAME.jsonl, only ever appended, and what is known of the layers.
        Results of another network, of other samples or of code that measures otherwise may lie there, too.
    command : str
        For the provenance.
    jobs : int
        Processes.
    advance : callable
        Told (done, total) configurations.

    Raises
    ------
    UsageError
        The partial file holds something else.
    OutputError
        It cannot be written.
    """
    setup = prepare(source)
    plan = planned(setup, count, kept_facts(setup, folder / f"{source.name}.facts.json"))
    partial = folder / f"{source.name}.jsonl"
    known = opened(partial)
    missing = {key: drawn for key, drawn in plan.wanted.items() if key not in known}
    advance(len(plan.wanted) - len(missing), len(plan.wanted))
    for line in _measured(plan.setup, missing, jobs):
        append_line(partial, line)
        known[line["key"]] = line["row"]
        advance(sum(key in known for key in plan.wanted), len(plan.wanted))
    return table_of(plan, known, command)


def table_of(plan: Plan, known: Mapping[str, Mapping[str, Any]], command: str) -> LossTable:
    """Return the table of a plan all of whose rows are known."""
    rows = tuple(
        replace(row_of(dict(known[key])), kind=drawn.kind, size=drawn.size) for key, drawn in plan.wanted.items()
    )
    facts = plan.facts
    return LossTable(
        plan.setup.source.name, provenance(plan.setup, command), facts.layers, facts.interface, facts.statistics,
        facts.scores, plan.alone, plan.choices, rows,
    )  # fmt: skip


def planned(setup: Setup, count: int, facts_and_alone: tuple[NetworkFacts, Alone]) -> Plan:
    """List the configurations: those that are drawn, and those that allocators choose by the facts' scores."""
    facts, alone = facts_and_alone
    # Code that gives the same figures for one configuration of all widths is taken to measure the same.
    identity = digest("losses", setup.content, flat(measure(setup, _canary(setup.network))))
    distortion = {layer.name: layer.distortions for layer in facts.layers}
    chosen = choose(setup.network, facts.scores, distortion, alone["gptq"])
    drawn = {item.key: item for item in draw(setup.network, count, setup.source.seed)}
    for item in chosen.values():
        drawn.setdefault(item.key, item)
    wanted = {digest(identity, key): item for key, item in drawn.items()}
    return Plan(setup, facts, alone, {name: item.key for name, item in chosen.items()}, wanted)


def provenance(setup: Setup, command: str) -> LossProvenance:
    """Say where the figures of a setup come from."""
    source = setup.source
    return LossProvenance(
        description=(
            "Bit configurations, measured by onnxruntime on the exported QDQ network with all layers and activations "
            "quantized; equalized for the bits, bias correction. nearest: to the nearest; gptq: one first scale, one "
            "refinement, two sweeps, no loading, which tapc compile compares candidates with, not the full search "
            "that it rounds the chosen bits with."
        ),
        command=command,
        model=Path(source.model).name,
        model_sha256=setup.model_sha256,
        data=SOUNDS if source.data is None else source.data.name,
        data_sha256=setup.data_sha256,
        calibration_samples=len(setup.samples.x),
        rounding_samples=min(source.rounding, len(setup.samples.x)),
        test_samples=len(setup.test.x),
        seed=source.seed,
        metric=setup.metric,
        float_metric=float_metric(setup),
        tapc=version("tapc"),
        code_sha256=_code(),
    )


def code_digest(*parts: str) -> str:
    """Identify the code of some parts of tapc: the names of folders."""
    root = Path(tapc.__file__).parent
    return digest([tree_digest(root / part, "*.py") for part in parts])


def _code() -> str:
    return code_digest("quantize", "graph", "proxy")


def _canary(network: Network) -> Drawn:
    weights = "".join(str(WEIGHT_BITS[i % len(WEIGHT_BITS)]) for i in range(len(network.layers)))
    return Drawn("uniform", None, weights, groups_at(network, "4"))


def facts_key(setup: Setup) -> str:
    """Identify what scoring needs by the network, its samples and the code."""
    return digest("facts", setup.content, _code())


def kept_facts(setup: Setup, path: Path) -> tuple[NetworkFacts, Alone]:
    """Return what scoring needs, from an earlier run where it was of the same identity: derivatives take minutes."""
    identity = facts_key(setup)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["identity"] == identity:
            return facts_from(values)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # made anew
    values = facts_of(setup)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    write_whole(path, json.dumps({"identity": identity} | values))
    return facts_from(values)


def facts_from(values: Mapping[str, Any]) -> tuple[NetworkFacts, Alone]:
    """Return what `facts_of` gave, from its JSON values."""
    facts = NetworkFacts(
        tuple(LayerFacts.model_validate(layer) for layer in values["layers"]),
        tuple(values["interface"]),
        tuple(values["statistics"]),
        {proxy: tuple(own) for proxy, own in values["scores"].items()},
    )
    return facts, {rounding: tuple(map(tuple, own)) for rounding, own in values["alone"].items()}


def facts_of(setup: Setup) -> dict[str, Any]:
    """Score the layers and measure each alone, as JSON values; seconds to minutes."""
    x = setup.samples.x
    distortion = layer_distortion(setup.model, setup.network, setup.calibration, x)
    facts = network_facts(setup.model, setup.network, setup.calibration, x, distortion)
    alone: Alone = {}
    for rounding in ROUNDINGS:
        losses = measured_losses(setup.model, setup.network, x, WEIGHT_BITS, rounding)
        alone[rounding] = tuple(
            tuple(float(f"{losses[layer.name][bits]:.6g}") for bits in WEIGHT_BITS) for layer in setup.network.layers
        )
    values = {"alone": alone, "layers": [layer.model_dump(mode="json") for layer in facts.layers]}
    return values | {"interface": facts.interface, "statistics": facts.statistics, "scores": facts.scores}


def _measure(key: str, drawn: Drawn) -> dict[str, Any]:
    return _line(in_this_process(), key, drawn)


def _line(setup: Setup, key: str, drawn: Drawn) -> dict[str, Any]:
    begun = time.monotonic()
    row = flat(measure(setup, drawn))
    return {"key": key, "row": row, "seconds": round(time.monotonic() - begun, 2)}


def _measured(setup: Setup, missing: dict[str, Drawn], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the lines of configurations, each as soon as it is known."""
    if jobs == 1 or len(missing) < 2:
        for key, drawn in missing.items():
            yield _line(setup, key, drawn)
        return
    yield from in_processes(jobs, _measure, missing.items(), start_process, (setup.source,))


def opened(partial: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a partial file by key, and make it ready to be appended to: a line cut short is dropped.

    Raises
    ------
    UsageError
        It holds something else.
    OutputError
        It cannot be read or written.
    """
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        text = partial.read_text(encoding="utf-8") if partial.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        known = {line["key"]: line["row"] for line in map(json.loads, whole.splitlines())}
        if whole != text:
            write_whole(partial, whole)
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{partial} holds no partial results; delete it or name another folder") from None
    except OSError as error:
        raise OutputError(f"cannot write {partial}: {error.strerror or error}") from error
    return known
