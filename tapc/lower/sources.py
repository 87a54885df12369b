"""C text of a library's kernels, constants and steps."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tapc.ir.program import Constant, Program, Step
from tapc.kernels.builder import Kernel
from tapc.kernels.intrinsics import INTRINSICS, header, known
from tapc.lower.ctext import c_float
from tapc.lower.names import Names
from tapc.lower.plan import Plan
from tapc.lower.sides import sides

_WORD = 4
_CONST = "|".join(entry.name for entry in INTRINSICS if entry.result == "const void *")


def kernel_files(kernels: Sequence[Kernel], names: Names) -> dict[str, str]:
    """Return the kernels' source and header, and the intrinsics that they call."""
    lines = [f'#include "{names.file("kernels.h")}"', "", f'#include "{names.file("intrinsics.h")}"', ""]
    source = "\n".join([*lines, *(_const(kernel) for kernel in kernels)])
    intrinsics = header(source, names.macro("INTRINSICS_H"))
    types = re.findall(r"^typedef .*\b(t_\w+);", intrinsics, re.MULTILINE)
    own = [*(entry.name for entry in known(source)), *types]
    return {
        names.file("intrinsics.h"): _prefixed(intrinsics, own, names),
        names.file("kernels.h"): guarded(names, "KERNELS_H", [f"{kernel.prototype};" for kernel in kernels]),
        names.file("kernels.c"): _prefixed(source, own, names),
    }


def _const(kernel: Kernel) -> str:
    """TVM casts every address to a pointer to variables; those of constant data stay constant."""
    read_only = "|".join(p.name for p in kernel.parameters if p.size is not None and p.constant)
    text = re.sub(rf"\(void\*\)(?=(?:{_CONST})\()", "(const void*)", kernel.source)
    if read_only:
        address = rf"\((?=&\((?:{read_only})\[)"
        text = re.sub(rf"\b(\w+)\* (\w+) = \(\1\*\){address}", r"const \1* \2 = (const \1*)(", text)
    return re.sub(r"\bvoid\* (\w+) = \(void\*\)(?=\(\(const void\*\))", r"const void* \1 = (const void*)", text)


def _prefixed(text: str, own: Sequence[str], names: Names) -> str:
    """Give the intrinsics the library's prefix: two libraries may be compiled as one file (unity builds)."""
    text = re.sub(rf"\b(?=(?:{'|'.join(own)})\b)", f"{names.prefix}_", text)
    return re.sub(r"\bT_(?=(?:INLINE|CALLED)\b)", f"{names.upper}_", text)


def guarded(names: Names, what: str, lines: Sequence[str]) -> str:
    """Return a header with an include guard."""
    guard = names.macro(what)
    return "\n".join([f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>", "", *lines, "#endif", ""])


def _c_type(constant: Constant) -> str:
    return "float" if constant.data.dtype == np.float32 else "int32_t"


def weights_header(constants: Mapping[str, Constant], names: Names) -> str:
    """Return the declarations of the constants."""
    lines = [f"extern const {_c_type(c)} {s}[{c.data.size}];" for s, c in constants.items()]
    return guarded(names, "WEIGHTS_H", lines)


def weights_source(constants: Mapping[str, Constant], places: Mapping[str, str], names: Names) -> str:
    """Return the definitions of the constants; `places` names those in sections of their own."""
    lines = [f'#include "{names.file("weights.h")}"', ""]
    run = names.symbol("run")
    for region in sorted(set(places.values())):
        macro = names.section_macro(region)
        lines += [
            f"/* The linker script must map section .tapc_{region}; the memory must be readable before {run}(). */",
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
        place = f"{names.section_macro(places[symbol])} " if symbol in places else ""
        if constant.alignment > _WORD:
            place += f"__attribute__((aligned({constant.alignment}))) "
        lines += [
            f"{place}const {_c_type(constant)} {symbol}[{len(values)}] = {{",
            *(f"  {row}," for row in rows),
            "};",
            "",
        ]
    return "\n".join(lines)


def steps_header(program: Program, steps: Sequence[Step], plan: Plan, names: Names) -> str:
    """Return the table of the steps' outputs."""
    rows = [f"  {{{plan.offsets[s.output]}u, {program.tensors[s.output].bytes}u}}," for s in steps]
    lines = [
        "/* Where each step's output lies in the arena right after the step. */",
        f"static const struct {{ uint32_t offset; uint32_t bytes; }} {names.symbol('step_output')}[{len(steps)}] = {{",
        *rows,
        "};",
    ]
    for own in sides(program, names, ()):
        if len(own) > 1:
            uses = " ".join(f"use({side.function}(), {side.macro}_BYTES)" for side in own)
            lines += [f"#define {names.macro(f'EACH_{own[0].kind.upper()}')}(use) {uses}"]
        if own[0].kind == "output":
            parts = ("BYTES", "SCALE", "ZERO_POINT")
            uses = " ".join(
                f"use({side.function}(), {', '.join(f'{side.macro}_{part}' for part in parts)})"
                for side in own
                if not side.decoded
            )
            lines += [f"#define {names.macro('EACH_RESULT')}(use) {uses}"]
    if program.states:
        places = ((plan.offsets[kept.before], program.tensors[kept.before].bytes) for kept in program.states)
        uses = " ".join(f"use({names.symbol('arena')} + {offset}, {size})" for offset, size in places)
        lines += [f"#define {names.macro('EACH_STATE')}(use) {uses}"]
    return guarded(names, "STEPS_H", lines)
