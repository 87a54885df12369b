"""Mutants of every kind of input, each made from its kind, its number and a seed alone."""

# ruff: noqa: E501

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator

from fuzz import networks, structures
from fuzz.harness import Mutant
from fuzz.sources import CALLABLE, OVERRIDES, PROXY, QUICK, Sources

INTEGERS = (0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**62, -(2**63))
_KINDS: dict[str, Callable[[Sources, Generator], tuple[tuple[str, ...], Callable[[Path], None]]]] = {}

Made = tuple[tuple[str, ...], Callable[[Path], None]]


def kind(function: Callable[[Sources, Generator], Made]) -> Callable[[Sources, Generator], Made]:
    """Register a kind of input."""
    _KINDS[function.__name__] = function
    return function


def kinds() -> tuple[str, ...]:
    """Return the names of the kinds."""
    return tuple(_KINDS)


def mutant(sources: Sources, name: str, number: int, seed: int = 0) -> Mutant:
    """Return one mutant; the same for the same arguments."""
    generator = np.random.default_rng([seed, number, *name.encode()])
    arguments, make = _KINDS[name](sources, generator)
    # Arguments may name any output; a build's page is written again.
    outputs = ("",) if name == "lines" else ("out/", "build/", "b/report.html")
    return Mutant(f"{name}:{number}:{seed}", arguments, make, outputs)


def mutants(sources: Sources, count: int, seed: int = 0, first: int = 0) -> Iterator[Mutant]:
    """Yield mutants, the kinds in turn."""
    names = kinds()
    for i in range(first, first + count):
        yield mutant(sources, names[i % len(names)], i // len(names), seed)


def damaged(data: bytes, rng: Generator) -> bytes:
    """Return bytes with flips, cuts, overwritten integers, or pieces doubled, moved and removed."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        at = int(rng.integers(len(out)))
        size = int(min(rng.integers(1, 64), len(out) - at))
        match int(rng.integers(7)):
            case 0:
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                del out[at:]
            case 2:
                width = int(rng.choice([1, 2, 4, 8]))
                value = int(INTEGERS[int(rng.integers(len(INTEGERS)))]) & ((1 << 8 * width) - 1)
                out[at : at + width] = value.to_bytes(width, "little")
            case 3:
                out[at:at] = out[at : at + size]
            case 4:
                del out[at : at + size]
            case 5:
                out[at : at + size] = rng.bytes(size)
            case 6:
                out[at : at + size] = bytes(size)
    return bytes(out)


def text_damaged(text: str, rng: Generator) -> bytes:
    """Return text with a value, a key or a line replaced by something odd, or damaged bytes."""
    if rng.random() < 0.3:
        return damaged(text.encode(), rng)
    lines = text.splitlines()
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(len(lines)))
        odd = str(rng.choice(structures.ODD_VALUES))
        key, equal, _ = lines[at].partition("=")
        match int(rng.integers(5)):
            case 0 | 1 if equal:
                lines[at] = f"{key}= {odd}"
            case 2 if equal:
                lines[at] = f"{rng.choice(structures.ODD_KEYS)} ={lines[at].partition('=')[2]}"
            case 3:
                lines.insert(at, lines[int(rng.integers(len(lines)))])
            case _:
                del lines[at]
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def files(contents: dict[str, bytes]) -> Callable[[Path], None]:
    """Return what writes files."""

    def make(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return make


def compiled(model: str, *more: str, data: str = "random", board: str = "pico") -> tuple[str, ...]:
    return ("compile", model, "--board", board, "--data", data, *QUICK, *more, "-o", "out")


def _either(share: float, whole: bytes, odd: Callable[[Generator], bytes], rng: Generator) -> bytes:
    """Return the whole input damaged, in so large a share of all cases, or an odd one."""
    return damaged(whole, rng) if rng.random() < share else odd(rng)


@kind
def onnx(sources: Sources, rng: Generator) -> Made:
    content = _either(0.4, sources.onnx, partial(networks.network, sources.onnx), rng)
    name = str(rng.choice(["net.onnx"] * 8 + list(structures.ODD_NAMES))) if rng.random() < 0.2 else "net.onnx"
    return compiled(name), files({name: content})


@kind
def tflite(sources: Sources, rng: Generator) -> Made:
    return compiled("net.tflite"), files({"net.tflite": damaged(sources.tflite, rng)})


@kind
def board(sources: Sources, rng: Generator) -> Made:
    content = {"b.toml": text_damaged(sources.board, rng), "net.onnx": sources.onnx}
    if rng.random() < 0.7:
        return ("boards", "show", "b.toml"), files(content)
    return compiled("net.onnx", board="b.toml"), files(content)


@kind
def overrides(sources: Sources, rng: Generator) -> Made:
    content = {"o.toml": text_damaged(OVERRIDES, rng), "net.onnx": sources.onnx}
    return compiled("net.onnx", "--overrides", "o.toml"), files(content)


def _with_data(sources: Sources, name: str, content: bytes, rng: Generator) -> Made:
    more = ("--pixel-scale", "0.004") if rng.random() < 0.3 else ()
    return compiled("net.onnx", *more, data=name), files({"net.onnx": sources.onnx, name: content})


@kind
def npz(sources: Sources, rng: Generator) -> Made:
    return _with_data(sources, "d.npz", _either(0.4, sources.npz, structures.arrays, rng), rng)


@kind
def npy(sources: Sources, rng: Generator) -> Made:
    return _with_data(sources, "d.npy", _either(0.6, sources.npy, structures.array_file, rng), rng)


@kind
def csv(sources: Sources, rng: Generator) -> Made:
    odd = partial(structures.rows, sources.csv)
    return _with_data(sources, "d.csv", _either(0.5, sources.csv.encode(), odd, rng), rng)


@kind
def zips(sources: Sources, rng: Generator) -> Made:
    return _with_data(sources, "d.zip", _either(0.4, sources.archive, structures.pictures_archive, rng), rng)


@kind
def pictures(sources: Sources, rng: Generator) -> Made:
    arguments, make = _with_data(sources, "unused", b"", rng)
    arguments = tuple("pics" if argument == "unused" else argument for argument in arguments)

    def folder_of_pictures(folder: Path) -> None:
        make(folder)
        for i in range(8):
            path = folder / "pics" / f"class{i % 4}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(damaged(sources.picture, rng) if rng.random() < 0.3 else sources.picture)
        odd = folder / "pics" / "class0"
        match int(rng.integers(8)):
            case 0:
                os.mkfifo(odd / "z.png")
            case 1:
                (odd / "z.png").symlink_to("/dev/zero")
            case 2:
                (odd / "loop").symlink_to("..")
            case 3:
                (odd / "z.png").mkdir()
            case 4:
                (folder / "pics" / "[/red]\x1b[31m").mkdir(parents=True)
            case 5:
                (odd / "z.png").write_bytes(structures.eps())
            case 6:
                (odd / "z.png").write_bytes(structures.large_png())
            case _:
                pass

    return arguments, folder_of_pictures


@kind
def state(sources: Sources, rng: Generator) -> Made:
    content = _either(0.5, sources.state, structures.state_dict, rng)
    name = str(rng.choice(["w.pt", "w.pth", "w.safetensors", "w"]))
    arguments = compiled("make.py:make", "--weights", name, "--input-shape", "1,3,8,8")
    return arguments, files({"make.py": CALLABLE.encode(), name: content})


@kind
def callables(sources: Sources, rng: Generator) -> Made:
    body = str(rng.choice(structures.CALLABLES))
    spec = str(rng.choice(["make.py:make"] * 6 + ["make.py:none", "make.py:", "make.py", "make.py:os.system"]))
    shape = str(rng.choice(["1,3,8,8"] * 6 + list(structures.ODD_SHAPES)))
    return compiled(spec, "--input-shape", shape), files({"make.py": body.encode()})


@kind
def proxies(sources: Sources, rng: Generator) -> Made:
    if rng.random() < 0.5:
        name, content = "p.toml", text_damaged(PROXY, rng)
    elif rng.random() < 0.5:
        name, content = "p.py", str(rng.choice(structures.PROXIES)).encode()
    else:
        code = str(rng.choice(structures.PROXIES))
        name, content = "p.toml", f"schema = 1\nname = 'p'\ncode = '''\n{code}\n'''\n".encode()
    arguments = tuple("4,8" if argument == "8" else argument for argument in compiled("net.onnx", "--proxy", name))
    return (*arguments, "--target-bits", "6"), files({name: content, "net.onnx": sources.onnx})


@kind
def builds(sources: Sources, rng: Generator) -> Made:
    commands = (
        ("show", "b"), ("show", "b", "--stage", "plan"), ("show", "b", "--stage", "c"), ("plot", "b", "-o", "out/p.svg"),
        ("profile", "b"), ("run", "b", "--samples", "1"), ("eval", "b", "--data", "d.npz"), ("report", "b"),
    )  # fmt: skip
    command = commands[int(rng.integers(len(commands)))]
    name = str(rng.choice(["report.json", "report.json", "model.onnx", "float.onnx", "twin.elf", "lib"]))
    how = float(rng.random())

    def make(folder: Path) -> None:
        shutil.copytree(sources.build, folder / "b")
        if command[0] == "report":
            (folder / "b" / "report.html").unlink(missing_ok=True)
        (folder / "out").mkdir()
        (folder / "d.npz").write_bytes(sources.npz)
        if name == "lib":
            for path in (folder / "b" / "lib").iterdir():
                path.write_bytes(damaged(path.read_bytes(), rng))
            return
        path = folder / "b" / name
        content = path.read_bytes()
        path.unlink()
        if how < 0.1:
            os.mkfifo(path)
        elif how < 0.15:
            path.symlink_to("/etc/passwd")
        elif how < 0.2:
            path.mkdir()
        elif name == "report.json" and how < 0.8:
            path.write_bytes(structures.report(content, rng))
        elif name.endswith(".onnx") and how < 0.5:
            path.write_bytes(networks.network(content, rng))
        else:
            path.write_bytes(damaged(content, rng))

    return command, make


@kind
def lines(sources: Sources, rng: Generator) -> Made:
    commands = (
        list(compiled("net.onnx")), ["finetune", "net.onnx", "--board", "pico", "--train", "d.npz", *QUICK, "-o", "out"],
        ["eval", "net.onnx"], ["boards"], ["models"], ["run", "none"], ["show", "none"], ["plot", "net.onnx"],
        ["bench", "accuracy", "net.onnx", "--data", "none.npz"], ["pareto", "net.onnx", "--board", "pico"],
        ["search", "net.onnx", "--board", "pico", "--llm", "offline", "-o", "out"], ["proxies"], ["profile", "net.onnx"],
    )  # fmt: skip
    line = [str(argument) for argument in commands[0 if rng.random() < 0.6 else int(rng.integers(len(commands)))]]
    for _ in range(int(rng.integers(1, 3))):
        odd = str(rng.choice(structures.ODD_ARGUMENTS))
        match int(rng.integers(3)):
            case 0:
                line[int(rng.integers(len(line)))] = odd
            case 1:
                line += [str(rng.choice(structures.OPTIONS)), odd]
            case 2:
                del line[int(rng.integers(len(line)))]
        line = line or ["--help"]
    content = {"net.onnx": sources.onnx, "d.npz": sources.npz, "net.tflite": sources.tflite}
    return tuple(line), files(content)


__all__ = ["Sources", "kinds", "mutant", "mutants"]
