"""Kernels that are generated while something else goes on: a process beside this one fills the cache of kernels."""

import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tapc.base.errors import ToolError
from tapc.base.tool import end, start_python
from tapc.kernels.spec import KernelSpec
from tapc.lower.kernel_store import kernel, missing


@contextmanager
def generated_beside(specs: Iterable[KernelSpec]) -> Iterator[None]:
    """Generate kernels that are not in the cache yet in another process, unless TVM is loaded here already.

    Whatever keeps that process from its work costs time only: what is missing then is generated when it is needed.

    Parameters
    ----------
    specs : iterable of KernelSpec
    """
    wanted = missing(set(specs))
    if not wanted or "tvm" in sys.modules or not sys.executable:
        yield
        return
    try:
        process = start_python("tapc.lower.ahead", stdout=subprocess.DEVNULL)
    except ToolError:
        yield
        return
    try:
        assert process.stdin is not None
        try:
            process.stdin.write(pickle.dumps(wanted))
            process.stdin.close()
        except OSError:
            pass  # it has ended
        yield
        process.wait()
    finally:
        end(process)


def main() -> None:
    """Generate the kernels whose specifications come, pickled, from the process that started this one."""
    specs: list[KernelSpec] = pickle.load(sys.stdin.buffer)
    for spec in specs:
        kernel(spec, "k")


if __name__ == "__main__":
    main()
