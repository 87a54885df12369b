import threading
import time

import pytest

from tapc.search.ahead import Ahead


def test_tasks_run_at_once_and_in_order():
    together = threading.Barrier(3, timeout=20)

    def task(value):
        together.wait()  # passes only where three tasks run at the same time
        return value

    with Ahead({str(i): lambda i=i: task(i) for i in range(6)}, 3) as ahead:
        assert [ahead.result(str(i)) for i in range(6)] == list(range(6))


def test_one_worker_works_when_asked():
    done = []
    with Ahead({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 1) as ahead:
        assert done == []
        ahead.result("b")
    assert done == ["b"]


def test_a_failure_is_raised_in_its_turn_and_ends_the_work():
    begun = []

    def task(i):
        begun.append(i)
        if i == 1:
            raise ValueError("broken")
        time.sleep(0.05 if i else 0)
        return i

    with Ahead({str(i): lambda i=i: task(i) for i in range(50)}, 2) as ahead:
        assert ahead.result("0") == 0
        with pytest.raises(ValueError, match="broken"):
            ahead.result("1")
    time.sleep(0.2)
    assert len(begun) < 10
