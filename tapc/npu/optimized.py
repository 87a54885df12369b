"""The file that vela writes: commands, constants, and where the arena holds what goes in and out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.ir.tflite import TfliteNetwork
from tapc.npu.commands import Step, stream_of
from tapc.npu.executor import Executor
from tapc.npu.vela import Compiled

_CUSTOM = b"ethos-u"
_WEIGHTS, _ARENA, _CACHE = 0, 1, 2
"""Regions of memory as vela numbers them."""
Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Place:
    """A tensor in the arena: its shape and its first byte, which is -1 where nothing reads it."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def bytes(self) -> int:
        """Bytes of it, one for each element."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Optimized:
    """A network that the NPU computes as a whole.

    Attributes
    ----------
    words : ndarray of uint32
        The command stream.
    payload : ndarray of uint8
        What a driver gets: the stream behind actions.
    constants : ndarray of uint8
    arena : int
        Bytes.
    inputs, outputs : tuple of Place
    """

    words: NDArray[np.uint32]
    payload: NDArray[np.uint8]
    constants: NDArray[np.uint8]
    arena: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]

    @property
    def skip(self) -> int:
        """Bytes of the payload before the stream."""
        # The stream is what the last action holds.
        return self.payload.nbytes - 4 * len(self.words)

    @property
    def size(self) -> int:
        """Bytes of the arena with all inputs and outputs, up to a whole line of a cache."""
        ends = (place.offset + place.bytes for place in (*self.inputs, *self.outputs))
        return -(-max(self.arena, *ends) // 32) * 32

    def run(
        self,
        samples: Mapping[str, Codes],
        outputs_at_once: int,
        observe: Callable[[Step, NDArray[np.int64]], None] | None = None,
    ) -> dict[str, Codes]:
        """Run samples.

        Parameters
        ----------
        samples : mapping of str to ndarray of int8, shape (N, ...)
            Input -> codes, in the order of the file.
        outputs_at_once : int
            See `Executor`.
        observe : callable, optional
            See `Executor`.

        Returns
        -------
        dict of str to ndarray of int8, shape (N, bytes)
            Output -> codes.
        """
        count = len(next(iter(samples.values())))
        arena = np.zeros((count, self.size), np.uint8)
        for place in (place for place in self.inputs if place.offset >= 0):
            own = samples[place.name].reshape(count, -1).astype(np.int8)
            arena[:, place.offset : place.offset + place.bytes] = own.view(np.uint8)
        memory = {_WEIGHTS: self.constants[None], _ARENA: arena, _CACHE: arena}
        Executor(outputs_at_once, observe).run(self.words.tolist(), memory)
        return {p.name: arena[:, p.offset : p.offset + p.bytes].view(np.int8) for p in self.outputs}


def read(blob: bytes) -> Optimized:
    """Read a file of vela.

    Raises
    ------
    UnsupportedError
        Where operators are left to the CPU.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    graph = model.subgraphs[0]
    codes = [model.operatorCodes[o.opcodeIndex] for o in graph.operators]
    if len(codes) != 1 or codes[0].customCode != _CUSTOM:
        names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        left = [names[c.builtinCode] for c in codes if c.customCode != _CUSTOM]
        raise UnsupportedError(f"the NPU does not take all of the network: {', '.join(left)} would be left to the CPU")
    own = graph.operators[0]
    (metadata,) = (m for m in model.metadata if m.name == b"OfflineMemoryAllocation")
    # Version, subgraph, number of tensors, then their offsets.
    offsets = np.frombuffer(bytes(model.buffers[metadata.buffer].data), "<i4")[3:]
    stream, constants, arena = (graph.tensors[i] for i in own.inputs[:3])

    def data(tensor: object) -> NDArray[np.uint8]:
        found = model.buffers[tensor.buffer].data  # type: ignore[attr-defined]
        return np.zeros(0, np.uint8) if found is None else np.array(found, np.uint8)

    def place(index: int) -> Place:
        tensor = graph.tensors[index]
        return Place(tensor.name.decode(), tuple(int(n) for n in tensor.shape), int(offsets[index]))

    payload = data(stream)
    return Optimized(
        stream_of(payload), payload, data(constants), int(np.prod(arena.shape)),
        tuple(place(i) for i in graph.inputs), tuple(place(i) for i in graph.outputs),
    )  # fmt: skip


def left_by_vela(network: TfliteNetwork, compiled: Compiled) -> set[str]:
    """Return the program's operators of which vela leaves some to the CPU.

    Raises
    ------
    UnsupportedError
        It leaves something that the file does not have.
    """
    from ai_edge_litert import schema_py_generated as schema

    def results(blob: bytes) -> list[tuple[bytes | None, list[bytes]]]:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
        graph = model.subgraphs[0]
        return [
            (model.operatorCodes[own.opcodeIndex].customCode, [graph.tensors[i].name for i in own.outputs])
            for own in graph.operators
        ]

    owners = {name: owner for (_, (name,)), owner in zip(results(network.blob), network.owners, strict=True)}
    left = [name for code, names in results(compiled.blob) if code != _CUSTOM for name in names]
    for name in left:
        if name not in owners:
            raise UnsupportedError(f"vela leaves an operator to the CPU that the network does not have: {name!r}")
    return {owners[name] for name in left}
