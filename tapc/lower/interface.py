"""What a library shows: its header, conversions between values and codes, README, CMake file and example."""

import functools
import textwrap
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tapc.base.templates import text_environment
from tapc.ir.program import Program
from tapc.lower.codes import quantized
from tapc.lower.ctext import c_comment, c_float, c_string, plain
from tapc.lower.facts import Facts
from tapc.lower.names import Names
from tapc.lower.plan import Plan
from tapc.lower.sides import sides
from tapc.lower.states import state_bytes

OPTIMIZATION = (
    "-O2",
    "-fno-schedule-insns",
    "-fno-schedule-insns2",
    "-fno-tree-loop-distribute-patterns",
    "-fno-tree-pre",
    "-frename-registers",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
)
_TEMPLATES = {".h": "network.h", "convert.c": "convert.c", "example.c": "example.c"}


def interface_files(
    program: Program,
    plan: Plan,
    names: Names,
    *,
    steps: int,
    weight_bytes: int,
    external: Mapping[str, int],
    facts: Facts | None = None,
) -> dict[str, str]:
    """Return what users of a library read: file name -> text.

    Parameters
    ----------
    program : Program
    plan : Plan
    names : Names
    steps, weight_bytes : int
    external : mapping of str to int
        Region in external flash -> bytes of constants.
    facts : Facts, optional
        None where nothing is known but the program.
    """
    facts = facts or Facts()
    inputs, outputs = sides(program, names, facts.labels)
    convertible = all(side.tensor.bits == 8 or side.tensor.tokens or side.decoded for side in (*inputs, *outputs))
    context: dict[str, Any] = {
        "version": version("tapc"),
        "name": program.name,
        "n": names,
        "plan": plan,
        "state_bytes": state_bytes(program),
        "steps": steps,
        "inputs": inputs,
        "outputs": outputs,
        "input": inputs[0],
        "output": outputs[0],
        "single": len(inputs) == 1 and len(outputs) == 1,
        "convertible": convertible,
        "weight_bytes": weight_bytes,
        "external": dict(external),
        "optimization": OPTIMIZATION,
        "facts": facts,
        "bits": textwrap.wrap("; ".join(map(c_comment, facts.bits)), 110),
        "units": facts.units,
        "codes": _codes(program, facts) if convertible else [],
        "labels": facts.labels if any(side.labelled for side in outputs) else (),
    }
    templates = environment()
    files = {
        names.file(part): templates.get_template(f"{template}.j2").render(context)
        for part, template in _TEMPLATES.items()
    }
    return files | {
        name: templates.get_template(f"{name}.j2").render(context) for name in ("CMakeLists.txt", "README.md")
    }


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates' environment, which keeps the templates that it has compiled."""
    templates = text_environment(Path(__file__).parent / "templates")
    templates.filters |= {
        "c_float": c_float,
        "c_string": c_string,
        "comment": c_comment,
        "hexadecimal": lambda value: float(np.float32(value)).hex(),
        "markdown": _markdown,
    }
    return templates


def _markdown(text: str) -> str:
    """Return text that a reader of Markdown sees as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in plain(text))


def _codes(program: Program, facts: Facts) -> list[list[str]]:
    """Return lines with the input's codes of all raw bytes: for each channel, or once where channels are alike."""
    if facts.units is None or not facts.bytes_in or len(program.given) > 1:
        return []
    channels = program.tensors[program.input].shape[2]
    raw = np.repeat(np.arange(256)[:, None], channels, axis=1)
    values = facts.units.apply(raw).reshape(256, channels)
    codes = quantized(program.tensors[program.input], values).T
    if (codes == codes[0]).all():
        codes = codes[:1]
    return [[", ".join(map(str, row[i : i + 32])) for i in range(0, 256, 32)] for row in codes.tolist()]
