"""`tapc bench transfer`: proxies on a network that no table is of."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tapc.base.errors import UsageError
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say
from tapc.cli.options import JSON, SEED, Model
from tapc.cli.types import BitList

if TYPE_CHECKING:
    from tapc.bench.deployed import Transfer


class Budgets(click.ParamType[tuple[float, ...]]):
    """Average weight bits separated by commas."""

    name = "bits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return sorted distinct budgets."""
        if isinstance(value, tuple):
            return value
        try:
            found = sorted({float(part) for part in str(value).split(",")})
        except ValueError:
            found = []
        if not found or not all(2 <= bits <= 8 for bits in found):
            self.fail(f"{value!r}: give averages of 2 to 8 bits, such as 2.5,3", param, ctx)
        return tuple(found)


def register(bench: click.Group) -> None:
    """Add the command."""

    @bench.command()
    @click.argument("network", type=Model())
    @click.option("--data", type=click.Path(path_type=Path), required=True, help="Labelled samples.")
    @click.option("--weights", type=click.Path(path_type=Path), default=None, help="State dict of a zoo network.")
    @click.option("--proxy", "files", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
                  help="Proxy program to compare with the built-in ones; may be repeated.")  # fmt: skip
    @click.option("--skip", multiple=True, help="Built-in proxy to leave out; may be repeated. hawq takes longest.")
    @click.option("--target-bits", type=Budgets(), default="2.5,3", show_default=True, help="Average weight bits.")
    @click.option("--abits", type=BitList((4, 8)), default="4,8", show_default=True, help="Of activations, each apart.")
    @click.option("--rounding", type=click.Choice(["gptq", "nearest"]), default="gptq", show_default=True)
    @click.option("--calibration", type=click.IntRange(min=16), default=64, show_default=True, help="Samples.")
    @click.option("--seen", type=click.IntRange(min=1), default=32, show_default=True, help="Of them, by gptq.")
    @click.option("--test", type=click.IntRange(min=1), default=128, show_default=True, help="Samples to measure.")
    @SEED
    @click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that measure.")
    @click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/transfer"), show_default=True,
                  help="Folder of what was measured; what lies there is not measured again.")  # fmt: skip
    @JSON
    def transfer(
        network: str,
        data: Path,
        weights: Path | None,
        files: tuple[Path, ...],
        skip: tuple[str, ...],
        target_bits: tuple[float, ...],
        abits: tuple[int, ...],
        rounding: str,
        calibration: int,
        seen: int,
        test: int,
        seed: int,
        jobs: int,
        output: Path,
        as_json: bool,
    ) -> None:
        """Measure what NETWORK loses at the bits that proxies lead to, at equal sizes.

        Bits are chosen by every built-in proxy, and by the programs of --proxy, under the same average of the weight
        bits; each configuration is rounded and measured once. A killed run goes on where it was.

        \b
        Example:
          tapc bench transfer mobilenetv2 --weights mobilenet_v2-b0353104.pth --data images.zip --proxy found.toml
          tapc bench transfer resnet8 --data cifar10.npz --target-bits 2.25,2.5 --abits 4 --json
        """
        from tapc.bench.deployed import deploy
        from tapc.flow.losses.measure import Source, prepare
        from tapc.proxy import all_names

        programs: dict[str, Path] = {}
        for file in dict.fromkeys(files):
            name = file.stem if file.stem not in {*programs, *all_names()} else str(file)
            programs[name] = file
        if len(programs) < len(dict.fromkeys(files)):
            raise UsageError("--proxy: two files have one name")
        if unknown := next((name for name in skip if name not in all_names()), None):
            raise UsageError(f"--skip {unknown}: no built-in proxy; there are: {', '.join(all_names())}")
        builtin = [name for name in all_names() if name not in skip]
        source = Source(Path(network).stem, network, data, calibration, seen, test, weights, seed)
        stages = progress()
        with stages.stage("network"):
            setup = prepare(source)
        found = deploy(
            setup, programs, folder=output, budgets=target_bits, a_bits=abits, rounding=rounding, builtin=builtin,
            jobs=jobs, stages=stages,
        )  # fmt: skip
        if as_json:
            print_json(found.to_dict())
            return
        print_transfer(found)


def print_transfer(found: "Transfer") -> None:
    """Print a table for activations of each width."""
    for a_bits, wide in found.wide.items():
        own = [figure for figure in found.figures if figure.a_bits == a_bits]
        about = f"8-bit weights: loss {wide.loss:.4f}, {found.metric} {wide.metric:.3f}"
        if not own:
            say(f"{found.network} does not survive {a_bits}-bit activations, {about}: nothing else was measured.")
            continue
        budgets = list(dict.fromkeys(figure.budget for figure in own))
        parts = ("loss", "KL") if own[0].measured.divergence is not None else ("loss",)
        names = [f"{part} @{budget:g}" for budget in budgets for part in (*parts, found.metric)]
        table = Table(f"{found.network}, {a_bits}-bit activations", columns("proxy", *names, right=names))
        for proxy in sorted({figure.proxy for figure in own}, key=lambda name: found.mean_loss(name, a_bits)):
            cells = []
            for budget in budgets:
                m = next(f.measured for f in own if (f.proxy, f.budget) == (proxy, budget))
                cells += [f"{m.loss:.4f}", *([f"{m.divergence:.4f}"] if m.divergence is not None else [])]
                cells.append(f"{m.metric:.3f}")
            label = proxy + (" (searched on it)" if found.found.get(proxy) else "")
            table.add(label, *cells, style="bold" if proxy in found.found else "")
        print_table(table)
        say(f"Float {found.metric} {found.float_metric:.3f}; {about}.")
    say(
        "loss: squared error of the logits over their variance; KL: divergence from the float network's classes, nats; "
        f"of {found.test_samples} samples, after {found.rounding}; calibrated on {found.calibration_samples}. "
        f"{found.configurations} different configurations; the least mean loss first."
    )
