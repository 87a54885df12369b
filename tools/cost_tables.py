"""Write the tables of docs/cost.md from the files of the cost model.

python tools/cost_tables.py
"""

import re
from pathlib import Path

from tapc.cost.model import Coefficients, load_coefficients
from tapc.hardware.target import load_target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cost.md"
CORES = ("cortex-m0plus", "cortex-m3", "rv32imc", "cortex-m4", "cortex-m33", "cortex-m7", "cortex-m55")
LARGE = 0.1


def core_row(c: Coefficients) -> str:
    """Return a core's line: its errors, and what is no kernel."""
    return (
        f"| {c.core} | {c.kernels:,} | {c.instruction_error:.1%} | {c.code_error:.1%} | {c.runtime_bytes:,.0f} B "
        f"| {c.argument_bytes:.2f} B | {c.stack_bytes} B |"
    ).replace("%", " %")


def percent(value: float | None) -> str:
    """Return an error in percent, bold where it is large."""
    if value is None:
        return ""
    return f"**{value:.0%}**".replace("%", "") if value > LARGE else f"{value:.0%}".replace("%", "")


def tables(cores: list[Coefficients]) -> dict[str, list[str]]:
    """Return the lines between the page's markers."""
    kinds = sorted({kind for c in cores for kind in c.held_out if "_" not in kind})
    others = [
        f"{kind.partition('_')[0]} `{kind.partition('_')[2]}` {value * 100:.1f} ({c.core})"
        for c in cores
        for kind, value in c.held_out.items()
        if "_" in kind and value > LARGE
    ]
    fewest = min((n, kind, c.core) for c in cores for kind, n in c.held_out_kernels.items())
    return {
        "cores": [
            "| core | kernels | instructions | code bytes | runtime | per argument of a call | stack |",
            "|---|---|---|---|---|---|---|",
            *map(core_row, cores),
        ],
        "kinds": [
            f"| kind of kernel, own arithmetic | {' | '.join(c.core.removeprefix('cortex-') for c in cores)} |",
            f"|---|{'---|' * len(cores)}",
            *(f"| {kind} | {' | '.join(percent(c.held_out.get(kind)) for c in cores)} |" for kind in kinds),
            "",
            f"Above {LARGE:.0%} in other arithmetics: ".replace("%", " %") + ("; ".join(others) or "none") + ". "
            f"Each of these errors is the mean of at least {fewest[0]} kernels ({fewest[1]} on the {fewest[2]}).",
        ],
    }  # fmt: skip


def page(text: str) -> str:
    """Return the page with the tables of the stored files."""
    for name, lines in tables([load_coefficients(load_target(core).cost) for core in CORES]).items():
        own = f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- /{name} -->"
        text = re.sub(f"<!-- {name} -->.*<!-- /{name} -->", lambda _, own=own: own, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
