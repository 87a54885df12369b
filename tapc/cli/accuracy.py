"""Commands that measure accuracy: `tapc bench accuracy` and `tapc eval`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tapc.base.errors import DataError
from tapc.base.options import Source
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say
from tapc.cli.options import (
    DEVICE,
    GRANULARITY,
    JSON,
    SCORE_EXPONENT,
    TEST_DATA,
    Board,
    Model,
    Proxy,
    data_option,
    source_options,
    unit_options,
)
from tapc.cli.types import metric_option

if TYPE_CHECKING:
    from tapc.flow.accuracy import Figure, Summary
    from tapc.flow.evaluation import ClassFigures
    from tapc.frontend import FloatModel

_SHARED = (
    data_option("Labelled samples: folder, zip, npz, npy or CSV; zoo models find theirs."),
    TEST_DATA,
    source_options,
    click.option("--pin", type=click.Choice(["none", "first", "last", "both"]), default="none", show_default=True,
                 help="Keep these layers at 8 bits."),
    click.option("--overrides", type=click.Path(path_type=Path), default=None, help="TOML of manual bits; wins."),
    click.option("--calibration", type=click.IntRange(min=1), default=1024, show_default=True, help="Most samples."),
    click.option("--samples", type=click.IntRange(min=1), default=None, help="Most test samples."),
    click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="How many."),
    click.option("--seed", "first", type=click.IntRange(min=0), default=0, show_default=True,
                 help="The first of them."),
    click.option("--equalize/--no-equalize", default=True, show_default=True, help="Balance channel ranges."),
    click.option("--proxy", type=Proxy(), default="error", show_default=True, help="What scores the layers."),
    SCORE_EXPONENT,
    GRANULARITY,
    metric_option,
)  # fmt: skip


def trial_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what commands that measure over seeds share."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def open_source(name: str, source: Source, data: str | None) -> "tuple[FloatModel, Path]":
    """Load a network and find its samples; DataError where there are none."""
    from tapc import zoo
    from tapc.base.precheck import check_files, check_source

    check_source(name, zoo.names())
    check_files(data=data)
    from tapc.data import find_data, shipped_note
    from tapc.flow.inputs import open_model

    model = open_model(name, source)
    found = find_data(model.dataset) if data is None else Path(data)
    if found is None:
        raise DataError(
            f"{name}: there are no samples; give labelled ones with --data PATH (folder, zip, npz, npy or CSV)"
        )
    for note in shipped_note(found):
        say(note, "yellow", label="warning: ", err=True)
    return model, found


def register(main: click.Group) -> None:
    """Add the commands."""
    bench = main.commands["bench"]
    assert isinstance(bench, click.Group)

    @bench.command(name="accuracy")
    @click.argument("model", type=Model())
    @click.option("--set", "settings", multiple=True, default=("w8a8", "w4a8", "w2a8"), show_default=True,
                  help="w4a8: 4-bit weights; m3a8: an average of 3, allocated by --proxy; m4r4: and activations of 4 "
                       "or 8 bits in the RAM of w4a4.")  # fmt: skip
    @click.option("--rounding", "roundings", multiple=True, default=("gptq",), show_default=True)
    @click.option(
        "--board", type=Board(), default="stm32h7", show_default=True, help="Whose costs break ties of an allocation."
    )
    @trial_options
    @JSON
    def accuracy_command(
        model: str, settings: tuple[str, ...], roundings: tuple[str, ...], board: str, data: str | None,
        source: Source, proxy: str, pin: str, overrides: Path | None, score_exponent: float, granularity: str,
        as_json: bool, **rest: Any,
    ) -> None:  # fmt: skip
        """Measure the accuracy of integer networks over seeds, without building firmware.

        Each seed draws its own calibration samples; of a single set, the others are tested.

        \b
        Example:
          tapc bench accuracy resnet8 --set w4a8 --set m3a8 --rounding nearest --rounding gptq
        """
        from tapc.base.precheck import check_rounding_name
        from tapc.hardware.board import load_board

        silicon = load_board(board)
        for rounding in roundings:
            check_rounding_name(rounding)
        network, found = open_source(model, source, data)
        from tapc.base.options import Options
        from tapc.flow.accuracy import evidence_of, figure, parse_setting, summarize, trials, with_bits
        from tapc.hardware.target import load_target

        wanted = [parse_setting(text) for text in settings]
        target = load_target(silicon.core)
        figures: list[Figure] = []
        stages = progress()
        for trial in trials(network, found, tested=rest.pop("samples"), **rest):
            evidence = evidence_of(
                trial, proxy, Options().rounding, pin, overrides, score_exponent, granularity
            )  # one choice of bits for all methods
            for setting in wanted:
                with stages.stage(f"bits {setting.name}"):
                    own, bits = with_bits(trial, evidence, setting, silicon, target)
                for rounding in roundings:
                    with stages.stage(f"{setting.name} {rounding} {trial.seed}") as advance:
                        figures.append(figure(own, bits, setting.name, rounding, advance)[0])
        summary = summarize(figures)
        if as_json:
            rows = {"model": network.name, "data": str(found.name), "figures": [asdict(f) for f in figures]}
            print_json(rows | {"summary": [asdict(s) for s in summary]})
        else:
            print_summary(network.name, summary)

    @main.command(name="eval")
    @click.argument("build", type=click.Path(path_type=Path))
    @data_option("Samples: folder, zip, npz, npy or CSV; default: those that the build was tested with.")
    @unit_options
    @click.option("--samples", type=click.IntRange(min=1), default=None, help="Most samples; default: all.")
    @click.option("--all", "everything", is_flag=True, help="Take all of the data, not only its test split.")
    @click.option("--seed", type=click.IntRange(min=0), default=None, help="Of the split; default: the build's.")
    @click.option("--classes", is_flag=True, help="Print figures of every class, too.")
    @DEVICE
    @metric_option
    @JSON
    def eval_command(
        build: Path, data: str | None, source: Source, samples: int | None, everything: bool, seed: int | None,
        classes: bool, device: str | None, metric: str, as_json: bool,
    ) -> None:  # fmt: skip
        """Evaluate a build: the float network, the ONNX and the firmware on the same samples.

        \b
        Examples:
          tapc eval build/resnet8-stm32h7
          tapc eval build/resnet8-stm32h7 --data cifar10-original-subset.npz --samples 500
        """
        from tapc.data.metrics import TITLES, shown
        from tapc.flow.evaluation import evaluate_build

        stages = progress()
        result = evaluate_build(
            build, data, source=source, samples=samples, everything=everything, seed=seed, stages=stages, wanted=metric,
            device=device,
        )  # fmt: skip
        if as_json:
            print_json(asdict(result))
            return
        title = f"{result.model} on {result.board}: {result.data}"
        name = {"none": "accuracy", "regression": "regression"}.get(result.metric, TITLES[result.metric])
        table = Table(title, columns("executor", name, "agrees with float"))
        for item in result.executors:
            share = shown(item.scores)
            if item.top1 is not None:
                area = f" (AUC {item.scores['auc']:.4f})" if "auc" in item.scores else ""
                share = f"{item.top1:.2f} ± {item.standard_error:.2f} %{area}"
            table.add(item.name, share, "-" if item.agreement is None else f"{item.agreement:.2f} %")
        print_table(table)
        if classes:
            print_classes(result.classes)
        if result.metric == "none":
            say(f"accuracy: none, {result.reason}")
        signal = "" if result.sqnr_db is None else f"device against float: SQNR {result.sqnr_db:.1f} dB; "
        say(
            f"{signal}device bit-exact on {result.samples} samples; at most {result.onnx_steps:.0f} steps from "
            "onnxruntime; ± is the standard error of the share"
        )

    @main.command()
    @click.argument("model", type=Model())
    @click.option("--board", type=Board(), required=True, help="Board whose firmware is measured; see `tapc boards`.")
    @click.option("--set", "settings", multiple=True,
                  help="As for bench accuracy: w4a8, m3a8, m4r4 ... Default: nine from 2 to 8 bits.")  # fmt: skip
    @click.option("--rounding", default="gptq", show_default=True)
    @click.option("-o", "--output", type=click.Path(path_type=Path), default=None,
                  help="Folder, default build/pareto-MODEL-BOARD.")  # fmt: skip
    @trial_options
    @DEVICE
    @JSON
    def pareto(
        model: str, board: str, settings: tuple[str, ...], rounding: str, output: Path | None, data: str | None,
        source: Source, as_json: bool, device: str | None, **rest: Any,
    ) -> None:  # fmt: skip
        """Draw accuracy against flash, BOPs and measured instructions for many bit budgets.

        Writes report.json, pareto.png and pareto.html. Every image is built and proved in the simulator.

        \b
        Examples:
          tapc pareto resnet8 --board stm32h7
          tapc pareto net.onnx --board pico --data images/ --set w8a8 --set m4a8 --set m3a8
        """
        from tapc.base.precheck import check_rounding_name
        from tapc.hardware.board import load_board

        silicon = load_board(board)
        check_rounding_name(rounding)
        network, found = open_source(model, source, data)
        from tapc.base.output import check_replaceable, replaced_folder
        from tapc.data.metrics import TITLES
        from tapc.flow.accuracy import parse_setting
        from tapc.pareto import SETTINGS, write_pages
        from tapc.pareto import pareto as measure

        wanted = [parse_setting(text) for text in settings or SETTINGS]
        destination = output or Path("build") / f"pareto-{network.name}-{silicon.name}"
        check_replaceable(destination.absolute())
        front = measure(
            network, found, silicon, wanted, rounding=rounding, tested=rest.pop("samples"), stages=progress(),
            device=device, **rest,
        )  # fmt: skip
        with replaced_folder(destination) as folder:
            write_pages(front, folder)
        if as_json:
            print_json(asdict(front))
            return
        numbers = (TITLES[front.points[0].accuracy.metric], "drop", "flash", "RAM", "GBOPs", "instructions", "front")
        table = Table(f"{front.model} on {front.board}", columns("bits", *numbers, right=numbers))
        for p in front.points:
            a = p.accuracy
            cells = ["does not fit", "-", "-"]
            if p.flash is not None and p.ram is not None:
                counted = "-" if p.instructions is None else f"{p.instructions:,.0f}"
                cells = [f"{p.flash:,.0f}", f"{p.ram:,.0f}", counted]
            table.add(
                a.setting, spread(a.score, a.score_sd, a.seeds), spread(a.drop, a.drop_sd, a.seeds), *cells[:2],
                f"{a.bops / 1e9:.3f}", cells[2], "*" if p.best else "",
            )  # fmt: skip
        print_table(table)
        say(f"written to {destination}")


def print_classes(classes: "tuple[ClassFigures, ...]") -> None:
    """Print what the float network and the device make of every class."""
    table = Table(
        "classes",
        columns("class", "samples", "float", "device", "most often taken for", right=("samples", "float", "device")),
    )
    for row in classes:
        rates = ("-" if rate is None else f"{rate:.1f} %" for rate in (row.float32, row.device))
        table.add(row.name, str(row.samples), *rates, row.taken_for)
    print_table(table)


def print_summary(title: str, summary: "tuple[Summary, ...]") -> None:
    """Print a table of accuracies."""
    from tapc.data.metrics import TITLES, axis_title

    numbers = ("float", TITLES[summary[0].metric] if summary else "accuracy", "drop", "agrees", "weights")
    table = Table(title, columns("bits", "rounding", *numbers, right=numbers))
    for row in summary:
        table.add(
            row.setting, row.rounding, f"{row.float_score:.2f}", spread(row.score, row.score_sd, row.seeds),
            spread(row.drop, row.drop_sd, row.seeds), "-" if row.agreement is None else f"{row.agreement:.1f} %",
            f"{row.weight_bytes:,}",
        )  # fmt: skip
    print_table(table)
    if summary:
        first = summary[0]
        meaning = f"{first.seeds} seeds: mean ± standard deviation" if first.seeds > 1 else "one seed"
        say(f"{axis_title(first.metric)}, on {first.samples} samples, {meaning}")


def spread(mean: float, deviation: float, seeds: int) -> str:
    """Return a mean and its standard deviation; one seed has none."""
    return f"{mean:.2f} ± {deviation:.2f}" if seeds > 1 else f"{mean:.2f}"
