"""Runs untrusted proxy code, each run in a fresh process that the kernel locks in. See docs/sandbox.md."""

from tapc.proxy.sandbox.check import check_source
from tapc.proxy.sandbox.host import Call, Limits, Sandbox, run_twice
from tapc.proxy.sandbox.outcome import SandboxError

__all__ = ["Call", "Limits", "Sandbox", "SandboxError", "check_source", "run_twice"]
