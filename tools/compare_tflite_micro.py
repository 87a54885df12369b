"""Compare the firmware of kept TFLite networks with TFLite-Micro, byte for byte, and print a table.

    python tools/compare_tflite_micro.py ../shared/data/networks --board stm32h7 --inputs 50

Every int8 file of the folder, or the one file, is compiled for the boards; its firmware and TFLite-Micro get the same
codes: lowest, highest, zero points, alternating ones, single spikes, mixtures of extremes, small and uniform ones. What
a file computes in real values at its end, as a float32 LOG_SOFTMAX behind a DEQUANTIZE, is not kept: it may be a step
off, and is told apart. Exit status 1 where another byte differs. A build newer than its file is taken as it is;
`--fresh` compiles all.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tflite_micro.python.tflite_micro import runtime

from tapc.base.errors import TapcError
from tapc.base.ports import joined
from tapc.device.verify import device_outputs
from tapc.flow.rerun import open_build
from tapc.frontend import FloatModel, load
from tapc.ir.program import Program, Tensor
from tapc.lower.codes import apart

ARENA = 1 << 24
Codes = NDArray[np.int64]


def edges(size: int, zero: int, rng: np.random.Generator) -> list[Codes]:
    """Return the codes that arithmetic breaks at: extremes, alternating ones, spikes and mixtures, around a zero."""
    place = np.arange(size)
    found = [np.full(size, code) for code in (-128, 127, zero, zero - 1, zero + 1)]
    found += [np.where(place % step >= step / 2, 127, -128) for step in (2, 4, 32)]
    for base, spike in ((zero, 127), (zero, -128), (-128, 127), (127, -128)):
        own = np.full(size, base)
        own[rng.integers(size)] = spike
        found.append(own)
    found += [rng.choice([-128, 127], size), rng.choice([-128, zero, 127], size), place % 256 - 128]
    found += [zero + rng.integers(-spread, spread + 1, size) for spread in (1, 4, 20)]
    return [np.clip(codes, -128, 127) for codes in found]


def drawn(program: Program, count: int, seed: int) -> list[Codes]:
    """Return input codes (count, values) of each input, in the order of the source's tensors."""
    rng, found = np.random.default_rng(seed), []
    for tensor in (program.tensors[name] for name in program.inputs):
        size = int(np.prod(tensor.shape))
        own = edges(size, tensor.zero, rng)[:count]
        own += [rng.integers(-128, 128, size) for _ in range(count - len(own))]
        found.append(np.stack(own))
    return found


def firmware(folder: Path, model: FloatModel, codes: list[Codes]) -> tuple[Program, list[Codes], int]:
    """Return a build's program, its output codes (N, values) in the source's order, and instructions."""
    build = open_build(folder)
    network = build.lowered()
    program = network.program
    taken = []
    for port, name, own in zip(model.inputs, program.inputs, codes, strict=True):
        x = port.canonical(own)
        x = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        taken.append(np.ascontiguousarray(x).reshape(len(x), *program.tensors[name].shape))
    run = build.run(network, joined(taken))
    found = []
    for port, part in zip(model.outputs, apart(program, program.outputs, device_outputs(program, run.outputs)),
                          strict=True):  # fmt: skip
        canonical = part.transpose(0, 3, 1, 2).reshape(len(part), *port.shape[1:])
        found.append(port.restored(canonical).reshape(len(part), -1))
    return program, found, run.instructions


def micro(path: Path, program: Program, codes: list[Codes]) -> list[Codes]:
    """Return the output codes (N, values) of TFLite-Micro, whose inputs and outputs may be real values of codes."""
    interpreter = runtime.Interpreter.from_file(str(path), arena_size=ARENA)
    inputs = [program.tensors[name] for name in program.inputs]
    outputs = [program.tensors[name] for name in program.outputs]
    found: list[list[Codes]] = [[] for _ in outputs]
    for sample in range(len(codes[0])):
        for index, (tensor, own) in enumerate(zip(inputs, codes, strict=True)):
            details = interpreter.get_input_details(index)
            interpreter.set_input(_given(tensor, own[sample], details["dtype"]).reshape(details["shape"]), index)
        interpreter.invoke()
        for index, tensor in enumerate(outputs):
            found[index].append(_codes(tensor, np.array(interpreter.get_output(index)).reshape(-1)))
    return [np.stack(rows) for rows in found]


def _given(tensor: Tensor, codes: Codes, dtype: Any) -> NDArray[Any]:
    if dtype == np.float32:
        return ((codes - tensor.zero).astype(np.float32) * np.float32(tensor.scale)).astype(np.float32)
    return (codes + (128 if dtype == np.uint8 else 0)).astype(dtype)


def _codes(tensor: Tensor, y: NDArray[Any]) -> Codes:
    if y.dtype == np.float32:
        return np.clip(np.rint(y / np.float32(tensor.scale)).astype(np.int64) + tensor.zero, -128, 127)
    return y.astype(np.int64) - (128 if y.dtype == np.uint8 else 0)


def compare(path: Path, board: str, folder: Path, count: int, options: list[str], *, fresh: bool) -> tuple[str, bool]:
    """Compile, run and compare; return a line of the table, and whether nothing differs."""
    try:
        model = load(path)
    except TapcError as error:
        return f"| {path.name} | {board} | refused: {str(error).removeprefix(f'{path}: ')[:160]} | | | |", True
    if model.given is None:
        return "", True
    marker = folder / "report.json"
    if fresh or not marker.is_file() or marker.stat().st_mtime < path.stat().st_mtime:
        command = [sys.executable, "-P", "-m", "tapc", "compile", str(path), "--board", board, "--data", "random"]
        usual = ["--calibration", "1", "--eval", "1", "-q", "-o", str(folder)]
        done = subprocess.run([*command, *usual, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            last = next((line for line in done.stderr.splitlines() if line.startswith("error")), done.stderr[-200:])
            return f"| {path.name} | {board} | {last} | | | |", done.returncode != 7
    started = time.monotonic()
    program = open_build(folder).lowered().program
    codes = drawn(program, count, seed=0)
    program, found, instructions = firmware(folder, model, codes)
    try:
        expected = micro(path, program, codes)
    except (RuntimeError, ValueError) as error:
        return f"| {path.name} | {board} | TFLite-Micro does not run it: {error} | | | |", True
    pairs = list(zip(model.outputs, found, expected, strict=True))
    counts = [int(np.sum(a != b)) for _, a, b in pairs]
    real = sum(n for (port, _, _), n in zip(pairs, counts, strict=True) if port.name not in model.given.points)
    different, size = sum(counts) - real, sum(a.size for a in expected)
    shown = f"{different} of {size:,}" + (f", {real} of real values" if real else "")
    values = len(np.unique(np.concatenate([a.reshape(-1) for a in expected])))
    print(f"{path.name} on {board}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return f"| {path.name} | {board} | {count} | {shown} | {values} | {instructions:,} |", different == 0


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, help="folder of .tflite files, or one of them")
    parser.add_argument("--board", action="append", required=True)
    parser.add_argument("--inputs", type=int, default=50)
    parser.add_argument("--build", type=Path, default=Path("build/tflite-micro"))
    parser.add_argument("--only", default="", help="files whose names hold this alone")
    parser.add_argument("--fresh", action="store_true")
    parser.epilog = "further options are those of `tapc compile`"
    given, options = parser.parse_known_args()
    if not given.files.exists():
        parser.error(f"{given.files} does not exist")
    files = [given.files] if given.files.is_file() else sorted(given.files.glob("*.tflite"))
    print("| file | board | inputs | bytes that differ | distinct codes | instructions |\n|---|---|---|---|---|---|")
    same = True
    for path in (path for path in files if given.only in path.name):
        for board in given.board:
            folder = given.build / board / path.name
            line, equal = compare(path, board, folder, given.inputs, options, fresh=given.fresh)
            same = same and equal
            if line:
                print(line, flush=True)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
