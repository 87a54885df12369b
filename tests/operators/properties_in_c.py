"""What holds for every instance of every operator in C: each kernel call gives what the reference gives.

Networks are planned one by one, as planning takes longer than all else where there are many steps, and then built and
run as one: a compiler, a linker and a simulator start once, and kernels that are alike are compiled once.
"""

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from kernels.programs import WARNINGS
from kernels.twin import run_twin
from operators.examples import Case, Instance, owner
from tapc.base.arithmetic import Ints, Mode
from tapc.base.isa import Isa
from tapc.base.ports import joined
from tapc.device import DeviceRun
from tapc.device.verify import Verification, device_inputs, reference_outputs, verify
from tapc.firmware.build import alias_header
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target, target_names
from tapc.ir.program import Op, Program, Step
from tapc.lower import Lowered
from tapc.lower.codes import input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.plan import Plan, plan
from tapc.lower.prune import prune
from tapc.lower.steps import steps_of

FORMS: tuple[tuple[Isa, Mode], ...] = tuple(
    sorted({(t.isa, mode) for t in map(load_target, target_names()) for mode in (t.requantize, "tflite")})
)
"""Instruction sets, each with the arithmetics that its cores take."""
BOARDS = ("stm32h7", "nrf52840dk", "pico", "mps3-an547")
CORES = {board: load_target(load_board(board).core) for board in BOARDS}
ROUNDS = 8
"""Of the planner: what is tested lies somewhere, not in the least memory."""
SHOWN = 3
"""Samples that run in C."""
_CHECKS = (
    "-O0", "-fsanitize=undefined,address", "-fno-sanitize=null,object-size,pointer-overflow,alignment",
    "-fno-sanitize-recover=all", "-mllvm", "-asan-instrumentation-with-call-threshold=0", "-Dalways_inline=unused",
)  # fmt: skip
"""Unoptimized, accesses checked by calls, intrinsics as functions: each would take as long again to compile."""
_MAIN = """
static uint32_t marks;
static void tapc_mark(void) {
  if (marks != 0) fwrite(network_arena + network_step_output[marks - 1].offset, 1, network_step_output[marks - 1].bytes, stdout);
  ++marks;
}
#define READ(memory, bytes) if (fread(memory, 1, bytes, stdin) != (bytes)) return 0;
#define WRITE(memory, bytes) fwrite(memory, 1, bytes, stdout);
int main(void) {
  memset(network_arena, 0xA5, NETWORK_ARENA_BYTES);
  for (;;) {
    NETWORK_EACH_INPUT(READ)
    marks = 0;
    network_run();
    NETWORK_EACH_OUTPUT(WRITE)
  }
}
"""  # noqa: E501


@dataclass(frozen=True)
class _HostRun:
    """What `verify` reads of a device's run."""

    outputs: np.ndarray
    layer_outputs: tuple[tuple[bytes, ...], ...]
    layer_crcs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Together:
    """Networks that are built as one, and `codes`, their inputs of every sample side by side."""

    network: Lowered
    codes: Ints

    @cached_property
    def expected(self) -> Ints:
        return reference_outputs(self.network, self.codes)

    def verify(self, run: DeviceRun) -> Verification:
        """Compare every step of every sample with the reference."""
        return verify(self.network, run, self.codes, expected=self.expected)


def together(cases: Sequence[Case], isa: Isa, mode: Mode) -> Together:
    """Lower networks as `tapc.lower.lower` does, but for the arena, and make them one.

    Each instance has its own stretch of the arena: to plan many together would take most of the time.
    """
    sources = [program_from_onnx(given.quantized.onnx, "example", mode, isa) for given in cases]
    codes = [input_codes(source, given.x[:SHOWN]) for source, given in zip(sources, cases, strict=True)]
    program, source = _one([fuse(prune(source)) for source in sources]), _one(sources)
    steps = steps_of(program)
    return Together(Lowered(program, steps, _plan(program, steps), source), joined(codes))


def _one(programs: Sequence[Program]) -> Program:
    tensors = {name: t for p in programs for name, t in p.tensors.items()}
    assert len(tensors) == sum(len(p.tensors) for p in programs)
    live = {name: mask for p in programs for name, mask in p.live.items()}
    ops = tuple(op for p in programs for op in p.ops)
    inputs, outputs = (tuple(name for p in programs for name in getattr(p, side)) for side in ("inputs", "outputs"))
    return Program("example", programs[0].mode, tensors, ops, inputs, outputs, programs[0].isa, live)


def _plan(program: Program, steps: Sequence[Step]) -> Plan:
    places: dict[Instance, list[int]] = defaultdict(list)
    for place, step in enumerate(steps):
        places[owner(step.op.name)].append(place)
    size, offsets = 0, {}
    for instance, own in _apart(program).items():
        found = plan(own, [steps[place] for place in places[instance]], rounds=ROUNDS)
        for name, offset in found.offsets.items():
            scratch = name.removeprefix("scratch ")
            offsets[name if scratch == name else f"scratch {places[instance][int(scratch)]}"] = size + offset
        size += found.size
    return Plan(size, offsets, (), ())


def _apart(program: Program) -> dict[Instance, Program]:
    """Return each instance's part of a program."""
    parts: dict[Instance, tuple[list[Op], list[str], list[str]]] = defaultdict(lambda: ([], [], []))
    for op in program.ops:
        parts[owner(op.name)][0].append(op)
    for side, names in enumerate((program.inputs, program.outputs), 1):
        for name in names:
            parts[owner(name)][side].append(name)  # type: ignore[arg-type]
    return {
        instance: replace(program, ops=tuple(ops), inputs=tuple(inputs), outputs=tuple(outputs))
        for instance, (ops, inputs, outputs) in parts.items()
    }


def on_host(built: Together) -> list[str]:
    """Build networks into a program for this machine, under sanitizers, and compare every step of every sample."""
    with tempfile.TemporaryDirectory(prefix="tapc-host-") as folder:
        program = _host_program(built.network, Path(folder))
        given = device_inputs(built.network, built.codes).tobytes()
        done = subprocess.run([str(program)], input=given, capture_output=True)
    isa, mode = built.network.program.isa, built.network.program.mode
    if done.returncode:
        raise AssertionError(f"host, {isa} {mode}: {done.stderr.decode()[:2000]}")
    run = _parsed(built.network, done.stdout, len(built.codes))
    return _told(built.verify(run), f"host, {isa} {mode}")  # type: ignore[arg-type]


def in_firmware(built: Together, board_name: str) -> list[str]:
    """Compare every step of networks in firmware with the reference."""
    run = firmware_run(built, board_name, calls=("-O0",))
    return _told(built.verify(run), f"{board_name}, {built.network.program.mode}")


def firmware_run(built: Together, board_name: str, calls: tuple[str, ...] = ()) -> DeviceRun:
    """Build firmware of networks for a board and run it in QEMU."""
    inputs = device_inputs(built.network, built.codes)
    return run_twin(built.network, load_board(board_name), inputs, layers=len(built.codes), calls=calls)


def _told(found: Verification, where: str) -> list[str]:
    wrong = sorted({str(owner(name)) for name, exact in found.layers.items() if not exact})
    if found.mismatch is not None and not wrong:
        wrong = [str(owner(found.mismatch.layer))]
    return [f"{name}: {where}: {found.mismatch}" for name in wrong]


def _host_program(network: Lowered, folder: Path) -> Path:
    library, names = network.library(), network.names
    library.write(folder)
    (folder / "alias.h").write_text(alias_header(names))
    lines = [
        "#include <stdint.h>", "#include <stdio.h>", "#include <string.h>",
        f"#define {names.macro('MARKS')}", "static void tapc_mark(void);",
        *(f'#include "{names.file(part)}"' for part in (".c", "kernels.c", "weights.c")), '#include "alias.h"', _MAIN,
    ]  # fmt: skip
    network_file = folder / names.file(".c")
    # There the harness is in another file; here it is in the same one.
    network_file.write_text(network_file.read_text().replace("\nvoid tapc_mark(void);\n", "\n"))
    (folder / "all.c").write_text("\n".join(lines))
    command = ["clang", *WARNINGS, *_CHECKS, str(folder / "all.c"), "-lm", "-o", str(folder / "all")]
    subprocess.run(command, check=True)
    return folder / "all"


def _parsed(network: Lowered, raw: bytes, samples: int) -> _HostRun:
    sizes = [network.program.tensors[step.output].bytes for step in network.steps]
    size = sum(network.program.tensors[name].bytes for name in network.program.outputs)
    rows = np.frombuffer(raw, np.int8).reshape(samples, sum(sizes) + size)
    ends = np.cumsum(sizes).tolist()
    layers = tuple(tuple(row[e - s : e].tobytes() for s, e in zip(sizes, ends, strict=True)) for row in rows)
    return _HostRun(np.ascontiguousarray(rows[:, sum(sizes) :]), layers)
