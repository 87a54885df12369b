"""The C library folder: network, kernels, weights, and what a build needs beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tapc.ir.program import Constant, Program, Step
from tapc.kernels.builder import C_TYPES
from tapc.kernels.spec import KernelSpec
from tapc.lower.ctext import c_float
from tapc.lower.facts import Facts
from tapc.lower.interface import environment, interface_files
from tapc.lower.kernel_store import kernel
from tapc.lower.names import Names, default_prefix
from tapc.lower.place import own_bytes
from tapc.lower.plan import Plan
from tapc.lower.sides import sides
from tapc.lower.sources import kernel_files, steps_header, weights_header, weights_source
from tapc.lower.states import resets


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
            (folder / name).write_text(text, encoding="utf-8", newline="\n")


def names_of(program: Program) -> Names:
    """Return the names of a program's library."""
    return Names(program.prefix or default_prefix(program.name))


def function_names(steps: Sequence[Step], names: Names) -> dict[KernelSpec, str]:
    """Name one C function per distinct kernel specification."""
    return {spec: names.kernel(n, spec.kind) for n, spec in enumerate(dict.fromkeys(step.spec for step in steps))}


def constant_symbols(steps: Sequence[Step], names: Names) -> list[dict[str, str]]:
    """Name the arrays of each step's constants, by parameter; a shared one has the name of the first step's."""
    known: dict[Constant, str] = {}
    for index, step in enumerate(steps):
        for constant in step.constants.values():
            known.setdefault(constant, names.constant(constant.role, index, step.op.name))
    return [{key: known[constant] for key, constant in step.constants.items()} for step in steps]


def generate(
    program: Program,
    steps: Sequence[Step],
    plan: Plan,
    regions: Mapping[int, str] | None = None,
    facts: Facts | None = None,
) -> Library:
    """Generate the library.

    Parameters
    ----------
    program : Program
    steps : sequence of Step
    plan : Plan
    regions : mapping of int to str, optional
        Step -> region of its constants; they go to section `.tapc_REGION`, those of other steps where constants go.
    facts : Facts, optional
        What the files tell besides.
    """
    regions, names = regions or {}, names_of(program)
    kernels = {spec: kernel(spec, name) for spec, name in function_names(steps, names).items()}
    constants: dict[str, Constant] = {}
    places: dict[str, str] = {}
    calls = []
    for index, (step, symbols) in enumerate(zip(steps, constant_symbols(steps, names), strict=True)):
        function = kernels[step.spec]
        for key, constant in step.constants.items():
            constants[symbols[key]] = constant
            if index in regions:
                places[symbols[key]] = regions[index]
        arguments, anywhere = (
            [_argument(p.name, p.dtype, p.constant, step, index, symbols, plan, base) for p in function.parameters]
            for base in (names.symbol("arena"), "memory")
        )
        calls.append(
            {"title": f"{step.op.name}: {step.spec.kind}", "function": function.name, "arguments": arguments,
             "anywhere": anywhere}
        )  # fmt: skip
    source, stepwise = (environment().get_template(f"{name}.c.j2") for name in ("network", "stepwise"))
    inputs, outputs = sides(program, names, ())
    files = {
        **shown_files(program, steps, plan, regions, facts),
        names.file(".c"): source.render(
            version=version("tapc"),
            name=program.name,
            n=names,
            inputs=inputs,
            outputs=outputs,
            offsets=plan.offsets,
            calls=calls,
            states=resets(program, plan),
        ),
        names.file("stepwise.c"): stepwise.render(version=version("tapc"), name=program.name, n=names, calls=calls),
        **kernel_files(list(kernels.values()), names),
        names.file("weights.h"): weights_header(constants, names),
        names.file("weights.c"): weights_source(constants, places, names),
        names.file("steps.h"): steps_header(program, steps, plan, names),
    }
    weight_bytes = sum(constant.bytes for constant in constants.values())
    return Library(files, constants, {k.name: spec.kind for spec, k in kernels.items()}, weight_bytes)


def shown_files(
    program: Program,
    steps: Sequence[Step],
    plan: Plan,
    regions: Mapping[int, str],
    facts: Facts | None = None,
) -> dict[str, str]:
    """Return the files that no kernel is needed for: header, conversions, README, CMake file and example."""
    sizes = own_bytes(steps)
    external: dict[str, int] = {}
    for index, region in sorted(regions.items(), key=lambda item: (item[1], item[0])):
        external[region] = external.get(region, 0) + sizes[index]
    return interface_files(
        program, plan, names_of(program), steps=len(steps), weight_bytes=sum(sizes), external=external, facts=facts
    )


def _argument(
    name: str, dtype: str, constant: bool, step: Step, index: int, symbols: dict[str, str], plan: Plan, base: str
) -> str:
    if name in symbols:
        # Constants are arrays of words; some kernels read them as bytes.
        narrow = dtype in ("int8", "int16")
        return f"(const {C_TYPES[dtype]} *)(const void *){symbols[name]}" if narrow else symbols[name]
    if name in step.scalars:
        value = step.scalars[name]
        return c_float(value) if dtype == "float32" else str(value)
    offset = plan.offsets[step.tensors.get(name, f"scratch {index}")]
    qualifier = "const " if constant else ""
    return f"({qualifier}{C_TYPES[dtype]} *)(void *)({base} + {offset})"
