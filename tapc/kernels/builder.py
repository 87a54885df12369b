"""From a loop nest in TensorIR to a C function: the part of TVM that tapc uses."""

import functools
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

C_TYPES = {
    "int8": "int8_t",
    "int16": "int16_t",
    "uint8": "uint8_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint32": "uint32_t",
    "float32": "float",
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel.

    Attributes
    ----------
    name : str
    dtype : str
        TensorIR element or scalar type.
    size : int or None
        Elements behind the pointer; None for a scalar.
    constant : bool
        Whether the pointed-to data is read-only.
    """

    name: str
    dtype: str
    size: int | None = None
    constant: bool = True

    def declaration(self) -> str:
        """Return the C declaration."""
        if self.size is None:
            return f"{C_TYPES[self.dtype]} {self.name}"
        return f"{'const ' if self.constant else ''}{C_TYPES[self.dtype]} *{self.name}"


@dataclass(frozen=True)
class Kernel:
    """A generated C function.

    Attributes
    ----------
    name : str
    parameters : tuple of Parameter
    source : str
        Definition, from the signature to the closing brace.
    """

    name: str
    parameters: tuple[Parameter, ...]
    source: str

    @property
    def prototype(self) -> str:
        """C prototype without the semicolon."""
        return f"void {self.name}({', '.join(p.declaration() for p in self.parameters)})"


def is_part(symbol: str, kernel: str) -> bool:
    """Whether a symbol is a kernel's function, or one that it alone calls: those are named after it."""
    return symbol == kernel or symbol.startswith((f"{kernel}_", f"{kernel}."))


def tir() -> Any:
    """Return TVM's TensorIR builder namespace; imported late because TVM takes seconds to load."""
    from tvm.script.ir_builder import tirx

    return tirx


class Body:
    """Handles to a kernel's parameters while its statements are emitted.

    Buffers and scalars are reached by name as attributes are in C: ``body["x"]``.
    """

    def __init__(self, handles: Mapping[str, Any]) -> None:
        self.T = tir()
        self._handles = handles

    def __getitem__(self, name: str) -> Any:
        return self._handles[name]

    def array(self, name: str, size: int, dtype: str = "int32") -> Any:
        """Declare a small C array (kept in registers when every index is a constant)."""
        from tvm.script.ir_builder import IRBuilder

        buffer = self.T.alloc_buffer((size,), dtype)
        IRBuilder.name(name, buffer)
        return buffer

    def store(self, buffer: Any, index: Any, value: Any) -> None:
        """Emit ``buffer[index] = value``."""
        self.T.buffer_store(buffer, value, [index])

    def call(self, name: str, *arguments: Any, dtype: str = "int32") -> Any:
        """Return a call of an intrinsic as an expression."""
        return self.T.call_extern(dtype, name, *arguments)

    def do(self, name: str, *arguments: Any) -> None:
        """Emit a call of an intrinsic as a statement."""
        self.T.evaluate(self.T.call_extern("int32", name, *arguments))

    def address(self, buffer: Any, index: Any) -> Any:
        """Return ``&buffer[index]``."""
        return self.T.address_of(buffer[index])

    def bind(self, value: Any) -> Any:
        """Name a value that is computed once; returns the variable."""
        return self.T.bind(value)

    def loop(self, extent: Any, start: Any = 0) -> AbstractContextManager[Any]:
        """Open a loop from start to extent (exclusive)."""
        context: AbstractContextManager[Any] = self.T.serial(start, extent)
        return context

    def unroll(self, extent: int) -> AbstractContextManager[Any]:
        """Open a loop that the generated C spells out."""
        context: AbstractContextManager[Any] = self.T.unroll(0, extent)
        return context

    def when(self, condition: Any, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """Emit an if statement."""
        with self.T.If(condition):
            with self.T.Then():
                then()
            if otherwise is not None:
                with self.T.Else():
                    otherwise()


@functools.cache
def _pipeline() -> tuple[Any, Any, Any]:
    import tvm
    from tvm import s_tir, tirx

    target = tvm.target.Target("c")
    passes = tvm.ir.transform.Sequential(
        [
            tirx.transform.BindTarget(target.with_host(target)),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.StmtSimplify(),
            tirx.transform.UnrollLoop(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            tirx.transform.LowerIntrin(),
        ]
    )
    return tvm, target, passes


def build(name: str, parameters: tuple[Parameter, ...], emit: Callable[[Body], None]) -> Kernel:
    """Emit a kernel's statements and let TVM print them as C.

    Parameters
    ----------
    name : str
        C identifier.
    parameters : tuple of Parameter
    emit : callable
        Writes the body through a `Body`.
    """
    from tvm.script.ir_builder import IRBuilder

    tvm, target, passes = _pipeline()
    T = tir()
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        # No "noalias": the arena planner may let an output overlap the input that it replaces.
        T.func_attr({"global_symbol": name})
        pointers = {
            p.name: T.arg(p.name, T.handle(p.dtype) if p.size is not None else getattr(T, p.dtype)())
            for p in parameters
        }
        handles = {}
        for p in parameters:
            if p.size is None:
                handles[p.name] = pointers[p.name]
            else:
                handles[p.name] = T.decl_buffer((p.size,), p.dtype, data=pointers[p.name])
        emit(Body(handles))
    module = passes(tvm.IRModule({name: builder.get()}))
    text = tvm.get_global_func("target.build.c")(module, target).inspect_source()
    body = re.search(rf"^TVM_DLL void {name}\([^;{{]*\) \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    if body is None:
        raise RuntimeError(f"TVM printed no definition of {name}")
    # TVM asks for loops of unknown length not to be unrolled, in a way that some compilers do not know.
    statements = _without_unused(re.sub(r"^ *#pragma unroll 1\n", "", body.group(1), flags=re.MULTILINE))
    # A parameter that a special case leaves unused (no padding, say) is dropped from the signature.
    parameters = tuple(p for p in parameters if re.search(rf"\b{p.name}\b", statements))
    kernel = Kernel(name, parameters, "")
    return Kernel(name, parameters, f"{kernel.prototype} {{\n{statements}}}\n")


def _without_unused(statements: str) -> str:
    """Drop variables that nothing reads: TVM prints a minimum again instead of the variable that holds it."""
    for declaration in reversed(list(re.finditer(r"^ *int32_t (\w+) = ([^;]*);\n", statements, re.MULTILINE))):
        name, value = declaration.groups()
        rest = statements[: declaration.start()] + statements[declaration.end() :]
        if not re.search(rf"\b{name}\b", rest) and not re.search(r"\bt_\w+\(", value):
            statements = rest
    return statements
