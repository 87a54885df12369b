"""The report for a terminal."""

from rich.console import Console
from rich.table import Table

from tapc.report.schema import Quantity, Report


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _bytes(value: int | None) -> str:
    return "-" if value is None else f"{value:,} B"


def _mark(value: bool | None) -> str:
    return "-" if value is None else "[green]exact[/]" if value else "[red]differs[/]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def layers_table(report: Report) -> Table:
    """Return the table of layers."""
    table = Table(title=f"{report.model} on {report.board} ({report.core})", title_justify="left")
    for name in ("layer", "op"):
        table.add_column(name)
    regions = ("in",) if report.memory.external else ()
    for name in regions:
        table.add_column(name)
    pruned = ("live MACs",) if report.live_macs < report.macs else ()
    for name in ("w", "a", "MACs", *pruned, "BOPs", "flash B", "arena B", "instructions", "predicted", "device"):
        table.add_column(name, justify="right")
    for layer in report.layers:
        table.add_row(
            layer.name,
            layer.op,
            *(layer.region or "-" for _ in regions),
            "-" if layer.w_bits is None else str(layer.w_bits),
            "-" if layer.a_bits is None else str(layer.a_bits),
            _number(layer.macs or None),
            *(_number(layer.live_macs or None) for _ in pruned),
            _number(layer.bops or None),
            _number(layer.flash_bytes),
            _number(layer.arena_bytes),
            _number(layer.instructions),
            _number(layer.predicted_instructions),
            _mark(layer.exact),
        )
    table.add_section()
    table.add_row(
        "total", "", *("" for _ in regions), f"{report.average_weight_bits:.2f}", "", _number(report.macs),
        *(_number(report.live_macs) for _ in pruned), _number(report.bops),
        _number(sum(layer.flash_bytes for layer in report.layers)), _bytes(report.memory.arena.measured)[:-2],
        _number(report.instructions), _number(report.predicted_instructions), _mark(report.exact),
    )  # fmt: skip
    return table


def totals_table(report: Report) -> Table:
    """Return predicted and measured totals."""
    table = Table(title="memory", title_justify="left")
    table.add_column("")
    for name in ("predicted", "measured", "limit", "used"):
        table.add_column(name, justify="right")
    quantities: dict[str, Quantity] = {
        "flash": report.memory.flash,
        **{f"of it in {name}": quantity for name, quantity in report.memory.external.items()},
        f"arena ({report.memory.arena_region})": report.memory.arena,
        "stack": report.memory.stack,
        "ram (arena + stack + variables)": report.memory.ram,
    }
    for name, q in quantities.items():
        share = "-" if q.measured is None or not q.limit else f"{100 * q.measured / q.limit:.1f} %"
        table.add_row(name, _bytes(q.predicted), _bytes(q.measured), _bytes(q.limit), share)
    return table


def print_report(report: Report, console: Console) -> None:
    """Print layers, memory, accuracy and provenance."""
    console.print(layers_table(report))
    console.print(totals_table(report))
    if report.cycles_estimated is not None:
        per_mac = report.cycles_estimated / max(report.macs, 1)
        console.print(f"cycles-estimated: {report.cycles_estimated:,.0f}, {per_mac:.2f} per MAC")
    a = report.accuracy
    if a.device is not None:
        console.print(
            f"top-1 over {a.samples} samples: float {_percent(a.float_)}, ONNX {_percent(a.onnx)}, "
            f"device {_percent(a.device)}"
        )
    if a.onnx_max_step is not None:
        agreement = "" if a.onnx_agreement is None else f", same class on {_percent(a.onnx_agreement)}"
        console.print(f"device and onnxruntime: at most {a.onnx_max_step} output step(s) apart{agreement}")
    if report.exact:
        console.print(
            f"[green]bit-exact[/]: every layer of {report.exact_samples} samples and the output of all {a.samples} "
            "equal the reference executor"
        )
    error = (
        "not measured"
        if report.source_error is None
        else f"max abs error {report.source_error:.3g} on random and calibration inputs"
    )
    console.print(f"source: {report.source} ({error})")
    alloc = report.allocation
    console.print(f"allocation: proxy {alloc.proxy}, {alloc.status}, bound {alloc.bound:.4g}, gap {alloc.gap:.2%}")
    console.print(f"data: {report.data}")
    for figure, origin in report.provenance.items():
        console.print(f"[dim]{figure}: {origin}[/]")
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {warning}")
