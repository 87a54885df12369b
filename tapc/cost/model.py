"""The cost model of a core: flash, instructions and their provenance, before anything is compiled."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tapc.base.errors import DataError
from tapc.ir.program import Step
from tapc.kernels.spec import Features, KernelSpec
from tapc.lower.place import own_bytes


class Coefficients(BaseModel):
    """Fitted numbers of a core, as `tapc.tuning.fit` writes them to targets/CORE/cost.toml.

    Attributes
    ----------
    core : str
    compiler : str
        Version of the compiler that built the fitted kernels.
    instructions : dict of str to float
        Part -> instructions per execution.
    code : dict of str to float
        Part -> bytes.
    runtime_bytes : float
        Code beside kernels and calls: start-up and C library.
    step_bytes, argument_bytes : float
        Code of a kernel's call, and of each of its arguments.
    stack_bytes, data_bytes : int
        Deepest stack of all kernels that are computed directly, and static variables beside the arena.
    transform_stack_bytes : int
        Deepest stack of convolutions by transforms.
    kernels : int
        Kernels in the fit.
    instruction_error, code_error : float
        Mean absolute relative error on kernels that were held out.
    held_out : dict of str to float
        The same of instructions, per kind of kernel and arithmetic.
    held_out_kernels : dict of str to int
        Kernels that each of these is the mean of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    core: str
    compiler: str
    instructions: dict[str, float]
    code: dict[str, float]
    runtime_bytes: float
    step_bytes: float
    argument_bytes: float
    stack_bytes: int
    data_bytes: int
    kernels: int
    instruction_error: float
    code_error: float
    held_out: dict[str, float] = {}
    transform_stack_bytes: int = 0
    held_out_kernels: dict[str, int] = {}

    @property
    def besides_arena(self) -> int:
        """Bytes of RAM that stack and static variables take."""
        return self.stack_bytes + self.data_bytes


PRODUCTS = re.compile("multiply_|quad_|products_|f[24]_step")
"""What parts of kernels are called that multiply taps."""
_REFIT = "fit it with: python -m tapc.tuning.fit CORE --board BOARD"


def load_coefficients(path: Path) -> Coefficients:
    """Read cost.toml.

    Raises
    ------
    DataError
        The file is missing or not valid.
    """
    try:
        return Coefficients.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, item["loc"])) for item in error.errors()[:3])
        raise DataError(f"cost model {path}: wrong or missing {keys}; {_REFIT}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cost model {path}: {error}; {_REFIT}") from error


def weigh(features: Features, coefficients: dict[str, float], guessed: set[str]) -> float:
    """Sum up; a part that was never fitted takes the mean of the parts of its family, and is added to `guessed`."""
    total = 0.0
    for key, count in features.items():
        if key in coefficients:
            total += count * coefficients[key]
        elif count:
            guessed.add(key)
            family = [v for k, v in coefficients.items() if k.split("_")[:2] == key.split("_")[:2]]
            family = family or [v for k, v in coefficients.items() if k.split("_")[0] == key.split("_")[0]]
            total += count * (sum(family) / len(family) if family else 0.0)
    return total


@dataclass(frozen=True)
class CostModel:
    """Predictions for one core.

    Attributes
    ----------
    coefficients : Coefficients
    guessed : set of str
        Parts that kernels had and no fit has measured; `provenance` names them.
    """

    coefficients: Coefficients
    guessed: set[str] = field(default_factory=set, compare=False)

    def instructions(self, spec: KernelSpec) -> int:
        """Predict the instructions of one call."""
        return round(weigh(spec.instruction_features(), self.coefficients.instructions, self.guessed))

    def products_share(self, spec: KernelSpec) -> float:
        """Predict which share of a kernel's instructions its loops over taps have."""
        features = spec.instruction_features()
        inner = {key: count for key, count in features.items() if PRODUCTS.match(key)}
        both = [weigh(some, self.coefficients.instructions, self.guessed) for some in (inner, features)]
        return min(1.0, max(0.0, both[0] / both[1])) if both[1] > 0 else 0.0

    def code_bytes(self, spec: KernelSpec) -> int:
        """Predict the machine code of a kernel."""
        return round(weigh(spec.code_features(), self.coefficients.code, self.guessed))

    def constant_bytes(self, step: Step) -> int:
        """Return the exact bytes of a step's constants."""
        return sum(c.bytes for c in step.constants.values())

    def call_bytes(self, steps: Sequence[Step]) -> float:
        """Predict the code that calls the kernels."""
        c = self.coefficients
        return sum(c.step_bytes + c.argument_bytes * step.arguments for step in steps)

    def flash(self, steps: Sequence[Step]) -> int:
        """Predict the flash of a whole image: constants, each distinct kernel once, calls, and the runtime."""
        kernels = {step.spec for step in steps}
        code = sum(self.code_bytes(spec) for spec in kernels)
        constants = sum(own_bytes(steps))
        return round(constants + code + self.coefficients.runtime_bytes + self.call_bytes(steps))

    def stack(self, steps: Sequence[Step]) -> int:
        """Return the deepest stack that these kernels had in the fit."""
        c, deep = self.coefficients, any(step.spec.transformed for step in steps)
        return max(c.stack_bytes, c.transform_stack_bytes) if deep else c.stack_bytes

    def total_instructions(self, steps: Sequence[Step]) -> int:
        """Predict the instructions of one inference."""
        return sum(self.instructions(step.spec) for step in steps)

    @property
    def provenance(self) -> str:
        """How the numbers came about."""
        c = self.coefficients
        guessed = f"; guessed, never measured: {', '.join(sorted(self.guessed))}" if self.guessed else ""
        return (
            f"model: fitted on {c.kernels} kernels in QEMU for {c.core}, {c.compiler}; held-out error "
            f"{c.instruction_error:.1%} of instructions, {c.code_error:.1%} of code bytes{guessed}"
        )
