"""Compile the networks of MLPerf Tiny for boards of five cores and print docs/mlperf_tiny.md.

    python tools/mlperf_tiny.py ../shared/data > docs/mlperf_tiny.md

FOLDER has mlperf-tiny/*.tflite, and samples where a network's accuracy is to be measured. Each network is compiled with
8-bit weights, and with the smallest average of weight bits that loses at most a point where samples have labels. What
is in the build folder already is not compiled again; `--fresh` compiles all of it.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapc.hardware.board import load_board

Report = dict[str, Any]

BOARDS = ("pico", "nrf52840dk", "stm32h7", "nucleo-u575zi-q", "mps3-an547")
AVERAGES = ("2", "2.5", "3", "4", "5", "6")
LOSS = 1.0
"""Points that fewer bits may lose."""


@dataclass(frozen=True)
class Entry:
    """A network of the suite.

    Attributes
    ----------
    name, file : str
    data : str or None
        Samples; None for random ones.
    options : tuple of str
        How the file wants its inputs.
    published : dict of str to float
        Core -> cycles per MAC of the whole network, of a vendor's or a peer's library on silicon.
    """

    name: str
    file: str
    data: str | None
    options: tuple[str, ...]
    published: dict[str, float]


ENTRIES = (
    Entry("ResNet-8", "pretrainedResnet.tflite", "cifar10-original-subset.npz", ("--pixel-scale", "1"),
          {"HALE, M0+": 7.8, "TFLM, M4": 6.76, "X-CUBE-AI 9, M4": 1.59, "X-CUBE-AI 9, M7": 0.91}),
    Entry("DS-CNN", "kws_ref_model_float32.tflite", "kws01-mfcc-dev.npz", (),
          {"HALE, M0+": 11.4, "TFLM, M4": 8.2, "X-CUBE-AI 9, M4": 1.95, "X-CUBE-AI 9, M7": 1.19}),
    Entry("VWW", "vww_96_float.tflite", None, (),
          {"HALE, M0+": 12.1, "TFLM, M4": 9.6, "X-CUBE-AI 9, M4": 1.42, "X-CUBE-AI 9, M7": 0.89}),
    Entry("autoencoder", "ad01_fp32.tflite", None, (),
          {"HALE, M0+": 9.9, "TFLM, M4": 4.6, "X-CUBE-AI 9, M4": 2.4, "HALE, M7": 1.14}),
)  # fmt: skip

HEAD = """# MLPerf Tiny

The four networks of the suite, from their float files, and what `tapc compile` makes of them (`python
tools/mlperf_tiny.py FOLDER > docs/mlperf_tiny.md`; `--optimize speed`, else the defaults). Weights have 8 bits, or the
smallest average that loses at most {loss:g} point of the float network's accuracy on the samples at hand ({samples});
for the other networks there are no labelled samples here, and they are compiled at 8 bits only. A board runs {eval}
samples, the M7 with fewer bits all that were not calibrated on. Bytes are read from the image; every layer of four
samples and every output equal the reference executor's bit for bit in QEMU, which counts the instructions. **Cycles and
milliseconds are estimated** by the model of the core's pipeline ([cycles](cycles.md)) at the board's clock; there is
none of the Cortex-M33. MACs are the network's own, those of dead channels too, which tapc leaves out."""
COLUMNS = (
    "network", "core", "weight bits", "flash, B", "arena, B", "accuracy (float)", "instructions", "cycles, estimated",
    "per MAC", "ms, estimated", "exact",
)  # fmt: skip
PUBLISHED = """## Published, on silicon

Cycles per MAC of the closed division's int8 networks, of other libraries. Those of tapc above are estimates until a
board has told them.
"""


def compiled(
    entry: Entry, folder: Path, board: str, bits: tuple[str, ...], build: Path, *, samples: str, fresh: bool
) -> Report:
    """Compile a network, or read what became of it.

    Raises
    ------
    SystemExit
        The compilation failed.
    """
    place = build / f"{entry.name}-{board}{''.join(bits)}"
    if not (place / "report.json").is_file() or fresh:
        data = "random" if entry.data is None else str(folder / entry.data)
        words = f"-P -m tapc compile {folder / 'mlperf-tiny' / entry.file} --board {board} --data {data}"
        words += f" --optimize speed --eval {samples} -q -o {place}"
        command = [sys.executable, *words.split(), *bits, *entry.options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found: Report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    return found


def smallest(entry: Entry, folder: Path, build: Path, *, fresh: bool) -> str | None:
    """Return the smallest average of weight bits that loses little, on the board of the fastest simulation."""
    if entry.data is None:
        return None
    for average in AVERAGES:
        found = compiled(entry, folder, "stm32h7", ("--target-bits", average), build, samples="100000", fresh=fresh)
        accuracy = found["accuracy"]
        if accuracy["device"] is not None and accuracy["float"] - accuracy["device"] <= LOSS:
            return average
    return None


def row(entry: Entry, report: Report) -> str:
    """Return a build's line."""
    memory, accuracy, board = report["memory"], report["accuracy"], load_board(report["board"])
    cycles, macs = report["cycles_estimated"], report["macs"]
    right = "" if accuracy["device"] is None else f"{accuracy['device']:.1f} % ({accuracy['float']:.1f})"
    taken = ["", "", ""]
    if cycles is not None:
        taken = [f"{cycles:,.0f}", f"{cycles / macs:.2f}", f"{cycles / board.clocks.cpu_hz * 1e3:.2f}"]
    cells = [
        entry.name,
        f"{report['core'].removeprefix('cortex-').upper()} ({report['board']})",
        f"{report['average_weight_bits']:.2f}",
        f"{memory['flash']['measured']:,}",
        f"{memory['arena']['measured']:,}",
        right,
        f"{report['instructions']:,.0f}",
        *taken,
        "yes" if report["exact"] else "**no**",
    ]
    return f"| {' | '.join(cells)} |"


def published() -> list[str]:
    """Return the table of other libraries' figures."""
    columns = list(dict.fromkeys(name for entry in ENTRIES for name in entry.published))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for entry in ENTRIES:
        lines.append(f"| {entry.name} | {' | '.join(str(entry.published.get(name, '')) for name in columns)} |")
    return lines


def main() -> None:
    """Compile what is asked for and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--board", action="append", choices=BOARDS, help="these alone; repeatable")
    parser.add_argument("--build", type=Path, default=Path("build/mlperf-tiny"))
    parser.add_argument("--eval", default="100", help="samples that each board runs")
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    lines = []
    for entry in ENTRIES:
        average = smallest(entry, given.folder, given.build, fresh=given.fresh)
        for board in given.board or BOARDS:
            for bits in (("--wbits", "8"), *([("--target-bits", average)] if average else [])):
                chosen = (board, bits[0]) == ("stm32h7", "--target-bits")  # compiled already, for its accuracy
                samples, again = "100000" if chosen else given.eval, given.fresh and not chosen
                found = compiled(entry, given.folder, board, bits, given.build, samples=samples, fresh=again)
                lines.append(row(entry, found))
                print(lines[-1], file=sys.stderr, flush=True)
    samples = "; ".join(f"{entry.name}: {entry.data}" for entry in ENTRIES if entry.data)
    print(HEAD.format(loss=LOSS, samples=samples, eval=given.eval), end="\n\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    print("\n".join(lines), end="\n\n")
    print(PUBLISHED)
    print("\n".join(published()))


if __name__ == "__main__":
    main()
