"""What runs in the process that holds torch gives what it gives here, and that process ends with this one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from processes import alive
from tapc import frontend
from tapc.base import worker
from tapc.base.errors import DataError, ToolError, UsageError

HERE = Path(__file__).resolve().parents[2]


def failing(reason: str) -> None:
    raise UsageError(reason)


def process_id() -> int:
    return os.getpid()


def counted(total: int, advance: worker.Advance) -> int:
    for done in range(total):
        advance(done, total)
    return total


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[worker.Worker]:
    """A process of its own, though torch may be loaded here."""
    modules = {name: module for name, module in sys.modules.items() if name != "torch"}
    with monkeypatch.context() as context:
        context.setattr(sys, "modules", modules)
        context.setattr(sys, "path", [*sys.path, str(Path(__file__).parent)])
        worker.begin()
    found = worker._shared
    assert found is not None
    yield found
    worker.finish()


def test_a_zoo_network_is_the_same(there: worker.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    here = frontend.load("resnet8")
    monkeypatch.setattr(worker, "current", lambda: there)
    away = frontend.load("resnet8")
    assert away.onnx.SerializeToString() == here.onnx.SerializeToString()
    assert (away.provenance, away.labels, away.units) == (here.provenance, here.labels, here.units)
    x = np.random.default_rng(0).normal(size=(3, *here.input_shape[1:])).astype(np.float32)
    assert here.run is not None
    assert away.run is not None
    np.testing.assert_allclose(away.run(x), here.run(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match="no such weights file"):
        frontend.load("resnet8", weights=Path("none.pt"))


def test_errors_and_progress_come_back(there: worker.Worker) -> None:
    with pytest.raises(UsageError, match="because"):
        there.call("test_worker:failing", "because")
    told: list[tuple[int, int]] = []
    assert there.call("test_worker:counted", 3, advance=lambda *step: told.append(step)) == 3
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert there.call("test_worker:process_id") != os.getpid()


def test_what_cannot_be_imported_or_sent_is_an_error_of_its_own(there: worker.Worker) -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        there.call("nothing_of_that_name:f")
    with pytest.raises(ToolError, match="lock"):
        there.call("threading:Lock")
    assert there.call("test_worker:process_id") != os.getpid()


def test_a_users_module_of_the_same_name_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pickle.py", "torch.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    process = worker.Worker("torch")
    assert process.call("os:getcwd") == str(tmp_path)


def test_its_death_is_an_error(there: worker.Worker) -> None:
    os.kill(there.call("os:getpid"), signal.SIGKILL)
    with pytest.raises(ToolError, match="has ended"):
        there.call("os:getpid")


def test_calls_are_made_here_where_none_was_begun() -> None:
    assert worker.call("os:getpid") == os.getpid()


@pytest.mark.parametrize("how", ["killed", "left"])
def test_it_ends_with_the_process_that_began_it(how: str, tmp_path: Path) -> None:
    ending = "time.sleep(60)" if how == "killed" else "pass"
    code = (
        "from tapc.base import worker; import time; worker.begin(); "
        f"print(worker.call('os:getpid'), flush=True); {ending}"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=HERE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        if how == "killed":
            process.kill()
        process.wait()
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.1)
    pytest.fail("it is still there")
