"""What the kernel can take from a process before it runs what is not trusted: files, rights, system calls, resources.

Only the standard library, and as little of it as possible: the processes that lock themselves in load this file alone.
Run as a program (`python -I -S confine.py JSON`) it locks itself in and becomes another program.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any

READ, WRITE, RUN = "r", "w", "x"
REFUSED = 125

_PDEATHSIG, _DUMPABLE, _SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_FILE_RIGHTS = {RUN: 1 << 0, WRITE: 1 << 1 | 1 << 14, READ: 1 << 2}  # writing is truncating, too
_USER_SPACE, _NETWORK_SPACES = 0x10000000, 0x40000000 | 0x08000000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """Return the version of Landlock that this kernel has; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    version: int = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(0, version)


def restrict_files(allowed: Mapping[str, str]) -> int:
    """Forbid this process every file, and every network that Landlock knows, but the files that are allowed.

    Nothing can be made, removed, renamed or listed; `no_new_privileges` comes first.

    Parameters
    ----------
    allowed : mapping of str to str
        File -> rights, some of READ, WRITE and RUN. Files that do not exist are left out.

    Returns
    -------
    int
        The version of Landlock; 0 where there is none and nothing was forbidden.
    """
    version = landlock_version()
    if version < 1:
        return 0
    bits = {1: 13, 2: 14}.get(version, 15 if version < 5 else 16)
    attributes = struct.pack("<Q", (1 << bits) - 1)
    if version >= 4:
        attributes += struct.pack("<Q", 3)  # TCP: bind, connect
    if version >= 6:
        attributes += struct.pack("<Q", 3)  # abstract sockets, signals
    libc = _libc()
    rules = libc.syscall(_CREATE_RULESET, ctypes.create_string_buffer(attributes), ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return 0
    try:
        for path, rights in allowed.items():
            mask = sum(_FILE_RIGHTS[right] for right in rights)
            _allow(libc, rules, path, mask & (1 << bits) - 1)
        return version if libc.syscall(_RESTRICT_SELF, rules, 0) == 0 else 0
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, mask: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = ctypes.create_string_buffer(struct.pack("<Qi", mask, handle))
        if libc.syscall(_ADD_RULE, rules, 1, rule, 0) != 0:
            raise OSError(f"Landlock refuses a rule for {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(handle)


def no_new_privileges() -> None:
    """Give up set-user-id programs and the like for good; OSError where that fails."""
    if _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(ctypes.get_errno())}")


def end_with_parent() -> None:
    """Be killed when the thread that started this process ends, however it ends."""
    _libc().prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def hide_memory() -> None:
    """Let no other process of this user look into this one."""
    _libc().prctl(_DUMPABLE, 0, 0, 0, 0)


def own_spaces(*, user: bool = True) -> bool:
    """Leave the network and IPC namespaces, and the user's first; whether the kernel allows it."""
    unshared: int = _libc().unshare(_NETWORK_SPACES | (_USER_SPACE if user else 0))
    return unshared == 0


def filter_calls(program: bytes) -> None:
    """Install a seccomp program; OSError where that fails."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = ctypes.create_string_buffer(program)
    argument = Program(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    if _libc().prctl(_SECCOMP, 2, ctypes.byref(argument), 0, 0) != 0:
        raise OSError(f"prctl(PR_SET_SECCOMP): {os.strerror(ctypes.get_errno())}")


def limit(limits: Mapping[str, int]) -> None:
    """Set resource limits by name ("RLIMIT_CPU"), hard ones; a lower one that holds already stays."""
    for name, value in limits.items():
        which = getattr(resource, name)
        _, hard = resource.getrlimit(which)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (least, least))


def main() -> None:
    """Lock this process in and become the program that the argument, a JSON object, describes.

    `command`: list of str; `files`: as for `restrict_files`; `limits`: as for `limit`; `landlock`: refuse to go on
    without it; `parent`: process that must be alive.
    """
    task: dict[str, Any] = json.loads(sys.argv[1])
    try:
        end_with_parent()
        if os.getppid() != task["parent"]:
            os._exit(REFUSED)
        for number in (signal.SIGXFSZ, signal.SIGPIPE):  # Python ignores them, and that is inherited
            signal.signal(number, signal.SIG_DFL)
        _ = own_spaces(user=False) or own_spaces()  # root loses rights over others' files in a user space of its own
        no_new_privileges()
        limit(task["limits"])
        if restrict_files(task["files"]) == 0 and task["landlock"]:
            raise OSError("no Landlock")
        os.execve(task["command"][0], task["command"], {})
    except OSError as error:
        os.write(2, f"cannot lock the process in: {error}\n".encode(errors="replace"))
        os._exit(REFUSED)


if __name__ == "__main__":
    main()
