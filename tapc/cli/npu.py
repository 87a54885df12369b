"""tapc npu."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tapc.base.errors import UsageError
from tapc.base.options import Source
from tapc.base.output import MARKER
from tapc.base.precheck import check_files, check_rounding_name, check_source
from tapc.base.terminal import Column, Table, columns, print_json, print_table, progress, say
from tapc.cli.options import JSON, SEED, Board, Command, data_option, source_options
from tapc.cli.types import BitList, Bytes, LatencyType, metric_option

if TYPE_CHECKING:
    from tapc.flow.npu_result import OnNpu

_REASONS = 3


_OF_BUILDS = ("network", "board", "data", "samples", "out", "seed", "as_json", "quiet", "help")
"""Parameters that builds take, too."""


@click.command(name="npu", cls=Command)
@click.argument("network", metavar="BUILD|NETWORK")
@click.option("--board", type=Board(), required=True, help="A board with an NPU.")
@data_option("Samples: folder, zip, npz, npy or CSV; `random`. Of a build random codes are run by default.")
@source_options
@click.option("--samples", type=click.IntRange(min=1), default=100, show_default=True, help="How many are run.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=None, help="Folder, default BUILD/npu/BOARD or "
              "build/NETWORK-BOARD-npu.")  # fmt: skip
@click.option(
    "--wbits", type=BitList(tuple(range(2, 9))), default="2,3,4,5,6,7,8", show_default=True,
    help="Weight bits on offer; one value is uniform.",
)  # fmt: skip
@click.option("--target-bits", type=click.FloatRange(min=2, max=8), default=None, help="Average weight bits.")
@click.option("--flash", type=Bytes(), default=None, help="Budget of the optimized file, e.g. 40K.")
@click.option(
    "--latency", type=LatencyType(), default=None, help="Budget in ms (0.5ms) or cycles (180kcycles), by vela."
)
@click.option(
    "--rounding",
    default="rate",
    show_default=True,
    help="How weights are rounded: `rate` counts coded bytes; others as for `tapc compile`.",
)
@click.option("--calibration", type=click.IntRange(min=1), default=1024, show_default=True, help="Calibration samples.")
@click.option("--keep/--requantize", default=None, help="Of a quantized network: its integers, or quantize it anew.")
@metric_option
@SEED
@JSON
def npu_command(
    network: str, board: str, data: str | None, source: Source, samples: int, out: Path | None, as_json: bool,
    seed: int, wbits: tuple[int, ...], **rest: Any,
) -> None:  # fmt: skip
    """Compile a network for an Ethos-U and prove it.

    NETWORK is a zoo name, file.py:callable, or an ONNX or TFLite file: each layer gets 2 to 8 bits by what its coded
    weights take and lose. BUILD is a finished build for any board, with 8-bit activations and the bits that it has.
    Arm's compiler vela (`pip install 'tapc[npu]'`) compiles the int8 file; what the NPU would run is executed and
    compared, layer by layer, with the reference executor, and with TFLite-Micro where that is installed. Cycles are
    vela's estimate. Operators that the NPU does not take run on the CPU's kernels in between.

    \b
    Examples:
      tapc npu resnet8 --board grove-vision-ai-v2 --target-bits 4
      tapc npu kws.tflite --board mps3-an547 --flash 20K --data kws01.npz
      tapc npu build/resnet8-stm32h7 --board grove-vision-ai-v2
    """
    from tapc import zoo
    from tapc.hardware.board import load_board
    from tapc.npu.vela import check_installed

    silicon = load_board(board)
    if silicon.npu is not None:
        check_installed()
    if _is_build(network, zoo.names()):
        from tapc.flow.npu import compile_for_npu

        _check_unused(click.get_current_context())
        result = compile_for_npu(Path(network), silicon, data, samples, seed, out, progress())
    else:
        from tapc.base.options import Options
        from tapc.flow.npu import compile_network_for_npu

        check_rounding_name(rest["rounding"])
        check_source(network, zoo.names())
        check_files(data=data)
        options = Options(eval=samples, seed=seed, **rest)
        result = compile_network_for_npu(network, silicon, data, source, options, wbits, out, progress())
    if as_json:
        from tapc.flow.npu_result import figures

        print_json(figures(result))
    else:
        _show(result)


def _is_build(name: str, known: Collection[str]) -> bool:
    """Whether it is a build, or a folder that is none and no network either, which is told then."""
    try:
        return (Path(name) / MARKER).is_file() or (name not in known and Path(name).is_dir())
    except (OSError, ValueError):  # no path that the system takes
        return False


def _check_unused(context: click.Context) -> None:
    """Refuse options that a build has no use for: its network is what it is."""
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
        if given and parameter.name not in _OF_BUILDS:
            raise UsageError(
                f"{parameter.opts[-1]} is for networks, {context.params['network']} is a build: its bits and the units "
                "of samples are chosen; give the network that it was made of"
            )


def _show(result: "OnNpu") -> None:
    numbers = ("w", "weights B", "cycles", "compared")
    table = Table(
        f"{result.model} on {result.board} ({result.accelerator})",
        [*columns("layer", "op", "on"), *(Column(name, right=True) for name in numbers)],
    )
    for layer in result.layers:
        figures_of = (layer.weight_bytes, layer.cycles, layer.compared)
        table.add(
            layer.name,
            layer.op,
            layer.where,
            layer.w_bits,
            *(f"{figure:,}" if figure else "-" for figure in figures_of),
        )
    print_table(table)
    divided = bool(result.cpu_cycles)
    if result.average_bits is not None:
        said = " of the NPU, with those of the CPU at its clock" if divided else ""
        say(f"weight bits: {result.average_bits:.2f} on average; predicted: {result.predicted_bytes:,} B, "
            f"{result.predicted_cycles:,} cycles{said}")  # fmt: skip
    if divided:
        on_npu = result.milliseconds - result.cpu_milliseconds
        say(f"cycles of the NPU in {result.parts} part{'s' if result.parts > 1 else ''}, estimated by vela: "
            f"{result.cycles:,}, {on_npu:.3g} ms")  # fmt: skip
        say(f"cycles of the CPU, estimated by the cost model of its core: {result.cpu_cycles:,}, "
            f"{result.cpu_milliseconds:.3g} ms")  # fmt: skip
        say(f"both: {result.milliseconds:.3g} ms")
        say(f"constants and commands {result.flash:,} B, of these coded weights of the NPU {result.weight_bytes:,} B; "
            f"SRAM {result.sram:,} B")  # fmt: skip
        reasons = [f"{layer.name}: {layer.reason}" for layer in result.layers if layer.reason]
        more = f"; and {len(reasons) - _REASONS} more, see npu.json" if len(reasons) > _REASONS else ""
        say(f"on the CPU: {'; '.join(reasons[:_REASONS])}{more}")
    else:
        say(f"cycles, estimated by vela: {result.cycles:,}, {result.milliseconds:.3g} ms")
        say(f"file {result.file_bytes:,} B, of these coded weights {result.weight_bytes:,} B; SRAM {result.sram:,} B")
    for name, value in result.scores.get("npu", {}).items():
        say(f"{name} over {result.samples} samples: float {result.scores['float'][name]:.4g}, NPU {value:.4g}")
    say(f"proof: {result.proof}")
    say(f"written to {result.folder}")
    if result.send:
        say(f"send it: {result.send}")


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(npu_command)
