"""The C library in other people's firmware, on the host: names, warnings, two networks, conversions."""

import ctypes
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.programs import CHECKS, WARNINGS, conv_op, lowered, program, random_codes, tensor
from tapc.data import PixelUnits
from tapc.lower import Lowered
from tapc.lower.codes import input_codes
from tapc.lower.ctext import c_string
from tapc.lower.facts import Facts
from tapc.lower.reference import execute
from tapc.operators.add import Add
from thorough import thorough

UNITS = PixelUnits(1 / 255, (0.5, 0.25, 0.125), (0.25, 0.5, 0.3))
HOSTILE = 'my "net"\\\n#error x\n*/ ??/ %s $(id) ${X} \u202e\u00e9.onnx'
LABELS = ('a "cat"', "a dog*/", "??)", "d\\", "\u00e9", "\n")


@dataclass(frozen=True)
class Case:
    """A library, input codes and the outputs that it must give."""

    network: Lowered
    folder: Path
    codes: NDArray[np.int64]
    expected: NDArray[np.int64]

    @property
    def prefix(self) -> str:
        return self.network.names.prefix

    def sources(self, *, example: bool = False) -> list[str]:
        return [str(p) for p in sorted(self.folder.glob("*.c")) if example or p.name != self.network.names.example]


def make(folder: Path, name: str, channels: int, seed: int, facts: Facts) -> Case:
    """Two convolutions and an addition on 6 x 5 pixels, then a dense layer of `channels` outputs."""
    rng = np.random.default_rng(seed)
    x, a, b, c = (tensor(n, (6, 5, 3 if n == "x" else 4), 8, rng) for n in "xabc")
    y = tensor("y", (1, 1, channels), 8, rng)
    ops = [
        conv_op(rng, x, a, (3, 3), (1, 1), (1, 1, 1, 1), 1, 4, "first*/layer\n"),
        conv_op(rng, a, b, (1, 1), (1, 1), (0, 0, 0, 0), 1, 8, 'second "layer"'),
        Add("sum??/", ("a", "b"), "c", -128, 127),
        conv_op(rng, c, y, (6, 5), (1, 1), (0, 0, 0, 0), 1, 2, "\u00e9"),
    ]
    network = lowered(replace(program(ops, [x, a, b, c, y]), name=name))
    folder.mkdir()
    network.library().write(folder)
    for file, text in network.shown_files(facts).items():
        (folder / file).write_text(text, encoding="utf-8", newline="\n")
    codes = random_codes(x, 3, rng)
    return Case(network, folder, codes, execute(network.program, codes))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Case:
    facts = Facts("cortex-m7", "board", ("-mcpu=cortex-m7",), UNITS, bytes_in=True, labels=LABELS, bits=(HOSTILE,),
                  stack=123, accuracy=(HOSTILE,), command=HOSTILE, sha256="0" * 64)  # fmt: skip
    return make(tmp_path_factory.mktemp("one") / "lib", HOSTILE, 6, 1, facts)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make(tmp_path_factory.mktemp("two") / "lib", "2nd net", 4, 2, Facts())


def call(case: Case) -> str:
    """C statements that run all samples of a case and print the outputs in hexadecimal."""
    p, upper = case.prefix, case.network.names.upper
    rows = ", ".join("{" + ", ".join(map(str, sample.ravel().tolist())) + "}" for sample in case.codes)
    return f"""
  static const int8_t {p}_samples[{len(case.codes)}][{upper}_INPUT_BYTES] = {{{rows}}};
  for (int i = 0; i < {len(case.codes)}; ++i) {{
    memcpy({p}_input(), {p}_samples[i], {upper}_INPUT_BYTES);
    {p}_run();
    for (int k = 0; k < {upper}_OUTPUT_BYTES; ++k) printf("%d ", {p}_output()[k]);
  }}"""


def main(*cases: Case, before: str = "") -> str:
    includes = "".join(f'#include "{case.prefix}.h"\n' for case in cases)
    body = "".join(call(case) for case in cases)
    return f"#include <stdio.h>\n#include <string.h>\n{includes}\nint main(void) {{\n{before}{body}\n  return 0;\n}}\n"


def outputs(executable: Path) -> list[int]:
    done = subprocess.run([str(executable)], stdout=subprocess.PIPE, check=True, text=True)
    return [int(code) for code in done.stdout.split()]


def expected(*cases: Case) -> list[int]:
    return [int(code) for case in cases for code in case.expected.ravel()]


def includes(*cases: Case) -> list[str]:
    return [word for case in cases for word in ("-I", str(case.folder))]


def test_two_networks_as_objects(one: Case, two: Case, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(main(one, two))
    sources = [*one.sources(), *two.sources(), str(tmp_path / "main.c")]
    subprocess.run(["gcc", "-std=c11", *includes(one, two), *sources, "-lm", "-o", str(tmp_path / "p")], check=True)
    assert outputs(tmp_path / "p") == expected(one, two)


def test_two_networks_in_one_translation_unit(one: Case, two: Case, tmp_path: Path) -> None:
    """As a unity build has it: not even what is static may clash."""
    files = [*one.sources(), *two.sources()]
    (tmp_path / "main.c").write_text("".join(f'#include "{f}"\n' for f in files) + main(one, two))
    command = ["gcc", *WARNINGS, *includes(one, two), str(tmp_path / "main.c")]
    subprocess.run([*command, "-lm", "-o", str(tmp_path / "p")], check=True)
    assert outputs(tmp_path / "p") == expected(one, two)


def test_two_networks_as_archives(one: Case, two: Case, tmp_path: Path) -> None:
    for case in (one, two):
        objects = []
        for source in case.sources():
            objects.append(str(tmp_path / f"{Path(source).stem}.o"))
            subprocess.run(["gcc", "-std=c11", "-c", source, "-o", objects[-1]], check=True)
        subprocess.run(["ar", "rcs", str(tmp_path / f"lib{case.prefix}.a"), *objects], check=True)
    (tmp_path / "main.c").write_text(main(one, two))
    archives = [f"-l{case.prefix}" for case in (one, two)]
    command = ["gcc", *includes(one, two), str(tmp_path / "main.c"), "-L", str(tmp_path), *archives, "-lm"]
    subprocess.run([*command, "-o", str(tmp_path / "p")], check=True)
    assert outputs(tmp_path / "p") == expected(one, two)
    # Every global symbol carries its network's prefix.
    for case in (one, two):
        listed = subprocess.run(
            ["nm", "--defined-only", "-g", "--format=posix", str(tmp_path / f"lib{case.prefix}.a")],
            stdout=subprocess.PIPE, check=True, text=True,
        ).stdout  # fmt: skip
        symbols = [line.split()[0] for line in listed.splitlines() if line.count(" ") >= 2]
        assert len(symbols) > 10
        assert all(symbol.startswith(f"{case.prefix}_") for symbol in symbols)
    assert case.prefix == "net_2nd_net"


needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


def configure(source: Path, build: Path, compiler: str, *more: str) -> None:
    command = ["cmake", "-S", str(source), "-B", str(build), f"-DCMAKE_C_COMPILER={compiler}", *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Warning" not in done.stdout
    done = subprocess.run(
        ["cmake", "--build", str(build)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@needs_cmake
@pytest.mark.parametrize("compiler", ["gcc", thorough("clang")])
def test_two_networks_as_cmake_subprojects(compiler: str, one: Case, two: Case, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "main.c").write_text(main(one, two))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(firmware C)\nenable_testing()\n"
        f'add_subdirectory("{one.folder}" one)\nadd_subdirectory("{two.folder}" two)\n'
        f"add_executable(firmware main.c)\ntarget_link_libraries(firmware {one.prefix} {two.prefix})\n"
    )
    configure(tmp_path, tmp_path / "b", compiler, f"-DCMAKE_C_FLAGS={' '.join(CHECKS)}")
    assert outputs(tmp_path / "b" / "firmware") == expected(one, two)
    assert not list((tmp_path / "b").rglob("*_example"))  # it belongs to no one else's build


@needs_cmake
def test_the_example_is_built_where_the_library_is_the_project(two: Case, tmp_path: Path) -> None:
    configure(two.folder, tmp_path, "gcc")
    data = two.codes.astype(np.int8).tobytes()
    done = subprocess.run([str(tmp_path / f"{two.prefix}_example")], input=data, stdout=subprocess.PIPE, check=True)
    assert np.frombuffer(done.stdout, np.int8).tolist() == expected(two)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings_in_c(compiler: str, one: Case, two: Case, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for source in [*one.sources(example=True), *two.sources(example=True)]:
        subprocess.run([compiler, "-O2", *WARNINGS, "-c", source, "-o", str(tmp_path / "x.o")], check=True)


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("standard", ["c++11", "c++14", "c++17", "c++20"])
def test_the_header_in_cpp(compiler: str, standard: str, one: Case, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    p, upper = one.prefix, one.network.names.upper
    (tmp_path / "t.cpp").write_text(
        f'#include "{p}.h"\nconst float mean[] = {upper}_MEAN, deviation[] = {upper}_STD;\n'
        f"float f() {{ {p}_run(); return {upper}_INPUT_SCALE * {upper}_PIXEL_SCALE * mean[0] / deviation[0]; }}\n"
    )
    command = [compiler, f"-std={standard}", *CHECKS, "-fsyntax-only", *includes(one), str(tmp_path / "t.cpp")]
    subprocess.run(command, check=True)


def test_every_macro_carries_the_prefix(one: Case, two: Case) -> None:
    for case in (one, two):
        texts = [path.read_text(encoding="utf-8") for path in case.folder.glob("*.[ch]")]
        defined = [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("#define")]
        assert len(defined) > 20
        assert all(macro.startswith(f"{case.network.names.upper}_") for macro in defined), defined


def test_no_hexadecimal_float_outside_comments(one: Case) -> None:
    header = (one.folder / f"{one.prefix}.h").read_text()
    code = [line.split("/*")[0] for line in header.splitlines()]
    assert "0x1." in header
    assert not any("0x1." in line for line in code)


@pytest.fixture(scope="module")
def shared(one: Case, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The first library as a shared object, with a function that returns its name."""
    folder = tmp_path_factory.mktemp("shared")
    names = one.network.names
    (folder / "name.c").write_text(
        f'#include "{names.prefix}.h"\nconst char *name(void);\n'
        f"const char *name(void) {{ return {names.upper}_NAME; }}\n"
        f"int macros(void);\nint macros(void) {{ return {names.upper}_STACK_BYTES + {names.upper}_LABELS; }}\n"
    )
    command = ["gcc", *WARNINGS, "-O1", "-shared", "-fPIC", *includes(one), *one.sources(), str(folder / "name.c")]
    subprocess.run([*command, "-lm", "-o", str(folder / "net.so")], check=True)
    return ctypes.CDLL(str(folder / "net.so"))


def test_hostile_names_come_back(one: Case, shared: ctypes.CDLL) -> None:
    shared.name.restype = ctypes.c_char_p
    assert shared.name().decode() == HOSTILE
    assert shared.macros() == 123 + len(LABELS)
    labels = (ctypes.c_char_p * len(LABELS)).in_dll(shared, f"{one.prefix}_labels")
    assert tuple(label.decode() for label in labels) == LABELS
    assert "#error x" not in (one.folder / "CMakeLists.txt").read_text()
    assert f"NAME {c_string(HOSTILE)}" in (one.folder / f"{one.prefix}.h").read_text()


def test_floats_become_the_codes_of_the_reference(one: Case, shared: ctypes.CDLL) -> None:
    p = one.network.program
    t = p.tensors[p.input]
    rng = np.random.default_rng(5)
    height, width, channels = t.shape
    values = rng.normal(0, 200 * t.scale, (50, channels, height, width)).astype(np.float32)
    values[0].ravel()[:4] = [np.inf, -np.inf, 1e30, -1e30]
    ties = (rng.integers(-140, 140, values[1].shape) + 0.5).astype(np.float32) * np.float32(t.scale)
    values[1] = ties
    wanted = input_codes(p, values)
    for sample, codes in zip(values, wanted, strict=True):
        hwc = np.ascontiguousarray(sample.transpose(1, 2, 0))
        found = np.zeros(t.shape, np.int8)
        shared[f"{one.prefix}_quantize"](hwc.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p))
        np.testing.assert_array_equal(found, codes)
    nothing = np.full(t.shape, np.nan, np.float32)
    shared[f"{one.prefix}_quantize"](nothing.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p))
    assert (found == -128).all()


def test_bytes_become_the_codes_of_the_reference(one: Case, shared: ctypes.CDLL) -> None:
    """HWC bytes of three channels, each with a mean and deviation of its own; in place, too."""
    p = one.network.program
    t = p.tensors[p.input]
    height, width, channels = t.shape
    raw = np.random.default_rng(6).integers(0, 256, (20, channels, height, width)).astype(np.uint8)
    raw[0].ravel()[:2] = 0, 255
    for sample, codes in zip(raw, input_codes(p, UNITS.apply(raw)), strict=True):
        hwc = np.ascontiguousarray(sample.transpose(1, 2, 0))
        place = hwc.ctypes.data_as(ctypes.c_void_p)
        shared[f"{one.prefix}_quantize_u8"](place, place)
        np.testing.assert_array_equal(hwc.view(np.int8), codes)


def test_outputs_become_values_and_a_class(one: Case, shared: ctypes.CDLL) -> None:
    t = one.network.program.tensors[one.network.program.output]
    codes = np.array([-128, 5, 127, 127, 0, -1], np.int8)
    place = codes.ctypes.data_as(ctypes.c_void_p)
    values = np.zeros(6, np.float32)
    shared[f"{one.prefix}_dequantize"](place, values.ctypes.data_as(ctypes.c_void_p))
    np.testing.assert_array_equal(values, np.float32(t.scale) * (codes.astype(np.float32) - t.zero))
    assert shared[f"{one.prefix}_argmax"](place) == 2


def test_what_is_not_known_is_not_there(two: Case) -> None:
    header = (two.folder / f"{two.prefix}.h").read_text()
    assert not any(word in header for word in ("quantize_u8", "PIXEL_SCALE", "LABELS", "STACK_BYTES", "SHA256", "CORE"))
    assert f"{two.prefix}_quantize(" in header


def test_facts_change_no_code(one: Case, tmp_path: Path) -> None:
    """What is written after the measurement gives the objects that were measured."""
    plain = tmp_path / "plain"
    plain.mkdir()
    one.network.library().write(plain)
    names = one.network.names
    assert (plain / names.file(".h")).read_text() != (one.folder / names.file(".h")).read_text()
    for part in (".c", "kernels.c", "weights.c"):
        objects = []
        for folder in (plain, one.folder):
            objects.append(tmp_path / f"{len(objects)}.o")
            command = ["gcc", "-O2", "-g0", "-c", names.file(part), "-o", str(objects[-1])]
            subprocess.run(command, cwd=folder, check=True)
        assert objects[0].read_bytes() == objects[1].read_bytes()


def test_the_firmware_gives_the_memory(one: Case, two: Case, tmp_path: Path) -> None:
    """Two networks take turns in the same memory."""
    sizes = [case.network.plan.size for case in (one, two)]
    before = f"  static _Alignas(8) unsigned char memory[{max(sizes)}];\n"
    before += "".join(f"  {case.prefix}_set_arena(memory);\n" for case in (one, two))
    (tmp_path / "main.c").write_text(main(one, two, before=before))
    defined = [f"-D{case.network.names.macro('ARENA_EXTERNAL')}" for case in (one, two)]
    sources = [*one.sources(), *two.sources(), str(tmp_path / "main.c")]
    command = ["gcc", *WARNINGS, *defined, *includes(one, two), *sources]
    subprocess.run([*command, "-lm", "-o", str(tmp_path / "p")], check=True)
    assert outputs(tmp_path / "p") == expected(one, two)
    symbols = subprocess.run(["nm", "-S", str(tmp_path / "p")], stdout=subprocess.PIPE, text=True, check=True).stdout
    for case in (one, two):
        (line,) = [row for row in symbols.splitlines() if row.endswith(f"{case.prefix}_arena")]
        assert int(line.split()[1], 16) == 8  # a pointer


@pytest.mark.parametrize("external", [False, True])
def test_step_by_step_is_the_same(one: Case, two: Case, tmp_path: Path, *, external: bool) -> None:
    """Two networks whose steps alternate, each in its own memory."""
    loops = ""
    for sample in range(3):
        for case in (one, two):
            codes = ", ".join(map(str, case.codes[sample].ravel().tolist()))
            loops += f"  {{ static const int8_t x[] = {{{codes}}}; memcpy({case.prefix}_input(), x, sizeof x); }}\n"
        a, b = one.prefix, two.prefix
        loops += "  for (int32_t s = 0, t = 0, first = 1; first || s || t; first = 0) {\n"
        loops += f"    if (first || s) s = {a}_step(s);\n    if (first || t) t = {b}_step(t);\n  }}\n"
        for case in (one, two):
            size = case.network.names.macro("OUTPUT_BYTES")
            loops += f'  for (int k = 0; k < {size}; ++k) printf("%d ", {case.prefix}_output()[k]);\n'
    before = f"  if ({one.prefix}_step(-1) || {one.prefix}_step({one.network.names.macro('STEPS')})) return 1;\n"
    for case in (one, two) if external else ():
        memory = f"{case.prefix}_memory"
        before += f"  static _Alignas(8) unsigned char {memory}[{case.network.plan.size}];\n"
        before += f"  {case.prefix}_set_arena({memory});\n"
    heads = "".join(f'#include "{case.prefix}.h"\n' for case in (one, two))
    text = f"#include <stdio.h>\n#include <string.h>\n{heads}\nint main(void) {{\n{before}{loops}  return 0;\n}}\n"
    (tmp_path / "main.c").write_text(text)
    defined = [f"-D{case.network.names.macro('ARENA_EXTERNAL')}" for case in (one, two) if external]
    sources = [*one.sources(), *two.sources(), str(tmp_path / "main.c")]
    command = ["gcc", *WARNINGS, *defined, *includes(one, two), *sources]
    subprocess.run([*command, "-lm", "-o", str(tmp_path / "p")], check=True)
    samples = zip(one.expected, two.expected, strict=True)
    assert outputs(tmp_path / "p") == [int(code) for pair in samples for part in pair for code in part.ravel()]


def filled(case: Case, memory: str, sample: int) -> str:
    """C statements that put a sample's codes into memory of the caller's."""
    codes = ", ".join(map(str, case.codes[sample].ravel().tolist()))
    offset = case.network.names.macro("INPUT_OFFSET")
    return f"  {{ static const int8_t x[] = {{{codes}}}; memcpy({memory} + {offset}, x, sizeof x); }}\n"


def printed(case: Case, memory: str) -> str:
    names = case.network.names
    code = f"((const int8_t *){memory})[{names.macro('OUTPUT_OFFSET')} + k]"
    return f'  for (int k = 0; k < {names.macro("OUTPUT_BYTES")}; ++k) printf("%d ", {code});\n'


def test_any_number_at_once_in_the_callers_memory(one: Case, two: Case, tmp_path: Path) -> None:
    """Two inferences of one network take turns step by step; then another network has the memory of one of them."""
    a, b, size = one.prefix, two.prefix, max(case.network.plan.size for case in (one, two))
    body = f"  static _Alignas(8) unsigned char m[{size}], n[{size}];\n"
    body += filled(one, "m", 0) + f"  int32_t s = {a}_step_in(m, 0), t = 0;\n" + filled(one, "n", 1)
    body += f"  do {{\n    t = {a}_step_in(n, t);\n    if (s) s = {a}_step_in(m, s);\n  }} while (s || t);\n"
    body += printed(one, "m") + printed(one, "n") + filled(two, "m", 2)
    body += f"  do t = {b}_step_in(m, t); while (t);\n" + printed(two, "m")
    heads = "".join(f'#include "{case.prefix}.h"\n' for case in (one, two))
    text = f"#include <stdio.h>\n#include <string.h>\n{heads}\nint main(void) {{\n{body}  return 0;\n}}\n"
    (tmp_path / "main.c").write_text(text)
    sources = [*one.sources(), *two.sources(), str(tmp_path / "main.c")]
    collected = ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
    command = ["gcc", *WARNINGS, *CHECKS, *includes(one, two), *sources, "-lm", "-o", str(tmp_path / "checked")]
    subprocess.run(command, check=True)
    wanted = [one.expected[0], one.expected[1], two.expected[2]]
    assert outputs(tmp_path / "checked") == [int(code) for part in wanted for code in part.ravel()]
    command = ["gcc", *collected, *includes(one, two), *sources, "-lm", "-o", str(tmp_path / "p")]
    subprocess.run(command, check=True)
    symbols = subprocess.run(["nm", str(tmp_path / "p")], stdout=subprocess.PIPE, text=True, check=True).stdout
    used = {line.split()[-1] for line in symbols.splitlines()}
    assert f"{a}_step_in" in used
    assert not {f"{case.prefix}_{name}" for case in (one, two) for name in ("arena", "run", "step", "argmax")} & used


def test_the_readme_tells_names_flags_and_memory(one: Case) -> None:
    text = (one.folder / "README.md").read_text(encoding="utf-8")
    names = one.network.names
    for word in (f"`{names.prefix}.c`", "-mcpu=cortex-m7", "-ffp-contract=off", names.macro("ARENA_SECTION"),
                 f"{names.prefix}_set_arena", "clamp", "| stack | 123 |", "CCR.UNALIGN_TRP", "Device memory",
                 "--prefix", f"{names.prefix}_quantize_u8"):  # fmt: skip
        assert word in text, word
    assert "\n#error" not in text
