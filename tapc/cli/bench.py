"""Commands that measure: `tapc bench` and `tapc profile`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tapc.base.errors import UsageError
from tapc.base.picture import check_picture
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say, visible
from tapc.cli.options import JSON, PLOT, Board
from tapc.cli.transfer import register as register_transfer
from tapc.cli.types import BitList

if TYPE_CHECKING:
    from tapc.bench import KernelFigure, Measured
    from tapc.bench.configurations import BenchTable
    from tapc.bench.proxies import Interval, ProxyFigure
    from tapc.flow.losses.table import RoundingName
    from tapc.flow.profile import Profile


def register(main: click.Group) -> None:
    """Add the commands."""

    @main.group()
    def bench() -> None:
        """Measure kernels in the simulator, and proxies on measured bit configurations.

        \b
        Example:
          tapc bench kernels --board stm32h7
          tapc bench proxies
        """

    @bench.command()
    @click.option("--board", type=Board(), required=True, help="Board name or board file; see `tapc boards`.")
    @click.option("--weights", type=BitList((2, 4, 8)), default="8,4,2", show_default=True, help="Weight bits.")
    @click.option("--activations", type=click.Choice(["4", "8"]), default="8", show_default=True, help="Input bits.")
    @click.option("--algorithm", type=click.Choice(["built", "direct", "nested", "f2", "f4", "f2r", "f4r"]),
                  default="built", show_default=True,
                  help="Of convolutions: as a build has them without transforms, by the kernel's own schedule, with "
                  "two weights in a half-word, or those of 3x3 by Winograd's F(2x2, 3x3) or F(4x4, 3x3); f2r and f4r: "
                  "with their weights' transform made at run time.")  # fmt: skip
    @click.option("--layer", default=None, help="Only layers whose name contains this.")
    @click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights.")
    @PLOT
    @JSON
    def kernels(
        board: str,
        weights: tuple[int, ...],
        activations: str,
        algorithm: str,
        layer: str | None,
        seed: int,
        plot: Path | None,
        as_json: bool,
    ) -> None:
        """Instructions per MAC of whole kernel calls, beside published kernels.

        \b
        Example:
          tapc bench kernels --board stm32h7 --plot kernels.svg
          tapc bench kernels --board pico --weights 8,4 --layer "64->64" --json
        """
        from tapc.bench import LAYERS, bench_kernels
        from tapc.hardware.board import load_board
        from tapc.hardware.target import load_target

        if plot is not None:
            check_picture(plot)
        chosen = [item for item in LAYERS if layer is None or layer in item.name]
        if not chosen:
            raise UsageError(f"--layer {layer!r} is in no name; layers: {'; '.join(item.name for item in LAYERS)}")
        silicon = load_board(board)
        with progress().stage("measure kernels") as advance:
            figures = bench_kernels(
                silicon, load_target(silicon.core), layers=chosen, w_bits=sorted(weights, reverse=True),
                a_bits=int(activations), algorithm=cast("Measured", algorithm), seed=seed, advance=advance,
            )  # fmt: skip
        if algorithm not in ("built", "direct") and all(figure.schedule != algorithm for figure in figures):
            raise UsageError(
                f"--algorithm {algorithm} computes none of these layers on {silicon.core}: it is for "
                + (
                    "convolutions on cores with the DSP extension alone"
                    if algorithm == "nested"
                    else "3x3 convolutions on cores without Helium"
                )
            )
        if plot is not None:
            from tapc.bench.plot import plot_kernels

            plot_kernels(figures, f"{silicon.core}, {activations}-bit activations", plot)
        if as_json:
            print_json({"board": silicon.name, "core": silicon.core, "kernels": _kernel_rows(figures)})
            return
        _print_kernels(figures, silicon.core)

    @bench.command()
    @click.option("--proxy", "files", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
                  help="Proxy program to compare with the built-in ones; may be repeated.")  # fmt: skip
    @click.option("--network", "networks", multiple=True, help="Only this network; may be repeated.")
    @click.option("--activations", is_flag=True, help="Also configurations with 4-bit activations.")
    @click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
    @click.option("-o", "--plot", type=click.Path(path_type=Path, dir_okay=False), help="SVG, PNG or PDF to write.")
    @click.option("--bench", "version", type=click.Choice(["1", "2"]), default="1", show_default=True,
                  help="1: top-1 of integer arithmetic; 2: loss, within equal sizes.")  # fmt: skip
    @click.option("--table", "tables", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
                  help="Loss table (.json.gz) in place of those that come with tapc; may be repeated.")  # fmt: skip
    @click.option("--rounding", type=click.Choice(["gptq", "nearest"]), default="gptq", show_default=True,
                  help="Whose losses of --bench 2.")  # fmt: skip
    @JSON
    def proxies(
        files: tuple[Path, ...],
        networks: tuple[str, ...],
        activations: bool,
        seed: int,
        plot: Path | None,
        version: str,
        tables: tuple[Path, ...],
        rounding: "RoundingName",
        as_json: bool,
    ) -> None:
        """How well proxies predict which configurations of tapc-bench are accurate.

        \b
        Example:
          tapc bench proxies -o proxies.svg
          tapc bench proxies --proxy found.toml --network resnet8 --json
          tapc bench proxies --bench 2 --table build/resnet8.json.gz
        """
        if version == "2" or tables:
            if activations or plot is not None:
                raise UsageError("--activations and -o are for --bench 1: loss tables are compared in all, and printed")
            from tapc.cli.losses import bench_losses

            bench_losses(files, networks, tables, rounding, seed, as_json)
            return
        if plot is not None:
            check_picture(plot)
        from tapc.bench.configurations import load_table, table_names
        from tapc.bench.proxies import evaluate_proxies
        from tapc.flow.losses.ranking import builtin_scores, found_scores, program_scores

        loaded = [load_table(name) for name in dict.fromkeys(networks) or table_names()]
        scores = builtin_scores(loaded) | found_scores(loaded)
        for file in dict.fromkeys(files):
            name = file.stem if file.stem not in scores else str(file)
            scores[name] = dict(program_scores(file, loaded))
        with progress().stage("compare proxies") as advance:
            figures = evaluate_proxies(loaded, scores, seed, activations=activations, advance=advance)
        if plot is not None:
            from tapc.bench.plot_proxies import plot_proxies

            plot_proxies(figures, plot)
        if as_json:
            print_json({"seed": seed, "activations": activations, "proxies": [asdict(f) for f in figures]})
            return
        print_proxies(figures, loaded)

    register_transfer(bench)

    @bench.command(name="search")
    @click.option(
        "--board", type=Board(), default="stm32h7", show_default=True, help="Its core's costs enter the allocation."
    )
    @click.option("--proxy", default=None, help="Proxy file, or one that a search found; default: TAP's formula.")
    @click.option(
        "--target-bits", type=click.FloatRange(2, 8), default=3, show_default=True, help="Average weight bits."
    )
    @click.option("--repetitions", type=click.IntRange(min=1), default=21, show_default=True)
    @click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the weights.")
    @JSON
    def bench_search_command(
        board: str, proxy: str | None, target_bits: float, repetitions: int, seed: int, as_json: bool
    ) -> None:
        """How long a proxy program and the allocator take for ResNet-18, once its statistics exist.

        \b
        Example:
          tapc bench search
          tapc bench search --proxy tapc-1
        """
        from tapc.proxy import FOUND, load_program
        from tapc.search.timing import FORMULA, bench_search

        program = FOUND.get(proxy) or load_program(Path(proxy)) if proxy else FORMULA
        times = bench_search(
            board, program=program, target_bits=target_bits, repetitions=repetitions, seed=seed,
            stages=progress(),
        )  # fmt: skip
        if as_json:
            print_json(asdict(times))
            return
        title = f"ResNet-18, {times.layers} layers, {times.repetitions} repetitions"
        table = Table(title, columns("step", "ms", right=("ms",)))
        rows = {
            "score": times.score,
            "allocate": times.allocate,
            "both": times.total,
            "both, slowest": times.worst,
            "score, the first time": times.first_score,
        }
        for name, value in rows.items():
            table.add(name, f"{value:.1f}")
        print_table(table)
        say("Wall time, medians. The TAP paper reports 78 ms on its machine.")

    @main.command(name="profile")
    @click.argument("build", type=click.Path(path_type=Path))
    @click.option("--blocks", type=click.IntRange(min=0), default=3, show_default=True, help="Hottest blocks to print.")
    @PLOT
    @JSON
    def profile_command(build: Path, blocks: int, plot: Path | None, as_json: bool) -> None:
        """Where one inference of a build spends its instructions and estimated cycles.

        \b
        Example:
          tapc profile build/resnet8-stm32h7 --blocks 5
        """
        from tapc.flow.profile import plot_profile, profile

        if plot is not None:
            check_picture(plot)
        result = profile(build, blocks=blocks, stages=progress())
        if plot is not None:
            plot_profile(result, plot)
        if as_json:
            layers = [asdict(layer) | {"macs_per_cycle": layer.macs_per_cycle} for layer in result.layers]
            print_json(asdict(result) | {"layers": layers})
            return
        _print_profile(result)


def _kernel_rows(figures: Sequence["KernelFigure"]) -> list[dict[str, Any]]:
    return [
        asdict(f)
        | {
            "instructions_per_operation": f.per_operation,
            "cycles_estimated_per_operation": None if f.cycles is None else f.cycles / f.operations,
        }
        for f in figures
    ]


def _print_kernels(figures: Sequence["KernelFigure"], core: str) -> None:
    from tapc.bench import SOURCE

    numbers = ("w", "instr", "cycles", "code B")
    title = f"{core}: instructions per MAC (per element of an addition), whole call"
    table = Table(title, columns("layer", *numbers, "best peer", right=numbers))
    previous = None
    for row in _kernel_rows(figures):
        peer, cycles = row["peer"], row["cycles_estimated_per_operation"]
        table.add(
            row["layer"] if row["layer"] != previous else "",
            str(row["w_bits"]),
            f"{row['instructions_per_operation']:.2f}",
            "-" if cycles is None else f"{cycles:.2f}",
            f"{row['code_bytes']:,}",
            "-" if peer is None else f"{peer['per_operation']:.2f} {peer['name']}",
        )
        previous = row["layer"]
    print_table(table)
    peers = f" {SOURCE}." if any(f.peer is not None for f in figures) else ""
    say(f"instr: exact, QEMU. cycles: {_cycles_note(core)}.{peers}")


def _cycles_note(core: str) -> str:
    from tapc.cycles import available, source

    if not available(core):
        return source(core)
    return f"cycles-estimated, {source(core)}, constants read once from flash"


def print_proxies(figures: "Sequence[ProxyFigure]", tables: "Sequence[BenchTable]") -> None:
    """Print a table per network of tapc-bench."""

    def cell(i: "Interval") -> str:
        return f"{i.value:.2f} [{i.low:.2f}, {i.high:.2f}]"

    numbers = ("within size", "Spearman", "Kendall", "top 10%", "loss", "layers")
    for table in tables:
        own = [figure for figure in figures if figure.network == table.network]
        p = table.provenance
        title = f"{table.network}: {own[0].configurations} configurations"
        shown = Table(title, columns("proxy", *numbers, right=numbers))
        for f in own:
            cells = [cell(f.within_size), cell(f.spearman), *(f"{i.value:.2f}" for i in (f.kendall, f.top))]
            cells += [f"{f.cross_entropy.value:.2f}", "-" if f.layers is None else f"{f.layers:.2f}"]
            shown.add(f.proxy, *cells)
        print_table(shown)
        say(
            f"{p.model} on {p.test_samples} samples of {p.data}; float {p.float_correct / p.test_samples:.1%}; "
            f"measured on {p.core} in QEMU."
        )
    say(
        "Predicted loss of a configuration against its measured top-1: Spearman (mean of quintiles of weight bytes, "
        "and over all), Kendall's tau-b, share of the best tenth found; loss: Spearman against cross-entropy; layers: "
        "Spearman of scores and errors of single layers at 2 bits. In brackets 95 % bootstrap intervals."
    )


def _print_profile(p: "Profile") -> None:
    numbers = ("MACs", "instructions", "cycles", "MAC/cycle", "share")
    table = Table(f"{p.model} on {p.board} ({p.core}), one inference", columns("layer", *numbers, right=numbers))

    def row(name: str, macs: int, instructions: int, cycles: float | None, share: float) -> None:
        per = "-" if not cycles or not macs else f"{macs / cycles:.2f}"
        shown = "-" if cycles is None else f"{cycles:,.0f}"
        table.add(name, f"{macs:,}" if macs else "-", f"{instructions:,}", shown, per, f"{share:.1%}")

    for layer in p.layers:
        row(layer.name, layer.macs, layer.instructions, layer.cycles, layer.share)
    table.rule()
    row("total", p.macs, p.instructions, p.cycles, 1.0)
    print_table(table)
    say(f"instructions: exact, QEMU, input of zeros. cycles: {_cycles_note(p.core)}.")
    for block in p.hottest:
        click.echo(f"\n{visible(block.function)}: {block.executions:,} x {len(block.instructions)} instructions")
        for i in block.instructions:
            click.echo(visible(f"  {i.address:8x}  {i.mnemonic:<13} {i.operands}"))
