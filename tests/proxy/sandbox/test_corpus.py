"""Every program of the corpus is contained, reported, and leaves the host as it was."""

import os
import socket
import threading

import pytest

from processes import children
from proxy.sandbox.corpus import CASES
from tapc.proxy.columns import COLUMNS
from tapc.proxy.contract import ContractError, scored
from tapc.proxy.sandbox import Call, Sandbox, SandboxError

ROW = {
    c.name: "conv" if c.text else [1.0, 2.0] if c.scope == "channel" else max(c.low, 1.0) if c.high > 1 else 0.5
    for c in COLUMNS
}
TABLE = [ROW | {"name": f"layer{i}", "index": i} for i in range(3)]


@pytest.fixture(scope="module")
def listener():
    """A server that notes whoever connects."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    seen, stop = [], threading.Event()

    def serve():
        while not stop.is_set():
            try:
                connection, address = server.accept()
            except TimeoutError:
                continue
            seen.append(address)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], seen
    stop.set()
    thread.join()
    server.close()


def held(*sandboxes):
    """Return how many descriptors and children there are while each sandbox has its next process waiting."""
    for sandbox in sandboxes:
        sandbox.protection()
    return len(os.listdir("/proc/self/fd")), len(children())


def works(sandbox):
    return sandbox.run("def score(layers):\n    return 1", [Call("score", ([],))]) == [1]


@pytest.fixture(scope="module")
def checked():
    """One sandbox for all cases: each shows that those before it left it as it was."""
    with Sandbox() as sandbox:
        assert works(sandbox)
        yield sandbox
        assert works(sandbox)


@pytest.fixture(scope="module")
def raw():
    """One that has the kernel's limits alone, for all cases."""
    with Sandbox(restricted=False) as sandbox:
        assert works(sandbox)
        yield sandbox
        assert works(sandbox)


@pytest.fixture
def host(tmp_path, listener, checked, raw):
    """The host: a file, its folder, open descriptors, children and a listening port, unharmed afterwards."""
    canary = tmp_path / "canary"
    canary.write_text("sings")
    port, seen = listener
    before = held(checked, raw)
    yield lambda code: code.replace("CANARY", str(canary)).replace("PORT", str(port))
    assert canary.read_text() == "sings"
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]
    assert held(checked, raw) == before
    assert not seen


def test_the_corpus_is_large():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_behind_the_check(case, checked, host):
    try:
        scored(checked, host(case.code), [TABLE], "statistics", twice=True)
        kind = "ok"
    except ContractError as error:
        kind = error.kind
    assert kind in case.kinds


@pytest.mark.parametrize("case", [case for case in CASES if case.raw], ids=lambda case: case.name)
def test_by_the_kernel_alone(case, raw, host):
    message = ""
    try:
        raw.run(host(case.code), [Call("score", (TABLE,))])
        kind = "ok"
    except SandboxError as error:
        kind, message = error.kind, str(error)
    assert "the kernel allowed it" not in message
    assert kind in case.raw, message
