"""Max and average pooling."""

from dataclasses import dataclass
from typing import Any, Literal

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantize, requantized
from tapc.kernels.spec import Features, KernelSpec
from tapc.kernels.window import Window, clip_window, dilated, inside_taps

SPELLED = 9  # taps at most


@dataclass(frozen=True)
class PoolSpec(KernelSpec):
    """A pooling kernel instance.

    Attributes
    ----------
    x, y : Plane
    window : Window
    op : {"max", "average"}
        Averages divide by the taps inside the image, or by all taps when `include_pad`.
    include_pad : bool
    mode : Mode
    divided : bool
        Averages are those of the codes as they are; see `Arithmetic.averages`.
    quick : Quick
        How sums are requantized; see `Arithmetic.quick`.
    """

    x: Plane
    y: Plane
    window: Window
    op: Literal["max", "average"]
    include_pad: bool
    mode: Mode
    divided: bool = False
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"{self.op}pool_a{self.x.bits}o{self.y.bits}"

    @property
    def inside(self) -> bool:
        """Whether no window reaches over the border."""
        return self.window.inside(self.x, self.y)

    @property
    def spelled(self) -> bool:
        """Whether the taps of a window are spelled out."""
        return self.inside and self.window.taps <= SPELLED

    @property
    def counts(self) -> int:
        """Number of factors: one per possible tap count."""
        return 1 if self.include_pad or self.inside else self.window.taps

    def instruction_features(self) -> Features:
        """Count rows, taps and results of all windows, each visited once per channel."""
        x, y = self.x, self.y
        rows, taps = inside_taps(x, y, self.window)
        op, channels = f"pool_{self.op}", self.y.channels
        part = "spelled" if self.spelled else "inside" if self.inside else "border"
        count = self.y.pixels * channels
        result: Features = {}
        if self.divided:
            # By a number that is known, of which a power of two is a shift, or by how many taps are inside.
            number = self.window.taps
            by = "border" if not self.inside else "" if number & (number - 1) else "shift"
            result = {f"mean_{self.mode}_divided{by}": count}
        elif self.op == "average":
            result = requantized(self.mode, self.quick, clamped=True, count=count, part="mean")
        return {
            f"{op}_tap_{part}": taps * channels,
            f"pool_narrow_{part}": taps * channels if x.bits == 4 else 0,
            f"{op}_row_{part}": 0 if self.spelled else rows * channels,
            f"{op}_code_o{min(self.y.bits, 8)}": count,
            f"{op}_code_{part}": count,
            # Of a lone channel it is known which half of a byte it is.
            f"pool_half_{part}": taps * channels if x.bits == 4 and channels > 1 else 0,
            "pool_half_code": count if y.bits == 4 and channels > 1 else 0,
            "pool_channel": count if channels > 1 else 0,
            **result,
            f"window_{part}": self.y.pixels,
            f"{op}_call": 1,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {
            f"code_{self.op}pool": 1,
            f"code_pool_a{min(self.x.bits, 8)}": 1,
            "code_pool_channel": self.y.channels > 1,
            "code_pool_half": self.x.bits == 4 and self.y.channels > 1,
            f"code_pool_o{min(self.y.bits, 8)}": 1,
            "code_clip": 0 if self.inside else 1,
            f"code_{self.op}pool_tap_a{min(self.x.bits, 8)}": self.window.taps if self.spelled else 0,
        }

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters: tuple[Parameter, ...] = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        if self.op == "average":
            scalars = (Parameter("pad", "int32"), *SCALAR_RANGE)
            parameters += (multiplier_parameter(self.mode, self.counts), *scalars)
        else:
            parameters += SCALAR_RANGE[1:]
        return build(name, parameters, lambda b: _emit(self, b))


def _emit(spec: PoolSpec, b: Body) -> None:
    window, x, y, T = spec.window, spec.x, spec.y, b.T
    acc = b.array("acc", 1)
    average = spec.op == "average"
    with b.loop(y.height) as oy, b.loop(y.width) as ox:
        top, left = oy * window.stride_y - window.top, ox * window.stride_x - window.left
        extents: tuple[Any, Any] = (window.height, window.width)
        if not spec.inside:
            bounds = b.array("bounds", 4)
            clip_window(b, top, window.height, x.height, bounds, 0, window.dilation_y)
            clip_window(b, left, window.width, x.width, bounds, 2, window.dilation_x)
            top, left = top + dilated(bounds[0], window.dilation_y), left + dilated(bounds[2], window.dilation_x)
            extents = (bounds[1] - bounds[0], bounds[3] - bounds[2])
        with b.loop(y.channels) as c:
            b.store(acc, 0, 0 if average else -(1 << (max(x.bits, 8) - 1)))

            def tap(dy: Any, dx: Any, top: Any = top, left: Any = left, c: Any = c) -> None:
                row, column = top + dilated(dy, window.dilation_y), left + dilated(dx, window.dilation_x)
                code = x.load(b, b["x"], row * x.width + column, c)
                # Bound: TVM would print the operand of a later maximum from its cache, although it has changed.
                b.store(acc, 0, acc[0] + code - b["pad"] if average else T.max(b.bind(acc[0]), code))

            if spec.spelled:
                for place in range(window.taps):
                    tap(*divmod(place, window.width))
            else:
                with b.loop(extents[0]) as dy, b.loop(extents[1]) as dx:
                    tap(dy, dx)
            if average and spec.divided:
                mean = b.call(f"t_average_{spec.mode}", acc[0], extents[0] * extents[1])
                value = T.min(T.max(b.bind(mean), b["low"]), b["high"])
            elif average:
                index = extents[0] * extents[1] - 1 if spec.counts > 1 else 0
                value = requantize(b, spec.mode, acc[0], index, 0, spec.quick)
            else:
                value = T.min(T.max(b.bind(acc[0]), b["low"]), b["high"])
            y.store(b, b["y"], oy * y.width + ox, c, value)
