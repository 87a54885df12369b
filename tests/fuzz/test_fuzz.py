"""The fuzzer sees what it looks for, and tries the same every time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import mutants as kinds_of

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}

BAD = """
import os, sys, subprocess, time
from pathlib import Path
import tapc.cli
from fuzz import harness

def main(arguments, prog_name):
    what = arguments[0]
    if what == "traceback":
        raise ValueError
    if what == "code":
        sys.exit(9)
    if what == "signal":
        os.abort()
    if what == "hang":
        time.sleep(60)
    if what == "outside":
        Path("elsewhere").write_text("x")
    if what == "changed":
        Path("input").write_text("changed")
    if what == "bystander":
        Path("../other/bystander").unlink()
    if what == "process":
        subprocess.Popen(["sleep", "60"], start_new_session=True)
    if what == "fine":
        Path("out").mkdir()
        Path("out/x").write_text("x")
        sys.exit(8)

tapc.cli.main = main
harness.ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
if sys.argv[2] == "memory":
    harness.MOST_MEMORY = 1 << 20
mutant = harness.Mutant("m", (sys.argv[2],), lambda folder: (folder / "input").write_text("x") and None)
print(harness.run(mutant, Path(sys.argv[1]) / "m", seconds=3 if sys.argv[2] == "hang" else 30).faults)
"""


def test_mutants_are_the_same_every_time(tmp_path: Path) -> None:
    sources = kinds_of.Sources(
        onnx=b"o" * 99, tflite=b"t" * 99, board="a = 1\nb = 2", npz=b"n" * 99, npy=b"p" * 99, csv="1,2\n3,4\n",
        archive=b"z" * 99, picture=b"i" * 99, state=b"s" * 99, build=tmp_path,
    )  # fmt: skip
    for kind in ("tflite", "board", "npy", "csv", "overrides", "lines"):
        made = []
        for name in ("first", "second"):
            one = kinds_of.mutant(sources, kind, 3, seed=5)
            (tmp_path / kind / name).mkdir(parents=True)
            one.make(tmp_path / kind / name)
            files = {path.name: path.read_bytes() for path in (tmp_path / kind / name).iterdir() if path.is_file()}
            made.append((one.arguments, files))
        assert made[0] == made[1]


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("traceback", "traceback"), ("code", "exit code 9"), ("signal", "killed by SIGABRT"), ("hang", "still running"),
        ("memory", "MiB"), ("outside", "touched case/elsewhere"), ("changed", "touched case/input"),
        ("bystander", "touched other/bystander"), ("process", "left 1 processes"), ("fine", ""),
    ],
)  # fmt: skip
def test_the_harness_sees_what_must_not_happen(what: str, fault: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BAD, str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert fault in done.stdout if fault else done.stdout.strip() == "()"
