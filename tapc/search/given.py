"""The networks that a search names: with loss tables that there are, else measured on the search's workers."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tapc import zoo
from tapc.base.errors import DataError, UsageError
from tapc.base.options import Source as Reading
from tapc.base.progress import Stages
from tapc.data import find_data, shipped_note
from tapc.flow.inputs import open_model
from tapc.flow.losses import LossTable, load_losses, loss_names
from tapc.flow.losses.generate import facts_from, facts_key, facts_of, planned, table_of
from tapc.flow.losses.measure import Setup, Source, setup_of
from tapc.flow.losses.ranking import Ranking
from tapc.flow.losses.table import SEARCHED, SUFFIX
from tapc.frontend import FloatModel
from tapc.frontend.identity import network_digest
from tapc.hardware.board import Board
from tapc.hardware.target import load_target
from tapc.search.configuration import measure_loss
from tapc.search.measurements import Measurements
from tapc.search.networks import SearchNetwork, identity_of, missing_columns, on_device
from tapc.search.options import SearchOptions

HELD_OUT = "inverted"
"""Of the networks that come with tapc for searches, the one that decides among the fittest of the others."""

_ROUNDING = 128  # samples that gptq sees
_AT_ONCE = 32


@dataclass(frozen=True)
class Named:
    """A network as a user names it.

    Attributes
    ----------
    name : str
        Of a loss table, a model of the zoo, or a file of either.
    data : str or None
        Samples; those of the zoo's model where None.
    reading : tapc.base.options.Source
        How the model and its inputs are read.
    """

    name: str
    data: str | None = None
    reading: Reading = field(default_factory=Reading)


class Tables:
    """Loss tables by name and by content of their networks: those that come with tapc, and files.

    Attributes
    ----------
    by_name : dict of str to LossTable
    searched : tuple of str
        Networks that come with tapc for searches.

    Parameters
    ----------
    files : sequence of str
        Tables, or folders of them, which take the place of those with the same name.

    Raises
    ------
    DataError
        A file is no table; a folder holds none.
    """

    def __init__(self, files: Sequence[str] = ()) -> None:
        self.searched = loss_names(SEARCHED)
        self.by_name: dict[str, LossTable] = {name: load_losses(name) for name in (*self.searched, *loss_names())}
        for path in map(Path, files):
            found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
            if not found:
                raise DataError(f"--table {path}: holds no *{SUFFIX}")
            for table in map(load_losses, found):
                self.by_name[table.network] = table

    def named(self, name: str) -> LossTable | None:
        """Return the table of a network's name or a table's file."""
        return load_losses(Path(name)) if name.endswith(SUFFIX) else self.by_name.get(name)

    def of_network(self, model: FloatModel) -> LossTable | None:
        """Return the table of a network, whatever its file is called."""
        digests = digests_of(model)
        return next((table for table in self.by_name.values() if identity_of(table) in digests), None)


def digests_of(model: FloatModel) -> tuple[str, str]:
    """Return what `identity_of` may give for the network's table."""
    return network_digest(model.onnx), hashlib.sha256(model.onnx.SerializeToString(deterministic=True)).hexdigest()


def default_names(tables: Tables) -> tuple[tuple[str, ...], str | None]:
    """Return the networks of a search that names none, and the one that is held out.

    Raises
    ------
    UsageError
        No tables are there.
    """
    names = tuple(name for name in tables.searched if name != HELD_OUT)
    if not names:
        raise UsageError("no loss tables come with this tapc: name networks, or tables with --table")
    return names, HELD_OUT if HELD_OUT in tables.searched else None


def given_network(
    named: Named, tables: Tables, board: Board | None, options: SearchOptions, measurements: Measurements,
    stages: Stages,
) -> tuple[SearchNetwork, tuple[str, ...]]:  # fmt: skip
    """Return a network with its measured configurations, and what to tell the user of its samples.

    Nothing of a network is loaded whose table is known, unless the device or programs that choose bits need it.

    Raises
    ------
    TapcError
        Model, data or table are missing or wrong.
    """
    rounding = options.rounding
    # Other weights make another network of the same name.
    table = None if named.reading.weights is not None else tables.named(named.name)
    if table is not None and (missing := missing_columns(table)):
        raise DataError(
            f"{named.name}: the loss table is of an older tapc: its statistics lack {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}; name the network's file and --data, and it is measured anew"
        )
    own = options.allocator == "proxy"  # chooses bits that no table knows
    wanted = board is not None and options.measures
    if table is not None and not wanted and not own:
        return SearchNetwork(Ranking(table, rounding)), ()
    file = named.name if table is None else _model_of(table)
    model = open_model(file, named.reading, options.seed)
    digests = digests_of(model)
    if table is not None and identity_of(table) not in digests:
        raise DataError(f"{named.name}: the loss table is of another network than {file} is now")
    found = tables.of_network(model)
    table = table or (None if found is not None and missing_columns(found) else found)
    if table is not None and not wanted and not own:
        return SearchNetwork(Ranking(table, rounding), identity=digests[0]), ()
    path = Path(named.data) if named.data is not None else default_data(file)
    source = Source(
        table.network if table else model.name, file, path, options.calibration, _ROUNDING, options.test,
        named.reading.weights, options.seed,
    )  # fmt: skip
    setup = setup_of(source, model)
    if table is None or own:
        table = measured_table(setup, options.configurations, measurements, stages)
    device = None
    if wanted:
        assert board is not None
        device = on_device(setup, table, board, load_target(board.core), options)
    return SearchNetwork(Ranking(table, rounding), device, setup.portable() if own else None, digests[0]), shipped_note(
        path
    )


def measured_table(setup: Setup, count: int, measurements: Measurements, stages: Stages) -> LossTable:
    """Measure a network's configurations on the workers, those that the store does not know.

    Parameters
    ----------
    setup : Setup
    count : int
        Configurations that are drawn; those that allocators choose come besides.
    measurements : Measurements
    stages : Stages
        Shows progress.
    """
    name = setup.source.name
    with stages.stage(f"layers of {name}"):
        facts = facts_from(measurements.stored(facts_key(setup), lambda: facts_of(setup)))
    with stages.stage(f"losses of {name}") as advance, ThreadPoolExecutor(_AT_ONCE) as pool:
        plan, shared = planned(setup, count, facts), setup.portable()
        futures = {
            pool.submit(measurements.once, key, measure_loss, shared, drawn): key for key, drawn in plan.wanted.items()
        }
        rows = {}
        try:
            for future in as_completed(futures):
                rows[futures[future]] = future.result()
                advance(len(rows), len(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return table_of(plan, rows, "tapc search")


def _model_of(table: LossTable) -> str:
    """Return the zoo's model that a table is of.

    Raises
    ------
    UsageError
        The table is of a file.
    """
    model = table.provenance.model
    if any(entry.name == model for entry in zoo.models()):
        return model
    raise UsageError(
        f"{table.network}: a board, or programs that choose bits, need the network itself: name the file {model} in "
        "place of its table, with --data"
    )


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
