"""The networks that tapc knows: what they are, the weights that it carries, and where official ones are."""

import functools
import hashlib
import importlib
import pickle
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from tapc.base.errors import DataError, UsageError
from tapc.zoo.storage import unpack

if TYPE_CHECKING:
    from torch import Tensor, nn

_HERE = Path(__file__).parent
_NAMED = 4


class Variant(BaseModel):
    """A network with one set of weights.

    Attributes
    ----------
    arguments : dict
        Keyword arguments of the builder.
    input_shape : tuple of int
        NCHW or (1, features).
    classes : int
        Number of outputs.
    pixel_scale : float
        Factor from raw data values to input units.
    mean, std : tuple of float
        Input units are then (value - mean) / std, per channel.
    labels : tuple of str
        Class names in output order; may be empty.
    weights : str
        File in the zoo's `weights` folder, or the name of the official file.
    sha256 : str
        Digest of that file, hexadecimal; of official files at least the first eight digits.
    url : str
        Where official weights are; empty for those that tapc carries.
    training : str
        Command that trains them; empty for official ones.
    data : str
        What they were trained on.
    dataset : str
        Name under which `tapc.data.find_data` looks for samples; may be empty.
    metric : {"top1", "map", "miou"}
        What `accuracy` is; of "map" at an overlap of 0.5.
    accuracy : float
        In percent, by whoever trained them.
    parameters : int
        Number of trained parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arguments: dict[str, int | float | bool] = {}
    input_shape: tuple[PositiveInt, ...]
    classes: PositiveInt
    pixel_scale: PositiveFloat
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)
    labels: tuple[str, ...] = ()
    weights: str
    sha256: str = Field(pattern=r"^([0-9a-f]{8,64})?$")
    url: str = ""
    training: str = ""
    data: str
    dataset: str = ""
    metric: Literal["top1", "map", "miou"] = "top1"
    accuracy: float
    parameters: PositiveInt

    @property
    def weights_path(self) -> Path:
        """Where the weights that tapc carries lie in this installation."""
        return _HERE / "weights" / self.weights


class ZooEntry(BaseModel):
    """One network of the zoo.

    Attributes
    ----------
    name : str
        What the user types.
    description : str
        One line.
    builder : str
        `module:callable` that returns the untrained `nn.Module`.
    bundled : Variant or None
        With weights that tapc carries.
    official : Variant or None
        With weights that its authors publish.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    builder: str
    bundled: Variant | None = None
    official: Variant | None = None

    @model_validator(mode="after")
    def _some_weights(self) -> "ZooEntry":
        if self.bundled is None and self.official is None:
            raise ValueError(f"{self.name}: give bundled or official weights")
        return self

    @property
    def default(self) -> Variant:
        """The variant that a plain name means: the bundled one where there is one."""
        variant = self.bundled or self.official
        assert variant is not None
        return variant

    def variants(self) -> tuple[Variant, ...]:
        """Return all variants, the default first."""
        return tuple(variant for variant in (self.bundled, self.official) if variant is not None)

    def build(self, variant: Variant | None = None) -> "nn.Module":
        """Return the network with random weights, of the default variant where none is given."""
        module, _, name = self.builder.partition(":")
        arguments = (variant or self.default).arguments
        network: nn.Module = getattr(importlib.import_module(module), name)(**arguments)
        return network

    def module(self) -> "nn.Module":
        """Return the network with the weights that tapc carries, in inference mode.

        Raises
        ------
        DataError
            The weights are missing or their sha256 is not the registered one.
        UsageError
            tapc carries none.
        """
        variant = self.bundled
        if variant is None:
            raise UsageError(f"tapc carries no weights of {self.name}; give --weights imagenet, or a file")
        path = variant.weights_path
        if not path.is_file():
            raise DataError(
                f"{path}: the weights of {self.name} are missing; reinstall tapc, or run: {variant.training}"
            )
        check_digest(path, variant)
        network = self.build(variant)
        load_weights(network, path)
        return network.eval()

    def fitting(self, path: Path) -> "tuple[Variant, nn.Module]":
        """Return the variant whose names and shapes a weights file has, and the network with those weights.

        Raises
        ------
        DataError
            Missing or corrupt file, or one that fits no variant: tells the first differences to each.
        """
        state = read_weights(path)
        problems = []
        for variant in self.variants():
            network = self.build(variant)
            wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if _counts(name)}
            given = {name: tuple(tensor.shape) for name, tensor in state.items() if _counts(name)}
            if wanted == given:
                network.load_state_dict(state, strict=False)
                return variant, network.eval()
            shape = "x".join(map(str, variant.input_shape))
            problems.append(f"  {variant.classes} classes, {shape} ({variant.data}): {_difference(wanted, given)}")
        raise DataError("\n".join([f"{path}: not weights of {self.name}:", *problems]))


def check_digest(path: Path, variant: Variant) -> None:
    """Raise DataError where a file's sha256 does not begin with the registered one."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not variant.sha256 or not digest.startswith(variant.sha256):
        raise DataError(
            f"{path}: sha256 {digest} is not the registered {variant.sha256 or '(none)'}; "
            "reinstall tapc or fetch the file again, or pass it as --weights FILE to use it anyway"
        )


def _counts(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


def _difference(wanted: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]]) -> str:
    found = [f"{name} is missing" for name in wanted if name not in given]
    found += [
        f"{name} is {'x'.join(map(str, given[name]))}, not {'x'.join(map(str, shape))}"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    found += [f"{name} is unknown" for name in given if name not in wanted]
    rest = len(found) - _NAMED
    return "; ".join(found[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Return the state dict in a safetensors file or a torch file; 8-bit codes become floats.

    Raises
    ------
    DataError
        Missing or corrupt file, or one that holds no state dict.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataError(f"{path}: no such weights file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: the weights cannot be read: the file is damaged, or holds more than tensors, which could run "
            "code; save module.state_dict(), or safetensors"
        ) from error
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{path}: the weights cannot be read: {lines[0][:300]}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise DataError(f"{path}: holds no state dict; save module.state_dict()")
    return unpack(state)


def load_weights(module: "nn.Module", path: Path) -> None:
    """Load a safetensors file or a torch state dict into a module, in place.

    Batch counters (`num_batches_tracked`), which inference does not use, may be missing.

    Raises
    ------
    DataError
        Missing or corrupt file, or names or shapes that differ from the module's.
    """
    state = read_weights(path)
    try:
        result = module.load_state_dict(state, strict=False)
    except Exception as error:
        raise DataError(
            f"{path}: the weights do not load into {type(module).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    missing = [key for key in result.missing_keys if _counts(key)]
    if missing or result.unexpected_keys:
        raise DataError(f"{path}: missing weights {missing}, unexpected weights {result.unexpected_keys}")


@functools.cache
def models() -> tuple[ZooEntry, ...]:
    """Return the zoo's networks in the order of models.toml."""
    table = tomllib.loads((_HERE / "models.toml").read_text(encoding="utf-8"))
    return tuple(ZooEntry(name=name, **fields) for name, fields in table.items())


def names() -> tuple[str, ...]:
    """Return the names of the zoo's networks."""
    return tuple(entry.name for entry in models())


def get(name: str) -> ZooEntry:
    """Return a network by name; UsageError with the known names where there is none."""
    for entry in models():
        if entry.name == name:
            return entry
    raise UsageError(f"no zoo model {name!r}; there is: {', '.join(names())}")
