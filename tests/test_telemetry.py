"""onnxruntime collects and reports what it runs unless it is told not to; nothing may be collected behind tapc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import numpy as np
from onnx import helper
from tapc.quantize.runtime import session

sides = [helper.make_tensor_value_info(name, 1, [1, 3]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "private-name", sides[:1], sides[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
session(model, optimized=True).run(None, {"x": np.zeros((1, 3), np.float32)})
"""


def written(home: Path) -> list[Path]:
    """Make a session in a process of its own; returns what appeared in its home folder."""
    kept = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", RUN], check=True, env={**kept, "HOME": str(home)})
    return list(home.rglob("*"))


def test_a_session_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    assert not written(tmp_path)


@pytest.mark.parametrize(("given", "value"), [(None, "1"), ("0", "0")])
def test_it_is_off_unless_the_user_sets_it(given: str | None, value: str) -> None:
    code = "import os, tapc; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {name: held for name, held in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == value
