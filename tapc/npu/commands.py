"""The words of an Ethos-U55's command stream: 16-bit parameters, 32-bit payloads, and the operations between them.

The numbers are those of Arm's Ethos-U55 register description. A word that is not known is an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError

_MAGIC = 0x31504F43  # "COP1"
_CONFIG, _STREAM, _NOTHING = 1, 2, 5  # driver actions
_PAYLOAD = 0x4000
_CODE = 0x3FF


class Operation(IntEnum):
    """What runs when its word is read."""

    STOP = 0x000
    IRQ = 0x001
    CONV = 0x002
    DEPTHWISE = 0x003
    POOL = 0x005
    ELEMENTWISE = 0x006
    DMA_START = 0x010
    DMA_WAIT = 0x011
    KERNEL_WAIT = 0x012
    PMU_MASK = 0x013


class Parameter(IntEnum):
    """Registers of 16 bits."""

    IFM_PAD_TOP = 0x100
    IFM_PAD_LEFT = 0x101
    IFM_PAD_RIGHT = 0x102
    IFM_PAD_BOTTOM = 0x103
    IFM_DEPTH_M1 = 0x104
    IFM_PRECISION = 0x105
    IFM_UPSCALE = 0x107
    IFM_ZERO_POINT = 0x109
    IFM_WIDTH0_M1 = 0x10A
    IFM_HEIGHT0_M1 = 0x10B
    IFM_HEIGHT1_M1 = 0x10C
    IFM_IB_END = 0x10D
    IFM_REGION = 0x10F
    OFM_WIDTH_M1 = 0x111
    OFM_HEIGHT_M1 = 0x112
    OFM_DEPTH_M1 = 0x113
    OFM_PRECISION = 0x114
    OFM_BLK_WIDTH_M1 = 0x115
    OFM_BLK_HEIGHT_M1 = 0x116
    OFM_BLK_DEPTH_M1 = 0x117
    OFM_ZERO_POINT = 0x118
    OFM_WIDTH0_M1 = 0x11A
    OFM_HEIGHT0_M1 = 0x11B
    OFM_HEIGHT1_M1 = 0x11C
    OFM_REGION = 0x11F
    KERNEL_WIDTH_M1 = 0x120
    KERNEL_HEIGHT_M1 = 0x121
    KERNEL_STRIDE = 0x122
    PARALLEL_MODE = 0x123
    ACC_FORMAT = 0x124
    ACTIVATION = 0x125
    ACTIVATION_MIN = 0x126
    ACTIVATION_MAX = 0x127
    WEIGHT_REGION = 0x128
    SCALE_REGION = 0x129
    AB_START = 0x12D
    BLOCKDEP = 0x12F
    DMA0_SRC_REGION = 0x130
    DMA0_DST_REGION = 0x131
    IFM2_BROADCAST = 0x180
    IFM2_SCALAR = 0x181
    IFM2_PRECISION = 0x185
    IFM2_ZERO_POINT = 0x189
    IFM2_WIDTH0_M1 = 0x18A
    IFM2_HEIGHT0_M1 = 0x18B
    IFM2_HEIGHT1_M1 = 0x18C
    IFM2_IB_START = 0x18D
    IFM2_REGION = 0x18F


class Payload(IntEnum):
    """Registers of 32 or 40 bits, or of a factor and a shift."""

    IFM_BASE0 = 0x000
    IFM_BASE1 = 0x001
    IFM_BASE2 = 0x002
    IFM_BASE3 = 0x003
    IFM_STRIDE_X = 0x004
    IFM_STRIDE_Y = 0x005
    IFM_STRIDE_C = 0x006
    OFM_BASE0 = 0x010
    OFM_BASE1 = 0x011
    OFM_BASE2 = 0x012
    OFM_BASE3 = 0x013
    OFM_STRIDE_X = 0x014
    OFM_STRIDE_Y = 0x015
    OFM_STRIDE_C = 0x016
    WEIGHT_BASE = 0x020
    WEIGHT_LENGTH = 0x021
    SCALE_BASE = 0x022
    SCALE_LENGTH = 0x023
    OFM_SCALE = 0x024
    OPA_SCALE = 0x025
    OPB_SCALE = 0x026
    DMA0_SRC = 0x030
    DMA0_DST = 0x031
    DMA0_LEN = 0x032
    IFM2_BASE0 = 0x080
    IFM2_BASE1 = 0x081
    IFM2_BASE2 = 0x082
    IFM2_BASE3 = 0x083
    IFM2_STRIDE_X = 0x084
    IFM2_STRIDE_Y = 0x085
    IFM2_STRIDE_C = 0x086


_SCALES = (Payload.OFM_SCALE, Payload.OPA_SCALE, Payload.OPB_SCALE)
_WAITS = (Operation.IRQ, Operation.DMA_WAIT, Operation.KERNEL_WAIT, Operation.PMU_MASK)


def is_payload(word: int) -> bool:
    """Whether a payload follows a word."""
    return bool(word & _PAYLOAD)


def payload_of(which: Payload, high: int, low: int) -> str:
    """Return what a payload and the 16 bits before it say, as text."""
    if which in _SCALES:
        return f"{low} >> {high & 63}"
    return f"0x{low | high << 32:x}"


class Registers:
    """What the words before an operation have set."""

    def __init__(self) -> None:
        self._parameters: dict[Parameter, int] = {}
        self._payloads: dict[Payload, int] = {}
        self._shifts: dict[Payload, int] = {}

    def set_parameter(self, which: Parameter, value: int) -> None:
        """Set a register of 16 bits."""
        self._parameters[which] = value

    def set_payload(self, which: Payload, high: int, low: int) -> None:
        """Set a register of a payload and the 16 bits before it."""
        if which in _SCALES:
            self._payloads[which], self._shifts[which] = low, high & 63
        else:
            self._payloads[which] = low | high << 32

    def __getitem__(self, which: Parameter) -> int:
        return self._parameters[which]

    def signed(self, which: Parameter) -> int:
        """Return a register of 16 bits as a signed number."""
        value = self._parameters[which]
        return value - 0x10000 if value & 0x8000 else value

    def get(self, which: Parameter, default: int = 0) -> int:
        """Return a register, or what it holds after a reset."""
        return self._parameters.get(which, default)

    def address(self, which: Payload) -> int:
        """Return an address or a length in bytes."""
        return self._payloads[which]

    def scale(self, which: Payload) -> tuple[int, int]:
        """Return a factor and a shift to the right."""
        return self._payloads[which], self._shifts[which]


@dataclass(frozen=True)
class Step:
    """An operation of the stream.

    Attributes
    ----------
    operation : Operation
    parameter : int
        Of its word: the kind of a pooling or of an element-wise operation.
    offset : int
        Of its word, in bytes from the first command.
    """

    operation: Operation
    parameter: int
    offset: int


def steps(words: Sequence[int], registers: Registers) -> Iterator[Step]:
    """Set registers and yield the operations that use them, in order; those that wait alone are left out.

    Raises
    ------
    UnsupportedError
        For a word that is not known, and for a stream without an end.
    """
    at = 0
    while at < len(words):
        word, begin = int(words[at]), at
        code, parameter = word & _CODE, word >> 16
        at += 1
        try:
            if word & _PAYLOAD:
                registers.set_payload(Payload(code), parameter, int(words[at]))
                at += 1
            elif code >= min(Parameter):
                registers.set_parameter(Parameter(code), parameter)
            elif Operation(code) == Operation.STOP:
                return
            elif code not in _WAITS:
                yield Step(Operation(code), parameter, 4 * begin)
        except ValueError:
            raise UnsupportedError(f"word {begin} of the command stream, 0x{word:08x}, is not known") from None
    raise UnsupportedError("the command stream ends without a stop")


def stream_of(payload: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the commands in what the driver gets: actions, of which one holds them."""
    words = payload.view("<u4")
    if len(words) == 0 or words[0] != _MAGIC:
        raise UnsupportedError("this is no command stream of an Ethos-U: it does not begin with COP1")
    at = 1
    while at < len(words):
        action = int(words[at]) & 0xFF
        if action == _STREAM:
            count = int(words[at]) >> 16 | (int(words[at]) >> 8 & 0xFF) << 16
            return words[at + 1 : at + 1 + count]
        if action not in (_CONFIG, _NOTHING):
            raise UnsupportedError(f"driver action {action} is not known")
        at += 3 if action == _CONFIG else 1
    raise UnsupportedError("the driver's actions hold no command stream")
