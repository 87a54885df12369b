"""Proxies as programs: reasoning text T and code C (arXiv 2512.07419, Sec. 3.1), stored in one file.

A TOML file holds both and where they come from; a Python file is the code alone, its docstring the reasoning.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapc.base.errors import DataError
from tapc.base.files import read_regular, reading
from tapc.hardware.board import read_toml
from tapc.proxy.base import ProxyContext, Scores, normalize
from tapc.proxy.columns import Mode, Row
from tapc.proxy.contract import ContractError, Target, allocated, channels_scored, scored

Operator = Literal["initialization", "mutation", "crossover"]


class Origin(BaseModel):
    """Where a program comes from, and how good it was there.

    Attributes
    ----------
    generator : str
        Language model, or what else wrote it.
    operator : str or None
    parents : tuple of str
    prompts : dict of str to str
        Prompt file -> version and digest.
    fitness, rho, accuracy, cost : float or None
        On the search networks; see docs/search.md.
    networks : tuple of str
    digests : tuple of str
        Of these networks: see `tapc.frontend.identity`; they stay the same under another name.
    board : str or None
    search : dict
        Options of the search.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: str = ""
    operator: Operator | None = None
    parents: tuple[str, ...] = ()
    prompts: dict[str, str] = Field(default_factory=dict)
    fitness: float | None = None
    rho: float | None = None
    accuracy: float | None = None
    cost: float | None = None
    networks: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    board: str | None = None
    search: dict[str, Any] = Field(default_factory=dict)


class Program(BaseModel):
    """A proxy as text.

    Attributes
    ----------
    name : str
    reasoning : str
        T: why the scores should predict the error.
    code : str
        C: Python that defines ``score(layers)`` and perhaps ``allocate(scores, layers, target)`` and
        ``score_channels(layers)``.
    inputs : {"statistics", "metadata"}
        Which columns it sees; see `tapc.proxy.columns`.
    origin : Origin
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    reasoning: str = ""
    code: str = Field(min_length=1)
    inputs: Mode = "statistics"
    origin: Origin = Origin()

    @property
    def allocates(self) -> bool:
        """Whether it defines its own ``allocate``."""
        return defines(self.code, "allocate")

    @property
    def scores_channels(self) -> bool:
        """Whether it defines ``score_channels``."""
        return defines(self.code, "score_channels")


def defines(code: str, function: str) -> bool:
    """Return whether code defines a function at its top level; False where it does not parse."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


_SCHEMA = 1
_MOST_BYTES = 4 << 20


def load_program(path: Path) -> Program:
    """Read a proxy program.

    Parameters
    ----------
    path : Path
        ``.toml`` as `save_program` writes it, or ``.py``.

    Raises
    ------
    DataError
        The file is missing or not a proxy; says what is wrong with it.
    """
    if path.suffix == ".py":
        with reading(f"proxy {path}"):
            text = read_regular(path, _MOST_BYTES, "proxy").decode("utf-8")
        program = Program(name=path.stem, reasoning=_docstring(text), code=text or " ")
    else:
        try:
            values = read_toml(path, "proxy")
            if values.pop("schema", None) != _SCHEMA:
                raise DataError(f"proxy {path}: needs schema = {_SCHEMA}")
            program = Program.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"proxy {path}: {where}: {first['msg']}") from None
    if not defines(program.code, "score"):
        raise DataError(f"proxy {path}: its code defines no function score(layers), or does not parse")
    return program


def _docstring(code: str) -> str:
    try:
        return ast.get_docstring(ast.parse(code)) or ""
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""


def dump_program(program: Program) -> str:
    """Return a program as the text of its TOML file."""
    values = program.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps({"schema": _SCHEMA} | values, multiline_strings=True)


def save_program(program: Program, path: Path) -> None:
    """Write a program to a TOML file; an existing one is replaced at once or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(dump_program(program), encoding="utf-8")
    temporary.replace(path)


@dataclass(frozen=True)
class ProgramProxy:
    """A program as a proxy; its code runs in the sandbox only."""

    program: Program

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def summary(self) -> str:
        """The first line of its reasoning."""
        return self.program.reasoning.strip().split("\n")[0]

    def score_table(self, table: Sequence[Row]) -> list[float]:
        """Return the raw scores of a statistics table's layers.

        Raises
        ------
        DataError
            The program breaks the contract.
        """
        from tapc.proxy.sandbox import Sandbox

        with Sandbox() as sandbox:
            try:
                return scored(sandbox, self.program.code, [table], self.program.inputs)[0]
            except ContractError as error:
                raise DataError(f"proxy {self.name!r}: {error}") from None

    def score(self, context: ProxyContext) -> Scores:
        """Return normalized scores; see `score_table` and `normalize` for the errors."""
        if context.statistics is None:
            raise DataError(f"proxy {self.name!r} needs the statistics of the network; give calibration data")
        raw = self.score_table(context.statistics())
        names = [layer.name for layer in context.network.layers]
        return normalize(self.name, dict(zip(names, raw, strict=True)), context.network)

    def score_channels(self, table: Sequence[Row]) -> list[list[float]] | None:
        """Return the scores of every layer's output channels, in the order of the rows; None where it has none.

        Raises
        ------
        DataError
            What its ``score_channels`` returns breaks the contract.
        """
        from tapc.proxy.sandbox import Sandbox

        if not self.program.scores_channels:
            return None
        with Sandbox() as sandbox:
            try:
                return channels_scored(sandbox, self.program.code, table, self.program.inputs)
            except ContractError as error:
                raise DataError(f"proxy {self.name!r}: {error}") from None

    def allocate(self, scores: Sequence[float], table: Sequence[Row], target: Target) -> list[int]:
        """Return the weight bits that the program's own ``allocate`` chooses, in the order of the rows.

        Raises
        ------
        DataError
            It has no such function, or what it returns breaks the contract.
        """
        from tapc.proxy.sandbox import Sandbox

        if not self.program.allocates:
            raise DataError(f"proxy {self.name!r} defines no allocate(scores, layers, target); use --allocator ilp")
        with Sandbox() as sandbox:
            try:
                return allocated(sandbox, self.program.code, [scores], [table], [target], self.program.inputs)[0]
            except ContractError as error:
                raise DataError(f"proxy {self.name!r}: {error}") from None
