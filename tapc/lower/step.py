"""What the steps of a library are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from numpy.typing import NDArray

from tapc.kernels.builder import Kernel
from tapc.lower.overlap import Overlap
from tapc.lower.program import Op


class Spec(Protocol):
    """What every kernel specification offers; equal specifications share one C function."""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A read-only array of the library, made when it is first asked for: planning needs no weights.

    Attributes
    ----------
    role : {"w", "b", "s", "t"}
        Packed weights, bias, requantization factors, table.
    words : int
        32-bit words.
    make : callable
        Returns the array of uint32, int32 or float32.
    """

    role: str
    words: int
    make: Callable[[], NDArray[Any]]

    @cached_property
    def data(self) -> NDArray[Any]:
        """The array, flat."""
        data = self.make()
        assert data.nbytes == self.bytes, self.role
        return data

    @property
    def bytes(self) -> int:
        """Bytes in flash."""
        return 4 * self.words


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call.

    Attributes
    ----------
    op : Op
        The operator that it belongs to.
    spec : Spec
    tensors : dict of str to str
        Kernel parameter -> tensor, inputs first, `y` the output.
    constants : dict of str to Constant
    scalars : dict of str to int or float
    distance : dict of str to Overlap
        Input tensor that dies here -> where the output may overlap it; inputs that are missing must not overlap.
    """

    op: Op
    spec: Spec
    tensors: dict[str, str]
    constants: dict[str, Constant] = field(default_factory=dict)
    scalars: dict[str, int | float] = field(default_factory=dict)
    distance: dict[str, Overlap] = field(default_factory=dict)

    @property
    def arguments(self) -> int:
        """Arguments of the call, before unused ones are dropped."""
        return len(self.tensors) + len(self.constants) + len(self.scalars) + bool(self.spec.scratch_bytes)

    @property
    def output(self) -> str:
        """Tensor that the step writes."""
        return self.tensors["y"]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that the step reads."""
        return tuple(name for key, name in self.tensors.items() if key != "y")
