"""Logarithms of a softmax over the channels of each pixel."""

from dataclasses import dataclass

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.logarithm import SEGMENTS
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantize
from tapc.kernels.spec import Features, KernelSpec

SHORT = 2  # turns of a loop that is spelled out


@dataclass(frozen=True)
class LogSoftmaxSpec(KernelSpec):
    """Difference to the largest code, less the logarithm of the sum of exponentials.

    Attributes
    ----------
    x, y : Plane
    mode : Mode
    own : bool
        In integers of the arithmetic's own, see `Arithmetic.log_softmax_levels`.
    """

    x: Plane
    y: Plane
    mode: Mode
    own: bool = False

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "logsoftmax"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        count = self.x.pixels * self.x.channels
        few = f"c{self.x.channels}" if self.x.channels <= SHORT else ""
        parts: Features = {f"logsoftmax_code{few}": count, "logsoftmax_pixel": 0 if few else self.x.pixels, "call": 1}
        # The core's own arithmetic costs nothing beside them.
        form = f"log_{self.mode}{'_own' if self.own else ''}"
        return {**parts, f"{form}_code": count, f"{form}_pixel": self.x.pixels}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        few = f"c{self.x.channels}" if self.x.channels <= SHORT else ""
        return {f"code_logsoftmax{few}": 1, f"log_{self.mode}{'_own' if self.own else ''}_code_once": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        if self.own:
            pair = (Parameter("table", "int32", 256), Parameter("logs", "int32", 256))
            return build(name, (*planes, *pair, *SCALAR_RANGE), lambda b: _emit(self, b))
        tables = (Parameter("table", "int32", 256), Parameter("logs", "int32", SEGMENTS + 1))
        scalars = tuple(Parameter(part, "int32") for part in ("step", "one", "octave"))
        parameters = (*planes, *tables, multiplier_parameter(self.mode, 1), *scalars, *SCALAR_RANGE)
        return build(name, parameters, lambda b: _emit(self, b))


def _emit(spec: LogSoftmaxSpec, b: Body) -> None:
    x, T = spec.x, b.T
    top, total = b.array("top", 1), b.array("total", 1)
    with b.loop(x.pixels) as p:
        b.store(top, 0, -128)
        b.store(total, 0, 0)
        with b.loop(x.channels) as c:
            b.store(top, 0, T.max(b.bind(top[0]), x.load(b, b["x"], p, c)))
        with b.loop(x.channels) as c:
            entry = b["table"][top[0] - x.load(b, b["x"], p, c)]
            b.store(total, 0, total[0] + (b.call(f"t_softmax_term_{spec.mode}", entry) if spec.own else entry))
        if spec.own:
            log = b.bind(b.call(f"t_log_sum_{spec.mode}", total[0]))
            with b.loop(x.channels) as c:
                step = b["logs"][top[0] - x.load(b, b["x"], p, c)]
                code = b.bind(b.call(f"t_log_code_{spec.mode}", step - log) + b["zero"])
                spec.y.store(b, b["y"], p, c, T.max(T.min(code, b["high"]), b["low"]))
            return
        rest = b.bind(b.call("t_logarithm", total[0], b.address(b["logs"], 0), b["octave"]) - b["one"])
        with b.loop(x.channels) as c:
            acc = b.bind((x.load(b, b["x"], p, c) - top[0]) * b["step"] - rest)
            spec.y.store(b, b["y"], p, c, requantize(b, spec.mode, acc, 0, 8))
