"""What holds for every instance of every operator in C: each kernel call gives what the reference gives."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kernels.programs import WARNINGS
from operators.examples import Case, owner
from tapc.base.arithmetic import Ints, Mode
from tapc.base.isa import Isa
from tapc.device import DeviceRun, device_for
from tapc.device.verify import Verification, device_inputs, verify
from tapc.firmware import build_firmware
from tapc.firmware.build import alias_header
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target, target_names
from tapc.lower import Lowered
from tapc.lower.codes import input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.plan import plan
from tapc.lower.prune import prune
from tapc.lower.steps import steps_of

FORMS: tuple[tuple[Isa, Mode], ...] = tuple(
    sorted({(t.isa, mode) for t in map(load_target, target_names()) for mode in (t.requantize, "tflite")})
)
"""Instruction sets, each with the arithmetics that its cores take."""
BOARDS = ("stm32h7", "nrf52840dk", "pico", "mps3-an547")
SHOWN = 3
"""Samples that run in C."""
ROUNDS = 8
"""Of the planner, which would take most of the time: what is tested lies somewhere, not in the least memory."""
_CHECKS = (
    "-fsanitize=undefined,address", "-fno-sanitize=null,object-size,pointer-overflow,alignment",
    "-fno-sanitize-recover=all",
)  # fmt: skip
_MAIN = """
static uint32_t marks;
static void MARK(void) {
  if (marks != 0) fwrite(network_arena + network_step_output[marks - 1].offset, 1, network_step_output[marks - 1].bytes, stdout);
  ++marks;
}
#define READ(memory, bytes) if (fread(memory, 1, bytes, stdin) != (bytes)) return 0;
#define WRITE(memory, bytes) fwrite(memory, 1, bytes, stdout);
int MAIN(void);
int MAIN(void) {
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


def lowered(given: Case, mode: Mode, isa: Isa, prefix: str = "") -> Lowered:
    """Lower a network as `tapc.lower.lower` does, in less time."""
    source = replace(program_from_onnx(given.quantized.onnx, "example", mode, isa), prefix=prefix)
    program = fuse(prune(source))
    steps = steps_of(program)
    return Lowered(program, steps, plan(program, steps, rounds=ROUNDS), source)


def _told(found: Verification, where: str) -> list[str]:
    wrong = sorted({str(owner(name)) for name, exact in found.layers.items() if not exact})
    if found.mismatch is not None and not wrong:
        wrong = [str(owner(found.mismatch.layer))]
    return [f"{name}: {where}: {found.mismatch}" for name in wrong]


def on_host(cases: Sequence[Case], isa: Isa, mode: Mode) -> list[str]:
    """Build networks into one program for this machine, under sanitizers, and compare every step of every sample."""
    networks = [lowered(given, mode, isa, f"case{i}") for i, given in enumerate(cases)]
    codes = [input_codes(n.program, c.x[:SHOWN]) for n, c in zip(networks, cases, strict=True)]
    with tempfile.TemporaryDirectory(prefix="tapc-host-") as folder:
        program = _host_program(networks, Path(folder))
        failures = []
        for i, (network, x) in enumerate(zip(networks, codes, strict=True)):
            given = device_inputs(network, x).tobytes()
            done = subprocess.run([str(program), str(i)], input=given, capture_output=True)
            if done.returncode:
                names = ", ".join(map(str, cases[i].instances))
                failures.append(f"{names}: {isa} {mode}: {done.stderr.decode()[:2000]}")
                continue
            run = _parsed(network, done.stdout, len(x))
            failures += _told(verify(network, run, x), f"host, {isa} {mode}")  # type: ignore[arg-type]
        return failures


def _host_program(networks: Sequence[Lowered], folder: Path) -> Path:
    sources, mains = [], []
    for i, network in enumerate(networks):
        own = folder / str(i)
        own.mkdir()
        library, names = network.library(), network.names
        library.write(own)
        (own / "alias.h").write_text(alias_header(names))
        mains.append(f"main_{i}")
        lines = [
            "#include <stdio.h>", "#include <string.h>",
            f"#define {names.macro('MARKS')}", f"#define tapc_mark mark_{i}", "#include <stdint.h>",
            f"static void mark_{i}(void);",
            *(f'#include "{names.file(part)}"' for part in (".c", "kernels.c", "weights.c")), '#include "alias.h"',
            f"#define MARK mark_{i}", f"#define MAIN main_{i}", _MAIN,
        ]  # fmt: skip
        network_file = own / names.file(".c")
        # There the harness is in another file; here it is in the same one.
        network_file.write_text(network_file.read_text().replace("\nvoid tapc_mark(void);\n", "\n"))
        (own / "all.c").write_text("\n".join(lines))
        sources.append(own / "all.c")
    declared = "".join(f"int {name}(void);\n" for name in mains)
    (folder / "main.c").write_text(
        f"#include <stdlib.h>\n{declared}static int (*const cases[])(void) = {{{', '.join(mains)}}};\n"
        "int main(int count, char **arguments) { return count == 2 ? cases[atoi(arguments[1])]() : 2; }\n"
    )
    # Unoptimized: that takes a third of the time.
    command = ["gcc", *WARNINGS, "-O0", *_CHECKS, *map(str, [*sources, folder / "main.c"]), "-lm"]
    subprocess.run([*command, "-o", str(folder / "main")], check=True)
    return folder / "main"


def _parsed(network: Lowered, raw: bytes, samples: int) -> _HostRun:
    sizes = [network.program.tensors[step.output].bytes for step in network.steps]
    size = sum(network.program.tensors[name].bytes for name in network.program.outputs)
    rows = np.frombuffer(raw, np.int8).reshape(samples, sum(sizes) + size)
    ends = np.cumsum(sizes).tolist()
    layers = tuple(tuple(row[e - s : e].tobytes() for s, e in zip(sizes, ends, strict=True)) for row in rows)
    return _HostRun(np.ascontiguousarray(rows[:, sum(sizes) :]), layers)


def firmware_run(given: Case, board_name: str, mode: Mode | None = None) -> tuple[Lowered, DeviceRun, Ints]:
    """Build firmware of a network for a board and run it in QEMU; in the core's own arithmetic where none is given."""
    board = load_board(board_name)
    target = load_target(board.core)
    network = lowered(given, mode or target.requantize, target.isa)
    codes = input_codes(network.program, given.x[:SHOWN])
    with tempfile.TemporaryDirectory(prefix="tapc-firmware-") as name:
        folder = Path(name)
        (folder / "lib").mkdir()
        network.library().write(folder / "lib")
        (folder / "lib" / network.names.file("convert.c")).unlink()  # which the network does not need
        images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        run = device_for(target).load(images).run(device_inputs(network, codes), layers=len(codes))
    return network, run, codes


def in_firmware(given: Case, board_name: str, mode: Mode | None = None) -> list[str]:
    """Compare every step of a network in firmware with the reference."""
    network, run, codes = firmware_run(given, board_name, mode)
    return _told(verify(network, run, codes), f"{board_name}, {network.program.mode}")
