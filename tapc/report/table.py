"""The report for a terminal."""

from tapc.base.terminal import Column, Table, columns, print_table, say
from tapc.data.metrics import outcome, shown
from tapc.report.schema import Accuracy, Quantity, Report, TrainingReport
from tapc.report.stack import stack_line
from tapc.report.states import states_line
from tapc.report.streaming import stream_lines

NO_SILICON = "; its board was an emulator, whose time means nothing"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _bytes(value: int | None) -> str:
    return "-" if value is None else f"{value:,} B"


def _mark(value: bool | None) -> str:
    return "-" if value is None else "exact" if value else "differs"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def layers_table(report: Report) -> Table:
    """Return the table of layers."""
    regions = ("in",) if report.memory.external else ()
    pruned = ("live MACs",) if report.live_macs != report.macs else ()
    numbers = ("w", "a", "MACs", *pruned, "BOPs", "flash B", "arena B", "instructions", "predicted", "device")
    table = Table(
        f"{report.model} on {report.board} ({report.core})",
        [
            *columns("layer", "op", *regions),
            *(Column(name, right=True, starts=name == "flash B") for name in numbers),
        ],
    )
    for layer in report.layers:
        table.add(
            layer.name,
            layer.op,
            *(layer.region for _ in regions),
            layer.w_bits,
            layer.a_bits,
            _number(layer.macs or None),
            *(_number(layer.live_macs or None) for _ in pruned),
            _number(layer.bops or None),
            _number(layer.flash_bytes),
            _number(layer.arena_bytes),
            _number(layer.instructions),
            _number(layer.predicted_instructions),
            _mark(layer.exact),
            style="red" if layer.exact is False else "",
        )
    table.rule()
    table.add(
        "total", "", *("" for _ in regions), f"{report.average_weight_bits:.2f}", "", _number(report.macs),
        *(_number(report.live_macs) for _ in pruned), _number(report.bops),
        _number(sum(layer.flash_bytes for layer in report.layers)), _bytes(report.memory.arena.measured)[:-2],
        _number(report.instructions), _number(report.predicted_instructions), _mark(report.exact), style="bold",
    )  # fmt: skip
    return table


def totals_table(report: Report) -> Table:
    """Return predicted and measured totals."""
    numbers = ("predicted", "measured", "limit", "used")
    table = Table("memory", columns("", *numbers, right=numbers))
    quantities: dict[str, Quantity] = {
        "flash": report.memory.flash,
        **{f"of it in {name}": quantity for name, quantity in report.memory.external.items()},
        f"arena ({report.memory.arena_region})": report.memory.arena,
        "stack": report.memory.stack,
        "ram (arena + stack + variables)": report.memory.ram,
    }
    for name, q in quantities.items():
        share = "-" if q.measured is None or not q.limit else f"{100 * q.measured / q.limit:.1f} %"
        table.add(name, _bytes(q.predicted), _bytes(q.measured), _bytes(q.limit), share)
    if report.memory.support:
        table.add("besides: commands over UART, clock", "-", _bytes(report.memory.support), "-", "-")
    return table


def inputs_line(report: Report) -> str:
    """Say what the inputs are: "inputs: raw x 0.00392157, range 0..255 (integers, calibration)"."""
    x = report.inputs
    if x is None:
        return "inputs: not known"
    how = "random" if x.kind == "random" else f"{x.kind}, calibration"
    span = "" if x.low is None or x.high is None else f", range {x.low:g}..{x.high:g}"
    return f"inputs: {x.units}{span} ({how})"


def accuracy_lines(a: Accuracy) -> list[str]:
    """Say how well outputs are the labels, or why that is not known, and how near the device is to the float."""
    lines = [outcome(a.metric, a.scores, a.samples, a.threshold) if a.scores else f"accuracy: none, {a.reason}"]
    if a.float_max_step is not None:
        signal = "equal" if not a.float_max_step else "-" if a.sqnr_db is None else f"{a.sqnr_db:.1f} dB"
        same = "" if a.float_agreement is None else f", same class on {_percent(a.float_agreement)}"
        lines.append(f"device against float: SQNR {signal}, at most {a.float_max_step:.1f} output steps apart{same}")
    for output in a.outputs:
        signal = "equal" if not output.float_max_step else "-" if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB"
        lines.append(f"  output {output.name}: SQNR {signal}, at most {output.float_max_step:.1f} steps apart")
    return lines


def training_lines(t: TrainingReport) -> list[str]:
    """Say how the network was trained, and what that changed."""
    tried = ", ".join(f"{run.loss:.4g} at rate {run.rate:g}" for run in t.runs)
    how = "mirrored and shifted" if t.augment else "as they are"
    lines = [
        f"training: {t.epochs} epochs, {t.samples:,} samples {how}, {t.data}",
        f"loss on {t.kept_back} samples kept back: {t.loss_before:.4g} before, {tried} after"
        + ("" if t.used_rate is not None else "; training did not help, the network is as it was before"),
    ]
    if t.before and t.after:
        lines.append(f"device: {shown(t.before)} before training, {shown(t.after)} after")
    return lines


def print_report(report: Report) -> None:
    """Print layers, memory, accuracy and provenance."""
    print_table(layers_table(report))
    print_table(totals_table(report))
    for patch in report.patches:
        say(f": {patch}", label="in patches")
    if report.states:
        say(f": {states_line(report.states, 'PREFIX_reset')}", label="state")
    if report.front_end is not None:
        say(f": {report.front_end}", label="front end")
    for line in () if report.stream is None else stream_lines(report.stream):
        say(f": {line}", label="stream")
    say(stack_line(report.memory.run_stack))
    if report.cycles_estimated is not None:
        per_mac = report.cycles_estimated / max(report.macs, 1)
        say(f"cycles-estimated: {report.cycles_estimated:,.0f}, {per_mac:.2f} per MAC")
    if (time := report.predicted_time) is not None:
        doubt = "" if time.silicon else NO_SILICON
        say(f"predicted: {time.milliseconds:,.3f} ms at {time.hz / 1e6:g} MHz, {time.cycles:,} cycles{doubt}")
    say(inputs_line(report))
    for line in accuracy_lines(report.accuracy):
        say(line)
    for line in () if report.training is None else training_lines(report.training):
        say(line)
    a = report.accuracy
    if a.onnx_max_step is not None:
        agreement = "" if a.onnx_agreement is None else f", same class on {_percent(a.onnx_agreement)}"
        say(f"device and onnxruntime: at most {a.onnx_max_step} output step(s) apart{agreement}")
    if report.exact:
        say(
            f": every layer of {report.exact_samples} samples and the output of all {a.samples} "
            "equal the reference executor", "green", label="bit-exact",
        )  # fmt: skip
    error = (
        "not measured"
        if report.source_error is None
        else f"differs by at most {report.source_error:.1e} of the largest output, on random and calibration inputs"
    )
    say(f"source: {report.source} ({error})")
    alloc = report.allocation
    if report.kept:
        say(f"kept: scales, zero points and integers of the source ({report.kept}); arithmetic {report.arithmetic}")
    else:
        say(f"allocation: proxy {alloc.proxy}, {alloc.status}, bound {alloc.bound:.4g}, gap {alloc.gap:.2%}")
    say(f"data: {report.data}")
    for figure, origin in report.provenance.items():
        say(f"{figure}: {origin}", "dim")
    for warning in report.warnings:
        say(warning, "yellow", label="warning: ")
