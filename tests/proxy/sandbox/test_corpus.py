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


@pytest.fixture
def host(tmp_path, listener):
    """The host: a file, its folder, open descriptors, children and a listening port, unharmed afterwards."""
    canary = tmp_path / "canary"
    canary.write_text("sings")
    port, seen = listener
    before = len(os.listdir("/proc/self/fd")), children()
    yield lambda code: code.replace("CANARY", str(canary)).replace("PORT", str(port))
    assert canary.read_text() == "sings"
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]
    assert (len(os.listdir("/proc/self/fd")), children()) == before
    assert not seen


def test_the_corpus_is_large():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_behind_the_check(case, host):
    with Sandbox() as sandbox:
        try:
            scored(sandbox, host(case.code), [TABLE], "statistics", twice=True)
            kind = "ok"
        except ContractError as error:
            kind = error.kind
        assert kind in case.kinds
        assert sandbox.run("def score(layers):\n    return 1", [Call("score", ([],))]) == [1]


@pytest.mark.parametrize("case", [case for case in CASES if case.raw], ids=lambda case: case.name)
def test_by_the_kernel_alone(case, host):
    with Sandbox(restricted=False) as sandbox:
        message = ""
        try:
            sandbox.run(host(case.code), [Call("score", (TABLE,))])
            kind = "ok"
        except SandboxError as error:
            kind, message = error.kind, str(error)
        assert "the kernel allowed it" not in message
        assert kind in case.raw, message
        assert sandbox.run("def score(layers):\n    return 1", [Call("score", ([],))]) == [1]
