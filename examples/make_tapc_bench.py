"""Measure tapc-bench, the benchmark of mixed-precision configurations; resumes where it was killed.

    python examples/make_tapc_bench.py resnet8 --data DIR --jobs 2
    python examples/make_tapc_bench.py dscnn --data DIR --jobs 2
    python examples/make_tapc_bench.py resnet8 --data DIR --refresh-layers    # seconds: all but the configurations

DIR holds cifar10-original-subset.npz, kws01-mfcc-dev.npz and MLPerf Tiny's mlperf-tiny/kws_ref_model_float32.tflite.
The table goes to tapc/bench/data/NAME.json, partial results to build/tapc-bench-NAME.jsonl.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tapc.base.errors import TapcError
from tapc.bench.configurations.generate import generate
from tapc.bench.configurations.layers import layer_facts
from tapc.bench.configurations.measure import Source, prepare
from tapc.bench.configurations.table import DATA, load_table, save_table


@dataclass(frozen=True)
class Network:
    """A network of the benchmark: zoo name or file in DIR, data file in DIR, calibration samples."""

    model: str
    data: str
    calibration: int


NETWORKS = {
    "resnet8": Network("resnet8", "cifar10-original-subset.npz", 256),
    "dscnn": Network("mlperf-tiny/kws_ref_model_float32.tflite", "kws01-mfcc-dev.npz", 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=340, help="configurations; default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--board", default="stm32h7")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--refresh-layers", action="store_true", help="keep the configurations of the table")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    network = NETWORKS[options.network]
    model = str(options.data / network.model) if "/" in network.model else network.model
    source = Source(options.network, model, options.data / network.data, network.calibration, options.seed,
                    options.board)  # fmt: skip
    output = options.output or DATA / f"{options.network}.json"
    command = (
        f"python examples/make_tapc_bench.py {options.network} --data DIR --count {options.count} "
        f"--seed {options.seed} --board {options.board}"
    )
    try:
        if options.refresh_layers:
            save_table(layer_facts(prepare(source), load_table(output)), output)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"measure {options.network}", total=None)
            table = generate(
                source,
                count=options.count,
                partial=Path("build") / f"tapc-bench-{options.network}.jsonl",
                command=command,
                jobs=options.jobs,
                advance=lambda done, total: progress.update(task, completed=done, total=total),
            )
        save_table(table, output)
    except TapcError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
