"""Packages for other people's projects: manifests hold what their ecosystems ask for, examples are built and run."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
import yaml
from click.testing import CliRunner

import tapc
from flow.packages import ARDUINO_H, ARDUINO_MAIN, LINKER, START, fake_idf, fake_zephyr
from graph_builder import Builder, Model, words
from tapc.base.errors import OutputError, UsageError
from tapc.cli import main
from tapc.cli.export import FORMATS as NAMES
from tapc.flow.export import FORMATS, export, stale
from tapc.flow.export.contents import contents_of
from tapc.flow.export.single import single_file
from tapc.flow.rerun import open_build
from tapc.frontend import load
from tapc.hardware.target import load_target
from tapc.lower.library import generate
from tapc.lower.names import Names

HOSTILE = 'my "net" <b>&amp;\\\n#error x\n*/ ??/ %s $(id) ${X} {{ y }} - : \' \u202e\u00e9\U0001f600'
P = "my_net_b_amp_error_x_s_id_x_y"
GCC = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
TARGET = load_target("cortex-m7")
OPTIONS = tapc.Options(wbits=(4, 8), target_bits=6, calibration=8, eval=1, simulate=False, rounding="nearest",
                       equalize=False)  # fmt: skip


def small() -> Model:
    """A picture and three numbers; a map and classes."""
    b = Builder((1, 3, 4, 4), 0)
    y = b.node("Relu", [b.conv("x", "stem", 3, 4)], "stem.relu")
    flat = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flat", axis=1)
    joined = b.node("Concat", [flat, "numbers"], "joined", axis=1)
    return b.build(y, b.gemm(joined, "fc", 7, 4), inputs={"numbers": (1, 3)})


def compiled(model: onnx.ModelProto, name: str, folder: Path) -> Path:
    onnx.save(model, folder / "net.onnx")
    named = replace(load(folder / "net.onnx"), name=name)
    tapc.compile(named, board="stm32h7", data="random", output=folder / "b", options=OPTIONS)
    return folder / "b"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = compiled(small().onnx, HOSTILE, tmp_path_factory.mktemp("build"))
    done = CliRunner().invoke(main, ["export", str(folder), *FORMATS, "--json"])
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)
    assert [package["format"] for package in written] == list(FORMATS)
    for package in written:
        found = {str(p.relative_to(package["folder"])) for p in Path(package["folder"]).rglob("*") if p.is_file()}
        assert found == {*package["files"], "tapc-files.json"}
    return folder


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, env={**os.environ, **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def for_the_core(folder: Path, sources: Sequence[Path], include: Sequence[Path], *flags: str) -> None:
    """Compile C files as the build's core needs them; nothing is to be warned of."""
    options = [*TARGET.cflags, "-Os", *GCC, "-c", *flags, *(f"-I{path}" for path in include)]
    run("arm-none-eabi-gcc", *options, *(path.absolute() for path in sources), folder=folder)


def test_the_command_line_knows_the_formats() -> None:
    assert tuple(FORMATS) == NAMES


@pytest.mark.parametrize(("compiler", "standard"), [("gcc", "c99"), ("clang", "gnu17")])
def test_one_file_on_this_machine(build: Path, tmp_path: Path, compiler: str, standard: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    place = build / "export" / "single-file"
    flags = [f"-std={standard}", "-O1", *GCC, "-fno-strict-aliasing", "-I", place]
    run(compiler, *flags, "-c", place / f"{P}.c", "-o", tmp_path / "network.o")
    example = place / "example" / "main.c"
    run(compiler, *flags, example, tmp_path / "network.o", "-lm", "-o", tmp_path / "p")
    assert run(tmp_path / "p") == f"{P}: exact\n"
    # Other codes have other outputs.
    check = (place / "example" / f"{P}_check.h").read_text()
    (tmp_path / f"{P}_check.h").write_text(check.replace("state = 1u", "state = 2u"))
    shutil.copy(example, tmp_path)
    run(compiler, *flags, tmp_path / "main.c", tmp_path / "network.o", "-lm", "-o", tmp_path / "p")
    done = subprocess.run([tmp_path / "p"], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (1, f"{P}: differs from the reference\n")


def test_one_file_on_the_core(build: Path, tmp_path: Path) -> None:
    place = build / "export" / "single-file"
    for_the_core(tmp_path, [place / f"{P}.c"], [place], "-std=c99")
    table = run("arm-none-eabi-nm", "-g", "--defined-only", tmp_path / f"{P}.o")
    shown = {line.split()[-1] for line in table.splitlines()}
    header = re.sub(r"/\*.*?\*/", "", (place / f"{P}.h").read_text(), flags=re.DOTALL)
    assert shown
    assert shown <= set(re.findall(rf"\b{P}_\w+", header))
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("needs QEMU: apt-get install qemu-system-arm")
    check = place / "example" / f"{P}_check.h"
    (tmp_path / "start.c").write_text(START.format(check=check, prefix=P))
    (tmp_path / "q.ld").write_text(LINKER)
    command = [
        *TARGET.cflags,
        "-O1",
        "-I",
        place,
        "start.c",
        f"{P}.o",
        "-nostartfiles",
        "-T",
        "q.ld",
        "-lm",
        "-o",
        "q.elf",
    ]
    run("arm-none-eabi-gcc", *command, "-specs=nosys.specs", folder=tmp_path)
    machine = ["-M", "mps2-an500", "-nographic", "-semihosting-config", "enable=on,target=native", "-kernel", "q.elf"]
    assert "exact" in run("timeout", "60", "qemu-system-arm", *machine, folder=tmp_path)


def test_constants_in_a_region_keep_their_section(build: Path, tmp_path: Path) -> None:
    """And the component of ESP-IDF has its name in lower case, whatever the prefix."""
    contents, network = contents_of(open_build(build)), open_build(build).lowered()
    library = generate(network.program, network.steps, network.plan, {0: "qspi"})
    weights = f"{P}_weights.c"
    placed = replace(contents, sources={**contents.sources, weights: library.files[weights]})
    (tmp_path / f"{P}.h").write_text(contents.headers[f"{P}.h"])
    (tmp_path / f"{P}.c").write_text(single_file(placed))
    for_the_core(tmp_path, [tmp_path / f"{P}.c"], [tmp_path])
    table = run("arm-none-eabi-objdump", "-h", tmp_path / f"{P}.o")
    (size,) = re.findall(r"\.tapc_qspi\s+([0-9a-f]+)", table)
    assert int(size, 16) == sum(constant.bytes for constant in network.steps[0].constants.values())
    named = FORMATS["esp-idf"](replace(contents, names=Names("Net"), sources={}, headers={}))
    assert {name.partition("/")[0] for name in named} == {"net"}
    assert "REQUIRES net)" in named["net/examples/Net_check/main/CMakeLists.txt"]


def test_cmake(build: Path, tmp_path: Path) -> None:
    place, out = build / "export" / "cmake" / P, tmp_path / "out"
    run("cmake", "-S", place, "-B", out, f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'usr'}")
    run("cmake", "--build", out, "--target", f"{P}_check")
    assert "100% tests passed" in run("ctest", folder=out)
    run("cmake", "--install", out)
    user = tmp_path / "user"
    user.mkdir()
    shutil.copytree(place / "example", user / "example")
    (user / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(user C)\nfind_package({P} 1.0 REQUIRED)\n"
        f"add_executable(user example/main.c)\ntarget_link_libraries(user PRIVATE {P}::{P})\n"
    )
    run("cmake", "-S", user, "-B", user / "out", f"-DCMAKE_PREFIX_PATH={tmp_path / 'usr'}")
    run("cmake", "--build", user / "out")
    assert run(user / "out" / "user") == f"{P}: exact\n"


def test_arduino(build: Path, tmp_path: Path) -> None:
    """The library specification 1.5: names, fields, folders; and the sketch, with a header in Arduino's place."""
    place = build / "export" / "arduino" / P
    lines = (place / "library.properties").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    required = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")
    assert set(fields) == {*required, "includes"}
    assert all(fields.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_ .-]{0,62}", fields["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] == "Data Processing"
    assert (place / "src" / fields["includes"]).is_file()
    for line in (place / "keywords.txt").read_text().splitlines()[1:]:
        assert re.fullmatch(rf"(?i:{P})\w*\t(KEYWORD[12]|LITERAL1)", line)
    (sketch,) = place.glob("examples/*/*.ino")
    assert sketch.stem == sketch.parent.name
    assert not list(place.rglob("*_example.c"))  # it has a main of its own
    sources = sorted((place / "src").glob("*.c"))
    for_the_core(tmp_path, sources, [place / "src"])
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    (tmp_path / "main.cpp").write_text(ARDUINO_MAIN.format(sketch=sketch))
    run("gcc", "-c", *GCC, *sources, folder=tmp_path)
    objects = [path.with_suffix(".o").name for path in sources]
    run("g++", *GCC, "-I", place / "src", "main.cpp", *objects, "-lm", "-o", "p", folder=tmp_path)
    assert run(tmp_path / "p") == f"{P}: exact, 0 us\n"


def test_platformio(build: Path, tmp_path: Path) -> None:
    place = build / "export" / "platformio" / P
    manifest = json.loads((place / "library.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"[^/;@:<>]{1,100}", manifest["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert 1 <= len(manifest["description"]) <= 1000
    assert (place / "src" / manifest["headers"]).is_file()
    (example,) = manifest["examples"]
    base = place / example["base"]
    assert all((base / name).is_file() for name in example["files"])
    sources = sorted((place / manifest["build"]["srcDir"]).glob("*.c"))
    for_the_core(tmp_path, sources, [place / "src"], *manifest["build"]["flags"])
    run("gcc", "-c", *manifest["build"]["flags"], *sources, folder=tmp_path)
    objects = [path.with_suffix(".o").name for path in sources]
    run("g++", *GCC, "-I", place / "src", base / "src" / "main.cpp", *objects, "-lm", "-o", "p", folder=tmp_path)
    assert run(tmp_path / "p") == f"{P}: exact\n"


def test_platformios_own_parser(build: Path) -> None:
    parser = pytest.importorskip(
        "platformio.package.manifest.parser", reason="needs platformio: pip install platformio"
    )
    schema = pytest.importorskip("platformio.package.manifest.schema")
    for name in (f"platformio/{P}/library.json", f"arduino/{P}/library.properties"):
        raw = parser.ManifestParserFactory.new_from_file(str(build / "export" / name)).as_dict()
        assert schema.ManifestSchema().load_manifest(raw)["name"] == P


def test_zephyr(build: Path, tmp_path: Path) -> None:
    place = build / "export" / "zephyr" / P
    module = yaml.safe_load((place / "zephyr" / "module.yml").read_text(encoding="utf-8"))
    assert set(module) == {"name", "build", "samples"}
    assert (place / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    kconfig = (place / module["build"]["kconfig"]).read_text().splitlines()
    assert kconfig[0] == f"config TAPC_{P.upper()}"
    assert all(line.startswith("\t") for line in kconfig[1:])
    sample = place / module["samples"][0] / f"{P}_check"
    described = yaml.safe_load((sample / "sample.yaml").read_text(encoding="utf-8"))
    (test,) = described["tests"].values()
    assert test["harness_config"]["regex"] == [f"{P}: exact"]
    settings = (sample / "prj.conf").read_text().splitlines()
    assert f"CONFIG_TAPC_{P.upper()}=y" in settings
    found = f"-DZephyr_DIR={fake_zephyr(tmp_path / 'zephyr')}"
    run("cmake", "-S", sample, "-B", tmp_path / "out", found, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    run("cmake", "--build", tmp_path / "out")
    assert run(tmp_path / "out" / "app") == f"{P}: exact\n"
    _options_come_last(tmp_path / "out", "-Os")
    main_c = sample / "src" / "main.c"  # the sources are PlatformIO's
    for_the_core(tmp_path, [main_c], [place / "src"], *TARGET.optimization)


def _options_come_last(out: Path, theirs: str) -> None:
    """The kernels' options stand behind those of the build system."""
    commands = json.loads((out / "compile_commands.json").read_text())
    (words,) = [entry["command"].split() for entry in commands if entry["file"].endswith("_kernels.c")]
    assert words.index(theirs) < words.index("-O2")
    assert "-ffp-contract=off" in words


def test_esp_idf(build: Path, tmp_path: Path) -> None:
    place = build / "export" / "esp-idf" / P
    manifest = yaml.safe_load((place / "idf_component.yml").read_text(encoding="utf-8"))
    assert set(manifest) == {"version", "description", "tags", "dependencies", "examples"}
    assert re.fullmatch(r"[a-z0-9_-]+", P)  # the component's name is its folder's
    assert all(re.fullmatch(r"[a-z0-9-]{3,32}", tag) for tag in manifest["tags"])
    project = place / manifest["examples"][0]["path"]
    (dependency,) = yaml.safe_load((project / "main" / "idf_component.yml").read_text())["dependencies"].values()
    assert (project / "main" / dependency["override_path"]).resolve() == place.resolve()
    path = str(fake_idf(tmp_path / "idf"))
    run("cmake", "-S", project, "-B", tmp_path / "out", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", IDF_PATH=path)
    run("cmake", "--build", tmp_path / "out", IDF_PATH=path)
    assert run(tmp_path / "out" / "main" / "app") == f"{P}: exact\n"
    _options_come_last(tmp_path / "out", "-Og")


def test_espressifs_own_schema(build: Path) -> None:
    tools = pytest.importorskip("idf_component_tools.manager", reason="needs idf-component-manager (pip)")
    place = build / "export" / "esp-idf" / P
    for folder in (place, place / "examples" / f"{P}_check" / "main"):
        assert tools.ManifestManager(str(folder), P).load().name == P


def test_cmsis_pack(build: Path, tmp_path: Path) -> None:
    """The rules of PACK.xsd that concern what is written, and that the archive holds what the description names."""
    place = build / "export" / "cmsis-pack"
    (path,) = place.glob("*.pdsc")
    package = ElementTree.parse(path).getroot()
    text = {child.tag: child.text for child in package}
    assert path.name == f"{text['vendor']}.{text['name']}.pdsc"
    assert re.fullmatch(r"[\-_A-Za-z0-9]+", str(text["name"]))
    assert "\n" not in str(text["description"])
    assert [child.tag for child in package] == [
        "vendor", "name", "description", "url", "releases", "keywords", "conditions", "components",
    ]  # fmt: skip
    version = package.find("releases/release").attrib["version"]  # type: ignore[union-attr]
    (component,) = package.iter("component")
    assert component.attrib["Cversion"] == version
    assert all(2 <= len(component.attrib[name]) <= 128 for name in ("Cclass", "Cgroup", "Csub"))
    assert component.attrib["condition"] in {condition.attrib["id"] for condition in package.iter("condition")}
    with zipfile.ZipFile(place / f"{path.stem}.{version}.pack") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "pack")
    named = [file.attrib["name"] for file in component.iter("file")]
    assert all((tmp_path / "pack" / name).exists() for name in (path.name, *named))
    sources = [tmp_path / "pack" / name for name in named if name.startswith("src/") and name.endswith(".c")]
    for_the_core(tmp_path, sources, [tmp_path / "pack" / "src"])
    example = tmp_path / "pack" / "example" / "main.c"
    run("gcc", "-I", tmp_path / "pack" / "src", *sources, example, "-lm", "-o", tmp_path / "p")
    assert run(tmp_path / "p") == f"{P}: exact\n"


def test_the_same_build_gives_the_same_bytes(build: Path, tmp_path: Path) -> None:
    for name in FORMATS:
        (package,) = export(build, name, out=tmp_path / name)
        for file in package.files:
            assert (package.folder / file).read_bytes() == (build / "export" / name / file).read_bytes()


def test_a_sample_of_tokens(tmp_path: Path) -> None:
    folder = compiled(words().onnx, "net", tmp_path)
    (package,) = export(folder, "single-file")
    files = [package.folder / "net_net.c", package.folder / "example" / "main.c"]
    run("gcc", *GCC, "-I", package.folder, *files, "-lm", "-o", tmp_path / "p")
    assert run(tmp_path / "p") == "net_net: exact\n"


def test_what_is_not_written(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no export keil; there are: arduino, cmake"):
        export(build, "keil")
    with pytest.raises(UsageError, match="takes one package"):
        export(build, "arduino", "cmake", out=tmp_path / "x")
    (package,) = export(build, "single-file", out=tmp_path / "own")
    export(build, "single-file", out=package.folder)  # in its own place
    (package.folder / f"{P}.h").write_text("mine")
    with pytest.raises(OutputError, match=f"changed since tapc wrote it: {P}.h"):
        export(build, "single-file", out=package.folder)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("theirs")
    with pytest.raises(OutputError, match="is not empty"):
        export(build, "cmake", out=tmp_path / "theirs")


def test_compile_writes_packages_and_names_old_ones(tmp_path: Path) -> None:
    onnx.save(small().onnx, tmp_path / "net.onnx")
    command = ["compile", str(tmp_path / "net.onnx"), "--board", "stm32h7", "--data", "random", "--no-simulate",
               "--calibration", "8", "--rounding", "nearest", "--no-equalize", "-o", str(tmp_path / "b")]  # fmt: skip
    done = CliRunner().invoke(main, [*command, "--export", "single-file", "--export", "arduino"])
    assert done.exit_code == 0, done.output
    # Lines break at spaces, and long paths anywhere.
    assert f"writtento{tmp_path / 'b' / 'export' / 'arduino'}" in "".join(done.output.split())
    assert stale(tmp_path / "b") == ["arduino", "single-file"]
    again = CliRunner().invoke(main, [*command, "--wbits", "8", "--export", "single-file"])
    assert again.exit_code == 0, again.output
    assert "arduino is of an earlier build" in again.output.replace("\n", " ")
    assert "single-file is of an earlier" not in again.output.replace("\n", " ")
