"""Running vela, Arm's compiler for Ethos-U, and reading what it says."""

import csv
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapc.base.errors import ToolError, UnsupportedError
from tapc.base.files import scratch_folder
from tapc.hardware.npu import Npu

VERSION = "5.2.0"
SYSTEM, MODE = "tapc_system", "tapc_memory"
_STEM = "network"


def config_of(npu: Npu) -> str:
    """Return vela's configuration file of a board's NPU."""
    lines = [f"[System_Config.{SYSTEM}]", f"core_clock={npu.clock_hz}", f"axi0_port={npu.sram.kind}",
             f"axi1_port={npu.flash.kind}"]  # fmt: skip
    for port in (npu.sram, npu.flash):
        values = {"clock_scale": port.clock_scale, "burst_length": port.burst_bytes, "read_latency": port.read_cycles,
                  "write_latency": port.write_cycles}  # fmt: skip
        lines += [f"{port.kind}_{name}={value}" for name, value in values.items()]
    lines += ["", f"[Memory_Mode.{MODE}]", "const_mem_area=Axi1", "arena_mem_area=Axi0", "cache_mem_area=Axi0",
              f"arena_cache_size={npu.arena_bytes}"]  # fmt: skip
    return "\n".join([*lines, ""])


@dataclass(frozen=True, eq=False)
class Compiled:
    """What vela made of a file.

    Attributes
    ----------
    blob : bytes
        The optimized TFLite file.
    cycles : int
        Of the whole network, an estimate of vela's performance model.
    sram, flash : int
        Bytes as vela sums them up.
    weight_bytes : int
        Coded weights, without biases.
    cycles_of, weights_of : mapping of int to int
        Operator of the given file, by number -> its estimated cycles, and bytes of coded weights.
    queue : mapping of int to int
        Offset of an operation's word in the command stream, in bytes -> the operator of the given file that it is of.
    on_cpu : tuple of str
        Kinds of the operators that are left to the CPU.
    """

    blob: bytes
    cycles: int
    sram: int
    flash: int
    weight_bytes: int
    cycles_of: Mapping[int, int]
    weights_of: Mapping[int, int]
    queue: Mapping[int, int]
    on_cpu: tuple[str, ...]


class VelaError(ToolError):
    """Vela gave up on a file."""


def installed() -> bool:
    """Whether vela can be run."""
    return importlib.util.find_spec("ethosu") is not None


def check_installed() -> None:
    """Raise ToolError where it cannot."""
    if not installed():
        raise ToolError(f"vela is not installed: pip install 'tapc[npu]' (ethos-u-vela {VERSION})")


def compile_file(blob: bytes, npu: Npu) -> Compiled:
    """Compile a TFLite file.

    Raises
    ------
    ToolError
        Where vela is not installed or fails.
    UnsupportedError
        For an accelerator that vela does not know.
    """
    check_installed()
    with scratch_folder() as folder:
        network, config = folder / f"{_STEM}.tflite", folder / "tapc.ini"
        network.write_bytes(blob)
        config.write_text(config_of(npu), encoding="utf-8")
        command = [sys.executable, "-m", "ethosu.vela", str(network), "--accelerator-config", npu.accelerator,
                   "--config", str(config), "--system-config", SYSTEM, "--memory-mode", MODE, "--output-dir",
                   str(folder / "out"), "--enable-debug-db", "--verbose-performance"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if "invalid choice" in done.stderr:
            raise UnsupportedError(f"vela knows no accelerator {npu.accelerator!r}")
        if done.returncode:
            raise VelaError(f"vela failed: {(done.stderr or done.stdout).strip()[-600:]}")
        return _read(folder / "out")


_WEIGHTS = ("weight_total_bytes", "weight_max_range_bytes", "weight_distinct", "weight_zero", "ofm_slice_c",
            "ofm_offset_c", "kernel_size_x", "kernel_size_y")  # fmt: skip
"""What tells the weights of an operation from those of another one."""


def _read(folder: Path) -> Compiled:
    (summary,) = _rows(next(folder.glob("*_summary_*.csv")).read_text(encoding="utf-8"))
    per_layer = _rows(next(folder.glob("*_per-layer.csv")).read_text(encoding="utf-8"))
    tables = _debug_tables(next(folder.glob("*_debug.xml")).read_text(encoding="utf-8"))
    source = {row["id"]: int(row["ext_key"]) for row in tables["source"]}
    optimised = {row["id"]: source[row["source_id"]] for row in tables["optimised"] if row["source_id"] in source}
    queue = {int(row["offset"]): optimised[row["optimised_id"]] for row in tables["queue"]
             if row["optimised_id"] in optimised}  # fmt: skip
    made = {row["id"]: row for row in tables["perf"] if row["source_id"] in source}
    cycles, weights = Counter[int](), Counter[int]()
    for row in made.values():
        cycles[source[row["source_id"]]] += round(float(row["op_cycles"] or 0))
    # Where an operator is computed place by place, the parts read the same weights: of equal ones count one.
    coded = {(source[made[row["id"]]["source_id"]], tuple(row[name] for name in _WEIGHTS))
             for row in tables["perf_debug"] if row["id"] in made}  # fmt: skip
    for own, (size, *_) in coded:
        weights[own] += int(size or 0)
    kib = {name: round(1024 * float(summary[f"{name}_memory_used"]))
           for name in ("sram", "on_chip_flash", "off_chip_flash", "dram")}  # fmt: skip
    return Compiled(
        next(folder.glob("*_vela.tflite")).read_bytes(), round(float(summary["cycles_total"])), kib["sram"],
        kib["on_chip_flash"] + kib["off_chip_flash"] + kib["dram"], int(float(summary["total_npu_encoded_weights"])),
        cycles, weights, queue, tuple(row["Original Operator"] for row in per_layer if row["Target"] != "NPU"),
    )  # fmt: skip


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def _debug_tables(text: str) -> dict[str, list[dict[str, str]]]:
    found = re.finditer(r'<table name="(\w+)">\s*<!\[CDATA\[\n(.*?)\]\]>', text, re.DOTALL)
    return {match[1]: _rows(match[2]) for match in found}
