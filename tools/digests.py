"""Digests of everything that a set of builds and commands gives: `python tools/digests.py > before.json`.

For changes that must leave every byte as it is. Run it before and after, on one machine, and compare the files: what a
build's weights are depends on the processor's type. Covered are all files of the builds (of reports all but times),
`--help` of every command, and the keys of what `--json` prints.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT.parent / "shared" / "data" / "mlperf-tiny"
FEW = "--data random --calibration 48 --eval 2 --seed 1"
BUILDS = (
    f"resnet8 --board stm32h7 --wbits 8 {FEW}",
    "resnet8 --board stm32h7 --target-bits 3 --calibration 64 --eval 4",
    f"resnet8 --board stm32h7 --wbits 4 --abits 4 --rounding nearest {FEW}",
    f"resnet8 --board nucleo-l4r5zi --target-bits 4 --abits 4,8 --rounding mse {FEW}",
    f"resnet8 --board pico --wbits 2 --rounding nearest {FEW}",
    f"resnet8 --board mps3-an547 --target-bits 5 --proxy sqnr --rounding nearest {FEW}",
    f"resnet8 --board nrf52840dk --wbits 8 --prefix mine --pin both --no-equalize --rounding nearest {FEW}",
    f"mobilenetv1-0.25 --board stm32h7 --target-bits 4 {FEW}",
    f"mobilenetv1-0.25 --board mps3-an547 --wbits 8 --rounding nearest {FEW}",
    f"vit-micro --board stm32h7 --wbits 8 --rounding nearest {FEW}",
    f"vit-micro --board pico --target-bits 4 --rounding nearest {FEW}",
    f"vit-micro --board mps3-an547 --wbits 4 --rounding nearest {FEW}",
    f"resnet18 --board stm32h7 --wbits 4 --rounding nearest --no-simulate {FEW}",
    f"{TINY}/pretrainedResnet.tflite --board stm32h7 --flash 70K {FEW}",
    f"{TINY}/pretrainedResnet.tflite --board pico --wbits 8 --abits 4 --rounding nearest {FEW}",
    f"{TINY}/kws_ref_model_float32.tflite --board nucleo-l4r5zi --wbits 4 {FEW}",
    f"{TINY}/kws_ref_model_float32.tflite --board mps3-an547 --wbits 8 --rounding nearest {FEW}",
    f"{TINY}/vww_96_float.tflite --board stm32h7 --wbits 2 --rounding nearest {FEW}",
    f"{TINY}/vww_96_float.tflite --board pico --wbits 8 --rounding nearest {FEW}",
    f"{TINY}/ad01_fp32.tflite --board stm32h7 --wbits 8 --rounding nearest {FEW}",
    f"{TINY}/ad01_fp32.tflite --board mps3-an547 --target-bits 4 --rounding nearest {FEW}",
)
PRINTED = (
    "boards", "boards show stm32h7", "models", "doctor", "proxies", "proxies score hawq_v2 --model resnet8",
    "run build/0", "profile build/0", "eval build/1 --samples 2",
)  # fmt: skip


def tapc(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    command = [sys.executable, "-P", "-m", "tapc", *arguments.split()]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def digest(data: bytes) -> str:
    """Return the first half of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def without_times(report: dict[str, Any]) -> bytes:
    """Return a report's bytes, its times left out."""
    return json.dumps({**report, "seconds": {}}, sort_keys=True).encode()


def of_build(number: int, arguments: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Build, and name every file with its digest."""
    done = tapc(f"compile {arguments} -q -o build/{number}", folder)
    yield "exit code", str(done.returncode)
    place = folder / "build" / str(number)
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.name == "tapc-files.json":  # digests of the others, the report's with its times
            continue
        if path.name == "report.json":
            data = without_times(json.loads(data))
        yield str(path.relative_to(place)), digest(data)


def keys(value: Any) -> Any:
    """Return the keys of nested objects; lists count by their first item, values by their type."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return type(value).__name__


def helps(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the help of a command and of all below it."""
    context = click.Context(command, info_name=" ".join(("tapc", *path)), terminal_width=80)
    yield " ".join(("tapc", *path)), digest(command.get_help(context).encode())
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from helps(inner, (*path, name))


def main() -> None:
    """Print the digests as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="*", help="Numbers of builds; default: all.")
    only = parser.parse_args().only
    result: dict[str, Any] = {"builds": {}, "json": {}}
    with tempfile.TemporaryDirectory(prefix="tapc-digests-") as name:
        folder = Path(name)
        chosen = [(i, build) for i, build in enumerate(BUILDS) if only is None or i in only]
        for number, arguments in track(chosen, "builds", console=Console(stderr=True), transient=True):
            named = arguments.replace(f"{TINY}/", "")
            result["builds"][f"{number} {named}"] = dict(of_build(number, arguments, folder))
        for arguments in PRINTED if only is None or {0, 1} <= set(only) else ():
            done = tapc(f"{arguments} --json", folder)
            result["json"][arguments] = keys(json.loads(done.stdout)) if done.returncode == 0 else done.returncode
    sys.path.insert(0, str(ROOT))
    from tapc.cli import main as entry

    result["help"] = dict(helps(entry))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
