"""An Ethos-U55 in numpy: what its operations compute, bit for bit, for many samples at once.

It tells nothing of time. What it knows is our reading of the commands, held against TFLite-Micro; neither silicon nor
Arm's models stand behind it. Whatever it does not know is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.npu.commands import Operation, Parameter, Payload, Registers, Step, steps
from tapc.npu.weights import Order, decoded

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Map = Literal["IFM", "IFM2", "OFM"]
_INT32 = 1 << 31
_LUT = 2048  # bytes of tables
_RECORD = 10  # bytes of a channel's bias, factor and shift
_MUL, _ADD, _SUB, _MIN, _MAX, _LRELU, _ABS, _CLZ, _SHR, _SHL = range(10)
_MAXIMUM, _AVERAGE, _SUM = range(3)
_TFL, _TRUNCATE, _NATURAL = range(3)
_NEAREST, _TRANSPOSE = 1, 2


def scaled(acc: Ints, factor: Ints | int, shift: Ints | int, rounding: int) -> Ints:
    """Multiply and shift to the right: twice rounded as TFLite, towards zero below, or half up."""
    product: Ints = acc * factor
    shift = np.asarray(shift, np.int64)
    if rounding == _TRUNCATE:
        return product >> shift
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    if rounding == _TFL:
        half = half + np.where(shift > 31, np.where(acc >= 0, 1 << 30, -(1 << 30)), 0)
    return (product + half) >> shift


@dataclass(frozen=True)
class Window:
    """Where the windows of an operation lie on its input."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    output: tuple[int, int, int]

    @property
    def input(self) -> tuple[int, int]:
        """Rows and columns that the windows read, without padding."""
        top, left, bottom, right = self.pads
        height, width = (
            (count - 1) * step + (size - 1) * distance + 1
            for count, step, size, distance in zip(
                self.output[:2], self.stride, self.kernel, self.dilation, strict=True
            )
        )
        return height - top - bottom, width - left - right

    def of(self, x: Ints, fill: int) -> Ints:
        """Return the windows (N, OH, OW, C, KH, KW) of a map."""
        top, left, bottom, right = self.pads
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        seen = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
        (sy, sx), (dy, dx) = self.stride, self.dilation
        found: Ints = seen[:, ::sy, ::sx, :, ::dy, ::dx]
        return found[:, : self.output[0], : self.output[1]]


@dataclass(eq=False)
class Executor:
    """Runs command streams.

    Attributes
    ----------
    outputs_at_once : int
        Output channels of the coder's small block: 4 on a U55-32, else 8.
    observe : callable, optional
        Called behind each operation with its step and its output (N, H, W, C).
    """

    outputs_at_once: int = 8
    observe: Callable[[Step, Ints], None] | None = None
    _registers: Registers = field(default_factory=Registers, init=False)
    _memory: Mapping[int, Bytes] = field(default_factory=dict, init=False)
    _tables: Bytes = field(default_factory=lambda: np.zeros(0, np.uint8), init=False)
    _weights: dict[tuple[bytes, Order], Ints] = field(default_factory=dict, init=False)

    def run(self, words: Sequence[int], memory: Mapping[int, Bytes]) -> None:
        """Run a stream.

        Parameters
        ----------
        words : sequence of int
            Up to its stop.
        memory : mapping of int to ndarray of uint8, shape (N, bytes)
            Region -> its bytes for each sample, or for all of them (1, bytes); outputs are written there.

        Raises
        ------
        UnsupportedError
            For what the executor does not know.
        """
        self._memory, self._registers = memory, Registers()
        self._tables = np.zeros((max(len(own) for own in memory.values()), _LUT), np.uint8)
        run = {
            Operation.CONV: self._convolution, Operation.DEPTHWISE: self._convolution, Operation.POOL: self._pool,
            Operation.ELEMENTWISE: self._elementwise,
        }  # fmt: skip
        for step in steps(words, self._registers):
            if step.operation == Operation.DMA_START:
                self._copy(step)
                continue
            if self._registers.get(Parameter.PARALLEL_MODE):
                raise UnsupportedError("commands for several cores are not known")
            found = run[step.operation](step)
            if self.observe is not None:
                self.observe(step, found)

    # Feature maps

    def _addresses(self, which: Map, shape: tuple[int, int, int]) -> tuple[Bytes, Ints, int, bool]:
        """Return a map's region, the first byte of each element, the bytes of one, and whether it is signed."""
        r = self._registers
        first, height, width, precision, region, stride = _MAPS[which]
        own, place = r[precision], 1 if which == "OFM" else 2
        size, signed, bricks = 1 << (own >> place & 3), bool(own & 1), bool(own >> 6 & 1)
        y, x, c = np.meshgrid(*(np.arange(extent) for extent in shape), indexing="ij")
        right = x > r[width]
        below = y > np.where(right, r[Parameter(height + 1)], r[height])
        base = np.array([r.address(Payload(first + i)) for i in range(4)])[right * 1 + below * 2]
        y = np.where(below, y - np.where(right, r[Parameter(height + 1)], r[height]) - 1, y)
        x = np.where(right, x - r[width] - 1, x)
        along_x, along_y, along_c = (r.address(Payload(stride + i)) for i in range(3))
        if bricks:
            found = base + y * along_y + c // 16 * along_c + x * 16 * size + c % 16 * size
        else:
            found = base + y * along_y + x * along_x + c * size
        return self._memory[r[region] & 7], found, size, signed

    def _zero(self, which: Map) -> int:
        r, (_, _, _, precision, _, _) = self._registers, _MAPS[which]
        zero = _ZEROS[which]
        return r.signed(zero) if r[precision] & 1 else r[zero]

    def _read(self, which: Map, shape: tuple[int, int, int]) -> Ints:
        region, at, size, signed = self._addresses(which, shape)
        found = np.zeros((len(region), *shape), np.int64)
        for i in range(size):
            found |= region[:, at + i].astype(np.int64) << 8 * i
        top = 1 << 8 * size - 1
        return np.where(found & top, found - 2 * top, found) if signed else found

    def _write(self, values: Ints) -> None:
        region, at, size, _ = self._addresses("OFM", (values.shape[1], values.shape[2], values.shape[3]))
        for i in range(size):
            region[:, at + i] = values >> 8 * i & 255

    def _input(self, window: Window) -> Ints:
        """Read what the windows see of the input, with more rows and columns between its own where it is upscaled."""
        mode = self._registers.get(Parameter.IFM_UPSCALE)
        rows, columns = window.input
        depth = self._registers[Parameter.IFM_DEPTH_M1] + 1
        if not mode:
            return self._read("IFM", (rows, columns, depth))
        small = self._read("IFM", (-(-rows // 2), -(-columns // 2), depth))
        if mode == _NEAREST:
            wide = small.repeat(2, axis=1).repeat(2, axis=2)
        elif mode == _TRANSPOSE:
            wide = np.full((len(small), 2 * small.shape[1], 2 * small.shape[2], depth), self._zero("IFM"), np.int64)
            wide[:, ::2, ::2] = small
        else:
            raise UnsupportedError(f"upscaling {mode} is not known")
        return wide[:, :rows, :columns]

    def _window(self) -> Window:
        r = self._registers
        stride = r[Parameter.KERNEL_STRIDE]
        dilation = 1 + (stride >> 4 & 1), 1 + (stride >> 3 & 1)
        extents = r[Parameter.KERNEL_HEIGHT_M1], r[Parameter.KERNEL_WIDTH_M1]
        rows, columns = (extent // distance + 1 for extent, distance in zip(extents, dilation, strict=True))
        steps_y, steps_x = 1 + (stride >> 1 & 1 | (stride >> 9 & 1) << 1), 1 + (stride & 1 | (stride >> 6 & 1) << 1)
        sides = (Parameter.IFM_PAD_TOP, Parameter.IFM_PAD_LEFT, Parameter.IFM_PAD_BOTTOM, Parameter.IFM_PAD_RIGHT)
        top, left, bottom, right = (r[side] for side in sides)
        return Window((rows, columns), (steps_y, steps_x), dilation, (top, left, bottom, right), self._output_shape())

    def _output_shape(self) -> tuple[int, int, int]:
        r = self._registers
        height, width, depth = (
            r[p] + 1 for p in (Parameter.OFM_HEIGHT_M1, Parameter.OFM_WIDTH_M1, Parameter.OFM_DEPTH_M1)
        )
        return height, width, depth

    # Operations

    def _finish(self, values: Ints) -> Ints:
        """Add the zero point, clamp, look up and write."""
        r = self._registers
        precision, activation = r[Parameter.OFM_PRECISION], r[Parameter.ACTIVATION]
        signed, bits = precision & 1, 8 << (precision >> 1 & 3)
        values = values + self._zero("OFM")
        if bits < 32:
            ends = [r.signed(p) if signed else r[p] for p in (Parameter.ACTIVATION_MIN, Parameter.ACTIVATION_MAX)]
            values = np.clip(values, ends[0], ends[1])
        else:
            values = np.clip(values, -_INT32, _INT32 - 1)
        function = activation & 31
        if function >= 16:
            values = self._looked_up(np.clip(values, -128, 127) + 128, function - 16, bits)
        elif function:
            raise UnsupportedError(f"activation {function} of 16-bit values is not known")
        self._write(values)
        return values

    def _looked_up(self, index: Ints, table: int, bits: int) -> Ints:
        samples = np.arange(len(self._tables)).reshape(-1, 1, 1, 1)
        samples = samples if len(index) > 1 else samples[:1]
        if bits == 8:
            return self._tables[:, 256 * table : 256 * table + 256].view(np.int8)[samples, index].astype(np.int64)
        if bits == 32:
            first = 256 * table
            whole = np.ascontiguousarray(self._tables[:, first : first + 1024]).view("<i4")
            return whole[samples, index].astype(np.int64)
        raise UnsupportedError(f"tables of {bits} bits are not known")

    def _rounding(self) -> int:
        return self._registers[Parameter.OFM_PRECISION] >> 14 & 3

    def _is_scaled(self) -> bool:
        """Whether the output has one factor."""
        return bool(self._registers[Parameter.OFM_PRECISION] >> 8 & 1)

    def _convolution(self, step: Step) -> Ints:
        window, depthwise = self._window(), step.operation == Operation.DEPTHWISE
        if self._registers[Parameter.IFM_PRECISION] >> 2 & 3:
            raise UnsupportedError("convolutions of 16-bit activations are not known")
        x = self._input(window) - self._zero("IFM")
        seen, weights = window.of(x, 0), self._coded_weights(window, x.shape[3], depthwise=depthwise)
        outputs = window.output[2]
        if depthwise:
            acc = np.einsum("nhwcij,cij->nhwc", seen.astype(np.float64), weights[..., 0].astype(np.float64))
        else:
            n, height, width = seen.shape[:3]
            columns = seen.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, -1).astype(np.float64)
            acc = (columns @ weights.reshape(outputs, -1).T.astype(np.float64)).reshape(n, height, width, outputs)
        bias, factor, shift = self._records(outputs)
        total = np.rint(acc).astype(np.int64) + bias
        if np.abs(total).max(initial=0) >= _INT32:
            raise UnsupportedError("a sum leaves 32 bits")
        return self._finish(scaled(total, factor, shift, self._rounding()))

    def _bytes(self, region: Parameter, base: Payload, length: int) -> bytes:
        own, first = self._memory[self._registers[region] & 7], self._registers.address(base)
        found = own[:, first : first + length]
        if len(found) > 1 and np.any(found != found[0]):
            raise UnsupportedError("weights differ between samples")
        whole: bytes = found[0].tobytes()
        return whole

    def _coded_weights(self, window: Window, inputs: int, *, depthwise: bool) -> Ints:
        r = self._registers
        stream = self._bytes(Parameter.WEIGHT_REGION, Payload.WEIGHT_BASE, r.address(Payload.WEIGHT_LENGTH))
        order = Order(
            window.kernel, 1 if depthwise else inputs, window.output[2], depthwise,
            bool(r[Parameter.KERNEL_STRIDE] >> 2 & 1), r[Parameter.OFM_BLK_DEPTH_M1] + 1, self.outputs_at_once,
            window.dilation,
        )  # fmt: skip
        if (stream, order) not in self._weights:
            self._weights[stream, order] = decoded(stream, order)
        return self._weights[stream, order]

    def _records(self, channels: int) -> tuple[Ints, Ints, Ints]:
        """Return biases of 40 bits, factors and shifts."""
        whole = self._bytes(Parameter.SCALE_REGION, Payload.SCALE_BASE, _RECORD * channels)
        table = np.frombuffer(whole, np.uint8).reshape(channels, _RECORD).astype(np.int64)
        bias = (table[:, :5] << 8 * np.arange(5)).sum(axis=1)
        bias = np.where(bias >> 39, bias - (1 << 40), bias)
        return bias, (table[:, 5:9] << 8 * np.arange(4)).sum(axis=1), table[:, 9] & 63

    def _pool(self, step: Step) -> Ints:
        window, kind = self._window(), step.parameter
        x = self._input(window)
        if kind == _MAXIMUM:
            return self._finish(window.of(x, -_INT32).max(axis=(-2, -1)) - self._zero("IFM"))
        total = window.of(x - self._zero("IFM"), 0).sum(axis=(-2, -1))
        if kind == _SUM:
            total = total.sum(axis=-1, keepdims=True)
        elif kind != _AVERAGE:
            raise UnsupportedError(f"pooling {kind} is not known")
        if self._is_scaled():
            factor, shift = self._registers.scale(Payload.OFM_SCALE)
            return self._finish(scaled(total, factor, shift, self._rounding()))
        count = window.of(np.ones_like(x[:1]), 0).sum(axis=(-2, -1))
        away = np.sign(total) * ((np.abs(total) + count // 2) // count)
        return self._finish(away)

    def _elementwise(self, step: Step) -> Ints:
        r, kind = self._registers, step.parameter
        shape, precision = self._output_shape(), r[Parameter.IFM_PRECISION]
        size = 1 << (precision >> 2 & 3)
        a = self._read("IFM", shape) - self._zero("IFM")
        output = r.scale(Payload.OFM_SCALE) if self._is_scaled() else (1, 0)
        if kind in (_LRELU, _ABS, _CLZ):
            return self._unary(kind, a, output)
        b = self._second(shape)
        if r[Parameter.IFM2_BROADCAST] & 0x40:
            a, b = b, a
        if kind in (_ADD, _SUB):
            a, b = self._operands(a, b, precision >> 8 & 3, size)
            found = a + b if kind == _ADD else a - b
        elif kind == _MUL:
            found = a * b
        elif kind in (_MIN, _MAX):
            found = np.minimum(a, b) if kind == _MIN else np.maximum(a, b)
        elif kind == _SHR:
            found = self._shifted(a, np.broadcast_to(b, a.shape))
        elif kind == _SHL:
            found = ((a << b) + _INT32 & 0xFFFFFFFF) - _INT32
        else:
            raise UnsupportedError(f"element-wise operation {kind} is not known")
        factor = 1 if size == 4 else output[0]
        return self._finish(scaled(found, factor, output[1], self._rounding()))

    def _unary(self, kind: int, a: Ints, output: tuple[int, int]) -> Ints:
        if kind == _CLZ:
            whole = a & 0xFFFFFFFF
            return self._finish(32 - np.frexp(whole.astype(np.float64))[1].astype(np.int64))
        positive = np.abs(a) if kind == _ABS else a
        found = scaled(positive, *output, self._rounding())
        return self._finish(np.where(a >= 0, a, found) if kind == _LRELU else found)

    def _second(self, shape: tuple[int, int, int]) -> Ints:
        r = self._registers
        repeated, signed = r[Parameter.IFM2_BROADCAST], r[Parameter.IFM2_PRECISION] & 1
        if repeated & 0x80:
            value = r.signed(Parameter.IFM2_SCALAR) if signed else r[Parameter.IFM2_SCALAR]
            b = np.full((1, 1, 1, 1), value, np.int64)
        else:
            height, width, depth = (1 if repeated >> bit & 1 else extent for bit, extent in enumerate(shape))
            b = self._read("IFM2", (height, width, depth))
        return b - self._zero("IFM2")

    def _operands(self, a: Ints, b: Ints, mode: int, size: int) -> tuple[Ints, Ints]:
        """Scale the operands of a sum: both by 16 bits, or one by 32 and the other by a shift."""
        r, left = self._registers, 19 if size == 1 else 14
        if mode == 0:
            if size == 4:
                return a, b
            return a * r.scale(Payload.OPA_SCALE)[0], b * r.scale(Payload.OPB_SCALE)[0]
        factor, shift = r.scale(Payload.OPA_SCALE)
        if mode == 1:
            return scaled(a, factor, shift, _TFL), b << left
        return a << left, scaled(b, factor, shift, _TFL)

    def _shifted(self, a: Ints, right: Ints) -> Ints:
        rounding = self._rounding()
        half = np.where((right > 0) & (rounding != _TRUNCATE), np.int64(1) << np.maximum(right - 1, 0), 0)
        return (a + half) >> right

    def _copy(self, step: Step) -> None:
        r = self._registers
        source, target = r[Parameter.DMA0_SRC_REGION], r[Parameter.DMA0_DST_REGION]
        first, to, length = (r.address(p) for p in (Payload.DMA0_SRC, Payload.DMA0_DST, Payload.DMA0_LEN))
        if source >> 8 or target >> 9:
            raise UnsupportedError("copies in two dimensions are not known")
        data = self._memory[source & 7][:, first : first + length]
        if target >> 8 & 1:
            to %= _LUT
            self._tables[:, to : to + length] = data
        else:
            self._memory[target & 7][:, to : to + length] = data


_P, _A = Parameter, Payload
_MAPS = {
    "IFM": (_A.IFM_BASE0, _P.IFM_HEIGHT0_M1, _P.IFM_WIDTH0_M1, _P.IFM_PRECISION, _P.IFM_REGION, _A.IFM_STRIDE_X),
    "IFM2": (_A.IFM2_BASE0, _P.IFM2_HEIGHT0_M1, _P.IFM2_WIDTH0_M1, _P.IFM2_PRECISION, _P.IFM2_REGION, _A.IFM2_STRIDE_X),
    "OFM": (_A.OFM_BASE0, _P.OFM_HEIGHT0_M1, _P.OFM_WIDTH0_M1, _P.OFM_PRECISION, _P.OFM_REGION, _A.OFM_STRIDE_X),
}
_ZEROS = {"IFM": _P.IFM_ZERO_POINT, "IFM2": _P.IFM2_ZERO_POINT, "OFM": _P.OFM_ZERO_POINT}
