import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.tiny import tiny_setup
from tapc.base.cache import Store
from tapc.base.errors import ToolError
from tapc.flow.losses.draw import Drawn
from tapc.search.configuration import measure_loss
from tapc.search.measurements import Measurements
from tapc.search.workers import DaskWorkers, ProcessWorkers

TESTS = str(Path(__file__).parents[1])


def die_once(path):
    """Kill the own process the first time, answer the second."""
    marker = Path(path)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return tiny_setup(tmp_path_factory.mktemp("tiny")).portable()


def loss(measurements, setup, weights, activations):
    """Measure a configuration of one width."""
    groups = "".join("8" if group.interface else activations for group in setup.network.groups)
    drawn = Drawn("uniform", None, weights * len(setup.network.layers), groups)
    return measurements.once(drawn.key.replace("/", "-"), measure_loss, setup, drawn)


@pytest.fixture
def cluster(monkeypatch):
    """A scheduler and two workers, each a process of its own, as on two hosts."""
    environment = {**os.environ, "PYTHONPATH": TESTS}
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    address = None
    while address is None:
        line = scheduler.stderr.readline()
        assert line, "the scheduler ended"
        if "Scheduler at:" in line:
            address = line.split()[-1]
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
    ]
    workers = [
        subprocess.Popen([*command, "--name", f"w{i}"], stderr=subprocess.DEVNULL, env=environment) for i in range(2)
    ]
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_cluster_measures_and_survives_the_loss_of_a_worker(setup, cluster, tmp_path):
    from distributed import Client

    address, processes = cluster
    workers = DaskWorkers(address)
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    measurements = Measurements(workers, Store(tmp_path))
    first = loss(measurements, setup, "8", "8")
    processes[0].kill()
    pairs = [(w, a) for w in "248" for a in "48"]
    results = [loss(measurements, setup, w, a) for w, a in pairs]
    workers.close()
    assert results[-1] == first
    assert measurements.measured == len(pairs)


def test_nobody_at_the_address_is_an_error():
    with pytest.raises(ToolError, match="no dask scheduler answers"):
        DaskWorkers("tcp://127.0.0.1:9", patience=1)


def test_processes_are_started_again_when_one_dies(tmp_path):
    workers = ProcessWorkers(1)
    try:
        handle = workers.share(str(tmp_path / "marker"))
        with pytest.raises(Exception, match=r"abruptly|broken"):
            workers.submit(die_once, handle).result(60)
        assert workers.recover()
        assert workers.submit(die_once, handle).result(60) == "survived"
        assert workers.generation == 1
    finally:
        workers.close()


def test_a_lost_process_costs_no_measurement(setup, tmp_path):
    workers = ProcessWorkers(1)
    try:
        first = loss(Measurements(workers, Store(tmp_path)), setup, "8", "8")
        for process in list(workers._pool._processes.values()):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.5)
        assert loss(Measurements(workers, Store(tmp_path / "fresh")), setup, "8", "8") == first
        assert workers.generation == 1
    finally:
        workers.close()
