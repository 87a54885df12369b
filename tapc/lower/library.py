"""The C library folder: model, kernels, weights, and what a build needs beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tapc.kernels.builder import C_TYPES, Kernel
from tapc.kernels.intrinsics import header
from tapc.lower.plan import Plan
from tapc.lower.program import Program
from tapc.lower.steps import Constant, Spec, Step

OPTIMIZATION = (
    "-O2",
    "-fno-schedule-insns",
    "-fno-schedule-insns2",
    "-fno-tree-loop-distribute-patterns",
    "-fno-tree-pre",
    "-frename-registers",
    "-ffp-contract=off",
)


@dataclass(frozen=True)
class Library:
    """Generated C sources.

    Attributes
    ----------
    files : dict of str to str
        File name -> text.
    constants : dict of str to Constant
        C symbol -> data.
    functions : dict of str to str
        C symbol -> kind of its kernel.
    weight_bytes : int
        Bytes of all constants.
    """

    files: dict[str, str]
    constants: dict[str, Constant]
    functions: dict[str, str]
    weight_bytes: int

    def write(self, folder: Path) -> None:
        """Write all files; the folder must exist."""
        for name, text in self.files.items():
            (folder / name).write_text(text)


def identifier(name: str) -> str:
    """Return a C identifier fragment for a node name."""
    return re.sub(r"\W+", "_", name).strip("_") or "op"


def c_float(value: float) -> str:
    """Return an exact C literal of a float32."""
    return f"{float(np.float32(value)).hex()}f"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tapc.lower"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["c_float"] = c_float
    return environment


def function_names(steps: Sequence[Step]) -> dict[Spec, str]:
    """Name one C function per distinct kernel specification."""
    return {spec: f"k_{n}_{spec.kind}" for n, spec in enumerate(dict.fromkeys(step.spec for step in steps))}


def generate(program: Program, steps: Sequence[Step], plan: Plan, regions: Mapping[int, str] | None = None) -> Library:
    """Generate the library.

    Parameters
    ----------
    program : Program
    steps : sequence of Step
    plan : Plan
    regions : mapping of int to str, optional
        Step -> region of its constants; they go to section `.tapc_REGION`, those of other steps where constants go.
    """
    regions = regions or {}
    kernels = {spec: spec.kernel(name) for spec, name in function_names(steps).items()}
    constants: dict[str, Constant] = {}
    places: dict[str, str] = {}
    calls = []
    for index, step in enumerate(steps):
        kernel = kernels[step.spec]
        symbols = {}
        for key, constant in step.constants.items():
            symbols[key] = f"{constant.role}_{index}_{identifier(step.op.name)}"
            constants[symbols[key]] = constant
            if index in regions:
                places[symbols[key]] = regions[index]
        arguments = [_argument(p.name, p.dtype, p.constant, step, index, symbols, plan) for p in kernel.parameters]
        calls.append({"title": f"{step.op.name}: {step.spec.kind}", "function": kernel.name, "arguments": arguments})
    weight_bytes = sum(c.bytes for c in constants.values())
    context: dict[str, Any] = {
        "version": version("tapc"),
        "program": program,
        "steps": steps,
        "plan": plan,
        "offsets": plan.offsets,
        "input": program.tensors[program.input],
        "output": program.tensors[program.output],
        "calls": calls,
        "weight_bytes": weight_bytes,
        "external": {
            name: sum(constants[s].bytes for s, r in places.items() if r == name)
            for name in sorted(set(places.values()))
        },
        "optimization": OPTIMIZATION,
    }
    environment = _environment()
    files = {
        name: environment.get_template(f"{name}.j2").render(context)
        for name in ("model.h", "model.c", "CMakeLists.txt", "main.c", "README.md")
    }
    source = _kernels_source(list(kernels.values()))
    files |= {
        "tapc_intrinsics.h": header(source),
        "kernels.h": _kernels_header(list(kernels.values())),
        "kernels.c": source,
        "weights.h": _weights_header(constants, places),
        "weights.c": _weights_source(constants, places),
        "steps.h": _steps_header(program, steps, plan),
    }
    return Library(files, constants, {k.name: spec.kind for spec, k in kernels.items()}, weight_bytes)


def _argument(
    name: str, dtype: str, constant: bool, step: Step, index: int, symbols: dict[str, str], plan: Plan
) -> str:
    if name in symbols:
        # Constants are arrays of words; some kernels read them as bytes.
        return f"(const int8_t *)(const void *){symbols[name]}" if dtype == "int8" else symbols[name]
    if name in step.scalars:
        value = step.scalars[name]
        return c_float(value) if dtype == "float32" else str(value)
    offset = plan.offsets[step.tensors.get(name, f"scratch {index}")]
    qualifier = "const " if constant else ""
    return f"({qualifier}{C_TYPES[dtype]} *)(void *)(model_arena + {offset})"


def _guarded(name: str, lines: list[str]) -> str:
    guard = f"{name.upper()}_H"
    return "\n".join([f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>", "", *lines, "#endif", ""])


def _kernels_header(kernels: list[Kernel]) -> str:
    return _guarded("kernels", [f"{k.prototype};" for k in kernels])


def _kernels_source(kernels: list[Kernel]) -> str:
    return "\n".join(['#include "kernels.h"', "", '#include "tapc_intrinsics.h"', "", *(k.source for k in kernels)])


def _c_type(constant: Constant) -> str:
    return "float" if constant.data.dtype == np.float32 else "int32_t"


def _weights_header(constants: dict[str, Constant], places: dict[str, str]) -> str:
    lines = [f"extern const {_c_type(c)} {s}[{c.data.size}];" for s, c in constants.items()]
    return _guarded("weights", lines)


def section_macro(region: str) -> str:
    """Return the macro that puts constants into a region; a build may define it otherwise."""
    return f"TAPC_IN_{region.upper()}"


def _weights_source(constants: dict[str, Constant], places: dict[str, str]) -> str:
    lines = ['#include "weights.h"', ""]
    for region in sorted(set(places.values())):
        macro = section_macro(region)
        lines += [
            f"/* The linker script must map section .tapc_{region}; the memory must be readable before model_run(). */",
            f"#if !defined({macro}) && defined(__ELF__)",
            f'#define {macro} __attribute__((section(".tapc_{region}")))',
            f"#elif !defined({macro})",
            f"#define {macro}",
            "#endif",
            "",
        ]
    for symbol, constant in constants.items():
        if constant.data.dtype == np.float32:
            values = [c_float(v) for v in constant.data.tolist()]
        else:
            # INT32_MIN has no decimal literal of type int.
            values = ["INT32_MIN" if v == -(2**31) else str(v) for v in constant.data.view(np.int32).tolist()]
        rows = [", ".join(values[i : i + 8]) for i in range(0, len(values), 8)]
        place = f"{section_macro(places[symbol])} " if symbol in places else ""
        lines += [
            f"{place}const {_c_type(constant)} {symbol}[{len(values)}] = {{",
            *(f"  {row}," for row in rows),
            "};",
            "",
        ]
    return "\n".join(lines)


def _steps_header(program: Program, steps: Sequence[Step], plan: Plan) -> str:
    rows = [f"  {{{plan.offsets[s.output]}u, {program.tensors[s.output].bytes}u}}," for s in steps]
    lines = [
        "/* Where each step's output lies in the arena right after the step. */",
        f"static const struct {{ uint32_t offset; uint32_t bytes; }} model_step_output[{len(steps)}] = {{",
        *rows,
        "};",
    ]
    return _guarded("steps", lines)
