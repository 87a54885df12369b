"""The inside of the sandbox: `python -I -S child.py`. Locks itself in, reads one job, runs it, writes one result.

Only the standard library, and as little of it as possible: nothing of tapc is visible from here.
"""

import builtins
import importlib.util
import json
import math
import os
import platform
import statistics
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapc.base import confine
else:  # by its place: with the package on the path, proxies could find all of it
    _place = os.path.join(os.path.dirname(__file__), "..", "..", "base", "confine.py")
    _spec = importlib.util.spec_from_file_location("confine", _place)
    confine = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(confine)

RESULT_FD = 1
MODULES = {"math": math, "statistics": statistics}
NAMES = tuple(
    [
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "divmod",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "int",
        "isinstance",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "pow",
        "print",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "slice",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
        "True",
        "False",
        "None",
        "ArithmeticError",
        "AssertionError",
        "Exception",
        "IndexError",
        "KeyError",
        "OverflowError",
        "StopIteration",
        "TypeError",
        "ValueError",
        "ZeroDivisionError",
    ]
)

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050001  # errno EPERM

# System calls by architecture: (audit number, allowed, those that kill).
# fmt: off
_X86 = (0xC000003E,
    {"read": 0, "close": 3, "munmap": 11, "brk": 12, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24,
     "mremap": 25, "madvise": 28, "getpid": 39, "exit": 60, "gettimeofday": 96, "sigaltstack": 131, "gettid": 186,
     "futex": 202, "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "getrandom": 318},
    {"write": 1, "mmap": 9, "mprotect": 10},
    [41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 53, 56, 57, 58, 59, 62, 101, 109, 112, 117, 157, 165, 200, 234, 272, 288,
     308, 310, 311, 317, 319, 321, 322, 323, 425, 426, 427, 435, 438])
_ARM64 = (0xC00000B7,
    {"read": 63, "close": 57, "munmap": 215, "brk": 214, "rt_sigprocmask": 135, "rt_sigreturn": 139,
     "sched_yield": 124, "mremap": 216, "madvise": 233, "getpid": 172, "exit": 93, "gettimeofday": 169,
     "sigaltstack": 132, "gettid": 178, "futex": 98, "restart_syscall": 128, "clock_gettime": 113, "exit_group": 94,
     "getrandom": 278},
    {"write": 64, "mmap": 222, "mprotect": 226},
    [97, 117, 129, 130, 131, 154, 157, 167, 198, 199, 200, 201, 202, 203, 206, 207, 211, 212, 220, 221, 242, 268, 270,
     271, 277, 279, 280, 281, 282, 425, 426, 427, 435, 438])
# fmt: on


def _instruction(code: int, jt: int, jf: int, k: int) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


def _filter() -> bytes:
    """Return the seccomp program: an allow-list with checked arguments; the rest fails with EPERM or kills."""
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64"):
        raise OSError(f"no system-call table for {machine}")
    audit, plain, checked, deadly = _X86 if machine == "x86_64" else _ARM64
    load, equal, above, masked, give = 0x20, 0x15, 0x35, 0x45, 0x06
    program = [
        _instruction(load, 0, 0, 4),  # architecture
        _instruction(equal, 1, 0, audit),
        _instruction(give, 0, 0, _KILL),
        _instruction(load, 0, 0, 0),  # number
        _instruction(above, 0, 1, 0x40000000),  # x32
        _instruction(give, 0, 0, _KILL),
    ]
    for number in plain.values():
        program += [_instruction(equal, 0, 1, number), _instruction(give, 0, 0, _ALLOW)]
    program += [  # write: to the result only
        _instruction(equal, 0, 4, checked["write"]),
        _instruction(load, 0, 0, 16),
        _instruction(equal, 0, 1, RESULT_FD),
        _instruction(give, 0, 0, _ALLOW),
        _instruction(give, 0, 0, _ERRNO),
    ]
    for name in ("mmap", "mprotect"):  # never executable
        program += [
            _instruction(equal, 0, 4, checked[name]),
            _instruction(load, 0, 0, 32),
            _instruction(masked, 1, 0, 4),
            _instruction(give, 0, 0, _ALLOW),
            _instruction(give, 0, 0, _ERRNO),
        ]
    for number in deadly:
        program += [_instruction(equal, 0, 1, number), _instruction(give, 0, 0, _KILL)]
    program.append(_instruction(give, 0, 0, _ERRNO))
    return b"".join(program)


def lock(limits: dict[str, int]) -> dict[str, Any]:
    """Give up every right but computing and writing the result; raises OSError where seccomp is not to be had."""
    confine.end_with_parent()
    confine.hide_memory()
    spaces = confine.own_spaces()
    confine.no_new_privileges()
    landlock = confine.restrict_files({})
    confine.limit(
        {
            "RLIMIT_CPU": limits["cpu"],
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NPROC": 0,
            "RLIMIT_STACK": 8 << 20,
            "RLIMIT_AS": limits["memory"],
            "RLIMIT_NOFILE": 3,
            "RLIMIT_MEMLOCK": 0,
        }
    )
    confine.filter_calls(_filter())
    return {"seccomp": True, "landlock": landlock, "namespaces": spaces}


def send(value: object) -> None:
    """Write one framed message."""
    data = json.dumps(value).encode()
    data = struct.pack("<I", len(data)) + data
    while data:
        data = data[os.write(RESULT_FD, data) :]


def plain(value: Any, depth: int = 0) -> Any:
    """Return a result as exact JSON types; ValueError for anything else."""
    if depth > 20:
        raise ValueError("the result is too deeply nested")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if value.bit_length() > 1000:
            raise ValueError("the result holds an integer beyond 1000 bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"the result holds {value}")
        return value
    if kind is list or kind is tuple:
        return [plain(item, depth + 1) for item in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    raise ValueError(f"the result holds a {kind.__name__}, which is no JSON value")


def _importer(name: str, *context: Any) -> Any:
    if name not in MODULES:
        raise ImportError(f"import of {name} is not allowed; only {', '.join(MODULES)}")
    return MODULES[name]


def execute(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job's code and calls; returns what to send."""
    names = {name: getattr(builtins, name) for name in NAMES}
    names["__import__"] = _importer
    names["print"] = lambda *args, **options: None
    scope = {"__builtins__": names if job["restricted"] else builtins, "__name__": "proxy"}
    try:
        exec(compile(job["code"], "proxy.py", "exec"), scope)
        results: list[Any] = []
        for call in job["calls"]:
            function = scope.get(call["function"])
            if not callable(function):
                return {"error": ["missing", f"the code defines no function {call['function']}"]}
            value = function(*call["arguments"])
            try:
                results.append(plain(value))
            except ValueError as error:
                return {"error": ["result", f"{call['function']}: {error}"]}
        return {"results": results}
    except MemoryError:
        return {"error": ["memory", "out of memory"]}
    except SyntaxError as error:
        return {"error": ["syntax", f"line {error.lineno}: {error.msg}"]}
    except ImportError as error:
        return {"error": ["forbidden", _text(error)]}
    except PermissionError as error:
        return {"error": ["forbidden", _text(error)]}
    except BaseException as error:
        return {"error": ["exception", _text(error)]}


def _text(error: BaseException) -> str:
    name, line = type(error).__name__, 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "proxy.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    return f"{name}: {message}" + (f" (line {line})" if line else "")


def main() -> None:
    """Lock, report, run, report, end."""
    limits = json.loads(sys.argv[1])
    try:
        protection = lock(limits)
    except (OSError, ValueError, AttributeError) as error:
        send({"refused": str(error)})
        return
    send({"ready": protection})
    data = b""
    while part := os.read(0, 1 << 20):
        data += part
    answer = execute(json.loads(data))
    try:
        send(answer)
    except BaseException:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
