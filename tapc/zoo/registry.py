"""The networks that tapc carries: a table of what they are and trained weights that are checked when loaded."""

import functools
import hashlib
import importlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from tapc.errors import DataError, UsageError
from tapc.zoo.storage import unpack

if TYPE_CHECKING:
    from torch import nn

_HERE = Path(__file__).parent


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
    arguments : dict
        Keyword arguments of the builder.
    input_shape : tuple of int
        NCHW or (1, features).
    classes : int
        Number of outputs.
    pixel_scale : float
        Factor from raw data values to input units.
    labels : tuple of str
        Class names in output order.
    weights : str
        Safetensors file in the zoo's `weights` folder.
    sha256 : str
        Digest of that file, hexadecimal.
    training : str
        Command that trains it.
    data : str
        What it was trained on.
    dataset : str
        Name under which `tapc.data.find_data` looks for samples.
    accuracy : float
        Top-1 in percent.
    parameters : int
        Number of trained parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    builder: str
    arguments: dict[str, int | float | bool] = {}
    input_shape: tuple[PositiveInt, ...]
    classes: PositiveInt
    pixel_scale: PositiveFloat
    labels: tuple[str, ...]
    weights: str
    sha256: str
    training: str
    data: str
    dataset: str
    accuracy: float
    parameters: int

    @property
    def weights_path(self) -> Path:
        """Where the weights lie in this installation."""
        return _HERE / "weights" / self.weights

    def build(self) -> "nn.Module":
        """Return the network with random weights."""
        module, _, name = self.builder.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), name)(**self.arguments)
        return network

    def module(self) -> "nn.Module":
        """Return the trained network in inference mode.

        Raises
        ------
        DataError
            The weights are missing or their sha256 is not the registered one.
        """
        path = self.weights_path
        if not path.is_file():
            raise DataError(f"{path}: the weights of {self.name} are missing; reinstall tapc, or run: {self.training}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != self.sha256:
            raise DataError(
                f"{path}: sha256 {digest} is not the registered {self.sha256 or '(none)'}; "
                "reinstall tapc, or pass the file as --weights to use it anyway"
            )
        network = self.build()
        load_weights(network, path)
        return network.eval()


def load_weights(module: "nn.Module", path: Path) -> None:
    """Load a safetensors file or a torch state dict into a module, in place.

    Batch counters (`num_batches_tracked`), which inference does not use, may be missing.

    Raises
    ------
    DataError
        Missing or corrupt file, or names or shapes that differ from the module's.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataError(f"{path}: no such weights file")
    try:
        state = unpack(load_file(path)) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        result = module.load_state_dict(state, strict=False)
    except Exception as error:
        raise DataError(f"{path}: the weights do not load into {type(module).__name__}: {error}") from error
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise DataError(f"{path}: missing weights {missing}, unexpected weights {result.unexpected_keys}")


@functools.cache
def models() -> tuple[ZooEntry, ...]:
    """Return the zoo's networks in the order of models.toml."""
    table = tomllib.loads((_HERE / "models.toml").read_text(encoding="utf-8"))
    return tuple(ZooEntry(name=name, **fields) for name, fields in table.items())


def get(name: str) -> ZooEntry:
    """Return a network by name; UsageError with the known names where there is none."""
    for entry in models():
        if entry.name == name:
            return entry
    raise UsageError(f"no zoo model {name!r}; there is: {', '.join(entry.name for entry in models())}")
