"""Steps of a program, run on the host one by one in memory of our choosing: what an overlap of tensors destroys."""

import ctypes
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.ir.program import Program, Step, Tensor
from tapc.kernels.builder import Kernel, Parameter
from tapc.kernels.intrinsics import header
from tapc.kernels.packing import pack_activations, unpack_activations

MARGIN = 64  # bytes on either side of the tensors
SOME = 24  # distances tried where there are more


class Host:
    """Steps and their kernels, compiled into one shared object."""

    def __init__(self, cases: Sequence[tuple[Program, Step]], folder: Path) -> None:
        self.cases = cases
        self.kernels = [step.spec.kernel(f"k{i}") for i, (_, step) in enumerate(cases)]
        source = "\n".join(['#include "intrinsics.h"', *(kernel.source for kernel in self.kernels)])
        (folder / "intrinsics.h").write_text(header(source))
        (folder / "kernels.c").write_text(source)
        flags = ("-std=c11", "-O0", "-shared", "-fPIC", "-w")
        library = folder / "kernels.so"
        subprocess.run(["gcc", *flags, str(folder / "kernels.c"), "-o", str(library), "-lm"], check=True)
        self.library = ctypes.CDLL(str(library))

    def run(self, case: int, codes: dict[str, NDArray[np.int64]], over: str = "", distance: int = 0) -> Any:
        """Run a case on the codes of its inputs; the output lies `distance` bytes below input `over`, if there is one.

        Returns
        -------
        ndarray of int64
            Codes of the output.
        """
        program, step = self.cases[case]
        y = program.tensors[step.output]
        places = {name: program.tensors[name] for name in dict.fromkeys(step.inputs)}
        # Everything has memory of its own, but for the output where it is asked to overlap.
        offsets, end = {}, MARGIN
        for name, t in places.items():
            room = t.bytes + 2 * y.bytes if name == over else t.bytes
            start = end + (y.bytes if name == over else 0)
            offsets[name] = (start + 15) // 16 * 16
            end = offsets[name] + room + MARGIN
        offsets[step.output] = offsets[over] - distance if over else end
        memory = np.random.default_rng(0).integers(0, 256, end + y.bytes + MARGIN, dtype=np.uint8)
        before = memory.copy()
        touched = np.zeros(len(memory), np.bool_)
        for name, t in places.items():
            memory[offsets[name] : offsets[name] + t.bytes] = pack_activations(codes[name], t.bits).ravel()
            touched[offsets[name] : offsets[name] + t.bytes] = True
        own = slice(offsets[step.output], offsets[step.output] + y.bytes)
        touched[own] = True
        scratch = np.zeros(step.spec.scratch_bytes // 4 + 64, np.int32)
        keep: list[NDArray[Any]] = []
        kernel = self.kernels[case]
        arguments = [_argument(p, step, offsets, memory, scratch, keep) for p in kernel.parameters]
        getattr(self.library, kernel.name)(*arguments)
        np.testing.assert_array_equal(memory[~touched], before[~touched], "bytes of nobody were written")
        return unpack_activations(memory[own], y.shape, y.bits)


def _argument(
    p: Parameter, step: Step, offsets: dict[str, int], memory: Any, scratch: Any, keep: list[NDArray[Any]]
) -> Any:
    if p.name in step.scalars:
        value = step.scalars[p.name]
        return ctypes.c_float(value) if p.dtype == "float32" else ctypes.c_int32(int(value))
    if p.name in step.constants:
        keep.append(np.ascontiguousarray(step.constants[p.name].data))
        return ctypes.c_void_p(keep[-1].ctypes.data)
    if p.name in step.tensors:
        return ctypes.c_void_p(memory.ctypes.data + offsets[step.tensors[p.name]])
    return ctypes.c_void_p(scratch.ctypes.data)


def allowed(step: Step, x: Tensor, y: Tensor, rng: np.random.Generator) -> Iterator[int]:
    """Yield distances at which the output of a step may overlap an input: all, or those at the ends and some more."""
    rule = step.distance[x.name]
    found = [d for d in range(-x.bytes + 1, y.bytes) if rule.allows(d)]
    if len(found) <= SOME:
        yield from found
        return
    ends = {d for d, last, following in zip(found[1:-1], found, found[2:], strict=False) if following - last > 2}
    yield from sorted(ends | set(found[:8]) | set(rng.choice(found, SOME, replace=False).tolist()))


__all__ = ["Host", "Kernel", "allowed"]
