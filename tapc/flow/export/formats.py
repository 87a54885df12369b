"""The packages: for each ecosystem a function from a build's contents to files."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from tapc.flow.export.contents import Contents
from tapc.flow.export.single import single_file
from tapc.flow.export.templates import render
from tapc.flow.front_end import HEADER, SOURCE

Files = dict[str, str | bytes]
_EPOCH = (1980, 1, 1, 0, 0, 0)
_VENDOR = "tapc"


def single(c: Contents) -> Files:
    """Make one C file, one header, and an example."""
    p = c.names.prefix
    files: Files = {f"{p}.c": single_file(c), f"{p}.h": c.headers[c.names.file(".h")]}
    files |= {name: text for name, text in c.library.items() if name in map(c.names.file, (SOURCE, HEADER))}
    return files | {"README.md": render("single.md", c=c)} | _example(c, "example/main.c", "main.c")


def cmake(c: Contents) -> Files:
    """Make a project that is added, installed and found; the library's own files are its subfolder."""
    files = {f"{c.names.prefix}/{name}": text for name, text in c.library.items()}
    made = {"CMakeLists.txt": render("cmake.txt", c=c), "config.cmake.in": render("config.cmake.in", c=c)}
    return _within(c, {**made, **files, **_example(c, "example/main.c", "main.c")})


def arduino(c: Contents) -> Files:
    """Make a library by Arduino's specification, which has no compiler options: the files hold them."""
    example = f"{c.names.prefix}_check"
    made = {
        "library.properties": render("library.properties", c=c),
        "keywords.txt": render("keywords.txt", c=c),
        "README.md": _readme(c),
    }
    return _within(
        c, {**made, **_with_pragmas(c, "src"), **_example(c, f"examples/{example}/{example}.ino", "sketch.ino")}
    )


def platformio(c: Contents) -> Files:
    """Make a library for PlatformIO, with an example that runs on this machine, too."""
    example = f"{c.names.prefix}_check"
    manifest = {
        "name": c.names.prefix,
        "version": c.version,
        "description": c.description,
        "keywords": ["neural network", "inference", "tinyml"],
        "headers": c.names.file(".h"),
        "frameworks": "*",
        "platforms": "*",
        "build": {"flags": list(c.optimization), "unflags": ["-Os"], "srcDir": "src", "includeDir": "src"},
        "examples": [
            {"name": example, "base": f"examples/{example}", "files": ["platformio.ini", "src/main.cpp"]},
        ],
    }
    made = {"library.json": _json(manifest), "README.md": _readme(c), **_sources(c, "src")}
    ini = {f"examples/{example}/platformio.ini": render("platformio.ini", c=c)}
    return _within(c, {**made, **ini, **_example(c, f"examples/{example}/src/main.cpp", "sketch.cpp")})


def zephyr(c: Contents) -> Files:
    """Make a module with a Kconfig symbol, and a sample."""
    folder = f"samples/{c.names.prefix}_check"
    made = {f"zephyr/{name}": render(f"zephyr/{name}", c=c) for name in ("module.yml", "CMakeLists.txt", "Kconfig")}
    sample = {f"{folder}/{name}": render(f"zephyr/sample/{name}", c=c)
              for name in ("CMakeLists.txt", "prj.conf", "sample.yaml")}  # fmt: skip
    own = {"README.md": _readme(c), **_sources(c, "src"), **_example(c, f"{folder}/src/main.c", "main.c")}
    return _within(c, {**made, **sample, **own})


def esp_idf(c: Contents) -> Files:
    """Make a component with its manifest, and an example project; components have names in lower case."""
    folder = f"examples/{c.names.prefix}_check"
    made = {name: render(f"esp_idf/{name}", c=c) for name in ("idf_component.yml", "CMakeLists.txt")}
    example = {f"{folder}/{name}": render(f"esp_idf/example/{name}", c=c)
               for name in ("CMakeLists.txt", "main/CMakeLists.txt", "main/idf_component.yml")}  # fmt: skip
    own = {"README.md": _readme(c), **_sources(c, "src"), **_example(c, f"{folder}/main/main.c", "app_main.c")}
    return _within(c, {**made, **example, **own}, c.names.prefix.lower())


def cmsis_pack(c: Contents) -> Files:
    """Make a pack: its description, the files, and both as the archive that tools install."""
    p = c.names.prefix
    name = f"{_VENDOR}.{p}"
    files: Files = {f"{name}.pdsc": render("pack.pdsc", c=c, vendor=_VENDOR), "README.md": _readme(c)}
    files |= _with_pragmas(c, "src") | _example(c, "example/main.c", "main.c")
    return files | {f"{name}.{c.version}.pack": _archive(files)}


FORMATS: Mapping[str, Callable[[Contents], Files]] = {
    "arduino": arduino,
    "cmake": cmake,
    "cmsis-pack": cmsis_pack,
    "esp-idf": esp_idf,
    "platformio": platformio,
    "single-file": single,
    "zephyr": zephyr,
}
"""Name of an ecosystem -> what makes its package: path within the package's folder -> text or bytes."""


def _within(c: Contents, files: Mapping[str, str | bytes], name: str = "") -> Files:
    """Put a package into a folder of the library's name, or another, by which its ecosystem knows it."""
    return {f"{name or c.names.prefix}/{path}": content for path, content in files.items()}


def _sources(c: Contents, folder: str) -> Files:
    return {f"{folder}/{name}": text for name, text in (*c.sources.items(), *c.headers.items())}


def _with_pragmas(c: Contents, folder: str) -> Files:
    pragmas = render("pragmas.h", c=c, include=False)
    made: Files = {f"{folder}/{name}": f"{pragmas}\n{text}" for name, text in c.sources.items()}
    return made | {f"{folder}/{name}": text for name, text in c.headers.items()}


def _example(c: Contents, path: str, template: str) -> Files:
    """Return a program and the check that it runs."""
    folder = path.rpartition("/")[0]
    check = {f"{folder}/{c.names.file('check.h')}": render("check.h", c=c)}
    return {path: render(template, c=c), **check}


def _readme(c: Contents) -> str:
    return c.library.get("README.md", "")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive that is the same for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()
