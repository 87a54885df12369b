"""A board's NPU: an Ethos-U and the memories that it reads, as Arm's compiler vela describes them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_Kind = Literal["Sram", "Dram", "OnChipFlash", "OffChipFlash"]
_Accelerator = Literal[
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512",
    "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048",
]  # fmt: skip
_Cycles = Annotated[int, Field(ge=0, le=1 << 16, strict=True)]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NpuPort(_Schema):
    """A memory at one of the NPU's ports.

    Attributes
    ----------
    kind : {"Sram", "Dram", "OnChipFlash", "OffChipFlash"}
        What vela takes it for.
    region : str
        The board's memory.
    clock_scale : float
        Its bandwidth over that of the port at the NPU's clock.
    burst_bytes : int
    read_cycles, write_cycles : int
        Latencies, in the NPU's cycles.
    """

    kind: _Kind
    region: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    clock_scale: float = Field(gt=0, le=1)
    burst_bytes: int = Field(gt=0, le=1 << 12, strict=True)
    read_cycles: _Cycles
    write_cycles: _Cycles


class Npu(_Schema):
    """An Ethos-U.

    Attributes
    ----------
    accelerator : str
        Vela's name of the configuration, "ethos-u55-128".
    clock_hz : int
    arena_bytes : int
        What activations may take.
    sram, flash : NpuPort
        Of activations, and of constants and commands.
    base : int or None
        Address of its registers, where it is known.
    deliver : str
        Command that sends FILE, an optimized TFLite file, to a board that runs such files; empty where there is none.
    """

    accelerator: _Accelerator
    clock_hz: int = Field(gt=0, le=10**12, strict=True)
    arena_bytes: int = Field(gt=0, le=1 << 32, strict=True)
    sram: NpuPort
    flash: NpuPort
    base: int | None = Field(default=None, ge=0, lt=1 << 32, multiple_of=4096, strict=True)
    deliver: str = Field(default="", max_length=300)

    @property
    def executed(self) -> bool:
        """Whether the executor knows its commands: those of the U55."""
        return self.accelerator.startswith("ethos-u55-")

    @property
    def outputs_at_once(self) -> int:
        """Output channels of the weight coder's small block."""
        return 4 if self.accelerator == "ethos-u55-32" else 8
