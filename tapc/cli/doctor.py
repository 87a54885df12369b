"""What this machine has of what tapc needs, and the command that installs the rest."""

import importlib.util
import platform
import re
import subprocess
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from tapc.base.tool import newest


@dataclass(frozen=True)
class Check:
    """One tool or package.

    Attributes
    ----------
    name : str
    purpose : str
    needed : bool
        Whether `tapc compile` fails without it.
    version : str or None
        None where it is missing.
    install : str
        Command that installs it.
    """

    name: str
    purpose: str
    needed: bool
    version: str | None
    install: str


_APT = "apt-get install"
_TOOLS = (
    ("arm-none-eabi-gcc", "builds firmware", True, f"{_APT} gcc-arm-none-eabi libnewlib-arm-none-eabi"),
    ("qemu-system-arm", "runs and proves firmware", True, f"{_APT} qemu-system-arm"),
    (
        "riscv64-unknown-elf-gcc",
        "builds firmware of RISC-V boards",
        False,
        f"{_APT} gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    ),
    ("qemu-system-riscv32", "runs and proves firmware of RISC-V boards", False, f"{_APT} qemu-system-misc"),
    ("cc", "builds the instruction counter for QEMU, once", True, f"{_APT} gcc libc6-dev"),
    ("llvm-mca", "estimates cycles of Cortex-M7 and M55; M4 and M0+ have tables", False, f"{_APT} llvm-19"),
    ("clang", "checks that the C library builds with a second compiler", False, f"{_APT} clang"),
    ("openocd", "flashes boards through their probes", False, f"{_APT} openocd"),
    ("cmake", "builds the C library folder as a project", False, f"{_APT} cmake"),
)
_PACKAGES = (
    ("torch", "torch models and the zoo", True, "pip install torch==2.13.0"),
    ("onnx", "model files", True, "pip install onnx"),
    ("onnxruntime", "float and ONNX accuracy", True, "pip install onnxruntime"),
    ("onnxscript", "torch export", True, "pip install onnxscript"),
    ("apache-tvm", "C code generation", True, "pip install 'apache-tvm>=0.27,<0.28'"),
    ("scipy", "bit allocation (HiGHS)", True, "pip install scipy"),
    ("ai-edge-litert", "checks TFLite imports against their runtime", False, "pip install ai-edge-litert"),
    ("unicorn", "runs flashed images of Cortex-M3 to M33 boards (--device unicorn)", False, "pip install unicorn"),
    ("pyserial", "talks to boards (tapc measure, --device serial:PORT)", False, "pip install pyserial"),
    ("ziglang", "builds firmware without gcc (--toolchain zig)", False, "pip install ziglang"),
    ("ethos-u-vela", "compiles for Ethos-U", False, "pip install 'tapc[npu]'"),
    ("litellm", "proxy search", False, "pip install 'tapc[search]'"),
)


_STAND_INS = {"arm-none-eabi-gcc": ("ziglang", "--toolchain zig"), "qemu-system-arm": ("unicorn", "--device unicorn")}
"""Needed tools, packages that do what they do, and the options that take these."""


def _tool_version(name: str) -> str | None:
    path = newest(name)
    if path is None:
        return None
    try:
        result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (result.stdout or result.stderr).splitlines()
    # Some LLVM tools print their project's address first.
    return next((line.strip() for line in lines if re.search(r"\d", line)), lines[0].strip() if lines else "present")


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return "present" if importlib.util.find_spec(name.replace("-", "_")) else None


def checks() -> tuple[Check, ...]:
    """Look for every tool and package."""
    found = [Check("python", "runs tapc", True, platform.python_version(), "python 3.11 or newer")]
    found += [Check(n, p, needed, _tool_version(n), install) for n, p, needed, install in _TOOLS]
    found += [Check(n, p, needed, _package_version(n), install) for n, p, needed, install in _PACKAGES]
    return (*_stood_in(found), _rp2040js(), _sandbox(), _simulator())


def _stood_in(found: list[Check]) -> list[Check]:
    """Call no tool needed whose work a package does that is there; the counter is QEMU's alone."""
    there = {check.name for check in found if check.version is not None}
    changed = []
    for check in found:
        package, option = _STAND_INS.get(check.name, ("", ""))
        if check.name not in there and package in there:
            purpose = f"{check.purpose}; {package} does so, too ({option})"
            check = replace(check, needed=False, purpose=purpose)
        elif check.name == "cc" and "qemu-system-arm" not in there and "unicorn" in there:
            check = replace(check, needed=False)
        changed.append(check)
    return changed


def _rp2040js() -> Check:
    """Look for what runs the RP2040's images."""
    from tapc.device import missing

    there = None if missing("rp2040js") else "present"
    remedy = "apt-get install nodejs npm; npm install -g rp2040js"
    return Check("rp2040js", "runs flashed images of the pico (--device rp2040js)", False, there, remedy)


def _simulator() -> Check:
    """Look for what keeps a simulated program from this machine's files."""
    from tapc.base.confine import landlock_version

    version = landlock_version()
    remedy = "Linux 5.13 or newer with Landlock; without it only images of the same run are simulated"
    return Check("simulator", "runs builds of others safely", False, f"Landlock {version}" if version else None, remedy)


def _sandbox() -> Check:
    """Try to lock a process in, as for a proxy program."""
    from tapc.base.errors import ToolError
    from tapc.proxy.sandbox import Sandbox

    protection = None
    try:
        with Sandbox() as sandbox:
            given = sandbox.protection()
            landlock = f"Landlock {given['landlock']}" if given["landlock"] else "no Landlock"
            protection = f"seccomp, {landlock}, {'own' if given['namespaces'] else 'no own'} namespaces"
    except ToolError:
        pass
    remedy = "Linux on x86-64 or arm64; in a container allow seccomp"
    return Check("sandbox", "runs proxy programs", False, protection, remedy)
