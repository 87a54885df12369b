"""Cycles per instruction of each kind of kernel: what turns predicted instructions into predicted cycles."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapc.base.errors import DataError
from tapc.kernels.spec import KernelSpec

_AGAIN = "write it with: python -m tapc.tuning.rates CORE"
SINGLE = "_single"
"""Ends the kinds whose words are loaded one by one: fewer cycles per instruction."""


class Rates(BaseModel):
    """What `tapc.tuning.rates` wrote to targets/CORE/rates.toml.

    Attributes
    ----------
    core : str
    source : str
        What told the cycles.
    kernels : int
        Kernels that were estimated.
    error : float
        Mean of the kernels' relative errors, by their cycles.
    rates : dict of str to float
        Kind -> cycles per instruction.
    products : dict of str to float
        Kind -> cycles per instruction of the loops over taps, where those of the rest are others.
    other : float
        Of kinds that are not among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    core: str
    source: str
    kernels: int
    error: float
    other: float = Field(gt=0)
    rates: dict[str, float]
    products: dict[str, float] = {}

    def of(self, spec: KernelSpec, share: float) -> float:
        """Return the cycles per instruction of a kernel of which loops over taps have a share of the instructions."""
        kind = rate_kind(spec)
        rest = self.rates.get(kind, self.other)
        return rest + share * (self.products.get(kind, rest) - rest)


def rate_kind(spec: KernelSpec) -> str:
    """Return what tells a kernel's rate: what it is, and how its words are loaded."""
    kind = type(spec).__name__.removesuffix("Spec").lower()
    kind = "conv" if kind == "pooled" else kind  # most of its work
    kind = "transform" if spec.transformed else "nested" if spec.nested else kind
    if spec.nested and getattr(spec, "form").schedule.pixels == 1:  # noqa: B009 - not all kernels have one
        kind = "nested_line"
    form = getattr(spec, "form", None)
    single = form.schedule.single if spec.transformed and form is not None else getattr(form, "single", False)
    return kind + SINGLE * bool(single)


def load_rates(path: Path) -> Rates | None:
    """Read rates.toml; None where there is none.

    Raises
    ------
    DataError
        The file is not valid.
    """
    try:
        return Rates.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, item["loc"])) for item in error.errors()[:3])
        raise DataError(f"rates {path}: wrong or missing {keys}; {_AGAIN}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"rates {path}: {error}; {_AGAIN}") from error
