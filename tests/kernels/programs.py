"""Small integer programs and a host build of their library, for tests."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapc.device.verify import device_inputs, device_outputs
from tapc.ir.program import Op, Program, Tensor
from tapc.kernels.schedule import Schedule
from tapc.lower import Lowered, scheduled
from tapc.operators.weighted import Conv

CHECKS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Werror")
WARNINGS = ("-std=c11", *CHECKS)


def tensor(name: str, shape: tuple[int, int, int], bits: int, rng: np.random.Generator) -> Tensor:
    low, high = (0, 15) if bits == 4 else (-128, 127)
    return Tensor(name, shape, bits, float(np.float32(rng.uniform(0.01, 0.2))), int(rng.integers(low, high + 1)))


def conv_op(
    rng: np.random.Generator,
    x: Tensor,
    y: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    groups: int,
    w_bits: int,
    name: str = "conv",
    dilation: tuple[int, int] = (1, 1),
) -> Conv:
    outputs, depth = y.shape[2], x.shape[2] // groups
    half = 1 << (w_bits - 1)
    # Small weights leave room for packed sums.
    weights = (rng.integers(-half, half, (outputs, *kernel, depth)) // int(rng.choice([1, 1, 16]))).astype(np.int8)
    spread = half * np.sqrt(weights[0].size) * (128 if x.bits == 8 else 8)
    ratios = rng.uniform(0.2, 2, outputs).astype(np.float32) * np.float32((y.high - y.low) / spread)
    # Large biases leave no room for weights at the top of half-words.
    bias = rng.integers(-1000, 1000, outputs).astype(np.int32) * (1 if rng.random() < 0.7 else 1 << 12)
    low, high = sorted(rng.integers(y.low, y.high + 1, 2).tolist()) if rng.random() < 0.3 else (y.low, y.high)
    return Conv(name, (x.name,), y.name, weights, w_bits, bias, ratios, stride, pads, groups, low, high, dilation)


def program(ops: list[Op], tensors: list[Tensor], mode: str = "float", isa: str = "dsp") -> Program:
    return Program("test", mode, {t.name: t for t in tensors}, tuple(ops), (tensors[0].name,), (tensors[-1].name,), isa)


def side_by_side(programs: Sequence[Program]) -> Program:
    """Return one program of several, whose names get numbers."""
    tensors: dict[str, Tensor] = {}
    ops: list[Op] = []
    for i, p in enumerate(programs):
        tensors |= {f"{i}{name}": replace(t, name=f"{i}{name}") for name, t in p.tensors.items()}
        for op in p.ops:
            inputs = tuple(f"{i}{name}" for name in op.inputs)
            ops.append(replace(op, name=f"{i}{op.name}", inputs=inputs, output=f"{i}{op.output}"))
    ends = [tuple(f"{i}{getattr(p, side)}" for i, p in enumerate(programs)) for side in ("input", "output")]
    return replace(programs[0], tensors=tensors, ops=tuple(ops), inputs=ends[0], outputs=ends[1])


def lowered(p: Program, schedules: Mapping[str, Schedule] | None = None) -> Lowered:
    return scheduled(p, schedules)


def random_codes(t: Tensor, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    codes = rng.integers(t.low, t.high + 1, (count, *t.shape))
    codes[0] = t.high
    return codes


def run_on_host(
    p: Program,
    codes: NDArray[np.int64],
    folder: Path,
    cc: str = "gcc",
    schedules: Mapping[str, Schedule] | None = None,
) -> NDArray[np.int64]:
    """Build the library and its example with the host compiler and run it."""
    lowered(p, schedules).library().write(folder)
    _build(cc, ("-O1", "-fsanitize=undefined,address"), sorted(folder.glob("*.c")), folder / "example")
    return _outputs([str(folder / "example")], p, codes)


def run_together_on_host(
    cases: Sequence[tuple[Program, NDArray[np.int64], Mapping[str, Schedule] | None]], folder: Path, cc: str = "gcc"
) -> list[NDArray[np.int64]]:
    """Build several libraries into one program and run each: most of the time goes into linking the sanitizers.

    It is not optimized, which would take three times as long as the rest; warnings that need that come from
    `run_on_host`. Accesses are checked by calls, and intrinsics are functions: that halves the time. Nor are pointers
    checked twice: what is read or written through them is the address sanitizer's.
    """
    sources, names = [], []
    for index, (p, _, schedules) in enumerate(cases):
        own = folder / f"{index}"
        own.mkdir()
        lowered(replace(p, prefix=f"case{index}"), schedules).library().write(own)
        lines = [f'#include "{path.name}"' for path in sorted(own.glob("*.c"))]
        names.append(f"main_{index}")
        (own / "all.c").write_text("\n".join([f"#define main {names[-1]}", *lines, ""]))
        sources.append(own / "all.c")
    declared = "".join(f"int {name}(void);\n" for name in names)
    table = f"static int (*const cases[])(void) = {{{', '.join(names)}}};"
    (folder / "main.c").write_text(
        f"#include <stdlib.h>\n{declared}{table}\n"
        "int main(int count, char **arguments) { return count == 2 ? cases[atoi(arguments[1])]() : 2; }\n"
    )
    checks = ("-fsanitize=undefined,address", "-fno-sanitize=null,object-size,pointer-overflow")
    calls = ("-mllvm", "-asan-instrumentation-with-call-threshold=0")
    if cc == "gcc":
        calls = ("--param", "asan-instrumentation-with-call-threshold=0")
    _build(cc, ("-O0", *checks, *calls, "-Dalways_inline=unused"), [*sources, folder / "main.c"], folder / "main")
    return [_outputs([str(folder / "main"), str(i)], p, codes) for i, (p, codes, _) in enumerate(cases)]


def _build(cc: str, checks: Sequence[str], sources: Sequence[Path], program_file: Path) -> None:
    flags = (*checks, "-fno-sanitize-recover=all", "-fno-sanitize=alignment")
    subprocess.run([cc, *WARNINGS, *flags, *map(str, sources), "-o", str(program_file), "-lm"], check=True)


def _outputs(command: list[str], p: Program, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    data = device_inputs(lowered(p), codes).tobytes()
    output = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
    return device_outputs(p, np.frombuffer(output, np.int8).reshape(len(codes), -1))
