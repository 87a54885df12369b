"""A whole search: networks, baselines, evolution, a look at other networks, and the files it leaves."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tapc.base.cache import Store, cache_folder, digest
from tapc.base.errors import BudgetError, DataError, OutputError, TapcError, UsageError
from tapc.base.options import Source
from tapc.base.progress import Stages
from tapc.flow.devices import device_of
from tapc.flow.losses.ranking import MEASURED, REFERENCES, Ranking
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.proxy import Origin, Program, save_program
from tapc.proxy.columns import VERSION
from tapc.proxy.sandbox import Sandbox
from tapc.search.candidate import Generator
from tapc.search.controllers import controller
from tapc.search.elsewhere import Agreement, Elsewhere, agreement
from tapc.search.evolve import Evolution, Evolver
from tapc.search.fitness import VERSION as FITNESS
from tapc.search.fitness import Fitness, Judge
from tapc.search.generators import GeneratorOptions, make_generator
from tapc.search.given import Named, Tables, given_network
from tapc.search.log import NAME, Event, EventLog, read_events
from tapc.search.measurements import Measurements
from tapc.search.networks import SearchNetwork, identity_of, missing_columns
from tapc.search.options import SearchOptions
from tapc.search.report import NAME as REPORT
from tapc.search.report import write_report
from tapc.search.report.summary import check_version
from tapc.search.workers import DaskWorkers, ProcessWorkers, Workers

BEST = "proxy.toml"


class Request(BaseModel):
    """Everything that decides how a search ends; what the log's first line holds.

    Attributes
    ----------
    models : tuple of str
        Names or files of loss tables, zoo names, or model files.
    board : str or None
        None where nothing is measured on a device.
    tables : tuple of str
        Loss tables, or folders of them, beside those that come with tapc.
    hold_out : str or None
        As `models`: the network that decides among the finalists.
    data : tuple of str
        One data set per model; empty where none is needed, or zoo models find theirs.
    weights : tuple of str
        One state dict per model; empty where models have their own.
    input_shape, pixel_scale, mean, std
        As for `tapc.base.options.Source`, of all networks.
    generator : GeneratorOptions
    options : SearchOptions
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(min_length=1)
    board: str | None = None
    tables: tuple[str, ...] = ()
    hold_out: str | None = None
    data: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    input_shape: tuple[int, ...] | None = None
    pixel_scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    generator: GeneratorOptions
    options: SearchOptions

    def source(self, index: int) -> Source:
        """Return how a network and its inputs are read."""
        weights = Path(self.weights[index]) if index < len(self.weights) else None
        return Source(weights, self.input_shape, self.pixel_scale, self.mean, self.std)


@dataclass(frozen=True)
class Outcome:
    """What a search gave.

    Attributes
    ----------
    folder : Path
        Of the run: events.jsonl, proxy.toml, report.html.
    program : Program
        The winner.
    key : str
        Its key in the log.
    fitness : Fitness
    baselines : dict of str to Fitness or None
        Built-in proxies on the same networks, and what the measured losses of the layers alone would have; None where
        one cannot be used, or found no bits within the budgets.
    held_out : str or None
        The network that decided among the finalists.
    elsewhere : dict of str to dict of str to Fitness
        Candidate's key, or built-in proxy -> network that was not searched -> fitness there, without a cost.
    unseen : dict of str to Fitness or None
        The winner's key and built-in proxies -> fitness over the networks that had no say at all.
    agreement : Agreement or None
        Of all candidates' fitness with what they are elsewhere; None where there are no other networks.
    evolution : Evolution
    digest : str
        Of the log.
    measured, cached : int
        Configurations that were measured in this session, and that the cache knew.
    """

    folder: Path
    program: Program
    key: str
    fitness: Fitness
    baselines: dict[str, Fitness | None]
    held_out: str | None
    elsewhere: dict[str, dict[str, Fitness]]
    unseen: dict[str, Fitness | None]
    agreement: Agreement | None
    evolution: Evolution
    digest: str
    measured: int
    cached: int

    @property
    def above(self) -> bool:
        """Whether the winner's fitness is above that of every built-in proxy; measurements are none."""
        rivals = [b for name, b in self.baselines.items() if name not in REFERENCES and b is not None]
        return all(self.fitness.phi > b.phi for b in rivals)

    @property
    def beaten(self) -> bool | None:
        """Whether it is above every built-in proxy on unseen networks, too; None where there are none."""
        own = self.unseen.get(self.key)
        rivals = [b for name, b in self.unseen.items() if name not in (self.key, *REFERENCES) and b is not None]
        if not rivals:
            return None
        return own is not None and self.above and all(own.phi > b.phi for b in rivals)


def stored_request(folder: Path) -> Request:
    """Read what a run was asked for.

    Raises
    ------
    DataError
        The folder holds no usable log.
    """
    events, _ = read_events(folder / NAME)
    if not events or events[0].kind != "start":
        raise DataError(f"{folder}: its log holds no start; start the search again with another -o")
    check_version(events[0].data, folder)
    try:
        return Request.model_validate(events[0].data["request"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: its log was made by another version of tapc: {error}") from None


def search(
    request: Request,
    folder: Path,
    *,
    resume: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
    store: Store | None = None,
    stages: Stages | None = None,
    observe: Callable[[Event], None] = lambda event: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Search for a proxy.

    Parameters
    ----------
    request : Request
    folder : Path
        Of the run.
    resume : bool
        Go on with the run in the folder; `request` is then `stored_request` of it.
    jobs : int, optional
        Processes that measure; as many as there are cores by default.
    scheduler : str, optional
        Address of a dask scheduler that takes their place.
    store : Store, optional
        Measurements; by default tapc's cache folder.
    stages : Stages, optional
        Shows progress.
    observe : callable
        Told every event of the log.
    tell : callable
        Takes messages for the user.

    Raises
    ------
    TapcError
        Bad input; or no candidate was valid.
    """
    stages = stages or Stages()
    options = request.options
    board = None if request.board is None else load_board(request.board)
    if board is None and options.measures:
        raise UsageError(
            "--beta and budgets weigh what a board measures: give --board, or leave them out; --cost bops needs none"
        )
    if (options.device or "").startswith("serial:"):
        if scheduler or (jobs or 1) > 1:
            raise UsageError("a board runs one image at a time: leave out --scheduler, and --jobs above 1")
        jobs = 1
    if options.device is not None and board is not None:
        device_of(load_target(board.core), options.device, board)
    for name in () if resume else (BEST, REPORT):
        if os.path.lexists(folder / name):
            raise OutputError(f"{folder / name} exists, and a search would replace it; choose another folder with -o")
    with EventLog(folder, resume=resume, observe=observe) as log, _workers(scheduler, jobs) as working:
        log.record("start", "", partial(_start, request))
        measurements = Measurements(working, store or Store(cache_folder() / "configurations"))
        tables = Tables(request.tables)

        def given(name: str, data: str | None, reading: Source) -> SearchNetwork:
            network, notes = given_network(Named(name, data, reading), tables, board, options, measurements, stages)
            for note in notes:
                tell(f"{note}. A search ranks proxies by losses: so few samples rank them badly")
            return network

        data = [request.data[i] if i < len(request.data) else None for i in range(len(request.models))]
        networks = [given(name, data[i], request.source(i)) for i, name in enumerate(request.models)]
        held = None if request.hold_out is None else _held_out(request.hold_out, tables, options, measurements, stages)
        _check_distinct([*networks, *([] if held is None else [held])])
        judge = Judge(networks, options, measurements)
        judge.check()
        elsewhere = Elsewhere(held, _unseen(tables, [*networks, *([] if held is None else [held])], options), options)
        generator = make_generator(request.generator, options, networks, log.events, tell)
        ready = partial(_ready, networks, elsewhere, generator)
        if log.record("ready", "", ready)["networks"] != ready()["networks"]:
            raise DataError(
                f"{folder}: model, data or tapc changed since the run began; start a new one with another -o"
            )
        with stages.stage("built-in proxies") as advance:
            baselines = _baselines(networks, judge, log, advance)
        with Sandbox() as sandbox:
            origin = _provenance(request, generator, networks)
            evolver = Evolver(options, generator, judge, sandbox, log, origin, baselines)
            with stages.stage("evolution"):
                evolution = evolver.run(controller(options.controller))
            if not evolution.ranked:
                raise BudgetError(_nothing(evolution))
            with stages.stage("other networks") as advance:
                found = {name: elsewhere.builtin(name, log) for name in baselines if name != MEASURED}
                for i, candidate in enumerate(evolution.ranked):
                    found[candidate.key] = elsewhere.program(candidate, sandbox, log)
                    advance(i + 1, len(evolution.ranked))
        best = elsewhere.winner(evolution.ranked[: options.finalists], found)
        assert best.judged is not None
        assert best.program is not None
        log.record("end", "", partial(dict, winner=best.key))
        save_program(best.program, folder / BEST)
        write_report(folder)
        unseen = {name: elsewhere.on_unseen(found[name]) for name in (best.key, *baselines) if name in found}
        return Outcome(
            folder, best.program, best.key, best.judged, baselines, None if held is None else held.name, found, unseen,
            agreement(evolution.ranked, found), evolution, log.digest, measurements.measured, measurements.cached,
        )  # fmt: skip


@contextmanager
def _workers(scheduler: str | None, jobs: int | None) -> Iterator[Workers]:
    workers: Workers = DaskWorkers(scheduler) if scheduler else ProcessWorkers(jobs or os.cpu_count() or 1)
    try:
        yield workers
    finally:
        workers.close()


def _held_out(
    name: str, tables: Tables, options: SearchOptions, measurements: Measurements, stages: Stages
) -> SearchNetwork:
    """Return the network that is held out; nothing of it is measured on a device."""
    plain = options.model_copy(update={"beta": 0.0, "flash": None, "ram": None, "latency": None, "allocator": "ilp"})
    return given_network(Named(name), tables, None, plain, measurements, stages)[0]


def _check_distinct(networks: Sequence[SearchNetwork]) -> None:
    names, contents = ([getattr(n, of) for n in networks] for of in ("name", "content"))
    twice = next((n for n, c in zip(names, contents, strict=True) if contents.count(c) > 1 or names.count(n) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice among the networks and --hold-out")


def _unseen(tables: Tables, seen: Sequence[SearchNetwork], options: SearchOptions) -> list[SearchNetwork]:
    """Return the networks of all other tables, told apart by content."""
    contents = {network.content for network in seen}
    others = [table for _, table in sorted(tables.by_name.items())
              if identity_of(table) not in contents and not missing_columns(table)]  # fmt: skip
    return [SearchNetwork(Ranking(table, options.rounding)) for table in others]


def _start(request: Request) -> dict[str, Any]:
    return {
        "request": request.model_dump(mode="json"),
        "fitness": FITNESS,
        "tapc": version("tapc"),
        "statistics": VERSION,
    }


def _ready(networks: Sequence[SearchNetwork], elsewhere: Elsewhere, generator: Generator) -> dict[str, Any]:
    def known(network: SearchNetwork) -> dict[str, Any]:
        table = network.losses
        rows = [(row.key, row.by(network.ranking.rounding).loss) for row in table.rows]
        device = None if network.device is None else network.device.subject.digest
        return {
            "name": network.name,
            "digest": digest(network.content, network.table, rows, device),
            "layers": network.layer_names,
            "configurations": len(rows),
        }

    return {
        "generator": generator.label,
        "prompts": dict(generator.prompts),
        "networks": [known(network) for network in networks],
        "held_out": None if elsewhere.held_out is None else known(elsewhere.held_out),
        "unseen": [known(network) for network in elsewhere.unseen],
    }


def _provenance(request: Request, generator: Generator, networks: Sequence[SearchNetwork]) -> Origin:
    return Origin(
        generator=generator.label,
        prompts=dict(generator.prompts),
        networks=request.models,
        digests=tuple(network.content for network in networks),
        board=request.board,
        search=request.options.model_dump(mode="json", exclude_none=True),
    )


def _baselines(
    networks: Sequence[SearchNetwork], judge: Judge, log: EventLog, advance: Callable[[int, int], None]
) -> dict[str, Fitness | None]:
    """Judge every built-in proxy that all tables have just like a candidate, and the losses of layers alone."""

    def run(name: str) -> dict[str, Any]:
        try:
            if name == MEASURED:
                return {"fitness": judge.ceiling().to_dict(), "problem": ""}
            return {"fitness": judge.judge([n.losses.scores[name] for n in networks]).to_dict(), "problem": ""}
        except TapcError as error:
            return {"fitness": None, "problem": str(error)[:2000]}

    names = sorted(set.intersection(*(set(network.losses.scores) for network in networks)))
    if all(judge.options.rounding in network.losses.alone for network in networks):
        names.append(MEASURED)
    results: dict[str, Fitness | None] = {}
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(run, name) for name in names if not log.knows("baseline", name)}
        try:
            for i, name in enumerate(names):
                data = log.record("baseline", name, running[name].result if name in running else dict)
                results[name] = None if data["fitness"] is None else Fitness.from_dict(data["fitness"])
                advance(i + 1, len(names))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def _nothing(evolution: Evolution) -> str:
    reasons = [f"{c.key}: {c.kind}: {c.message.splitlines()[0] if c.message else ''}" for c in evolution.candidates]
    return (
        f"none of {len(reasons)} candidates was a valid proxy within the budgets. The last: "
        + "; ".join(reasons[-3:])
        + ". Try another model (--llm), more generations, or larger budgets"
    )
