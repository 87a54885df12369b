"""Commands that compile: `tapc compile` and `tapc finetune`."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tapc.base.terminal import print_json, progress, say
from tapc.cli.export import FORMATS
from tapc.cli.options import (
    DEVICE,
    GRANULARITY,
    JSON,
    SCORE_EXPONENT,
    SEED,
    TEST_DATA,
    Board,
    Model,
    Proxy,
    data_option,
    source_options,
)
from tapc.cli.types import BitList, Bytes, LatencyType, PositiveNumber, metric_option

if TYPE_CHECKING:
    from tapc.base.options import Options, Source
    from tapc.finetune import Training

EXIT_CODES = """\b
Exit codes: 0 success, 2 usage, 3 unsupported network, 4 bad input file,
5 does not fit, 6 missing or failing tool, 7 device differs, 8 output folder."""
_WITH_TORCH = "torch", "tapc.frontend.torch_source"
_OPTIONS = (
    click.option("--board", type=Board(), required=True, help="Board name or board file; see `tapc boards`."),
    data_option("Samples: folder, zip, npz, npy or CSV; `random`."),
    TEST_DATA,
    source_options,
    click.option(
        "-o", "--output", type=click.Path(path_type=Path), default=None, help="Folder, default build/MODEL-BOARD."
    ),
    click.option(
        "--wbits",
        type=BitList((2, 4, 8)),
        default="2,4,8",
        show_default=True,
        help="Weight bits on offer; one value is uniform.",
    ),
    click.option(
        "--abits",
        type=BitList((4, 8, 16), auto=(8, 16)),
        default="8",
        show_default=True,
        help="Activation bits on offer; the network's input and output stay at 8. 16: all that may have them; auto, or "
        "8,16: 16 where 8 bits leave less than --abits-limit.",
    ),
    click.option(
        "--abits-limit",
        type=click.FloatRange(0, 200),
        default=30.0,
        show_default=True,
        help="Decibels of the outputs that 8 bits of an activation alone must leave, with --abits auto.",
    ),
    click.option("--target-bits", type=click.FloatRange(min=2, max=8), default=None, help="Average weight bits."),
    click.option("--flash", type=Bytes(), default=None, help="Flash budget, e.g. 64K; default: the board's."),
    click.option("--ram", type=Bytes(), default=None, help="RAM budget (arena, stack, variables)."),
    click.option(
        "--latency",
        type=LatencyType(),
        default=None,
        help="Budget of an inference: instructions (9M), estimated cycles (1.2Mcycles), or milliseconds (5ms).",
    ),
    click.option("--bops", type=click.IntRange(min=1), default=None, help="Budget of MACs x weight x activation bits."),
    click.option(
        "--proxy",
        type=Proxy(),
        default="error",
        show_default=True,
        help="What scores the layers: a name of `tapc proxies`, or a file.",
    ),
    click.option(
        "--allocator",
        type=click.Choice(["ilp", "proxy"]),
        default="ilp",
        show_default=True,
        help="Who chooses weight bits: the integer program, or the proxy file's own allocate().",
    ),
    SCORE_EXPONENT,
    click.option(
        "--pin",
        type=click.Choice(["none", "first", "last", "both"]),
        default="none",
        show_default=True,
        help="Keep these layers at 8 bits.",
    ),
    click.option("--overrides", type=click.Path(path_type=Path), default=None, help="TOML of manual bits; wins."),
    GRANULARITY,
    click.option(
        "--rounding",
        default="gptq",
        show_default=True,
        help="Weight rounding: nearest, mse, gptq, rate, adaround, block, network.",
    ),
    click.option("--equalize/--no-equalize", default=True, show_default=True, help="Balance channel ranges."),
    click.option("--calibration", type=click.IntRange(min=1), default=1024, show_default=True, help="Most samples."),
    click.option(
        "--eval",
        "evaluation",
        type=click.IntRange(min=1),
        default=100,
        show_default=True,
        help="Samples that run on the device.",
    ),
    click.option(
        "--tune",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        metavar="N",
        help="Measure up to N schedules of each kernel in the simulator and keep the fastest.",
    ),
    click.option(
        "--tune-for",
        type=click.Choice(["auto", "instructions", "cycles"]),
        default="auto",
        show_default=True,
        help="What --tune keeps the fewest of; auto: estimated cycles on cores that issue two instructions at once.",
    ),
    click.option(
        "--prefix", default=None, help="What the C library's names begin with; default: from the network's name."
    ),
    click.option(
        "--keep/--requantize",
        default=None,
        help="Of a quantized network: its scales and integers as they are (the default), or quantize it anew.",
    ),
    click.option(
        "--arithmetic",
        type=click.Choice(["auto", "float", "fixed", "tflite"]),
        default="auto",
        show_default=True,
        help="How integers round; auto: as the source where it is kept, else the core's.",
    ),
    SEED,
    click.option("--no-external", is_flag=True, help="Keep weights and activations in internal memory."),
    click.option("--no-patches", is_flag=True, help="Compute every layer as a whole, never band by band."),
    click.option(
        "--optimize",
        type=click.Choice(["size", "balanced", "speed", "ram"]),
        default="balanced",
        show_default=True,
        help="size: the least flash; balanced: faster algorithms for up to 25 % more flash and 15 % more arena; speed: "
        "for as much as there is, and hot code and constants are copied to the board's fast memories; ram: the "
        "smallest peak of RAM: layers in patches for up to twice the instructions, and the least scratch memory.",
    ),
    click.option(
        "--front-end",
        metavar="NAME",
        default=None,
        help="Write C that makes the network's input of samples of audio: mfcc:kws01, log-mel:kws01 or a .toml file.",
    ),
    click.option(
        "--stream",
        is_flag=False,
        flag_value="auto",
        default=None,
        metavar="[AXIS]",
        help="Build one step of a network over time; AXIS or INPUT:AXIS is its input's axis of time, by default the "
        "longer one of the map.",
    ),
    click.option("--no-simulate", is_flag=True, help="Build only: nothing is proved or measured."),
    DEVICE,
    click.option(
        "--toolchain",
        type=click.Choice(["gcc", "zig"]),
        default="gcc",
        show_default=True,
        help="What builds the firmware: arm-none-eabi-gcc, or Zig's C compiler (pip install ziglang).",
    ),
    click.option(
        "--export",
        "exports",
        multiple=True,
        type=click.Choice(FORMATS),
        help="Write a package for other people's projects, too: BUILD/export/FORMAT (`tapc export`); repeatable.",
    ),
    metric_option,
    JSON,
)


def compile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a compilation may be told to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def register(main: click.Group) -> None:
    """Add the commands."""

    @main.command(name="compile", epilog=EXIT_CODES)
    @click.argument("model", type=Model())
    @compile_options
    def compile_command(**given: Any) -> None:
        """Compile MODEL for a board: bits, ONNX, C, firmware, proof, report.

        MODEL is a zoo name, file.py:callable, an .onnx or a .tflite file.

        \b
        Examples:
          tapc compile resnet8 --board stm32h7
          tapc compile net.onnx --board nrf52840dk --data images/ --target-bits 4
          tapc compile resnet8 --board pico --flash 64K --abits 4,8
          tapc compile kws.tflite --board nrf52840dk --data mfcc.npz --front-end mfcc:kws01
        """
        _compile(**given)

    @main.command(epilog=EXIT_CODES)
    @click.argument("model", type=Model())
    @click.option(
        "--train",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path),
        help="Samples to train with: folder, zip, npz, npy or CSV; several are joined.",
    )
    @click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
    @click.option("--batch", type=click.IntRange(min=1), default=128, show_default=True)
    @click.option(
        "--rate",
        type=PositiveNumber(),
        default=0.0005,
        show_default=True,
        help="Largest learning rate, relative to each layer's weights.",
    )
    @click.option("--no-augment", is_flag=True, help="Take images as they are, neither mirrored nor shifted.")
    @compile_options
    def finetune(train: tuple[Path, ...], epochs: int, batch: int, rate: float, no_augment: bool, **given: Any) -> None:
        """Compile MODEL for a board and train the quantized network before the firmware is built.

        Starts from the rounding and the bits that `tapc compile` with the same options ends with; the float network
        teaches. Stopped, the same command goes on from the last epoch.

        \b
        Examples:
          tapc finetune resnet8 --board stm32h7 --wbits 2 --train cifar10-train.zip
          tapc finetune net.onnx --board pico --flash 64K --train images/ --epochs 40
        """
        from tapc.finetune import Training

        training = Training(epochs=epochs, batch=batch, rate=rate, augment=not no_augment, seed=given["seed"])
        _compile(train=train, training=training, **given)


def _compile(
    *, model: str, board: str, data: str | None, test_data: Path | None,
    source: "Source", output: Path | None, pin: str, evaluation: int, no_simulate: bool, as_json: bool,
    exports: tuple[str, ...], train: tuple[Path, ...] = (), training: "Training | None" = None, **rest: Any,
) -> None:  # fmt: skip
    from tapc.base import worker
    from tapc.base.precheck import LEARNED, check_files, check_rounding_name, check_source, is_file

    begin, told = not train and rest["rounding"] not in LEARNED, progress()
    given: Any = model
    read = vars(source)
    if begin and not is_file(model):
        worker.begin(*_WITH_TORCH)
    try:
        from tapc import zoo
        from tapc.base.options import Options
        from tapc.hardware.board import load_board

        silicon = load_board(board)
        check_rounding_name(rest["rounding"])
        check_source(model, zoo.names())
        check_files(data=data, test_data=test_data, overrides=rest["overrides"])
        for path in train:
            check_files(train=path)
        options = Options(
            pin_first=pin in ("first", "both"), pin_last=pin in ("last", "both"), eval=evaluation,
            simulate=not no_simulate, test_data=test_data, **rest,
        )  # fmt: skip
        if is_file(model):  # before the rest of tapc is imported, which takes longer than most refusals
            from tapc.frontend import load

            with told.stage("import"):
                given = load(model, weights=source.weights, input_shape=source.input_shape, seed=options.seed,
                             keep=options.keep is not False, state=source.state, constant=source.constant)  # fmt: skip
            read = {**read, "weights": None, "input_shape": None, "state": (), "constant": ()}
            if begin and _narrow(options):
                worker.begin(*_WITH_TORCH)
        from tapc.flow.pipeline import compile
        from tapc.report import print_report

        result = compile(
            given, board=board, data=data, **read, output=output, options=options, train=train,
            training=training, stages=told, command=command_line(click.get_current_context()),
        )  # fmt: skip
    finally:
        worker.finish()
    from tapc.flow.export import export, stale

    written = export(result.output, *exports) if exports else []
    for name in stale(result.output, exports):
        text = f"{result.output / 'export' / name} is of an earlier build: tapc export {result.output} {name}"
        say(text, "yellow", label="warning: ", err=True)
    if as_json:
        print_json(result.report.to_dict())
        return
    print_report(result.report)
    for place in (result.output, *(package.folder for package in written)):
        say(f"written to {place}")
    if silicon.npu is not None:
        command = shlex.join(["tapc", "npu", str(result.output), "--board", board])
        lacking = result.report.without_tflite
        but = f", but for what that does not take ({lacking})" if lacking else ""
        say(f"put it on the board's NPU{but}: {command}")


def _narrow(options: "Options") -> bool:
    """Whether some layer will probably have less than 8 bits: then torch says how its errors meet those of others."""
    budgets = options.target_bits, options.flash, options.latency, options.bops
    return max(options.wbits) < 8 or any(budget is not None for budget in budgets)


def command_line(context: click.Context) -> str:
    """Return the command that the context is of, without what changes nothing but where the result goes."""
    words = ["tapc", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not given or name in ("output", "as_json", "exports") or name not in context.params:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        elif parameter.multiple:
            words += [word for one in value for word in (parameter.opts[0], str(one))]
        else:
            words += [parameter.opts[-1], ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
