"""The file of a study: options of `tapc search` by their names, axes along which they vary, and seeds."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapc.base.cache import digest
from tapc.base.errors import DataError
from tapc.hardware.board import read_toml
from tapc.search.generators import GeneratorOptions
from tapc.search.given import Tables, default_names
from tapc.search.llm import LLMOptions
from tapc.search.options import SearchOptions
from tapc.search.run import Request

_OTHER_NAMES = {"networks": "models", "table": "tables"}
"""What the command line calls otherwise than the request."""
_NO_OPTIONS = ("models", "generator", "options", "seed")
_MODELS: tuple[type[BaseModel], ...] = (Request, GeneratorOptions, LLMOptions, SearchOptions)
_KEY = 16

Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[list[Seed], Field(min_length=1)]


class Grid(BaseModel):
    """Searches that differ in some options.

    Attributes
    ----------
    name : str
    options : dict
        Beside those of the whole study, in whose place they stand.
    axes : dict of str to list
        Option -> its values; every combination is searched with every seed.
    seeds : list of int or None
        In place of the study's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    options: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)
    seeds: Seeds | None = None


class Draws(BaseModel):
    """A network on which the winners' bits are measured with several draws of calibration samples (Table 10).

    Attributes
    ----------
    network, data : str
        As `tapc bench transfer` takes them.
    weights : str or None
    seeds : list of int
        Of the draws.
    target_bits : float
        Average weight bits.
    abits : {4, 8}
    calibration, seen, test : int
        Samples: to calibrate on, of them by gptq, to measure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    data: str
    weights: str | None = None
    seeds: Seeds = Field(default=[0, 1, 2, 3, 4])
    target_bits: float = Field(default=2.5, ge=2, le=8)
    abits: Literal[4, 8] = 8
    calibration: int = Field(default=16, ge=16)
    seen: int = Field(default=16, ge=1)
    test: int = Field(default=256, ge=1)


class StudyFile(BaseModel):
    """A study.

    Attributes
    ----------
    version : int
        `schema` in the file.
    name : str
    seeds : list of int
        A number N in the file stands for 0 .. N-1.
    options : dict
        Of all searches.
    grid : list of Grid
    draws : Draws or None
    timing : int
        Runs of Table 7, whose times no two studies share; 0: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = Field(alias="schema")
    name: str = Field(min_length=1, max_length=80)
    seeds: Seeds
    options: dict[str, Any] = Field(default_factory=dict)
    grid: Annotated[list[Grid], Field(min_length=1)]
    draws: Draws | None = None
    timing: int = Field(default=0, ge=0, le=20)


@dataclass(frozen=True)
class Cell:
    """One search of a study.

    Attributes
    ----------
    key : str
        Digest of the request: searches of several grids that are the same are one.
    request : Request
    settings : dict of str to str
        Axis -> value, as text.
    seed : int
    """

    key: str
    request: Request
    settings: dict[str, str]
    seed: int

    @property
    def label(self) -> str:
        """What it is, for messages."""
        return ", ".join(f"{name} {value}" for name, value in [*self.settings.items(), ("seed", self.seed)])


@dataclass(frozen=True)
class Planned:
    """A grid and its searches, in the order of the axes' values and then of the seeds."""

    grid: Grid
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> dict[tuple[str, ...], list[Cell]]:
        """Return the cells of each combination of values, by seed."""
        result: dict[tuple[str, ...], list[Cell]] = {}
        for cell in self.cells:
            result.setdefault(tuple(cell.settings.values()), []).append(cell)
        return result


def read_study(path: Path) -> tuple[StudyFile, tuple[Planned, ...]]:
    """Read a study and list its searches.

    Raises
    ------
    DataError
        The file is missing, or says something that no search takes: where, what, and what to write.
    """
    values = read_toml(path, "study")
    if isinstance(number := values.get("seeds"), int) and not isinstance(number, bool):
        values = values | {"seeds": list(range(number))}
    try:
        file = StudyFile.model_validate(values)
    except ValidationError as error:
        raise DataError(f"study {path}: {_explained(error)}") from None
    names = [grid.name for grid in file.grid]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"study {path}: two grids are called {twice!r}; give each its own name")
    return file, tuple(_planned(path, file, grid) for grid in file.grid)


def _planned(path: Path, file: StudyFile, grid: Grid) -> Planned:
    where = f"study {path}: grid {grid.name!r}"
    common = _named(f"study {path}: [options]", file.options) | _named(f"{where}: options", grid.options)
    axes = _named(f"{where}: axes", grid.axes)
    for name, values in axes.items():
        shown = [label(value) for value in values]
        if twice := next((text for text in shown if shown.count(text) > 1), None):
            raise DataError(f"{where}: axis {name} has {twice} twice; name each value once")
    seeds = tuple(dict.fromkeys(grid.seeds or file.seeds))
    cells = []
    for combination in itertools.product(*axes.values()):
        settings = dict(zip(axes, combination, strict=True))
        texts = {name: label(value) for name, value in settings.items()}
        for seed in seeds:
            filled = {name: _filled(value, texts | {"seed": str(seed)}) for name, value in (common | settings).items()}
            try:
                request = request_of(filled | {"seed": seed})
            except ValidationError as error:
                raise DataError(f"{where}: {_explained(error)}") from None
            key = digest(request.model_dump(mode="json", exclude_defaults=True))[:_KEY]
            cells.append(Cell(key, request, texts, seed))
    return Planned(grid, seeds, tuple(cells))


def label(value: Any) -> str:
    """Return an option's value as text, for tables."""
    if isinstance(value, list):
        return ",".join(map(label, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _filled(value: Any, texts: Mapping[str, str]) -> Any:
    """Put an axis's value, or the seed, where a text has its name in braces."""
    if isinstance(value, list):
        return [_filled(item, texts) for item in value]
    if isinstance(value, str):
        for name, text in texts.items():
            value = value.replace(f"{{{name}}}", text)
    return value


def option_names() -> list[str]:
    """Return the options that a study may set."""
    return sorted(_fields())


def _fields() -> dict[str, type[BaseModel]]:
    found = {name: model for model in _MODELS for name in model.model_fields if name not in _NO_OPTIONS}
    return found | {other: Request for other in _OTHER_NAMES}


def _named(where: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names of their fields.

    Raises
    ------
    DataError
        There is no such option.
    """
    result = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        if name == "seed":
            raise DataError(f"{where}: seeds are given once, by `seeds = [0, 1, 2]`; leave out `seed`")
        if name not in _fields():
            close = get_close_matches(name, option_names(), 1, 0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(option_names())}"
            raise DataError(f"{where}: tapc search has no option {given!r}{hint}")
        result[name] = value
    return result


def request_of(values: Mapping[str, Any]) -> Request:
    """Return what a search is asked for, from options by name.

    Raises
    ------
    pydantic.ValidationError
    """

    def of(model: type[BaseModel], **more: Any) -> dict[str, Any]:
        return {name: values[name] for name in model.model_fields if name in values} | more

    asked = of(Request) | {field: values[name] for name, field in _OTHER_NAMES.items() if name in values}
    for name, value in asked.items():
        if isinstance(value, str) and get_origin(Request.model_fields[name].annotation) is tuple:
            asked[name] = [value]
    if "models" not in asked:
        tables = asked.get("tables", ())
        asked["models"], held = _default_names((tables,) if isinstance(tables, str) else tuple(tables))
        asked.setdefault("hold_out", held)
    # As the command line has it: without a board nothing can be measured on one.
    unmeasured = {} if "board" in asked else {"beta": 0.0, "cost": "bops"}
    options = SearchOptions.model_validate(unmeasured | of(SearchOptions))
    llm = LLMOptions.model_validate(of(LLMOptions))
    generator = GeneratorOptions.model_validate(of(GeneratorOptions) | {"options": llm})
    return Request.model_validate(asked | {"generator": generator, "options": options})


@cache
def _default_names(tables: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    return default_names(Tables(tables))


def _explained(error: ValidationError) -> str:
    return "; ".join(dict.fromkeys(_reasons(error)))


def _reasons(error: ValidationError) -> Iterator[str]:
    names = {field: other for other, field in _OTHER_NAMES.items()}
    for item in error.errors():
        where = ".".join(names.get(str(part), str(part)) for part in item["loc"])
        if item["type"] == "missing":
            yield f"{where} is missing; add it"
        elif item["type"] == "extra_forbidden":
            yield f"{where} is unknown; options of tapc search belong below [options], or options of a grid"
        elif item["type"] == "too_short":
            yield f"{where} is empty; give at least one"
        else:
            given = "" if isinstance(item["input"], dict) else f", not {item['input']!r}"
            yield f"{where}: {item['msg'][:1].lower()}{item['msg'][1:]}{given}"
