"""A front end of audio beside a library: fitted to the network's input, proved and measured in the simulator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapc.audio import FrontEnd, Quantization, Reference, files_of, front_end
from tapc.base.errors import MismatchError, UsageError
from tapc.base.files import scratch_folder
from tapc.base.templates import text_environment
from tapc.device import device_for, obstacle
from tapc.firmware import build_firmware
from tapc.frontend import FloatModel
from tapc.hardware.target import Target
from tapc.ir.program import Program
from tapc.lower import Lowered
from tapc.lower.facts import Facts
from tapc.report.front_end import FrontEndReport

SOURCE, HEADER = "frontend.c", "frontend.h"
_TEMPLATES = Path(__file__).parent / "templates" / "front_end"
_PREFIX = "trial"
_SOUNDS = 12


def check_columns(spec: FrontEnd, model: FloatModel) -> None:
    """Check that columns of a front end can make the input of a network that is not quantized yet.

    Raises
    ------
    UsageError
    """
    given = model.given_inputs
    if len(given) != 1:
        raise UsageError(f"front end: the network has {len(given)} inputs, and must have one")
    if given[0].size % spec.features:
        shape = " x ".join(map(str, given[0].shape[1:]))
        raise UsageError(f"front end: columns of {spec.features} values do not make the network's input, {shape}")


def fitted(spec: FrontEnd, program: Program) -> tuple[Quantization, int]:
    """Return what the codes of a network's input mean, and the columns that it takes.

    Raises
    ------
    UsageError
        The input is not made of such columns.
    """
    if len(program.given) != 1:
        raise UsageError(f"front end: the network has {len(program.given)} inputs, and must have one")
    tensor = program.tensors[program.given[0]]
    height, width, channels = tensor.shape
    # A vector may be columns behind each other: who takes it knows.
    flat, size = height == width == 1, height * width * channels
    rows = (channels, width * channels, size)
    if tensor.bits != 8 or not (spec.features in rows or (flat and size % spec.features == 0)):
        raise UsageError(
            f"front end: columns of {spec.features} values do not make the network's input, {height} x {width} x "
            f"{channels} (height, width, channels) of {tensor.bits} bits; its rows should have {width * channels}"
        )
    return Quantization(float(tensor.scale), tensor.zero), size // spec.features


def add_front_end(
    folder: Path, text: str, network: Lowered, target: Target, facts: Facts, *, simulate: bool
) -> tuple[Facts, FrontEndReport]:
    """Write PREFIX_frontend.h and .c to a library's folder; return what its README and CMake file tell besides.

    The report has figures where a simulator ran it.

    Raises
    ------
    UsageError
        There is no such front end, or the network's input is another.
    MismatchError
        The simulator's columns are not those of the reference.
    """
    spec, names = front_end(text), network.names
    quantization, columns = fitted(spec, network.program)
    for name, content in files_of(spec, quantization, columns, names.prefix).items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    report = told(spec, text)
    if simulate and obstacle(target) is None:
        report = measured(spec, quantization, target, text)
    what = f"`{names.file(SOURCE)}` makes the input of samples of audio: {spec.kind}, {spec.features} values for every "
    what += f"{spec.hop} samples at {spec.rate} Hz (`{names.file(HEADER)}` says how)."
    remark = what if report.flash is None else f"{what} On {target.name} (qemu): {report}."
    return replace(facts, sources=(*facts.sources, names.file(SOURCE)), remarks=(*facts.remarks, remark)), report


def told(spec: FrontEnd, name: str) -> FrontEndReport:
    """Return the report of a front end that did not run."""
    return FrontEndReport(name=name, kind=spec.kind, rate=spec.rate, hop=spec.hop, features=spec.features)


def hard_sounds(spec: FrontEnd) -> NDArray[np.int16]:
    """Return windows at the ends of int16 and within: square waves, a click, silence, noise loud and quiet."""
    rng, n, count = np.random.default_rng(1), np.arange(spec.window), spec.window
    sounds = [np.full(count, -32768), np.where(n % 2, -32768, 32767), np.zeros(count), 32767 * (n == count // 2)]
    sounds += [np.where(n * k // spec.fft % 2, -32768, 32767) for k in (2, 3, spec.fft // 8, spec.fft // 4)]
    sounds += [rng.integers(-(1 << bits), 1 << bits, count) for bits in (15, 10, 4, 1)]
    return np.stack([rng.integers(-9000, 9000, count), *sounds[: _SOUNDS - 1]]).astype(np.int16)


def measured(spec: FrontEnd, quantization: Quantization, target: Target, asked: str = "") -> FrontEndReport:
    """Run a front end on a simulated core, every window from a fresh start, and compare with the reference."""
    windows = hard_sounds(spec)
    files = files_of(spec, quantization, 1, _PREFIX)
    environment = text_environment(_TEMPLATES)
    context = {"p": _PREFIX, "u": _PREFIX.upper(), "spec": spec, "head": max(0, spec.window - spec.hop)}
    for name in (".h", ".c", "_steps.h", "_stepwise.c"):
        files[f"{_PREFIX}{name}"] = environment.get_template(f"trial{name}.j2").render(context)
    device = device_for(target)
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        for name, content in files.items():
            (folder / "lib" / name).write_text(content, encoding="utf-8")
        images = build_firmware(folder / "lib", device.roomy_board(), target, folder, work=folder / "work")
        run = device.load(images).run(windows.view(np.int8).reshape(len(windows), -1))
        symbols = own_bytes(folder / "work" / f"lib_{_PREFIX}_frontend.o")
    wanted = np.concatenate([Reference(spec, quantization).columns(window) for window in windows])
    if not np.array_equal(run.outputs, wanted):
        which = int(np.flatnonzero((run.outputs != wanted).any(1))[0])
        raise MismatchError(
            f"front end: column {which} of {target.name} is {run.outputs[which].tolist()}, and the reference's is "
            f"{wanted[which].tolist()}"
        )
    first, column = run.instructions_per_step
    (flash, ram), count = symbols, len(windows)
    figures = {"flash": flash, "ram": ram, "first": first, "instructions": column, "columns": count}
    return told(spec, asked or spec.kind).model_copy(update=figures)


def own_bytes(path: Path) -> tuple[int, int]:
    """Return the bytes of flash and RAM of an object's sections; what it calls of the compiler's library is not in."""
    from elftools.elf.elffile import ELFFile

    flash = ram = 0
    with path.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            name, size = section.name, int(section["sh_size"])
            flash += size if name.startswith((".text", ".rodata", ".data")) else 0
            ram += size if name.startswith((".data", ".bss")) else 0
    return flash, ram
