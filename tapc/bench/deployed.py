"""What a network loses at the bits that proxies lead to: of any network with samples, at equal sizes.

Unlike tapc-bench's tables this measures what is asked for, and each configuration once. Results are kept in lines of a
file, so that a killed run goes on, and more proxies or budgets add to what is there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tapc.base.cache import digest
from tapc.base.errors import DataError, OutputError
from tapc.base.progress import Advance, Stages
from tapc.flow.losses.draw import Drawn, choose, groups_at
from tapc.flow.losses.generate import code_digest, opened
from tapc.flow.losses.measure import Setup, bits_of, float_metric, in_this_process, losses, start_process
from tapc.flow.losses.partial import append_line, in_processes
from tapc.flow.losses.table import Measured
from tapc.graph.network import WEIGHT_BITS
from tapc.proxy import FOUND, ProxyContext, get_proxy, load_program
from tapc.proxy.program import ProgramProxy
from tapc.quantize import layer_distortion
from tapc.quantize.sensitivity import proxy_context

_CODE = ("quantize", "graph")
SURVIVES = 0.5
"""Share of the float network's metric that 8-bit weights must keep for narrower ones to be measured."""


@dataclass(frozen=True)
class Deployed:
    """One proxy's bits under one budget.

    Attributes
    ----------
    proxy : str
    a_bits : int
        Of the activations.
    budget : float
        Average weight bits at most.
    key : str
        The bits.
    average_bits, weight_bytes : float
        That they take.
    measured : Measured
    """

    proxy: str
    a_bits: int
    budget: float
    key: str
    average_bits: float
    weight_bytes: float
    measured: Measured


@dataclass(frozen=True)
class Transfer:
    """How proxies do on a network.

    Attributes
    ----------
    network, identity : str
        Name and digest.
    rounding, metric : str
    float_metric : float
    calibration_samples, rounding_samples, test_samples : int
    found : dict of str to bool
        Proxies that a search found -> whether they were searched on this very network.
    wide : dict of int to Measured
        Bits of activations -> the network with 8-bit weights.
    figures : tuple of Deployed
        None for activations with which the network does not survive.
    configurations : int
        Different ones among them.
    """

    network: str
    identity: str
    rounding: str
    metric: str
    float_metric: float
    calibration_samples: int
    rounding_samples: int
    test_samples: int
    found: dict[str, bool]
    wide: dict[int, Measured]
    figures: tuple[Deployed, ...]
    configurations: int

    def survives(self, a_bits: int) -> bool:
        """Whether the network is of use with activations of these bits."""
        return survives(self.wide[a_bits], self.float_metric)

    def mean_loss(self, proxy: str, a_bits: int) -> float:
        """Return a proxy's mean loss over the budgets."""
        own = [f.measured.loss for f in self.figures if (f.proxy, f.a_bits) == (proxy, a_bits)]
        return float(np.mean(own))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def survives(wide: Measured, exact: float) -> bool:
    """Whether a network with 8-bit weights keeps enough of what it is with floats."""
    return wide.metric >= SURVIVES * exact


def deploy(
    setup: Setup,
    programs: Mapping[str, Path],
    *,
    folder: Path,
    budgets: Sequence[float] = (2.5, 3.0),
    a_bits: Sequence[int] = (8,),
    rounding: str = "gptq",
    builtin: Sequence[str] = (),
    jobs: int = 1,
    stages: Stages | None = None,
) -> Transfer:
    """Choose bits by built-in proxies and programs, and measure what the network loses at them.

    Parameters
    ----------
    setup : Setup
        From `tapc.flow.losses.measure.prepare`.
    programs : mapping of str to Path
        Name -> proxy program.
    folder : Path
        Of what is known already; made when missing.
    budgets : sequence of float
        Average weight bits.
    a_bits : sequence of int
        Bits of activations, each measured apart.
    rounding : {"nearest", "gptq"}
        gptq in the quick form that `tapc compile` compares candidates with.
    builtin : sequence of str
        Built-in proxies to compare with. What takes derivatives (``hawq`` most of all) takes hours for large networks.
    jobs : int
        Processes.
    stages : Stages, optional
        Shows progress.

    Raises
    ------
    DataError
        A program breaks the contract.
    OutputError
        The folder cannot be written.
    """
    stages, source = stages or Stages(), setup.source
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; choose another with -o") from error
    loaded = {name: load_program(path) for name, path in programs.items()}
    layers = _Layers(
        setup, folder / f"{source.name}.layers.jsonl", digest("layers", setup.content, code_digest(*_CODE, "proxy"))
    )
    with stages.stage("score layers") as advance:
        rows = layers.statistics()
        scores = layers.scores(list(builtin), advance) | {
            name: _normalized(name, ProgramProxy(program).score_table(rows)) for name, program in loaded.items()
        }
        distortion = layers.distortion()
    measuring = _Measuring(
        setup, folder / f"{source.name}.jsonl", digest(setup.content, rounding, code_digest(*_CODE)), rounding, jobs
    )
    origins = {name: program.origin for name, program in loaded.items()}
    origins |= {name: FOUND[name].origin for name in builtin if name in FOUND}
    exact = float_metric(setup)
    with stages.stage("8-bit weights") as advance:
        wide = {a: _wide(setup, a) for a in a_bits}
        found = measuring.all(list(wide.values()), advance)
    first = {a: found[drawn.key] for a, drawn in wide.items()}
    chosen: dict[tuple[int, str, float], Drawn] = {}
    for a in (a for a in a_bits if survives(first[a], exact)):
        for name, drawn in choose(setup.network, scores, distortion, budgets=budgets, a_bits=a).items():
            proxy, _, budget = name.rpartition("@")
            chosen[a, proxy, float(budget)] = drawn
    with stages.stage("measure bits") as advance:
        found = measuring.all(list(chosen.values()), advance)
    parameters = np.array([layer.parameters for layer in setup.network.layers], float)
    figures = []
    for (a, proxy, most), drawn in chosen.items():
        bits = float(parameters @ np.array(list(map(int, drawn.weights))))
        average = round(bits / float(parameters.sum()), 6)
        figures.append(Deployed(proxy, a, most, drawn.key, average, bits / 8, found[drawn.key]))
    return Transfer(
        source.name, setup.identity, rounding, setup.metric, exact, len(setup.samples.x),
        min(source.rounding, len(setup.samples.x)), len(setup.test.x),
        {name: setup.identity in origin.digests for name, origin in origins.items()}, first, tuple(figures),
        len({drawn.key for drawn in chosen.values()}),
    )  # fmt: skip


def _normalized(name: str, scores: Sequence[float]) -> tuple[float, ...]:
    mean = float(np.mean(scores))
    if mean <= 0:
        raise DataError(f"proxy {name!r} gives every layer the score 0: nothing can be chosen by it")
    return tuple(float(score) / mean for score in scores)


def _wide(setup: Setup, a_bits: int) -> Drawn:
    groups = groups_at(setup.network, str(a_bits))
    return Drawn("uniform", None, str(max(WEIGHT_BITS)) * len(setup.network.layers), groups)


@dataclass(frozen=True)
class _Layers:
    """What is known of a network's layers, kept in lines of a file as soon as each part is known."""

    setup: Setup
    path: Path
    identity: str

    def distortion(self) -> dict[str, dict[tuple[int, int], float]]:
        """Return each layer's own error at each pair of bits."""
        (found,) = self._kept(["distortion"], lambda _: [
            [name, w, a, value] for name, pairs in self._distortion.items() for (w, a), value in pairs.items()
        ])  # fmt: skip
        result: dict[str, dict[tuple[int, int], float]] = {}
        for name, w, a, value in found:
            result.setdefault(name, {})[w, a] = value
        return result

    def statistics(self) -> list[dict[str, Any]]:
        """Return the table that proxy programs score."""
        (found,) = self._kept(["statistics"], lambda _: [dict(row) for row in self._context.statistics()])  # type: ignore[misc]
        return list(found)

    def scores(self, proxies: Sequence[str], advance: Advance) -> dict[str, tuple[float, ...]]:
        """Return the scores of built-in proxies, by layer."""
        names = [layer.name for layer in self.setup.network.layers]

        def score(name: str) -> list[float]:
            found = get_proxy(name).score(self._context)
            return [found[layer] for layer in names]

        found = self._kept(proxies, score, advance)
        return {name: tuple(own) for name, own in zip(proxies, found, strict=True)}

    @cached_property
    def _distortion(self) -> Mapping[str, Mapping[tuple[int, int], float]]:
        setup = self.setup
        return layer_distortion(setup.model, setup.network, setup.calibration, setup.samples.x)

    @cached_property
    def _context(self) -> ProxyContext:
        setup, low = self.setup, min(WEIGHT_BITS)
        return proxy_context(
            setup.model, setup.network, setup.calibration, setup.samples.x, self.distortion(), low, setup.source.seed
        )

    def _kept(
        self, names: Sequence[str], make: Callable[[str], list[Any]], advance: Advance = lambda done, total: None
    ) -> list[Any]:
        known, keys = opened(self.path), {name: digest(self.identity, name) for name in names}
        for done, (name, key) in enumerate(keys.items()):
            advance(done, len(keys))
            if key not in known:
                known[key] = json.loads(json.dumps(make(name)))
                append_line(self.path, {"key": key, "row": known[key]})
        advance(len(keys), len(keys))
        return [known[key] for key in keys.values()]


class _Measuring:
    """Measures configurations that no line of a file knows."""

    def __init__(self, setup: Setup, path: Path, identity: str, rounding: str, jobs: int) -> None:
        self._setup, self._path, self._identity, self._rounding, self._jobs = setup, path, identity, rounding, jobs
        self._known = opened(path)

    def all(self, wanted: Sequence[Drawn], advance: Advance) -> dict[str, Measured]:
        """Return what is measured of configurations, by their bits."""
        keys = {digest(self._identity, drawn.key): drawn for drawn in wanted}
        missing = {key: drawn for key, drawn in keys.items() if key not in self._known}
        done = len(keys) - len(missing)
        advance(done, len(keys))
        for line in self._lines(missing):
            append_line(self._path, line)
            self._known[line["key"]] = line["row"]
            advance(done := done + 1, len(keys))
        return {drawn.key: Measured(**self._known[key]) for key, drawn in keys.items()}

    def _lines(self, missing: Mapping[str, Drawn]) -> Iterator[dict[str, Any]]:
        if self._jobs == 1 or len(missing) < 2:
            for key, drawn in missing.items():
                yield _line(self._setup, key, drawn, self._rounding)
            return
        tasks = ((key, drawn, self._rounding) for key, drawn in missing.items())
        yield from in_processes(self._jobs, _measure, tasks, start_process, (self._setup.source,))


def _measure(key: str, drawn: Drawn, rounding: str) -> dict[str, Any]:
    return _line(in_this_process(), key, drawn, rounding)


def _line(setup: Setup, key: str, drawn: Drawn, rounding: str) -> dict[str, Any]:
    return {"key": key, "row": asdict(losses(setup, bits_of(setup.network, drawn), [rounding])[rounding])}
