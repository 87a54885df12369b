"""What every package holds: a build's C library as it was proved, and a sample that it must answer."""

import hashlib
import re
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.errors import DataError
from tapc.base.files import read_regular
from tapc.base.ports import joined
from tapc.device.verify import sequences
from tapc.flow.front_end import HEADER, SOURCE
from tapc.flow.rerun import Build, part
from tapc.hardware.target import load_target
from tapc.kernels.packing import pack_activations, unpack_activations
from tapc.lower import Lowered
from tapc.lower.codes import apart
from tapc.lower.ctext import plain
from tapc.lower.names import Names, names_in
from tapc.lower.sides import Side, sides
from tapc.lower.states import with_room

SOURCES = (".c", "kernels.c", "weights.c", "convert.c", "stepwise.c")
HEADERS = (".h", "kernels.h", "intrinsics.h", "weights.h")
_SEED, _FACTOR, _ADDEND = 1, 1664525, 1013904223
_MOST_TITLE, _MOST_SOURCE = 60, 1 << 30


@dataclass(frozen=True)
class Input:
    """An input of the sample: what it is in C, and how it is filled.

    Attributes
    ----------
    side : Side
    tokens : int
        Number of tokens that there are, where its elements are tokens; else 0.
    mask : int
        What may be set of a byte.
    """

    side: Side
    tokens: int
    mask: int


@dataclass(frozen=True)
class Contents:
    """What a package is made of.

    Attributes
    ----------
    names : Names
    title : str
        The network's name, on one line.
    board, core : str
        What it was made for.
    flags : tuple of str
        The compiler's options that tell the core.
    sources, headers : dict of str to str
        File name -> text: C files without the example, and what they include.
    library : dict of str to str
        All files of the library's folder.
    functions, macros : tuple of str
        What the header declares.
    inputs : tuple of Input
    outputs : tuple of Side
    seed, crc : int
        The sample begins with it; CRC-32 of the reference executor's outputs.
    sha256 : str
        Of model.onnx.
    optimization : tuple of str
        The compiler's options that the kernels were measured with.
    version : str
        Of the package.
    """

    names: Names
    title: str
    board: str
    core: str
    flags: tuple[str, ...]
    sources: dict[str, str]
    headers: dict[str, str]
    library: dict[str, str]
    functions: tuple[str, ...]
    macros: tuple[str, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Side, ...]
    seed: int
    crc: int
    sha256: str
    optimization: tuple[str, ...]
    version: str = "1.0.0"

    @property
    def description(self) -> str:
        """One sentence."""
        return f"Neural network {self.title} as a C library without heap, made by tapc for {self.core}"


def contents_of(build: Build) -> Contents:
    """Read a build's library, and run a sample through the reference executor.

    Raises
    ------
    DataError
        The build has no library, or a file of it is missing.
    """
    folder = build.folder / "lib"
    names, network = names_in(folder), build.lowered()
    library = {
        path.name: read_regular(part(folder, path.name), _MOST_SOURCE, "source").decode("utf-8")
        for path in sorted(folder.iterdir())
        if path.suffix in (".c", ".h", ".txt", ".md")
    }
    if missing := [names.file(end) for end in (*SOURCES, *HEADERS) if names.file(end) not in library]:
        raise DataError(f"{folder}: {missing[0]} is missing; compile the network again")
    header = library[names.file(".h")]
    sources, headers = ((*SOURCES, SOURCE), (*HEADERS, HEADER)) if names.file(SOURCE) in library else (SOURCES, HEADERS)
    words = plain(build.name)
    inputs, target = sample_inputs(network), load_target(str(build.report["core"]))
    return Contents(
        names=names,
        title=words if len(words) <= _MOST_TITLE else f"{words[: _MOST_TITLE - 3]}...",
        board=build.board,
        core=target.name,
        flags=target.cflags,
        sources={names.file(end): library[names.file(end)] for end in sources},
        headers={names.file(end): library[names.file(end)] for end in headers},
        library=library,
        functions=tuple(sorted(set(re.findall(rf"\b({re.escape(names.prefix)}_\w+)\(", _code(header))))),
        macros=tuple(sorted(set(re.findall(rf"^#define ({names.upper}_\w+) ", header, re.MULTILINE)))),
        inputs=inputs,
        outputs=tuple(sides(network.program, names, ())[1]),
        seed=_SEED,
        crc=expected_crc(network, inputs),
        sha256=hashlib.sha256(read_regular(part(build.folder, "model.onnx"), _MOST_SOURCE, "network")).hexdigest(),
        optimization=target.optimization,
    )


def _code(header: str) -> str:
    return re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)


def sample_inputs(network: Lowered) -> tuple[Input, ...]:
    """Say how each input of the sample is filled."""
    own = sides(network.program, network.names, ())[0]
    return tuple(
        Input(
            side,
            tokens=side.tensor.high + 1 if side.tensor.bits > 8 else 0,
            mask=0x0F if side.tensor.bits == 4 and side.tensor.shape[2] % 2 else 0xFF,  # what pads a pixel is 0
        )
        for side in own
    )


def expected_crc(network: Lowered, inputs: tuple[Input, ...]) -> int:
    """Return the CRC-32 of the outputs, as they lie in memory, for the sample."""
    program, state, codes = network.program, _SEED, []
    for one in inputs:
        state, part_of = _filled(one, state)
        codes.append(part_of)
    _, rows = sequences(network, with_room(program, joined(codes)), 1)
    packed = (
        pack_activations(values, program.tensors[name].bits)
        for name, values in zip(program.results, apart(program, program.outputs, rows), strict=False)
    )
    return zlib.crc32(b"".join(values.tobytes() for values in packed))


def _filled(one: Input, state: int) -> tuple[int, Ints]:
    """Return the next state of the generator, and an input's codes (1, H, W, C): what PREFIX_check.h fills in C."""
    tensor = one.side.tensor
    count = tensor.bytes // 4 if one.tokens else tensor.bytes
    drawn: NDArray[np.uint32] = np.empty(count, np.uint32)
    for index in range(count):
        state = (state * _FACTOR + _ADDEND) & 0xFFFFFFFF
        drawn[index] = state
    if one.tokens:
        return state, ((drawn >> 8) % one.tokens).astype(np.int64).reshape(1, *tensor.shape)
    data = ((drawn >> 24) & one.mask).astype(np.uint8)
    return state, unpack_activations(data[None], tensor.shape, tensor.bits)
