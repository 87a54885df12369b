"""A whole search: networks, baselines, evolution, the one look at the test set, and the files it leaves."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tapc import zoo
from tapc.allocate import solve
from tapc.base.cache import Store, cache_folder, digest
from tapc.base.errors import BudgetError, DataError, OutputError, TapcError, UsageError
from tapc.base.options import Source
from tapc.base.progress import Stages
from tapc.data import Samples, Split, find_data, load_samples, shipped_note
from tapc.flow.devices import device_of
from tapc.flow.inputs import open_model
from tapc.frontend import FloatModel
from tapc.frontend.identity import network_digest
from tapc.graph.network import Bits
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import load_target
from tapc.proxy import Origin, Program, get_proxy, proxy_names, save_program
from tapc.proxy.columns import VERSION
from tapc.proxy.sandbox import Sandbox
from tapc.search.candidate import Generator
from tapc.search.controllers import controller
from tapc.search.evolve import Evolution, Evolver
from tapc.search.fitness import Fitness, Judge, NetworkFitness
from tapc.search.generators import GeneratorOptions, make_generator
from tapc.search.log import NAME, Event, EventLog, read_events
from tapc.search.measurements import Measurements
from tapc.search.networks import SearchNetwork, divide, prepare
from tapc.search.options import SearchOptions
from tapc.search.report import NAME as REPORT
from tapc.search.report import write_report
from tapc.search.report.summary import ORACLE
from tapc.search.workers import DaskWorkers, ProcessWorkers, Workers

BEST = "proxy.toml"


class Request(BaseModel):
    """Everything that decides how a search ends; what the log's first line holds.

    Attributes
    ----------
    models : tuple of str
        Zoo names or files.
    board : str
    data : tuple of str
        One data set per model; empty where zoo models find theirs.
    weights : tuple of str
        One state dict per model; empty where models have their own.
    input_shape, pixel_scale, mean, std
        As for `tapc.base.options.Source`, of all networks.
    generator : GeneratorOptions
    options : SearchOptions
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(min_length=1)
    board: str
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
        Built-in proxies on the same networks; None where one cannot be used, or found no bits within the budgets.
    test : dict of str to float
        Network -> top-1 of the winner's bits on the test set, 0..1.
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
    test: dict[str, float]
    evolution: Evolution
    digest: str
    measured: int
    cached: int

    @property
    def beaten(self) -> bool:
        """Whether the winner's fitness is above that of every built-in proxy.

        The measurement itself, `ORACLE`, is none: it is what rho compares with.
        """
        rivals = [b for name, b in self.baselines.items() if name != ORACLE and b is not None]
        return all(self.fitness.phi > b.phi for b in rivals)


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
    board = load_board(request.board)
    if (request.options.device or "").startswith("serial:"):
        if scheduler or (jobs or 1) > 1:
            raise UsageError("a board runs one image at a time: leave out --scheduler, and --jobs above 1")
        jobs = 1
    if request.options.device is not None:
        device_of(load_target(board.core), request.options.device, board)
    for name in () if resume else (BEST, REPORT):
        if os.path.lexists(folder / name):
            raise OutputError(f"{folder / name} exists, and a search would replace it; choose another folder with -o")
    with EventLog(folder, resume=resume, observe=observe) as log:
        with stages.stage("networks") as advance:
            loaded = []
            for i, name in enumerate(request.models):
                path = Path(request.data[i]) if i < len(request.data) else default_data(name)
                loaded.append(_network(request, path, open_model(name, request.source(i), request.options.seed), board))
                for note in shipped_note(path):
                    tell(f"{note}. A search ranks proxies by accuracy: so few samples rank them badly")
                advance(i + 1, len(request.models))
        networks = [network for network, _, _ in loaded]
        for network in networks:
            solve(network.problem)  # budgets that nothing meets end the search before anything is asked or paid
        generator = make_generator(request.generator, request.options, networks, log.events, tell)
        start = partial(_start, request, networks, generator)
        known = log.record("start", "", start)
        if known["networks"] != start()["networks"]:
            raise DataError(
                f"{folder}: model, data or tapc changed since the run began; start a new one with another -o"
            )
        workers: Workers = DaskWorkers(scheduler) if scheduler else ProcessWorkers(jobs or os.cpu_count() or 1)
        try:
            cache = store or Store(cache_folder() / "configurations")
            measurements = Measurements(workers, cache, on_device=request.options.measures)
            judge = Judge(networks, request.options, measurements)
            with stages.stage("built-in proxies") as advance:
                baselines = _baselines(networks, judge, log, advance)
            with Sandbox() as sandbox:
                origin = _provenance(request, generator, [network_digest(model.onnx) for _, model, _ in loaded])
                evolver = Evolver(request.options, generator, judge, sandbox, log, origin, baselines)
                with stages.stage("evolution"):
                    evolution = evolver.run(controller(request.options.controller))
            best = evolution.best
            if best is None or best.judged is None or best.program is None:
                raise BudgetError(_nothing(evolution))
            with stages.stage("test set"):
                tests = [(n, s) for n, _, s in loaded]
                test = log.record("test", best.key, partial(_test, tests, best.judged.networks, measurements))
        finally:
            workers.close()
        log.record("end", "", partial(dict, winner=best.key))
        save_program(best.program, folder / BEST)
        write_report(folder)
        return Outcome(
            folder, best.program, best.key, best.judged, baselines, test, evolution, log.digest,
            measurements.measured, measurements.cached,
        )  # fmt: skip


def _start(request: Request, networks: Sequence[SearchNetwork], generator: Generator) -> dict[str, Any]:
    return {
        "request": request.model_dump(mode="json"),
        "generator": generator.label,
        "prompts": dict(generator.prompts),
        "tapc": version("tapc"),
        "statistics": VERSION,
        "networks": [
            {"name": n.name, "digest": digest(n.subject.digest, n.table), "layers": n.layer_names} for n in networks
        ],
    }


def _provenance(request: Request, generator: Generator, digests: Sequence[str]) -> Origin:
    return Origin(
        generator=generator.label,
        prompts=dict(generator.prompts),
        networks=request.models,
        digests=tuple(digests),
        board=request.board,
        search=request.options.model_dump(mode="json", exclude_none=True),
    )


def _network(
    request: Request, path: Path, model: FloatModel, board: Board
) -> tuple[SearchNetwork, FloatModel, Samples]:
    options = request.options

    def samples_of(split: Split, count: int) -> Samples:
        return load_samples(
            path, model.input_shape, pixel_scale=model.units, count=count, split=split, seed=options.seed
        )

    train = samples_of("calibration", options.calibration + options.holdout)
    test = samples_of("test", options.test)
    # Small sets give at most a third to calibration, which needs no labels.
    samples, holdout = divide(train, min(options.calibration, len(train.x) // 3), path)
    return prepare(model, samples, holdout, board, load_target(board.core), options), model, test


def default_data(name: str) -> Path:
    """Return the data set of a zoo network.

    Raises
    ------
    UsageError
        The network is no model of the zoo, or its data set is not installed.
    """
    entry = next((entry for entry in zoo.models() if entry.name == name), None)
    path = find_data(entry.default.dataset) if entry is not None else None
    if path is None:
        known = (
            f"the data set {entry.default.dataset!r} of {name} was not found"
            if entry
            else f"{name} is no model of the zoo"
        )
        raise UsageError(f"{known}: give labelled samples with --data PATH, once per network; or set TAPC_DATA")
    return path


def _baselines(
    networks: Sequence[SearchNetwork], judge: Judge, log: EventLog, advance: Callable[[int, int], None]
) -> dict[str, Fitness | None]:
    """Judge every built-in proxy just like a candidate."""
    scoring = threading.Lock()

    def run(name: str) -> dict[str, Any]:
        try:
            with scoring:  # derivatives are computed once and kept
                scores = [get_proxy(name).score(network.context) for network in networks]
            return {"fitness": judge.judge(scores).to_dict(), "problem": ""}
        except TapcError as error:
            return {"fitness": None, "problem": str(error)[:2000]}

    names = proxy_names()
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


def _test(
    networks: Sequence[tuple[SearchNetwork, Samples]], judged: Sequence[NetworkFitness], measurements: Measurements
) -> dict[str, float]:
    """Measure the winner's bits on the test set."""
    result = {}
    for (network, samples), fitness in zip(networks, judged, strict=True):
        weights = dict(zip(network.layer_names, fitness.weights, strict=True))
        bits = Bits(weights, dict(enumerate(fitness.activations)))
        subject = replace(network.subject, holdout=samples)
        result[network.name] = measurements.measure(subject, bits, on_device=False).accuracy
    return result


def _nothing(evolution: Evolution) -> str:
    reasons = [f"{c.key}: {c.kind}: {c.message.splitlines()[0] if c.message else ''}" for c in evolution.candidates]
    return (
        f"none of {len(reasons)} candidates was a valid proxy within the budgets. The last: "
        + "; ".join(reasons[-3:])
        + ". Try another model (--llm), more generations, or larger budgets"
    )
