"""Compile the networks of MLPerf Tiny for the NPUs of boards and print the table of docs/npu.md.

    python tools/npu_table.py ../shared/data

FOLDER has mlperf-tiny/*.tflite, float ones and given int8 ones, and samples where a network's accuracy is to be
measured; others are run on 100 random ones. Widths are chosen for the first board, the second one
takes the same network (its `model.onnx`). What is in the build folder already is not compiled again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BOARDS = ("mps3-an547", "grove-vision-ai-v2")
NETWORKS = {
    "ResNet-8": ("pretrainedResnet", "cifar10-original-subset.npz", ("--pixel-scale", "1")),
    "DS-CNN": ("kws_ref_model_float32", "kws01-mfcc-dev.npz", ()),
    "VWW": ("vww_96_float", None, ()),
    "autoencoder": ("ad01_fp32", None, ()),
}
BITS = {
    **{bits: ("--wbits", bits) for bits in "842"},
    **{f"2 to 8, {bits} on average": ("--target-bits", bits) for bits in "43"},
}
GIVEN = {"ResNet-8": "pretrainedResnet_quant", "DS-CNN": "kws_ref_model", "VWW": "vww_96_int8",
         "autoencoder": "ad01_int8"}  # fmt: skip
REAL, RANDOM = ("--samples", "200"), ("--samples", "100")
CALIBRATION = {"vww_96_float": "32"}
"""Samples, where there are no real ones and few do: a layer of VWW sees a hundred places and more of each."""
COLUMNS = ("network", "weight bits", "coded weights, B", "file, B", "SRAM, B", "accuracy (float), %", "cycles, U55-128",
           "cycles, U55-64", "exact")  # fmt: skip


def compiled(source: Path, name: str, data: Path | None, options: tuple[str, ...], build: Path) -> dict[str, Any]:
    """Compile one, or read what it became."""
    note = build / f"{name}.json"
    if not note.is_file():
        samples = ("--data", "random", *RANDOM) if data is None else ("--data", str(data), *REAL)
        samples += ("--calibration", CALIBRATION[source.stem]) if source.stem in CALIBRATION else ()
        command = [sys.executable, "-P", "-m", "tapc", "npu", str(source), *samples, "--json", "-q", "-o",
                   str(build / name), *options]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        build.mkdir(parents=True, exist_ok=True)
        note.write_text(done.stdout, encoding="utf-8")
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return found


def on_boards(
    source: Path, data: Path | None, units: tuple[str, ...], chosen: tuple[str, ...], build: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compile a network for the first board, and what it became for the second."""
    first, second = ("_".join([source.stem, board, *units, *chosen]).replace("--", "") for board in BOARDS)
    own = compiled(source, first, data, (*units, *chosen, "--board", BOARDS[0]), build)
    network = build / first / "model.onnx" if chosen else source  # a given one is kept as it is
    return own, compiled(network, second, data, (*units, "--board", BOARDS[1]), build)


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build/npu"))
    given = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name, (file, data, options) in NETWORKS.items():
        rows = [(bits, file, chosen) for bits, chosen in BITS.items()]
        rows.append(("given int8", GIVEN[name], ()))
        samples = None if data is None else given.folder / data
        for bits, stem, chosen in rows:
            source = given.folder / "mlperf-tiny" / f"{stem}.tflite"
            first, second = on_boards(source, samples, options, chosen, given.build)
            scores = first["scores"] if data is not None else {}
            metric = next(iter(scores.get("npu", {})), "")
            accuracy = f"{scores['npu'][metric]:.1f} ({scores['float'][metric]:.1f})" if metric else "-"
            exact = all(one["exact"] and one["tflite_micro"] for one in (first, second))
            sizes = (f"{first[key]:,}" for key in ("weight_bytes", "file_bytes", "sram"))
            cycles = (f"{one['cycles']:,}" for one in (first, second))
            cells = (name, bits, *sizes, accuracy, *cycles, "yes" if exact else "no")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
